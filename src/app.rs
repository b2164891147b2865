//! The composition root: builds the parts of the daemon, starts them, and stops them in order.

mod daemon;
mod http_server;
mod poll_thread;
mod reload;
mod retention;
mod signals;
mod webhooks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ampersand::{ApiFetch, Client, ClientSettings, KeySources};
use crate::board::Board;
use crate::clock;
use crate::config::{
    AmpersandSettings, ConfigErrors, DEFAULT_PATH, EffectiveSettings, Environment, LoadedSettings, Overrides,
    Settings, SettingsCheck, control_folder,
};
use crate::core::gate::RequestLimits;
use crate::core::phase::Phase;
use crate::error::chain;
use crate::http::ControlSender;
use crate::open_files;
use crate::random::RandomSource;
use crate::report::attention::AttentionList;
use crate::report::event_log_line::log_event;
use crate::report::log::LogHandle;
use crate::report::webhook::{TimeLimits, WebhookSender};
use crate::store::{Store, StoreThreads};
use crate::systemd;
use crate::watch_list::{self, WatchListSettings, WatchListSource, only_rejected_lines};
pub use daemon::{Daemon, DaemonParts};
use http_server::HttpServer;
use poll_thread::PollThread;
pub use signals::StopSignal;
use signals::{Received, Signals};
pub use webhooks::WebhookSecrets;
use webhooks::read_secrets;

/// How often the files that secrets stand in are looked at.
const SECRETS_REFRESH: Duration = Duration::from_secs(10);

/// ControlSender that may wait: each is that of a connection to the control socket.
const ORDERS: usize = 16;

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
    pub fn load(&self) -> Result<LoadedSettings, ConfigErrors> {
        Settings::load(self.path.as_deref(), &self.environment, &self.overrides)
    }

    /// Reads the settings, and no secret.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn load_without_secrets(&self) -> Result<LoadedSettings, ConfigErrors> {
        Settings::load_without_secrets(self.path.as_deref(), &self.environment, &self.overrides)
    }

    /// Reads the settings to check them.
    #[must_use]
    pub fn check(&self) -> SettingsCheck {
        Settings::load_for_check(self.path.as_deref(), &self.environment, &self.overrides)
    }

    /// The file that the settings are read from, whether it is there or not.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        let file = self.path.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        self.environment.absolute(file)
    }
}

/// When the daemon ends by itself.
#[derive(Debug)]
pub enum RunUntil {
    /// Never: it runs until it is stopped.
    Stopped,
    /// When every listed watch is finished.
    Done,
    /// When the caller says so.
    Asked(oneshot::Receiver<()>),
}

/// How the daemon came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RunOutcome {
    /// Stopped by a signal, in order.
    Stopped(StopSignal),
    /// Stopped by a second signal, at once.
    Forced(StopSignal),
    /// Every listed watch is over, all of them succeeded.
    AllSucceeded,
    /// Every listed watch is over, not all of them succeeded.
    NotAllSucceeded,
    /// Every listed watch succeeded, and lines of the watch list were rejected.
    LinesRejected,
}

/// The running daemon.
struct App {
    source: SettingsSource,
    settings: Settings,
    /// The values that the settings were read from.
    effective: EffectiveSettings,
    log: LogHandle,
    list: watch_list::WatchListHandle,
    daemon: Daemon<ApiFetch>,
    pages: HttpServer,
    attention: Arc<AttentionList>,
}

/// What stops around the daemon.
struct Tasks {
    /// Ends the look-out for the watch list.
    cancel: CancellationToken,
    running: JoinSet<()>,
    polling: PollThread,
    /// The store's own, where it has any; they end last.
    threads: Option<StoreThreads>,
}

/// Runs the daemon to its end.
///
/// # Errors
/// When a part cannot be built: each error says what to do about it.
pub async fn run(
    source: SettingsSource,
    loaded: LoadedSettings,
    log: LogHandle,
    until: RunUntil,
) -> anyhow::Result<RunOutcome> {
    run_on(source, loaded, log, until, None).await
}

/// Runs the same daemon to its end with its state in memory, so that nothing is left behind, and its watches on
/// `board`, for a command that looks on meanwhile.
///
/// # Errors
/// When a part cannot be built: each error says what to do about it.
pub async fn run_in_memory(
    source: SettingsSource,
    loaded: LoadedSettings,
    log: LogHandle,
    until: RunUntil,
    board: Arc<Board>,
) -> anyhow::Result<RunOutcome> {
    run_on(source, loaded, log, until, Some(board)).await
}

