//! The composition root: builds the parts of the daemon, starts them and stops them in order.

mod control_file;
mod daemon;
mod http_server;
mod poll_thread;
mod reload;
mod retention;
mod secrets;
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
use crate::sources::api::ApiSource;
use crate::sources::watch_list::{self, WatchListSettings, WatchListSource, only_rejected_lines};
use crate::store::{Store, StoreThreads};
use crate::systemd;
pub use daemon::{Daemon, DaemonParts};
use http_server::{HttpServer, Sources};
use poll_thread::PollThread;
pub use signals::StopSignal;
use signals::{Received, Signals};
pub use webhooks::WebhookSecrets;
use webhooks::read_secrets;

/// How often secret files are checked.
const SECRETS_REFRESH: Duration = Duration::from_secs(10);

/// Capacity of the channel of control requests. Each waits on one connection of the control socket.
const MAX_CONTROL_REQUESTS: usize = 16;

/// The changes over HTTP that may wait for the projects. Each has up to a thousand watches.
const MAX_API_CHANGES: usize = 4;

/// Where the settings are read from.
#[derive(Debug, Clone)]
pub struct SettingsSource {
    /// The file named on the command line, if any.
    pub path: Option<PathBuf>,
    /// The environment at the start.
    pub environment: Environment,
    /// Values from the command line.
    pub overrides: Overrides,
}

impl SettingsSource {
    /// Reads the settings.
    ///
    /// # Errors
    /// All errors in the settings.
    pub fn load(&self) -> Result<LoadedSettings, ConfigErrors> {
        Settings::load(self.path.as_deref(), &self.environment, &self.overrides)
    }

    /// Reads the settings without secrets.
    ///
    /// # Errors
    /// All errors in the settings.
    pub fn load_without_secrets(&self) -> Result<LoadedSettings, ConfigErrors> {
        Settings::load_without_secrets(self.path.as_deref(), &self.environment, &self.overrides)
    }

    /// Reads the settings to check them.
    #[must_use]
    pub fn check(&self) -> SettingsCheck {
        Settings::load_for_check(self.path.as_deref(), &self.environment, &self.overrides)
    }

    /// The path of the settings file, whether it exists or not.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        let file = self.path.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        self.environment.absolute(file)
    }
}

