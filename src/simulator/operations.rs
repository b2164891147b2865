//! The simulated operations by ID, each with its clock and its requests.

use std::collections::hash_map::{Entry, HashMap, RandomState};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::lock;
use super::moment::Moment;
use super::operation::SimulatedOperation;
use crate::clock;
use crate::core::operation::Operation;

/// Enough that requests on a few cores rarely wait for the same lock.
const SHARDS: usize = 64;

/// The most operations created on demand, so that made-up IDs cannot fill the memory.
const MOST_ON_DEMAND: u64 = 1_000_000;

/// One operation and its clock.
#[derive(Debug)]
pub(super) struct RunningOperation {
    pub(super) operation: SimulatedOperation,
    /// The order in which it was added; lists are paged by it.
    pub(super) number: u64,
    started: OnceLock<OperationClock>,
    pub(super) origin: OperationOrigin,
}

/// Where an operation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperationOrigin {
    /// It was added by itself, so its installation exists because of it.
    Alone,
    /// It is a backfill of an installation that was added.
    Installation,
}

/// When an operation started.
#[derive(Debug, Clone, Copy)]
pub(super) struct OperationClock {
    /// When it was first shown.
    pub(super) shown: Instant,
    /// How long it had run by then.
    pub(super) age: Duration,
    /// Its `createTime`.
    pub(super) created: Timestamp,
}

impl RunningOperation {
    /// Starts the clock if it is not running.
    fn start(&self) {
        self.started.get_or_init(|| {
            let now = Moment::now();
            OperationClock {
                shown: now.instant,
                age: Duration::ZERO,
                created: now.wall,
            }
        });
    }

    /// Whether its clock is running.
    pub(super) fn has_started(&self) -> bool {
        self.started.get().is_some()
    }

    /// The operation as the API returns it now. Before its clock starts, it counts as just created.
    pub(super) fn now(&self) -> Operation {
        let (elapsed, created) = self.age();
        self.operation.at(created, elapsed)
    }

    /// The log lines written until now.
    pub(super) fn logs(&self) -> Vec<super::log_line::SimulatedLogLine> {
        let (elapsed, created) = self.age();
        self.operation.logs(created, elapsed)
    }

    /// When it was created.
    pub(super) fn created(&self) -> Timestamp {
        self.age().1
    }

    /// Whether it is in its stall.
    pub(super) fn is_stalled(&self) -> bool {
        self.operation.is_stalled(self.age().0)
    }

    /// The time since its start, and when that was.
    pub(super) fn age(&self) -> (Duration, Timestamp) {
        match self.started.get() {
            Some(started) => {
                let since = clock::instant().saturating_duration_since(started.shown);
                (started.age.saturating_add(since), started.created)
            }
            None => (Duration::ZERO, clock::wall()),
        }
    }
}

#[derive(Debug)]
struct OperationEntry {
    run: Arc<RunningOperation>,
    requests: u64,
    instants: Vec<Instant>,
}

/// All operations. Shards are locked for one lookup, never across an await.
#[derive(Debug)]
pub(super) struct Operations {
    shards: Vec<Mutex<HashMap<String, OperationEntry>>>,
    hasher: RandomState,
    added: AtomicU64,
    /// How many instants of requests are kept for each operation.
    keep: usize,
}