async fn run_on(
    source: SettingsSource,
    loaded: LoadedSettings,
    log: LogHandle,
    until: RunUntil,
    in_memory: Option<Arc<Board>>,
) -> anyhow::Result<RunOutcome> {
    open_files::raise_limit();
    // Before anything is built: a signal that comes meanwhile is served when it is.
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let board = in_memory.clone().unwrap_or_default();
    let state_dir = loaded.settings.state_dir.clone();
    // What leaves nothing behind has no file either.
    let control_folder = in_memory
        .is_none()
        .then(|| control_folder(&source.environment, &state_dir));
    let opening = async {
        // They answer probes while the state is read.
        let pages = HttpServer::new(&loaded.settings, &board, control_folder).await?;
        match in_memory {
            Some(_) => Ok((pages, Store::in_memory(), None)),
            None => {
                let (store, threads) = systemd::while_starting(Store::open(&state_dir)).await?;
                anyhow::Ok((pages, store, Some(threads)))
            }
        }
    };
    // The state may take long to check, and a file system may hang. Dropping the future stops that.
    let (pages, store, threads) = tokio::select! {
        opened = opening => opened?,
        stop = signals.stop() => {
            tracing::info!(signal = stop.name(), "stopped while the state was being read");
            return Ok(RunOutcome::Stopped(stop));
        }
    };
    let (orders, mut ordered) = mpsc::channel(ORDERS);
    let (mut app, tasks) = App::start(source, loaded, log, store, threads, pages, orders).await?;
    let finished = app.daemon.finished();
    let mut lists = app.list.snapshots();
    let ends = async move {
        match until {
            RunUntil::Stopped => std::future::pending().await,
            RunUntil::Done => tokio::select! {
                () = finished => {}
                () = only_rejected_lines(&mut lists) => {}
            },
            // An error means that the caller has gone, which is a reason to end as well.
            RunUntil::Asked(asked) => drop(asked.await),
        }
    };
    let mut ends = std::pin::pin!(ends);
    // All of them were read just now.
    let mut look_at_secrets = tokio::time::interval_at(clock::instant() + SECRETS_REFRESH, SECRETS_REFRESH);
    look_at_secrets.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped_by = loop {
        tokio::select! {
            signalled = signals.next() => match signalled {
                // A file system that hangs keeps nobody from stopping the daemon, here and below.
                Received::Reload => tokio::select! {
                    () = app.obey(None, &mut ordered) => {}
                    stop = signals.stop() => break Some(stop),
                },
                Received::Stop(stop) => break Some(stop),
            },
            Some(order) = ordered.recv() => tokio::select! {
                () = app.obey(Some(order), &mut ordered) => {}
                stop = signals.stop() => break Some(stop),
            },
            _ = look_at_secrets.tick() => tokio::select! {
                _ = app.refresh_secrets() => {}
                stop = signals.stop() => break Some(stop),
            },
            () = &mut ends => break None,
        }
    };
    let ending = match stopped_by {
        Some(stop) => {
            tracing::info!(signal = stop.name(), "stopping; a second signal ends at once");
            RunOutcome::Stopped(stop)
        }
        None => app.count_endings(),
    };
    // Those who wait for an answer get one now.
    drop(ordered);
    tokio::select! {
        () = app.stop(tasks, stopped_by.is_none()) => Ok(ending),
        stop = signals.stop() => {
            tracing::warn!(signal = stop.name(), "stopped at once; what is recorded is safe");
            Ok(RunOutcome::Forced(stop))
        }
    }
}

