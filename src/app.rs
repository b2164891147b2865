//! The composition root: builds the parts of the daemon, starts them, and stops them in order.

mod pages;
mod signals;
mod upkeep;
mod webhooks;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ampersand::gate::Limits;
use crate::ampersand::{ApiFetch, Client, ClientSettings, KeySources};
use crate::board::Board;
use crate::chance::Chance;
use crate::clock;
use crate::config::{Ampersand, ConfigErrors, Environment, Loaded, Overrides, Poll, Settings};
use crate::core::watch::Phase;
use crate::error::chain;
use crate::health::Stage;
use crate::poller::Shared;
use crate::project::{Project, Projects};
use crate::record::Recorder;
use crate::report::log::LogHandle;
use crate::report::tell::tell;
use crate::store::{Store, Threads};
use crate::supervisor::{Standing, Supervisor, done};
use crate::systemd;
use crate::watch_list::{self, WatchListSource};
use pages::Pages;
pub use signals::StopSignal;
use signals::{Received, Signals};
use webhooks::Webhooks;

/// How often the files that secrets stand in are looked at.
const SECRETS_REFRESH: Duration = Duration::from_secs(10);

/// How long a reload waits for the watch list before it is told to be carried out; a file system may hang.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Where settings come from, for reading them again.
#[derive(Debug, Clone)]
pub struct SettingsSource {
    /// The file that was named, if one was.
    pub path: Option<PathBuf>,
    /// The environment as it was at the start.
    pub environment: Environment,
    /// What the command line sets.
    pub overrides: Overrides,
}

impl SettingsSource {
    /// Reads the settings.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        Settings::load(self.path.as_deref(), &self.environment, &self.overrides)
    }
}

/// When the daemon ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never: it runs until it is stopped.
    Stopped,
    /// When every listed watch is over.
    Done,
}

/// How the daemon came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ending {
    /// Stopped by a signal, in order.
    Stopped(StopSignal),
    /// Stopped by a second signal, at once.
    Forced(StopSignal),
    /// Every listed watch is over, all of them succeeded.
    AllSucceeded,
    /// Every listed watch is over, not all of them succeeded.
    NotAllSucceeded,
}

/// The running daemon.
struct App {
    source: SettingsSource,
    settings: Settings,
    log: LogHandle,
    shared: Arc<Shared<ApiFetch>>,
    projects: Arc<Projects>,
    poll: watch::Sender<Arc<Poll>>,
    list: watch_list::Handle,
    board: Arc<Board>,
    store: Store,
    recorder: Recorder,
    webhooks: Webhooks,
    pages: Pages,
}

/// Everything that stops when the daemon does.
struct Tasks {
    cancel: CancellationToken,
    running: JoinSet<()>,
    /// The store's own, where it has any; they end last.
    threads: Option<Threads>,
}

/// Runs the daemon to its end.
///
/// # Errors
/// When a part cannot be built: each error says what to do about it.
pub async fn run(
    source: SettingsSource,
    settings: Settings,
    log: LogHandle,
    until: Until,
) -> anyhow::Result<Ending> {
    run_on(source, settings, log, until, None).await
}

/// Runs the same daemon to its end with its state in memory, so that nothing is left behind, and its watches on
/// `board`, for a command that looks on meanwhile.
///
/// # Errors
/// When a part cannot be built: each error says what to do about it.
pub async fn run_in_memory(
    source: SettingsSource,
    settings: Settings,
    log: LogHandle,
    until: Until,
    board: Arc<Board>,
) -> anyhow::Result<Ending> {
    run_on(source, settings, log, until, Some(board)).await
}

async fn run_on(
    source: SettingsSource,
    settings: Settings,
    log: LogHandle,
    until: Until,
    in_memory: Option<Arc<Board>>,
) -> anyhow::Result<Ending> {
    // Before anything is built: a signal that comes meanwhile is served when it is.
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let (mut app, tasks, mut standing) = App::start(source, settings, log, in_memory).await?;
    // All of them were read just now.
    let mut look_at_secrets = tokio::time::interval_at(clock::instant() + SECRETS_REFRESH, SECRETS_REFRESH);
    look_at_secrets.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped_by = loop {
        tokio::select! {
            signalled = signals.next() => match signalled {
                Received::Reload => app.reload().await,
                Received::Stop(stop) => break Some(stop),
            },
            _ = look_at_secrets.tick() => app.refresh_secrets().await,
            () = done(&mut standing), if until == Until::Done => break None,
        }
    };
    let ending = match stopped_by {
        Some(stop) => {
            tracing::info!(signal = stop.name(), "stopping; a second signal ends at once");
            Ending::Stopped(stop)
        }
        None => app.count_endings(),
    };
    tokio::select! {
        () = app.stop(tasks, stopped_by.is_none()) => Ok(ending),
        stop = signals.stop() => {
            tracing::warn!(signal = stop.name(), "stopped at once; what is recorded is safe");
            Ok(Ending::Forced(stop))
        }
    }
}

