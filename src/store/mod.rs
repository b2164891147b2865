//! What survives: the watches' state, the event log, the outbox of the webhooks.
//!
//! [`Store`] is a handle that can be cloned; behind it an engine does the work. Today's keeps one SQLite file, with a
//! thread that writes and one that answers questions (`threads`), or keeps nothing (`memory`). Requests are plain
//! data (`request`), so that another engine can take their place without its callers noticing.

mod change;
mod damage;
mod delivery;
mod engine;
mod event_log;
mod lock;
mod memory;
mod presence;
mod reader;
mod request;
mod sqlite;
mod status;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use change::{LoadedWatches, PreviouslyListed, StateChange, Subject, WatchRecord};
pub use damage::DamagedWatch;
pub use delivery::{Delivery, DeliveryId, DueDeliveries, EndpointStats, OutboxEndpoint, Settlement};
pub use engine::{Accepted, Engine};
pub use event_log::{Cursor, EventLogFilter, EventPage, EventsError, MalformedCursor, StoredEvent};
pub use memory::MemoryEngine;
pub use reader::{ReplayError, StateReader};
pub use request::{CommitError, ReadError, ReadRequest, WriteRequest};
pub use sqlite::{OpenError, ReplayCount, ReplaySelection};
pub use status::StateHealth;
pub use threads::{CloseError, StoreThreads};

use crate::clock::WallClock;
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::{Entry, WatchKey};
use crate::error::chain;
use change::{ChangeRows, StateRow};
use request::{Read, Reply, Write};

/// Watches are loaded and written this many at a time, so that tens of thousands of them hold up nobody.
const CHUNK: usize = 1000;

/// The handle of what survives.
///
/// Whoever stops waiting for an answer does not undo what was asked: it may still be written.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    wall: WallClock,
}

impl Store {
    /// Opens the state in `dir`, making it if there is none. After a crash it is checked first, which may take a
    /// while; nothing blocks meanwhile but who waits for this.
    ///
    /// The threads end when they are told to ([`StoreThreads::close`]), or when the last handle is dropped. Dropping this
    /// future stops the opening.
    pub async fn open(dir: &Path) -> Result<(Self, StoreThreads), OpenError> {
        Self::open_until(dir, &CancellationToken::new()).await
    }

    /// As [`Store::open`]; when `stop` is cancelled meanwhile, the state is closed and its lock free within a second, and
    /// this returns [`OpenError::Cancelled`].
    pub async fn open_until(dir: &Path, stop: &CancellationToken) -> Result<(Self, StoreThreads), OpenError> {
        let (queues, threads) = threads::start(dir.to_owned(), stop).await?;
        Ok((Self::new(Arc::new(queues), WallClock::system()), threads))
    }

