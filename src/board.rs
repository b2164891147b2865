//! Every listed watch as it stands now: written by its poller, read by whoever shows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::core::watch::Watch;
use crate::core::watch_list::{Labels, WatchKey};

/// One listed watch.
#[derive(Debug)]
pub struct Watched {
    /// Project and operation ID.
    pub key: WatchKey,
    /// As the list has them now. Neither lock is ever held across an await.
    labels: Mutex<Arc<Labels>>,
    watch: Mutex<Watch>,
    /// Whether it has changed since it was last written to disk.
    changed: AtomicBool,
}

impl Watched {
    /// A watch that goes on from `watch`.
    #[must_use]
    pub fn new(key: WatchKey, labels: Arc<Labels>, watch: Watch) -> Self {
        Self {
            key,
            labels: Mutex::new(labels),
            watch: Mutex::new(watch),
            changed: AtomicBool::new(false),
        }
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> Arc<Labels> {
        Arc::clone(&lock(&self.labels))
    }

    /// Gives it other labels, from the next event on.
    pub fn relabel(&self, labels: Arc<Labels>) {
        *lock(&self.labels) = labels;
    }

    /// Looks at the watch.
    pub fn look<T>(&self, look: impl FnOnce(&Watch) -> T) -> T {
        look(&lock(&self.watch))
    }

    /// Replaces the watch; `recorded` tells whether it is on disk as it is.
    pub fn replace(&self, watch: Watch, recorded: bool) {
        *lock(&self.watch) = watch;
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
}

/// The listed watches by key.
#[derive(Debug, Default)]
pub struct Board {
    watches: RwLock<HashMap<WatchKey, Arc<Watched>>>,
}

impl Board {
    /// Puts a watch on the board.
    pub fn insert(&self, watched: Arc<Watched>) {
        self.write().insert(watched.key.clone(), watched);
    }

    /// Takes a watch off the board.
    pub fn remove(&self, key: &WatchKey) {
        self.write().remove(key);
    }

    /// The watch of that key.
    #[must_use]
    pub fn get(&self, key: &WatchKey) -> Option<Arc<Watched>> {
        self.read().get(key).cloned()
    }

    /// Every watch, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<WatchKey, Arc<Watched>>> {
        self.watches.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<WatchKey, Arc<Watched>>> {
        self.watches.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
