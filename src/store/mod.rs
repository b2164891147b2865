//! The state on disk: watches, event log, and the outbox of the webhooks.
//!
//! [`Store`] is a handle that can be cloned. An engine does the work: SQLite in a file, with a writing and a reading
//! thread (`threads`), or SQLite in memory (`memory`). Requests are plain data (`request`), so that another engine can be
//! added without changing callers.

mod change;
mod damage;
mod delivery;
mod directory;
mod engine;
mod event_log;
mod lock;
mod memory;
mod presence;
mod reader;
mod request;
mod source_entry;
mod sources;
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
pub use delivery::{
    Delivery, DeliveryId, DeliveryState, DueDeliveries, EndpointStats, OldestDelivery, OldestEvent,
    OperationDelivery, OutboxEndpoint, Settlement,
};
pub use directory::{StateDirectory, check_directory};
pub use engine::{Accepted, Engine};
pub use event_log::{Cursor, EventLogFilter, EventPage, EventsError, MalformedCursor, StoredEvent};
pub use memory::MemoryEngine;
pub use reader::{ReplayError, StateReader};
pub use request::{CommitError, ReadRequest, StoreReadError, WriteRequest};
pub use source_entry::{SourceEntry, SourceEntryPage, SourceEntryPosition, Withdrawal};
pub use sqlite::{OpenError, ReplayCount, ReplaySelection};
pub use status::{StateHealth, StateProblem};
pub use threads::StoreThreads;
pub use writer::CloseError;

use crate::clock::WallClock;
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::{Entry, WatchKey};
use crate::error::chain;
use change::{ChangeRows, StateRow};
use request::{Read, Reply, Write, WriteResult};

/// The number of watches or rows in one request. More would delay other requests.
const CHUNK: usize = 1000;

/// The handle of the state.
///
/// Dropping a future does not undo its request: it may still be written.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    wall: WallClock,
}

impl Store {
    /// Opens the state in `dir`, and creates it if there is none. After a crash it is checked first, which takes some
    /// seconds for each gigabyte.
    ///
    /// The threads end by [`StoreThreads::close`], or when the last handle is dropped. Dropping this future stops the
    /// opening.
    pub async fn open(dir: &Path) -> Result<(Self, StoreThreads), OpenError> {
        Self::open_until(dir, &CancellationToken::new()).await
    }

    /// As [`Store::open`]. When `stop` is cancelled before the state is open, this releases its lock within a second and
    /// returns [`OpenError::Cancelled`].
    pub async fn open_until(dir: &Path, stop: &CancellationToken) -> Result<(Self, StoreThreads), OpenError> {
        let (queues, threads) = threads::start(dir.to_owned(), stop).await?;
        Ok((Self::new(Arc::new(queues), WallClock::system()), threads))
    }

