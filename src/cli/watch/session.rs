//! The daemon's own parts over a list that never changes and a store that keeps nothing.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::heard::{Heard, Listener};
use super::picture::short_ids;
use crate::ampersand::ApiFetch;
use crate::app;
use crate::board::{Board, Watched};
use crate::chance::Chance;
use crate::config::Settings;
use crate::core::event::Event;
use crate::core::kind::Kinds;
use crate::core::watch::{Phase, Watch};
use crate::core::watch_list::{WatchKey, WatchList};
use crate::poller::Shared;
use crate::project::{Project, Projects};
use crate::record::{Recorder, Reporter};
use crate::report::metrics::Metrics;
use crate::store::Store;
use crate::supervisor::{Standing, Supervisor};
use crate::watch_list::Snapshot;

/// Events that wait to be printed: when output stands still for so many, polling does, too.
const EVENTS: usize = 1_024;

/// What is watched, as whoever shows it sees it.
#[derive(Debug)]
pub(super) struct Session {
    /// What is watched, in the order in which it was named.
    pub(super) targets: Vec<Target>,
    /// Events as they come. Those of an operation that is over come before [`done`](crate::supervisor::done).
    pub(super) events: mpsc::Receiver<Event>,
    /// What was heard of the API.
    pub(super) heard: Arc<Heard>,
    /// How far they are.
    pub(super) standing: watch::Receiver<Standing>,
    board: Arc<Board>,
}

/// One operation that is watched.
#[derive(Debug)]
pub(super) struct Target {
    /// Which one it is.
    pub(super) key: WatchKey,
    /// Enough of its ID to tell it from the others.
    pub(super) short: String,
}

impl Session {
    /// A session, and what drives it: nothing happens unless that is polled, and it ends when that is dropped.
    ///
    /// # Errors
    /// When there can be no client for the API.
    pub(super) async fn new(
        settings: &Settings,
        list: WatchList,
    ) -> anyhow::Result<(Self, impl Future<Output = ()> + use<>)> {
        let (events_in, events) = mpsc::channel(EVENTS);
        let store = Store::in_memory();
        let recorder = Recorder::new(store.clone(), vec![reporter(events_in)]);
        let client = app::client(&settings.ampersand).await?;
        let sources = app::key_sources(&settings.ampersand);
        let api = tokio::task::spawn_blocking(move || ApiFetch::new(client, sources)).await?;
        let heard = Arc::new(Heard::default());
        let (poll_in, poll) = watch::channel(Arc::new(settings.poll.clone()));
        let projects = Arc::<Projects>::default();
        for name in app::project_names(&settings.ampersand) {
            let limits = app::limits(&settings.ampersand);
            let (poll, recorder) = (poll.clone(), recorder.clone());
            projects.insert(Arc::new(Project::new(
                name,
                limits,
                Default::default(),
                poll,
                recorder,
                projects.bell(),
            )));
        }
        let shared = Arc::new(Shared {
            fetch: Listener::new(api, Arc::clone(&heard)),
            recorder,
            poll,
            metrics: Metrics::new(),
            chance: Chance::new(),
            kinds: Kinds::default(),
        });
        let keys: Vec<WatchKey> = list.entries.iter().map(|entry| entry.key.clone()).collect();
        let short = short_ids(&keys);
        let targets = keys
            .into_iter()
            .zip(short)
            .map(|(key, short)| Target { key, short })
            .collect();
        let (list_in, list) = watch::channel(Arc::new(Snapshot {
            list: Some(Arc::new(list)),
            looked: true,
            generation: 1,
            ..Snapshot::default()
        }));
        let board = Arc::new(Board::default());
        let polling = Handle::current();
        let (supervisor, standing) =
            Supervisor::new(shared, store, projects, Arc::clone(&board), list, &polling);
        let engine = async move {
            // Held as long as it runs: neither the list nor the settings change, but both are there.
            let _held = (list_in, poll_in);
            supervisor.run(CancellationToken::new()).await;
        };
        let session = Self {
            targets,
            events,
            heard,
            board,
            standing,
        };
        Ok((session, engine))
    }

    /// The watch of that key, once there is one.
    pub(super) fn watched(&self, key: &WatchKey) -> Option<Arc<Watched>> {
        self.board.get(key)
    }

    /// Where an operation stands.
    pub(super) fn phase(&self, target: &Target) -> Phase {
        self.watched(&target.key)
            .map_or(Phase::Pending, |watched| watched.look(Watch::phase))
    }
}

fn reporter(events: mpsc::Sender<Event>) -> Reporter {
    Box::new(move |event| {
        if let Err(TrySendError::Full(event)) = events.try_send(event.clone()) {
            // Whoever reads the output takes a break. Fails only when nobody listens any more.
            let _ = tokio::task::block_in_place(|| events.blocking_send(event));
        }
    })
}