impl Operations {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            added: AtomicU64::new(0),
            keep,
        }
    }

    /// Adds an operation whose clock is not running yet. Replaces one with the same ID.
    pub(super) fn add(&self, operation: SimulatedOperation) -> Arc<RunningOperation> {
        self.insert(operation, OnceLock::new(), OperationOrigin::Alone)
    }

    /// Adds a backfill of an installation, with its clock. Replaces an operation with the same ID.
    pub(super) fn add_backfill(
        &self,
        operation: SimulatedOperation,
        clock: OperationClock,
    ) -> Arc<RunningOperation> {
        self.insert(operation, OnceLock::from(clock), OperationOrigin::Installation)
    }

    fn insert(
        &self,
        operation: SimulatedOperation,
        started: OnceLock<OperationClock>,
        origin: OperationOrigin,
    ) -> Arc<RunningOperation> {
        let slot = self.slot(operation, started, origin);
        let run = Arc::clone(&slot.run);
        let id = run.operation.id.clone();
        lock(self.shard(&id)).insert(id, slot);
        run
    }

    /// Removes an operation; the API does not know it any more.
    pub(super) fn remove(&self, id: &str) {
        lock(self.shard(id)).remove(id);
    }

    /// Adds an operation and starts its clock.
    pub(super) fn add_started(&self, operation: SimulatedOperation) {
        self.add(operation).start();
    }

    /// Records a request for the operation, and starts its clock with the first one. `make` may create an unknown
    /// operation.
    pub(super) fn ask(
        &self,
        id: &str,
        now: Instant,
        make: impl FnOnce() -> Option<SimulatedOperation>,
    ) -> Option<Arc<RunningOperation>> {
        let mut shard = lock(self.shard(id));
        let slot = match shard.get_mut(id) {
            Some(slot) => slot,
            None if self.added.load(Ordering::Relaxed) >= MOST_ON_DEMAND => return None,
            None => match shard.entry(id.to_owned()) {
                Entry::Occupied(slot) => slot.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(self.slot(make()?, OnceLock::new(), OperationOrigin::Alone))
                }
            },
        };
        slot.requests += 1;
        if slot.instants.len() < self.keep {
            slot.instants.push(now);
        }
        slot.run.start();
        Some(Arc::clone(&slot.run))
    }

    /// The operation, without recording a request.
    pub(super) fn get(&self, id: &str) -> Option<Arc<RunningOperation>> {
        lock(self.shard(id)).get(id).map(|slot| Arc::clone(&slot.run))
    }

    /// The number of requests for the operation.
    pub(super) fn requests(&self, id: &str) -> u64 {
        lock(self.shard(id)).get(id).map_or(0, |slot| slot.requests)
    }

    /// The times of the requests for the operation.
    pub(super) fn instants(&self, id: &str) -> Vec<Instant> {
        lock(self.shard(id))
            .get(id)
            .map(|slot| slot.instants.clone())
            .unwrap_or_default()
    }

    /// Up to `limit` operations that match, with a number of at least `from`, in the order they were added.
    pub(super) fn page(
        &self,
        from: u64,
        limit: usize,
        matches: impl Fn(&RunningOperation) -> bool,
    ) -> Vec<Arc<RunningOperation>> {
        let mut runs = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let fitting = shard.values().map(|slot| &slot.run);
            runs.extend(
                fitting
                    .filter(|run| run.number >= from && matches(run))
                    .map(Arc::clone),
            );
        }
        runs.sort_unstable_by_key(|run| run.number);
        runs.truncate(limit);
        runs
    }

    fn slot(
        &self,
        operation: SimulatedOperation,
        started: OnceLock<OperationClock>,
        origin: OperationOrigin,
    ) -> OperationEntry {
        OperationEntry {
            run: Arc::new(RunningOperation {
                operation,
                number: self.added.fetch_add(1, Ordering::Relaxed),
                started,
                origin,
            }),
            requests: 0,
            instants: Vec::new(),
        }
    }

    fn shard(&self, id: &str) -> &Mutex<HashMap<String, OperationEntry>> {
        let shards = self.shards.len() as u64;
        // The remainder is below the number of shards.
        &self.shards[(self.hasher.hash_one(id) % shards) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::Status;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_an_operation_starts_as_configured_or_at_the_first_request() {
        let operations = Operations::new(10);
        operations.add_started(SimulatedOperation::new("started", SECOND, 10));
        operations.add(SimulatedOperation::new("waiting", SECOND, 10));
        tokio::time::advance(SECOND).await;
        let ask = |id| {
            operations
                .ask(id, clock::instant(), || None)
                .unwrap()
                .now()
                .status
        };
        assert_eq!(ask("started"), Status::Success);
        assert_eq!(ask("waiting"), Status::InProgress);
        tokio::time::advance(SECOND).await;
        assert_eq!(ask("waiting"), Status::Success);
    }

    #[tokio::test]
    async fn requests_are_counted_and_so_many_of_their_instants_kept() {
        let operations = Operations::new(2);
        operations.add(SimulatedOperation::new("a", SECOND, 10));
        for _ in 0..3 {
            assert!(operations.ask("a", clock::instant(), || None).is_some());
        }
        assert!(operations.ask("b", clock::instant(), || None).is_none());
        assert_eq!((operations.requests("a"), operations.requests("b")), (3, 0));
        assert_eq!(operations.instants("a").len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backfill_can_have_run_before_it_is_shown() {
        let operations = Operations::new(0);
        let clock = OperationClock {
            shown: clock::instant(),
            age: 3 * SECOND,
            created: Timestamp::UNIX_EPOCH,
        };
        let run = operations.add_backfill(SimulatedOperation::new("old", 4 * SECOND, 8), clock);
        assert_eq!(run.now().status, Status::InProgress);
        assert_eq!(run.now().create_time, Some(Timestamp::UNIX_EPOCH));
        tokio::time::advance(SECOND).await;
        assert_eq!(run.now().status, Status::Success);
        operations.remove("old");
        assert!(operations.get("old").is_none());
    }

    #[test]
    fn pages_follow_the_order_of_addition() {
        let operations = Operations::new(0);
        for i in 0..100 {
            operations.add(SimulatedOperation::new(format!("op{i}"), SECOND, 10));
        }
        let page = operations.page(40, 10, |run| run.operation.id != "op45");
        let ids: Vec<&str> = page.iter().map(|run| run.operation.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "op40", "op41", "op42", "op43", "op44", "op46", "op47", "op48", "op49", "op50"
            ]
        );
    }
}
