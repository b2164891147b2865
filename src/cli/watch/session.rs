//! A daemon in memory, with a fixed watch list.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::notices::{self, Hint, Notice, Notices};
use super::short_ids::short_ids;
use crate::ampersand::ApiFetch;
use crate::app::{self, Daemon, DaemonParts, WebhookSecrets};
use crate::board::{Board, ProjectView, WatchFilter, WatchView};
use crate::clock;
use crate::config::Settings;
use crate::core::event::Event;
use crate::core::phase::Phase;
use crate::core::source::Terms;
use crate::core::watch_list::{WatchKey, WatchList};
use crate::random::RandomSource;
use crate::record::EventReporter;
use crate::report::metrics::Metrics;
use crate::report::webhook::{TimeLimits, WebhookSender};
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::Store;

/// The most events that wait to be printed. When it is full, polling pauses.
const EVENTS: usize = 1_024;

/// The operations that are watched. Watching ends when it is dropped.
pub(super) struct Session {
    /// The operations, in the order of the command line.
    pub(super) targets: Vec<Target>,
    /// Events as they come. Those of an operation that is finished come before [`Session::finished`].
    pub(super) events: mpsc::Receiver<Event>,
    daemon: Daemon<ApiFetch>,
    /// The board as it was read last.
    projects: Vec<ProjectView>,
    watches: Vec<WatchView>,
    by_key: HashMap<WatchKey, usize>,
    notices: Notices,
    /// Keeps the channel of the list open.
    _list: watch::Sender<Arc<WatchListSnapshot>>,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Target {
    /// Project and operation ID.
    pub(super) key: WatchKey,
    /// Its labels.
    pub(super) terms: Arc<Terms>,
    /// A short form of its ID.
    pub(super) short: String,
}

impl Session {
    /// Starts watching.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub(super) async fn start(settings: &Settings, list: WatchList) -> anyhow::Result<Self> {
        let (events_in, events) = mpsc::channel(EVENTS);
        let client = app::client(&settings.ampersand).await?;
        let sources = app::key_sources(&settings.ampersand);
        let fetch = tokio::task::spawn_blocking(move || ApiFetch::new(client, sources)).await?;
        let sender = tokio::task::spawn_blocking(|| WebhookSender::new(TimeLimits::default())).await??;
        let keys: Vec<WatchKey> = list.entries.iter().map(|entry| entry.key.clone()).collect();
        let short = short_ids(&keys);
        let targets = list.entries.iter().zip(short);
        let targets = targets
            .map(|(entry, short)| Target {
                key: entry.key.clone(),
                terms: Arc::clone(&entry.terms),
                short,
            })
            .collect();
        let (list_in, list) = watch::channel(Arc::new(WatchListSnapshot {
            list: Some(Arc::new(list)),
            is_checked: true,
            generation: 1,
            ..WatchListSnapshot::default()
        }));
        let parts = DaemonParts {
            fetch,
            polling: Handle::current(),
            sender: Arc::new(sender),
            store: Store::in_memory(),
            list,
            // Nothing asks over HTTP.
            api: mpsc::channel(1).1,
            board: Arc::new(Board::default()),
            metrics: Metrics::new(),
            reporters: vec![reporter(events_in)],
            random: RandomSource::new(),
        };
        let mut settings = settings.clone();
        // Webhooks in the settings are for the daemon.
        settings.webhooks.clear();
        let mut daemon = Daemon::new(parts, &settings, WebhookSecrets::new()).await?;
        daemon.start();
        Ok(Self {
            targets,
            events,
            daemon,
            projects: Vec::new(),
            watches: Vec::new(),
            by_key: HashMap::new(),
            notices: Notices::default(),
            _list: list_in,
        })
    }

    /// Waits until every operation is finished.
    pub(super) fn finished(&self) -> impl Future<Output = ()> + use<> {
        self.daemon.finished()
    }

    /// Notified when a project changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.daemon.board().changed()
    }

    /// Reads the projects from the board.
    pub(super) fn refresh_projects(&mut self) {
        self.projects = self.daemon.board().projects();
    }

    /// Reads the board.
    pub(super) async fn refresh(&mut self) {
        self.refresh_projects();
        let board = Arc::clone(self.daemon.board());
        // While a project task restarts, the previous watches stay.
        if let Ok(watches) = board.all(WatchFilter::default()).await {
            let keys = watches.iter().enumerate();
            self.by_key = keys.map(|(index, view)| (view.key.clone(), index)).collect();
            self.watches = watches;
        }
    }

    /// The watch with this key, once it exists.
    pub(super) fn watched(&self, key: &WatchKey) -> Option<&WatchView> {
        self.watches.get(*self.by_key.get(key)?)
    }

    /// The phase of an operation.
    pub(super) fn phase(&self, target: &Target) -> Phase {
        self.watched(&target.key)
            .map_or(Phase::Pending, |view| view.watch.phase())
    }

    /// What began or ended since the last call.
    pub(super) fn new_hints(&mut self) -> Vec<Hint> {
        self.notices
            .new_hints(&self.projects, &self.watches, clock::instant())
    }

    /// Current notices about whole projects.
    pub(super) fn notices(&self) -> Vec<Notice> {
        notices::current(&self.projects, clock::instant())
    }

    /// Whether the API ever answered.
    pub(super) fn was_answered(&self) -> bool {
        self.projects.iter().any(|project| project.api.was_answered())
    }

    /// The last failure of a poll.
    pub(super) fn last_failure(&self) -> Option<String> {
        let failures = self
            .projects
            .iter()
            .filter_map(|project| project.api.last_failure.as_deref());
        failures.max().map(str::to_owned)
    }
}

fn reporter(events: mpsc::Sender<Event>) -> EventReporter {
    Box::new(move |event| {
        if let Err(TrySendError::Full(event)) = events.try_send(event.clone()) {
            // The reader is slow. This fails only after the session ended.
            let _ = tokio::task::block_in_place(|| events.blocking_send(event));
        }
    })
}