impl App {
    async fn start(
        source: SettingsSource,
        loaded: LoadedSettings,
        log: LogHandle,
        store: Store,
        threads: Option<StoreThreads>,
        pages: HttpServer,
        orders: ControlSender,
    ) -> anyhow::Result<(Self, Tasks)> {
        let LoadedSettings {
            settings, effective, ..
        } = loaded;
        let counted = pages.metrics.clone();
        let sender = tokio::task::spawn_blocking(|| WebhookSender::new(TimeLimits::default())).await??;
        let client = client(&settings.ampersand).await?;
        let sources = key_sources(&settings.ampersand);
        let fetch = tokio::task::spawn_blocking(move || ApiFetch::new(client, sources)).await?;
        let (list_source, list) = WatchListSource::new(list_settings(&settings));
        let list_source = list_source.continuing(store.clone());
        let polling = PollThread::start().context("cannot start the thread that polls")?;
        let parts = DaemonParts {
            fetch,
            polling: polling.runtime().clone(),
            sender: Arc::new(sender),
            store,
            list: list.snapshots(),
            board: Arc::clone(pages.health.board()),
            metrics: pages.metrics.clone(),
            reporters: vec![
                Box::new(log_event),
                Box::new(move |event| counted.count_event(event)),
            ],
            random: RandomSource::new(),
        };
        let secrets = read_secrets(&settings.webhooks).await;
        let daemon = Daemon::new(parts, &settings, secrets).await?;
        let attention = Arc::new(AttentionList::new(
            Arc::clone(daemon.board()),
            list.snapshots(),
            settings.watch_list.clone(),
            daemon.store().clone(),
            pages.metrics.clone(),
        ));
        let mut app = Self {
            source,
            settings,
            effective,
            log,
            list,
            daemon,
            pages,
            attention,
        };
        let snapshots = app.list.snapshots();
        app.pages.start(
            app.daemon.board(),
            app.daemon.store(),
            &snapshots,
            &app.attention,
            polling.runtime(),
            orders,
        );

        let cancel = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(list_source.run(cancel.clone()));
        app.daemon.start();
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
                polling,
                threads,
            },
        ))
    }

    /// Reads the files of secrets, so that a rotated secret needs no reload. Returns the projects with a new key.
    async fn refresh_secrets(&self) -> Vec<Arc<str>> {
        let replaced = self.daemon.fetch().refresh_keys().await;
        self.daemon.keys_replaced(&replaced);
        self.daemon
            .set_secrets(read_secrets(&self.settings.webhooks).await);
        self.pages.refresh_token().await;
        replaced
    }

    /// How the listed watches ended.
    fn count_endings(&self) -> RunOutcome {
        let list = self.list.snapshots().borrow().clone();
        let rejected = list.name_rejected_lines(&self.settings.watch_list);
        if list.has_only_rejected_lines() {
            tracing::error!(
                rejected,
                "no line of the watch list can be used, so nothing was watched"
            );
            return RunOutcome::LinesRejected;
        }
        let phases = self.daemon.board().phases();
        tracing::info!(
            succeeded = phases.of(Phase::Succeeded),
            failed = phases.of(Phase::Failed),
            ended = phases.of(Phase::Ended),
            gone = phases.of(Phase::Gone),
            expired = phases.of(Phase::Expired),
            "every listed operation is over"
        );
        if phases.of(Phase::Succeeded) != phases.total() {
            RunOutcome::NotAllSucceeded
        } else if rejected > 0 {
            RunOutcome::LinesRejected
        } else {
            RunOutcome::AllSucceeded
        }
    }

    /// Stops in order, the pages and the state last; with `deliver`, what waits to be delivered is given its time.
    async fn stop(&mut self, mut tasks: Tasks, deliver: bool) {
        self.pages.health.set_stopping();
        tasks.cancel.cancel();
        join(&mut tasks.running).await;
        let deliver = deliver.then_some(self.settings.shutdown_timeout);
        self.daemon.stop(deliver).await;
        tasks.polling.end().await;
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
            tracing::error!(
                error = chain(&error),
                "a task of the daemon ended badly: this is a bug, please report it"
            );
        }
    }
}

pub(crate) async fn client(ampersand: &AmpersandSettings) -> anyhow::Result<Client> {
    let settings = ClientSettings {
        base_url: ampersand.base_url.clone(),
        request_timeout: ampersand.request_timeout,
        ca_file: ampersand.ca_file.clone(),
        max_concurrent_requests: ampersand.max_concurrent_requests.get(),
    };
    Ok(tokio::task::spawn_blocking(move || Client::new(settings)).await??)
}

fn list_settings(settings: &Settings) -> WatchListSettings {
    WatchListSettings {
        path: settings.watch_list.clone(),
        refresh: settings.watch_list_refresh,
        shrink_delay: settings.watch_list_shrink_delay,
        projects: project_names(&settings.ampersand),
    }
}

pub(crate) fn limits(ampersand: &AmpersandSettings) -> RequestLimits {
    RequestLimits {
        concurrent: ampersand.max_concurrent_requests.get(),
        per_second: ampersand.max_requests_per_second,
    }
}

pub(crate) fn key_sources(ampersand: &AmpersandSettings) -> KeySources {
    ampersand
        .projects
        .iter()
        .map(|project| (Arc::clone(&project.name), project.api_key.clone()))
        .collect()
}

pub(crate) fn project_names(ampersand: &AmpersandSettings) -> Vec<Arc<str>> {
    ampersand
        .projects
        .iter()
        .map(|project| Arc::clone(&project.name))
        .collect()
}
