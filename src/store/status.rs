//! The status of the store, which is available at any time, and its log messages.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::damage::DamagedRow;
use crate::clock;

/// The number of damaged rows that are logged. The table `damaged_rows` has all of them.
const NAMED: u64 = 1_000;

/// Shared between handles and engine.
#[derive(Debug)]
pub(super) struct StoreStatus {
    changed: watch::Sender<u64>,
    writable: AtomicBool,
    damaged_rows: AtomicU64,
    /// A fast copy of what `health` explains.
    is_removed: AtomicBool,
    health: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    unwritable: Option<StateProblem>,
    removed: Option<StateProblem>,
    damaged_since: Option<Timestamp>,
}

/// Why the state cannot be used, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProblem {
    /// The reason.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
}

/// Replaces a problem by the current one. One that lasts keeps its start.
fn update(problem: &mut Option<StateProblem>, reason: Option<&str>) {
    *problem = reason.map(|reason| StateProblem {
        reason: reason.to_owned(),
        since: problem.as_ref().map_or_else(clock::wall, |problem| problem.since),
    });
}

/// Whether the state is writable, present and undamaged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateHealth {
    /// Why the last write failed, if it did.
    pub unwritable: Option<StateProblem>,
    /// The file that was removed or replaced while the state is in use, if any. Nothing is written until it is back.
    pub removed: Option<StateProblem>,
    /// The damaged rows that were found since the start.
    pub damaged_rows: u64,
    /// When the first of them was found.
    pub damaged_since: Option<Timestamp>,
}

impl Default for StoreStatus {
    fn default() -> Self {
        Self {
            changed: watch::Sender::new(0),
            writable: AtomicBool::new(true),
            damaged_rows: AtomicU64::new(0),
            is_removed: AtomicBool::new(false),
            health: Mutex::default(),
        }
    }
}

impl StoreStatus {
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed) && !self.is_removed.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> StateHealth {
        let reasons = self.reasons();
        StateHealth {
            unwritable: reasons.unwritable.clone(),
            removed: reasons.removed.clone(),
            damaged_rows: self.damaged_rows.load(Ordering::Relaxed),
            damaged_since: reasons.damaged_since,
        }
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of a write. Only the first failure and the first success after it are logged.
    pub(super) fn note_write(&self, failure: Option<&str>) {
        let was_writable = self.writable.swap(failure.is_none(), Ordering::Relaxed);
        if failure.is_some() || !was_writable {
            update(&mut self.reasons().unwritable, failure);
        }
        match failure {
            Some(reason) if was_writable => {
                tracing::error!(
                    reason,
                    "the state cannot be written; events are reported when it can be written again; nothing is lost"
                );
            }
            None if !was_writable => tracing::info!("the state can be written again"),
            _ => {}
        }
    }

    /// Records whether the files of the state are still those that are open.
    pub(super) fn note_presence(&self, removed: Option<&str>) {
        let was_removed = self.is_removed.swap(removed.is_some(), Ordering::Relaxed);
        if removed.is_some() || was_removed {
            update(&mut self.reasons().removed, removed);
        }
        match removed {
            Some(reason) if !was_removed => tracing::error!(
                reason,
                "the state was removed or replaced while it is in use; nothing is recorded or delivered until the \
                 files are back or the daemon is restarted"
            ),
            None if was_removed => tracing::info!("the files of the state are back"),
            _ => {}
        }
    }

    /// Reports damaged rows by name and counts them.
    pub(super) fn note_damage(&self, rows: &[DamagedRow]) {
        if !rows.is_empty() {
            self.reasons().damaged_since.get_or_insert_with(clock::wall);
        }
        for row in rows {
            let before = self.damaged_rows.fetch_add(1, Ordering::Relaxed);
            if before < NAMED {
                tracing::error!(
                    kind = row.kind,
                    id = row.id,
                    effect = %row.effect,
                    "a row of the state is damaged; it was moved to the table `damaged_rows`; everything else continues"
                );
            } else if before == NAMED {
                tracing::error!(
                    "more rows of the state are damaged; the table `damaged_rows` has all of them"
                );
            }
        }
    }
}