impl App {
    async fn start(
        source: SettingsSource,
        settings: Settings,
        log: LogHandle,
        in_memory: Option<Arc<Board>>,
    ) -> anyhow::Result<(Self, Tasks, watch::Receiver<Standing>)> {
        let (store, threads, board) = match in_memory {
            Some(board) => (Store::in_memory(), None, board),
            None => {
                let (store, threads) = systemd::while_starting(Store::open(&settings.state_dir)).await?;
                (store, Some(threads), Arc::default())
            }
        };
        let pages = Pages::new(&settings, &board).await?;
        let counted = pages.metrics.clone();
        let recorder = Recorder::new(
            store.clone(),
            vec![Box::new(tell), Box::new(move |event| counted.event(event))],
        );
        let webhooks = Webhooks::new(store.clone()).await?;
        let client = client(&settings.ampersand).await?;
        let sources = key_sources(&settings.ampersand);
        let fetch = tokio::task::spawn_blocking(move || ApiFetch::new(client, sources)).await?;
        let (poll, poll_receiver) = watch::channel(Arc::new(settings.poll.clone()));
        let projects = Arc::<Projects>::default();
        let names = project_names(&settings.ampersand);
        let (list_source, list) =
            WatchListSource::new(settings.watch_list.clone(), settings.watch_list_refresh, names);
        let shared = Arc::new(Shared {
            fetch,
            recorder: recorder.clone(),
            poll: poll_receiver,
            chance: Chance::new(),
            metrics: pages.metrics.clone(),
        });
        let (supervisor, standing) = Supervisor::new(
            Arc::clone(&shared),
            store.clone(),
            Arc::clone(&projects),
            Arc::clone(&board),
            list.snapshots(),
        );
        let mut app = Self {
            source,
            settings,
            log,
            shared,
            projects,
            poll,
            list,
            board,
            store,
            recorder,
            webhooks,
            pages,
        };
        app.add_projects().await?;
        app.apply_webhooks().await?;
        app.pages.start(&app.board, &app.store, &app.list.snapshots());

        let cancel = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(list_source.run(cancel.clone()));
        running.spawn(supervisor.run(cancel.clone()));
        running.spawn(upkeep::checkpoints(
            app.store.clone(),
            Arc::clone(&app.board),
            cancel.clone(),
        ));
        running.spawn(upkeep::prune(
            app.store.clone(),
            app.settings.retention,
            cancel.clone(),
        ));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            watch_list = %app.settings.watch_list.display(),
            base_url = %app.settings.ampersand.base_url,
            projects = app.settings.ampersand.projects.len(),
            "started"
        );
        Ok((
            app,
            Tasks {
                cancel,
                running,
                threads,
            },
            standing,
        ))
    }

    /// Makes a project of each that is configured and not there yet.
    async fn add_projects(&self) -> anyhow::Result<()> {
        let limits = limits(&self.settings.ampersand);
        for configured in &self.settings.ampersand.projects {
            if let Some(project) = self.projects.get(&configured.name) {
                project.gate().set_limits(limits);
                continue;
            }
            let state = self
                .store
                .load_project(&configured.name)
                .await
                .context("cannot read the state")?;
            let project = Project::new(
                Arc::clone(&configured.name),
                limits,
                state.unwrap_or_default(),
                self.poll.subscribe(),
                self.recorder.clone(),
            );
            let (is_reachable, has_credentials) = project.health().await;
            self.pages
                .metrics
                .add_project(&configured.name, is_reachable, has_credentials);
            self.projects.insert(Arc::new(project));
        }
        Ok(())
    }

    /// Makes the endpoints be those of the settings.
    async fn apply_webhooks(&mut self) -> anyhow::Result<()> {
        let applied = self
            .webhooks
            .apply(&self.settings.webhooks, self.settings.shutdown_timeout)
            .await;
        applied.context("the webhooks cannot be recorded in the state")?;
        self.pages.metrics.set_endpoints(self.webhooks.stats());
        Ok(())
    }

    /// Looks at the files that secrets stand in, so that one that was rotated needs no reload.
    async fn refresh_secrets(&self) {
        replace_keys(&self.projects, self.shared.fetch.refresh_keys().await).await;
        self.webhooks.refresh_secrets().await;
        self.pages.refresh_token().await;
    }

    /// Reads settings, secrets and the watch list anew. Broken settings keep the running ones.
    async fn reload(&mut self) {
        tracing::info!("reloading settings, secrets and watch list");
        let is_ready = self.pages.health.stage() == Stage::Ready;
        if is_ready {
            systemd::tell_reloading();
        }
        let reloaded = self.reload_settings().await;
        self.pages.metrics.config_reloaded(reloaded.is_ok());
        let list = reloaded.unwrap_or_else(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "the settings are broken, so the running ones are kept; mend them and reload again"
            );
            // The list and the keys are looked at all the same: they may be what was changed.
            self.list.reload()
        });
        self.refresh_secrets().await;
        if is_ready {
            let mut snapshots = self.list.snapshots();
            let applied = snapshots.wait_for(|snapshot| snapshot.reloads >= list);
            // A list that takes longer is applied all the same.
            let _ = tokio::time::timeout(RELOAD_TIMEOUT, applied).await;
            systemd::tell_ready();
        }
    }

    /// The number that the watch list's reload goes by.
    async fn reload_settings(&mut self) -> anyhow::Result<u64> {
        let source = self.source.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load()).await??;
        for warning in &loaded.warnings {
            tracing::warn!(key = warning.key, help = warning.help, "{}", warning.problem);
        }
        let settings = loaded.settings;
        let client = client(&settings.ampersand).await?;
        self.log.set_filter(&settings.log.filter)?;
        for key in self.settings.unchangeable_differences(&settings) {
            tracing::warn!(
                key,
                "this setting cannot change while running; it is kept until a restart"
            );
        }
        self.pages.apply(&settings).await?;
        self.shared.fetch.set_client(client);
        self.shared.fetch.set_sources(key_sources(&settings.ampersand));
        self.poll.send_replace(Arc::new(settings.poll.clone()));
        self.settings = settings;
        self.add_projects().await?;
        self.apply_webhooks().await?;
        let list = self.list.set(
            self.settings.watch_list.clone(),
            self.settings.watch_list_refresh,
            project_names(&self.settings.ampersand),
        );
        tracing::info!("settings reloaded");
        Ok(list)
    }

    /// How the listed watches ended.
    fn count_endings(&self) -> Ending {
        let mut endings: HashMap<Phase, usize> = HashMap::new();
        for watched in self.board.all() {
            *endings.entry(watched.look(|watch| watch.phase())).or_default() += 1;
        }
        let count = |phase| endings.get(&phase).copied().unwrap_or(0);
        tracing::info!(
            succeeded = count(Phase::Succeeded),
            failed = count(Phase::Failed),
            ended = count(Phase::Ended),
            gone = count(Phase::Gone),
            expired = count(Phase::Expired),
            "every listed operation is over"
        );
        if endings.keys().all(|phase| *phase == Phase::Succeeded) {
            Ending::AllSucceeded
        } else {
            Ending::NotAllSucceeded
        }
    }

    /// Stops in order: first nothing new is decided, then what was decided is recorded and told; with `deliver`, what
    /// waits to be delivered is given its time first.
    async fn stop(&mut self, mut tasks: Tasks, deliver: bool) {
        self.pages.health.set_stopping();
        tasks.cancel.cancel();
        join(&mut tasks.running).await;
        self.recorder.finish().await;
        if deliver {
            self.webhooks.drain(self.settings.shutdown_timeout).await;
        }
        self.webhooks.stop().await;
        upkeep::checkpoint(&self.store, &self.board).await;
        self.pages.stop().await;
        if let Some(threads) = tasks.threads
            && let Err(error) = threads.close().await
        {
            tracing::error!(
                error = chain(&error),
                "the state could not be closed in order; it is checked at the next start"
            );
        }
        tracing::info!("stopped");
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined {
            tracing::error!(%error, "a task of the daemon ended badly: this is a bug, please report it");
        }
    }
}

