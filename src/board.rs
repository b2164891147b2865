//! Every listed watch as it stands now: written by its poller, read by whoever shows it.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::core::watch::{Phase, Watch};
use crate::core::watch_list::{Labels, WatchKey};
use crate::pulse::Pulse;

/// How many removals are remembered for those who follow the board: more than any but a rewritten list brings
/// between two looks.
const REMOVALS: usize = 10_000;

/// Numbers all changes of all watches; only the order counts.
static REVISIONS: AtomicU64 = AtomicU64::new(0);

fn next_revision() -> u64 {
    REVISIONS.fetch_add(1, Ordering::AcqRel) + 1
}

/// One listed watch.
#[derive(Debug)]
pub struct Watched {
    /// Project and operation ID.
    pub key: WatchKey,
    /// Tells it from every other, also from those of the same key; who came later has the higher one.
    pub number: u64,
    /// What its poller does at the moment.
    pub pulse: Pulse,
    /// Its lock is never held across an await.
    state: Mutex<State>,
    /// Whether it has changed since it was last written to disk.
    changed: AtomicBool,
}

#[derive(Debug)]
struct State {
    watch: Watch,
    /// As the list has them now.
    labels: Arc<Labels>,
    /// The number of the last change of watch or labels. Taken while the lock is held, so that whoever has seen a
    /// higher number and then takes the lock sees this one, too.
    revision: u64,
}

impl Watched {
    /// A watch that goes on from `watch`.
    #[must_use]
    pub fn new(key: WatchKey, labels: Arc<Labels>, watch: Watch) -> Self {
        let revision = next_revision();
        Self {
            key,
            number: revision,
            pulse: Pulse::default(),
            state: Mutex::new(State {
                watch,
                labels,
                revision,
            }),
            changed: AtomicBool::new(false),
        }
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> Arc<Labels> {
        Arc::clone(&lock(&self.state).labels)
    }

    /// Gives it other labels, from the next event on.
    pub fn relabel(&self, labels: Arc<Labels>) {
        let mut state = lock(&self.state);
        if *state.labels != *labels {
            state.labels = labels;
            state.revision = next_revision();
        }
    }

    /// Looks at the watch.
    pub fn look<T>(&self, look: impl FnOnce(&Watch) -> T) -> T {
        look(&lock(&self.state).watch)
    }

    /// Replaces the watch; `recorded` tells whether it is on disk as it is.
    pub fn replace(&self, watch: Watch, recorded: bool) {
        let mut state = lock(&self.state);
        state.watch = watch;
        state.revision = next_revision();
        drop(state);
        self.changed.store(!recorded, Ordering::Relaxed);
    }

    /// The watch, if it has changed since it was last taken or recorded.
    #[must_use]
    pub fn take_changed(&self) -> Option<Watch> {
        self.changed
            .swap(false, Ordering::Relaxed)
            .then(|| self.look(Watch::clone))
    }

    /// What was taken could not be written: it is still to be.
    pub fn mark_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    fn revision(&self) -> u64 {
        lock(&self.state).revision
    }
}

/// A watch that collections find by its key.
#[derive(Debug, Clone)]
pub struct ByKey(pub Arc<Watched>);

impl Borrow<WatchKey> for ByKey {
    fn borrow(&self) -> &WatchKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

/// The listed watches by key.
#[derive(Debug, Default)]
pub struct Board {
    watches: RwLock<HashSet<ByKey>>,
    /// The last removals, each with its number.
    removals: Mutex<VecDeque<(u64, WatchKey)>>,
}

/// What became different on the board.
#[derive(Debug)]
pub struct Changes {
    /// Watches that are new or have changed, the longest ago first.
    pub changed: Vec<Arc<Watched>>,
    /// What is no longer there.
    pub removed: Vec<WatchKey>,
    /// From where to ask next time.
    pub revision: u64,
}

impl Board {
    /// Makes room for so many more watches: growing step by step leaves holes in memory.
    pub fn reserve(&self, more: usize) {
        self.write().reserve(more);
    }

    /// Puts a watch on the board.
    pub fn insert(&self, watched: Arc<Watched>) {
        self.write().replace(ByKey(watched));
    }

    /// Takes a watch off the board.
    pub fn remove(&self, key: &WatchKey) {
        if !self.write().remove(key) {
            return;
        }
        let mut removals = lock(&self.removals);
        if removals.len() == REMOVALS {
            removals.pop_front();
        }
        removals.push_back((next_revision(), key.clone()));
    }

