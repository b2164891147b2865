//! Delays removals when a change of the watch list removes nearly all entries.
//!
//! A truncated or overwritten file would otherwise stop nearly all watches. The pending entries are kept at the end of the
//! list that applies, so that no second copy is needed. After a restart the state knows the previous list.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Entry, MAX_ENTRIES, WatchKey, WatchList};

/// Shorter lists may shrink at once.
const MIN_ENTRIES: usize = 10;

/// Decides which list applies. Times are on a monotonic clock.
#[derive(Debug, Default)]
pub struct ShrinkGuard {
    list: Arc<WatchList>,
    /// The pending removals at the end of the list, in order.
    batches: Vec<Batch>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    due: Duration,
    entries: usize,
}

#[derive(Debug, Default)]
struct Removals {
    entries: Vec<Entry>,
    batches: Vec<Batch>,
    /// Whether the last batch belongs to this change.
    is_delayed: bool,
}

/// The effect of a change of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListChange {
    /// Entries before the change.
    pub before: usize,
    /// Removals that are delayed.
    pub delayed: usize,
}

/// Pending removals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRemovals {
    /// The number of entries.
    pub entries: usize,
    /// When the first of them are removed.
    pub due: Duration,
}

/// Whether removing `gone` of `before` entries is more than nine tenths of a list that is long enough.
#[must_use]
pub fn removes_most(before: usize, gone: usize) -> bool {
    before >= MIN_ENTRIES && gone * 10 > before * 9
}

impl ShrinkGuard {
    /// The list that applies: the entries of the file, then those whose removal is pending.
    #[must_use]
    pub fn list(&self) -> &Arc<WatchList> {
        &self.list
    }

    /// The pending removals.
    #[must_use]
    pub fn pending(&self) -> Option<PendingRemovals> {
        let due = self.batches.iter().map(|batch| batch.due).min()?;
        Some(PendingRemovals {
            entries: self.pending_entries(),
            due,
        })
    }

    /// Applies the new content of the file. With a delay of zero, everything that it does not list is removed at
    /// once.
    pub fn change(&mut self, mut file: WatchList, now: Duration, delay: Duration) -> ListChange {
        let mut change = ListChange {
            before: self.list.entries.len(),
            delayed: 0,
        };
        let mut batches = Vec::new();
        if !delay.is_zero() && (!self.batches.is_empty() || self.may_remove_most(&file)) {
            let removals = self.removals(&file, now, delay);
            batches = removals.batches;
            let capacity = MAX_ENTRIES.saturating_sub(file.entries.len());
            let fitting = fit(&mut batches, capacity);
            file.entries.extend(removals.entries.into_iter().take(fitting));
            if removals.is_delayed {
                change.delayed = batches.last().map_or(0, |batch| batch.entries);
            }
        }
        self.set(file, batches);
        change
    }

    /// Applies the first list after a start. `absent` are the missing entries of the previous list, which are removed
    /// later.
    pub fn resume(&mut self, mut file: WatchList, absent: Vec<Entry>, now: Duration, delay: Duration) {
        let due = now + delay;
        let mut batches = vec![Batch {
            due,
            entries: absent.len(),
        }];
        let fitting = fit(&mut batches, MAX_ENTRIES.saturating_sub(file.entries.len()));
        file.entries.extend(absent.into_iter().take(fitting));
        self.set(file, batches);
    }

    /// Removes the entries that are due; returns their number.
    pub fn expire(&mut self, now: Duration) -> usize {
        self.remove(|batch| batch.due <= now)
    }

    /// Removes all pending entries; returns their number.
    pub fn release(&mut self) -> usize {
        self.remove(|_| true)
    }

    /// Restarts the delay of pending removals, since the file could not be read in between.
    pub fn postpone(&mut self, now: Duration, delay: Duration) {
        for batch in &mut self.batches {
            batch.due = now + delay;
        }
    }

    fn pending_entries(&self) -> usize {
        self.batches.iter().map(|batch| batch.entries).sum()
    }

    /// The index of the first pending entry.
    fn pending_from(&self) -> usize {
        self.list.entries.len() - self.pending_entries()
    }

    /// Whether the change may remove most of the entries. Cheap if most entries keep their position.
    fn may_remove_most(&self, file: &WatchList) -> bool {
        let before = &self.list.entries;
        let enough = before.len() / 10 + 1;
        let in_place = before.iter().zip(&file.entries);
        let kept = in_place
            .filter(|(old, new)| old.key == new.key)
            .take(enough)
            .count();
        before.len() >= MIN_ENTRIES && kept < enough
    }

    /// The delayed removals: pending ones that have not returned, and those of this change if it removes more than
    /// nine tenths.
    fn removals(&self, file: &WatchList, now: Duration, delay: Duration) -> Removals {
        let listed: HashSet<&WatchKey> = file.entries.iter().map(|entry| &entry.key).collect();
        let is_absent = |entry: &&Entry| !listed.contains(&entry.key);
        let before = &self.list.entries;
        let gone = before.iter().filter(is_absent).count();
        let (was_listed, mut pending) = before.split_at(self.pending_from());

        let mut removals = Removals::default();
        let mut keep = |entries: &[Entry], due| {
            let from = removals.entries.len();
            removals.entries.extend(entries.iter().filter(is_absent).cloned());
            let entries = removals.entries.len() - from;
            if entries > 0 {
                removals.batches.push(Batch { due, entries });
            }
            entries > 0
        };
        for batch in &self.batches {
            let (entries, others) = pending.split_at(batch.entries);
            keep(entries, batch.due);
            pending = others;
        }
        removals.is_delayed = removes_most(before.len(), gone) && keep(was_listed, now + delay);
        removals
    }

    fn remove(&mut self, is_due: impl Fn(&Batch) -> bool) -> usize {
        if !self.batches.iter().any(&is_due) {
            return 0;
        }
        let before = self.list.entries.len();
        let mut list = WatchList::clone(&self.list);
        let mut pending = list.entries.split_off(self.pending_from()).into_iter();
        let mut batches = Vec::new();
        for batch in &self.batches {
            let entries = pending.by_ref().take(batch.entries);
            if is_due(batch) {
                entries.for_each(drop);
            } else {
                list.entries.extend(entries);
                batches.push(*batch);
            }
        }
        let removed = before - list.entries.len();
        self.set(list, batches);
        removed
    }

    fn set(&mut self, list: WatchList, batches: Vec<Batch>) {
        if *self.list != list {
            self.list = Arc::new(list);
        }
        self.batches = batches;
    }
}

/// Cuts the batches to `capacity` entries; returns their number.
fn fit(batches: &mut [Batch], capacity: usize) -> usize {
    let mut left = capacity;
    for batch in batches {
        batch.entries = batch.entries.min(left);
        left -= batch.entries;
    }
    capacity - left
}

#[cfg(test)]
mod tests;