/// When the daemon ends by itself.
#[derive(Debug)]
pub enum RunUntil {
    /// Never.
    Stopped,
    /// When every listed watch is finished.
    Done,
    /// When the caller sends a value or drops the sender.
    Requested(oneshot::Receiver<()>),
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RunOutcome {
    /// Stopped in order by a signal.
    Stopped(StopSignal),
    /// Stopped immediately by a second signal.
    Forced(StopSignal),
    /// Every listed watch succeeded.
    AllSucceeded,
    /// Every listed watch is finished; some did not succeed.
    NotAllSucceeded,
    /// Every listed watch succeeded, but lines of the watch list were rejected.
    LinesRejected,
}

/// The running daemon.
struct App {
    source: SettingsSource,
    settings: Settings,
    /// The settings that apply, to name changes at a reload.
    effective: EffectiveSettings,
    log: LogHandle,
    list: watch_list::WatchListHandle,
    daemon: Daemon<ApiFetch>,
    pages: HttpServer,
    attention: Arc<AttentionList>,
}

/// The tasks around the daemon.
struct Tasks {
    /// Stops the sources.
    cancel: CancellationToken,
    running: JoinSet<()>,
    polling: PollThread,
    /// The threads of a store on disk. They end last.
    threads: Option<StoreThreads>,
}

/// Runs the daemon until it ends.
///
/// # Errors
/// When a part cannot be built.
pub async fn run(
    source: SettingsSource,
    loaded: LoadedSettings,
    log: LogHandle,
    until: RunUntil,
) -> anyhow::Result<RunOutcome> {
    run_on(source, loaded, log, until, None).await
}

/// Runs the daemon with its state in memory and its watches on `board`, which the caller can read.
///
/// # Errors
/// When a part cannot be built.
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
    // First, so that a signal during the start is handled.
    let mut signals = Signals::listen().context("cannot handle signals")?;
    let board = in_memory.clone().unwrap_or_default();
    let state_dir = loaded.settings.state_dir.clone();
    // A daemon in memory creates no files.
    let control_folder = in_memory
        .is_none()
        .then(|| control_folder(&source.environment, &state_dir));
    let opening = async {
        // Probes are answered while the state is read.
        let pages = HttpServer::new(&loaded.settings, &board, control_folder).await?;
        match in_memory {
            Some(_) => Ok((pages, Store::in_memory(), None)),
            None => {
                let (store, threads) = systemd::while_starting(Store::open(&state_dir)).await?;
                anyhow::Ok((pages, store, Some(threads)))
            }
        }
    };
    // Checking the state may take long, and a file system may hang. Dropping the future ends the wait.
    let (pages, store, threads) = tokio::select! {
        opened = opening => opened?,
        stop = signals.stop() => {
            tracing::info!(signal = stop.name(), "stopped while reading the state");
            return Ok(RunOutcome::Stopped(stop));
        }
    };
    let (control_sender, mut control_requests) = mpsc::channel(MAX_CONTROL_REQUESTS);
    let (mut app, tasks) = App::start(source, loaded, log, store, threads, pages, control_sender).await?;
    let finished = app.daemon.finished();
    let mut lists = app.list.snapshots();
    let ends = async move {
        match until {
            RunUntil::Stopped => std::future::pending().await,
            RunUntil::Done => tokio::select! {
                () = finished => {}
                () = only_rejected_lines(&mut lists) => {}
            },
            // An error means that the caller is gone, which also ends the daemon.
            RunUntil::Requested(stop) => drop(stop.await),
        }
    };
    let mut ends = std::pin::pin!(ends);
    // All secrets were read just now.
    let mut secrets_check = tokio::time::interval_at(clock::instant() + SECRETS_REFRESH, SECRETS_REFRESH);
    secrets_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped_by = loop {
        tokio::select! {
            signalled = signals.next() => match signalled {
                // A stop signal must work while a file system hangs, here and below.
                Received::Reload => tokio::select! {
                    () = app.handle_control_request(None, &mut control_requests) => {}
                    stop = signals.stop() => break Some(stop),
                },
                Received::Stop(stop) => break Some(stop),
            },
            Some(request) = control_requests.recv() => tokio::select! {
                () = app.handle_control_request(Some(request), &mut control_requests) => {}
                stop = signals.stop() => break Some(stop),
            },
            _ = secrets_check.tick() => tokio::select! {
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
        None => app.summarize(),
    };
    // Drops the pending control requests, so that their clients get an answer.
    drop(control_requests);
    tokio::select! {
        () = app.stop(tasks, stopped_by.is_none()) => Ok(ending),
        stop = signals.stop() => {
            tracing::warn!(signal = stop.name(), "stopped immediately; recorded events are safe");
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
        control_sender: ControlSender,
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
        let (api_changes, changes) = mpsc::channel(MAX_API_CHANGES);
        let board = Arc::clone(pages.health.board());
        let (api_source, api) = ApiSource::new(store.clone(), api_changes, move || board.phases().total());
        let polling = PollThread::start().context("cannot start the polling thread")?;
        let parts = DaemonParts {
            fetch,
            polling: polling.runtime().clone(),
            sender: Arc::new(sender),
            store,
            list: list.snapshots(),
            api: changes,
            board: Arc::clone(pages.health.board()),
            metrics: pages.metrics.clone(),
            reporters: vec![
                Box::new(log_event),
                Box::new(move |event| counted.count_event(event)),
            ],
            random: RandomSource::new(),
        };
        let secrets = read_secrets(&settings.webhooks).await;
        let daemon = Daemon::new(parts, &settings, secrets.read).await?;
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
        let list = app.list.snapshots();
        app.pages.start(
            app.daemon.board(),
            app.daemon.store(),
            Sources { list, api },
            &app.attention,
            polling.runtime(),
            control_sender,
        );

        let cancel = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(list_source.run(cancel.clone()));
        running.spawn(api_source.run(cancel.clone()));
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

    /// Summarizes the phases of the listed watches.
    fn summarize(&self) -> RunOutcome {
        let list = self.list.snapshots().borrow().clone();
        let rejected = list.log_rejected_lines(&self.settings.watch_list);
        if list.has_only_rejected_lines() {
            tracing::error!(
                rejected,
                "every line of the watch list was rejected, so nothing was watched"
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
            "all listed operations are finished"
        );
        if phases.of(Phase::Succeeded) != phases.total() {
            RunOutcome::NotAllSucceeded
        } else if rejected > 0 {
            RunOutcome::LinesRejected
        } else {
            RunOutcome::AllSucceeded
        }
    }

    /// Stops in order; HTTP and the store last. With `deliver`, waits for the backlog up to `shutdown_timeout`.
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
                "cannot close the state; it is checked at the next start"
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
                "a task of the daemon failed: this is a bug, please report it"
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
        is_required: settings.requires_watch_list,
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