    /// A store in memory, without files and threads. Requests are answered at once.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Arc::new(MemoryEngine::default()), WallClock::system())
    }

    /// A store on `engine`. Records are dated by `wall`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, wall: WallClock) -> Self {
        Self { engine, wall }
    }

    /// The current time of the clock that dates records.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// Records a change of state, its events and their deliveries in one transaction. After `Ok` they are on disk.
    pub async fn commit(&self, change: &StateChange) -> Result<(), CommitError> {
        let record = ChangeRows::new(change, self.now());
        self.write(Write::Change(Box::new(record))).await.map(drop)
    }

    /// Records states that changed without an event.
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

    /// The stored watches of these keys. A damaged one is rebuilt from its events, stored again and reported. The others are
    /// not affected.
    pub async fn load(&self, keys: Vec<WatchKey>) -> Result<LoadedWatches, StoreReadError> {
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
                    "stored state of a watch is damaged and cannot be rewritten"
                );
            }
        }
    }

    /// The watches that left the list last: at most `limit`, the latest first.
    pub async fn recently_unlisted(&self, limit: u32) -> Result<Vec<Watch>, StoreReadError> {
        self.read(|reply| Read::RecentlyUnlisted { limit, reply }).await
    }

    /// The stored state of a project, if there is one.
    pub async fn load_project(&self, name: &str) -> Result<Option<ProjectHealth>, StoreReadError> {
        let name = name.to_owned();
        self.read(|reply| Read::Project { name, reply }).await
    }

    /// Records that these are listed. Load them first: this deletes when they left the list.
    pub async fn set_listed(&self, keys: Vec<WatchKey>) -> Result<(), CommitError> {
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            self.write(Write::Listed { keys }).await?;
        }
        Ok(())
    }

    /// Records that these left the watch list. Their retention starts.
    pub async fn set_unlisted(&self, keys: Vec<WatchKey>, now: Timestamp) -> Result<(), CommitError> {
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            self.write(Write::Unlisted { keys, at: now }).await?;
        }
        Ok(())
    }

    /// Records that all watches except `listed` left the watch list, unless that is recorded already, or another source asks
    /// for them. It does not record that `listed` are listed: see [`Store::set_listed`].
    pub async fn reconcile_listed(&self, listed: Vec<WatchKey>, now: Timestamp) -> Result<(), CommitError> {
        self.write(Write::OnlyListed {
            keys: listed,
            at: now,
        })
        .await
        .map(drop)
    }

    /// The watches of these projects that are listed according to the state, and that no other source asks for: their number,
    /// and those not among `keys`.
    pub async fn listed_before(
        &self,
        projects: Vec<Arc<str>>,
        keys: Vec<WatchKey>,
    ) -> Result<PreviouslyListed, StoreReadError> {
        self.read(|reply| Read::Listed {
            projects,
            keys,
            reply,
        })
        .await
    }

    /// These watches as entries of a watch list, with the labels of their last events.
    pub async fn entries(&self, keys: &[WatchKey]) -> Result<Vec<Entry>, StoreReadError> {
        let mut entries = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let keys = chunk.to_vec();
            entries.extend(self.read(|reply| Read::Entries { keys, reply }).await?);
        }
        Ok(entries)
    }

    /// Up to `limit` events after `after`, or from the oldest one.
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

    /// The current end of the log.
    pub async fn end_of_log(&self) -> Result<Cursor, StoreReadError> {
        self.read(|reply| Read::End { reply }).await
    }

    /// Replaces the endpoints. A new one receives events that are recorded from now on. The deliveries of a removed one are
    /// kept for seven days, in case it is added again.
    pub async fn sync_endpoints(
        &self,
        endpoints: Vec<OutboxEndpoint>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        self.write(Write::Endpoints { endpoints, at: now })
            .await
            .map(drop)
    }

    /// The deliveries that can be sent to `endpoint` now, at most `limit`: the first of each subject, if it is due and none
    /// of its subject is `in_flight`.
    pub async fn due_deliveries(
        &self,
        endpoint: Arc<str>,
        now: Timestamp,
        limit: usize,
        in_flight: Vec<DeliveryId>,
    ) -> Result<DueDeliveries, StoreReadError> {
        self.read(|reply| Read::Due {
            endpoint,
            now,
            limit,
            in_flight,
            reply,
        })
        .await
    }

    /// The events of an operation that an endpoint has not received: those that wait and dead letters, oldest event first, at
    /// most `limit`.
    pub async fn undelivered(
        &self,
        key: &WatchKey,
        limit: usize,
    ) -> Result<Vec<OperationDelivery>, StoreReadError> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let key = key.clone();
            let page = self
                .read(|reply| Read::OperationDeliveries { key, after, reply })
                .await?;
            all.extend(page.found);
            all.truncate(limit);
            match page.next {
                Some(next) if all.len() < limit => after = next,
                _ => return Ok(all),
            }
        }
    }

    /// Records the results of attempts. Deliveries that no longer exist are skipped.
    pub async fn settle_deliveries(
        &self,
        settled: Vec<(DeliveryId, Settlement)>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        self.write(Write::Settle { settled, at: now }).await.map(drop)
    }

    /// The figures of the configured endpoints, sorted by name.
    pub async fn endpoint_stats(&self) -> Result<Vec<EndpointStats>, StoreReadError> {
        self.read(|reply| Read::Stats { reply }).await
    }

    /// Deletes old rows: watches that left the list `retention` ago with their events, source entries withdrawn as long ago,
    /// finished deliveries after seven days, and the oldest events of a log that is too long. Waiting deliveries are kept.
    ///
    /// It works in small steps, so that other writes are not delayed. Returns the number of deleted rows.
    pub async fn prune(&self, now: Timestamp, retention: Duration) -> Result<u64, CommitError> {
        let mut removed = 0;
        loop {
            match self.write(Write::Prune { at: now, retention }).await?.pruned {
                0 => return Ok(removed),
                rows => removed += rows,
            }
        }
    }

    /// Changes when events were recorded, or another process changed the outbox. The value has no meaning.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.engine.changed()
    }

    /// Whether the last write succeeded. After a failure, a write is retried about every second.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.engine.is_writable()
    }

    /// Whether the state is writable, present and undamaged.
    #[must_use]
    pub fn health(&self) -> StateHealth {
        self.engine.health()
    }

    async fn write(&self, write: Write) -> Result<WriteResult, CommitError> {
        let (reply, answer) = oneshot::channel();
        let request = WriteRequest { write, reply };
        self.engine.write(request).await?;
        answer.await.map_err(|_| CommitError::Closed)?
    }

    async fn read<T, E: From<StoreReadError>>(&self, read: impl FnOnce(Reply<T, E>) -> Read) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.engine.read(ReadRequest(read(reply))).await?;
        answer.await.map_err(|_| StoreReadError::Closed)?
    }
}