    /// Whether this very watch is on the board.
    #[must_use]
    pub fn holds(&self, watched: &Arc<Watched>) -> bool {
        self.read()
            .get(&watched.key)
            .is_some_and(|ByKey(found)| Arc::ptr_eq(found, watched))
    }

    /// The present revision: changes after this call are after it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        REVISIONS.load(Ordering::Acquire)
    }

    /// What changed after `revision`, at most `limit` watches of it; the rest is there when asked again.
    #[must_use]
    pub fn changes_since(&self, revision: u64, limit: usize) -> Changes {
        // Read first: what changes during the scan may be seen now, and is seen again next time.
        let now = self.revision();
        let mut changed: Vec<(u64, Arc<Watched>)> = self
            .read()
            .iter()
            .filter_map(|ByKey(watched)| {
                let of_watch = watched.revision();
                (of_watch > revision).then(|| (of_watch, Arc::clone(watched)))
            })
            .collect();
        changed.sort_unstable_by_key(|(of_watch, _)| *of_watch);
        let is_whole = changed.len() <= limit;
        changed.truncate(limit);
        let now = match changed.last() {
            Some((last, _)) if !is_whole => *last,
            _ => now,
        };
        // Told again when the scan was cut short; that does no harm.
        let removed = lock(&self.removals)
            .iter()
            .rev()
            .take_while(|(of_removal, _)| *of_removal > revision)
            .map(|(_, key)| key.clone())
            .filter(|key| self.get(key).is_none())
            .collect();
        Changes {
            changed: changed.into_iter().map(|(_, watched)| watched).collect(),
            removed,
            revision: now,
        }
    }

    /// The watch of that key.
    #[must_use]
    pub fn get(&self, key: &WatchKey) -> Option<Arc<Watched>> {
        self.read().get(key).map(|ByKey(watched)| Arc::clone(watched))
    }

    /// Every watch, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Watched>> {
        let watches = self.read();
        watches.iter().map(|ByKey(watched)| Arc::clone(watched)).collect()
    }

    /// The first answer that `look` gives for a watch, in no order.
    pub fn find<T>(&self, mut look: impl FnMut(&Watched) -> Option<T>) -> Option<T> {
        self.read().iter().find_map(|ByKey(watched)| look(watched))
    }

    /// How many watches stand in each phase, in the order of [`Phase::ALL`].
    #[must_use]
    pub fn phases(&self) -> [(Phase, usize); Phase::ALL.len()] {
        let mut counts = Phase::ALL.map(|phase| (phase, 0));
        for ByKey(watched) in self.read().iter() {
            let phase = watched.look(Watch::phase);
            for (_, count) in counts.iter_mut().filter(|(of_count, _)| *of_count == phase) {
                *count += 1;
            }
        }
        counts
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashSet<ByKey>> {
        self.watches.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashSet<ByKey>> {
        self.watches.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(operation: &str) -> Arc<Watched> {
        let key = WatchKey {
            project: "p".into(),
            operation: operation.into(),
        };
        Arc::new(Watched::new(key, Arc::default(), Watch::default()))
    }

    fn names(changes: &Changes) -> Vec<&str> {
        changes
            .changed
            .iter()
            .map(|watched| &*watched.key.operation)
            .collect()
    }

    #[test]
    fn changes_are_told_in_order_and_in_portions() {
        let board = Board::default();
        let [a, b, c] = ["a", "b", "c"].map(watched);
        for watched in [&a, &b, &c] {
            board.insert(Arc::clone(watched));
        }
        let all = board.changes_since(0, 10);
        assert_eq!(names(&all), ["a", "b", "c"]);
        assert!(board.changes_since(all.revision, 10).changed.is_empty());

        b.replace(Watch::default(), true);
        a.relabel(Arc::new(vec![("x".into(), "y".into())]));
        c.relabel(Arc::default());
        let first = board.changes_since(all.revision, 1);
        assert_eq!(names(&first), ["b"]);
        assert_eq!(names(&board.changes_since(first.revision, 1)), ["a"]);
    }

    #[test]
    fn removals_are_told_unless_the_watch_is_back() {
        let board = Board::default();
        for operation in ["a", "b"] {
            board.insert(watched(operation));
        }
        let start = board.revision();
        board.remove(&watched("a").key);
        board.remove(&watched("b").key);
        board.remove(&watched("never there").key);
        board.insert(watched("b"));
        let changes = board.changes_since(start, 10);
        assert_eq!(changes.removed, [watched("a").key.clone()]);
        assert_eq!(names(&changes), ["b"]);
    }
}