pub(crate) async fn client(ampersand: &Ampersand) -> anyhow::Result<Client> {
    let settings = ClientSettings {
        base_url: ampersand.base_url.clone(),
        request_timeout: ampersand.request_timeout,
        ca_file: ampersand.ca_file.clone(),
        max_concurrent_requests: ampersand.max_concurrent_requests.get(),
    };
    Ok(tokio::task::spawn_blocking(move || Client::new(settings)).await??)
}

pub(crate) fn limits(ampersand: &Ampersand) -> Limits {
    Limits {
        concurrent: ampersand.max_concurrent_requests.get(),
        per_second: ampersand.max_requests_per_second,
    }
}

pub(crate) fn key_sources(ampersand: &Ampersand) -> KeySources {
    ampersand
        .projects
        .iter()
        .map(|project| (Arc::clone(&project.name), project.api_key.clone()))
        .collect()
}

pub(crate) fn project_names(ampersand: &Ampersand) -> Vec<Arc<str>> {
    ampersand
        .projects
        .iter()
        .map(|project| Arc::clone(&project.name))
        .collect()
}

async fn replace_keys(projects: &Projects, changed: Vec<Arc<str>>) {
    for name in changed {
        tracing::info!(project = &*name, "a new API key is in place");
        if let Some(project) = projects.get(&name) {
            project.key_replaced().await;
        }
    }
}