    /// A store that keeps nothing: no file, no thread, and each answer is there at once.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Arc::new(MemoryEngine::default()), WallClock::system())
    }

    /// The store that `engine` works for. What is recorded in it is dated by `wall`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, wall: WallClock) -> Self {
        Self { engine, wall }
    }

    /// Now, by the clock that dates what is recorded.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// Records a change of state, the events it causes and their deliveries, together. When this is `Ok`, they are on
    /// disk.
    pub async fn commit(&self, change: &StateChange) -> Result<(), CommitError> {
        let record = ChangeRows::new(change, self.now());
        self.write(Write::Change(Box::new(record))).await.map(drop)
    }

    /// Records states that no event tells of.
    pub async fn checkpoint(&self, watches: Vec<(WatchKey, Watch)>) -> Result<(), CommitError> {
        let at = self.now();
        for chunk in watches.chunks(CHUNK) {
            let states = chunk
                .iter()
                .map(|(key, watch)| StateRow::watch(key, watch))
                .collect();
            self.write(Write::Checkpoint { states, at }).await?;
        }
        Ok(())
    }

    /// The watches of these keys, as far as they are known. A damaged one is rebuilt from its events, stored again and
    /// reported; it costs the others nothing.
    pub async fn load(&self, keys: Vec<WatchKey>) -> Result<LoadedWatches, ReadError> {
        let mut loaded = LoadedWatches::default();
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            let part = self.read(|reply| Read::Load { keys, reply }).await?;
            if !part.damaged.is_empty() {
                self.store_rebuilt(&part.damaged).await;
            }
            loaded.watches.extend(part.watches);
            loaded.damaged.extend(part.damaged);
        }
        Ok(loaded)
    }

    async fn store_rebuilt(&self, damaged: &[DamagedWatch]) {
        let keys = damaged.iter().map(|watch| watch.key.clone()).collect();
        let at = self.now();
        if let Err(error) = self.write(Write::Rebuilt { keys, at }).await {
            for watch in damaged {
                tracing::error!(
                    id = %watch.key,
                    is_rebuilt = watch.is_rebuilt,
                    error = chain(&error),
                    "the stored state of a watch is damaged, and cannot be stored again"
                );
            }
        }
    }

    /// Those watches that left the list last, at most `limit`, the last one first.
    pub async fn left(&self, limit: u32) -> Result<Vec<Watch>, ReadError> {
        self.read(|reply| Read::Left { limit, reply }).await
    }

    /// The project of that name, if it is known.
    pub async fn load_project(&self, name: &str) -> Result<Option<ProjectHealth>, ReadError> {
        let name = name.to_owned();
        self.read(|reply| Read::Project { name, reply }).await
    }

    /// Notes that these are on the watch list (again). Load them before: afterwards nothing tells that they were away.
    pub async fn set_listed(&self, keys: Vec<WatchKey>) -> Result<(), CommitError> {
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            self.write(Write::Listed { keys }).await?;
        }
        Ok(())
    }

    /// Notes that these left the watch list: from now on retention counts.
    pub async fn set_unlisted(&self, keys: Vec<WatchKey>, now: Timestamp) -> Result<(), CommitError> {
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            self.write(Write::Unlisted { keys, at: now }).await?;
        }
        Ok(())
    }

    /// Notes at start that whatever is not among `listed` left the watch list, unless that was noted before. Says
    /// nothing of those that are: [`Store::set_listed`] does.
    pub async fn reconcile_listed(&self, listed: Vec<WatchKey>, now: Timestamp) -> Result<(), CommitError> {
        self.write(Write::OnlyListed {
            keys: listed,
            at: now,
        })
        .await
        .map(drop)
    }

    /// How many watches of these projects are listed according to the state, and which of them are not among `keys`.
    pub async fn listed_before(
        &self,
        projects: Vec<Arc<str>>,
        keys: Vec<WatchKey>,
    ) -> Result<PreviouslyListed, ReadError> {
        self.read(|reply| Read::Listed {
            projects,
            keys,
            reply,
        })
        .await
    }

    /// These watches as entries of a list, with the labels that their last events have.
    pub async fn entries(&self, keys: &[WatchKey]) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            entries.extend(self.read(|reply| Read::Entries { keys, reply }).await?);
        }
        Ok(entries)
    }

    /// Up to `limit` events of the log after `after`, or from the oldest on.
    pub async fn events_after(
        &self,
        after: Option<Cursor>,
        limit: usize,
        filter: EventLogFilter,
    ) -> Result<EventPage, EventsError> {
        self.read(|reply| Read::Events {
            after,
            limit,
            filter,
            reply,
        })
        .await
    }

    /// Where the log ends now: what comes after this is new.
    pub async fn end_of_log(&self) -> Result<Cursor, ReadError> {
        self.read(|reply| Read::End { reply }).await
    }

    /// Makes the endpoints be these. A new one gets what is recorded from now on; what waits for one that went is kept
    /// for seven days, and is there again if it comes back.
    pub async fn sync_endpoints(
        &self,
        endpoints: Vec<OutboxEndpoint>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        self.write(Write::Endpoints { endpoints, at: now })
            .await
            .map(drop)
    }

    /// What `endpoint` can be sent now, at most `limit`: of each subject the first that waits, if its time has come
    /// and none of the subject is `in_flight`.
    pub async fn due_deliveries(
        &self,
        endpoint: Arc<str>,
        now: Timestamp,
        limit: usize,
        in_flight: Vec<DeliveryId>,
    ) -> Result<DueDeliveries, ReadError> {
        self.read(|reply| Read::Due {
            endpoint,
            now,
            limit,
            in_flight,
            reply,
        })
        .await
    }

    /// Records what became of attempts. Deliveries that are gone by now are passed over.
    pub async fn settle_deliveries(
        &self,
        settled: Vec<(DeliveryId, Settlement)>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        self.write(Write::Settle { settled, at: now }).await.map(drop)
    }

    /// How the configured endpoints fare, by name.
    pub async fn endpoint_stats(&self) -> Result<Vec<EndpointStats>, ReadError> {
        self.read(|reply| Read::Stats { reply }).await
    }

    /// Forgets what was kept long enough: watches that left the list `retention` ago with their events, records of
    /// deliveries after seven days, the oldest events of a log that grew too long. Nothing that waits to be delivered.
    ///
    /// Works in small steps between which others write, and returns how many rows it removed.
    pub async fn prune(&self, now: Timestamp, retention: Duration) -> Result<u64, CommitError> {
        let mut removed = 0;
        loop {
            match self.write(Write::Prune { at: now, retention }).await? {
                0 => return Ok(removed),
                rows => removed += rows,
            }
        }
    }

    /// Changes when events were recorded, or another process put something into the outbox. It is a hint to look, and
    /// tells nothing else.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.engine.changed()
    }

    /// Whether the last attempt to write succeeded. After a failure, writing is tried again every second or so.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.engine.is_writable()
    }

    /// How the state is: writable, in its place, whole.
    #[must_use]
    pub fn health(&self) -> StateHealth {
        self.engine.health()
    }

    async fn write(&self, write: Write) -> Result<u64, CommitError> {
        let (reply, answer) = oneshot::channel();
        let request = WriteRequest { write, reply };
        self.engine.write(request).await?;
        answer.await.map_err(|_| CommitError::Closed)?
    }

    async fn read<T, E: From<ReadError>>(&self, read: impl FnOnce(Reply<T, E>) -> Read) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.engine.read(ReadRequest(read(reply))).await?;
        answer.await.map_err(|_| ReadError::Closed)?
    }
}
