//! What a change of the watch list removes at once, and what only later.
//!
//! A file that was truncated or overwritten by mistake would stop nearly all watches. So a change that removes nearly
//! all of them removes them after a delay, if they have not returned by then. The last entries of the list that
//! applies are those whose removal is pending: no second copy of the list is kept. What the list had before a restart,
//! the state knows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Entry, MAX_ENTRIES, WatchKey, WatchList};

/// Lists of fewer entries may shrink at once.
const MIN_ENTRIES: usize = 10;

/// Decides which list applies. Times are on a clock that never goes back.
#[derive(Debug, Default)]
pub struct ShrinkGuard {
    list: Arc<WatchList>,
    /// The pending entries at the end of the list, in their order.
    batches: Vec<Batch>,
}

/// Entries that one change removed.
#[derive(Debug, Clone, Copy)]
struct Batch {
    due: Duration,
    entries: usize,
}

/// What is removed later.
#[derive(Debug, Default)]
struct Removals {
    entries: Vec<Entry>,
    batches: Vec<Batch>,
    /// Whether the last batch is of this change.
    is_delayed: bool,
}

/// What a change of the file leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListChange {
    /// How many entries applied before it.
    pub before: usize,
    /// How many removals it delays.
    pub delayed: usize,
}

/// Removals that are pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRemovals {
    /// How many entries.
    pub entries: usize,
    /// When the first of them are removed.
    pub due: Duration,
}

/// Whether a change that removes `gone` of `before` entries removes nearly all of them.
#[must_use]
pub fn removes_most(before: usize, gone: usize) -> bool {
    before >= MIN_ENTRIES && gone * 10 > before * 9
}

impl ShrinkGuard {
    /// The list that applies: what the file lists, then what is still to be removed.
    #[must_use]
    pub fn list(&self) -> &Arc<WatchList> {
        &self.list
    }

    /// The removals that are pending.
    #[must_use]
    pub fn pending(&self) -> Option<PendingRemovals> {
        let due = self.batches.iter().map(|batch| batch.due).min()?;
        Some(PendingRemovals {
            entries: self.pending_entries(),
            due,
        })
    }

    /// The file has this list now. With a delay of zero all that it does not list is removed at once.
    pub fn change(&mut self, mut file: WatchList, now: Duration, delay: Duration) -> ListChange {
        let mut change = ListChange {
            before: self.list.entries.len(),
            delayed: 0,
        };
        let mut batches = Vec::new();
        if !delay.is_zero() && (!self.batches.is_empty() || self.may_remove_most(&file)) {
            let removals = self.removals(&file, now, delay);
            batches = removals.batches;
            let room = MAX_ENTRIES.saturating_sub(file.entries.len());
            let fitting = fit(&mut batches, room);
            file.entries.extend(removals.entries.into_iter().take(fitting));
            if removals.is_delayed {
                change.delayed = batches.last().map_or(0, |batch| batch.entries);
            }
        }
        self.set(file, batches);
        change
    }

    /// The first list since the start. `absent` are nearly all entries that the list had before, and are removed later.
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

    /// The removals that are due are carried out; how many.
    pub fn expire(&mut self, now: Duration) -> usize {
        self.remove(|batch| batch.due <= now)
    }

    /// All removals that are pending are carried out; how many.
    pub fn release(&mut self) -> usize {
        self.remove(|_| true)
    }

    /// The removals that are pending wait that long from now on: what the file lists was not known in between.
    pub fn postpone(&mut self, now: Duration, delay: Duration) {
        for batch in &mut self.batches {
            batch.due = now + delay;
        }
    }

    fn pending_entries(&self) -> usize {
        self.batches.iter().map(|batch| batch.entries).sum()
    }

    /// Where the pending entries begin.
    fn pending_from(&self) -> usize {
        self.list.entries.len() - self.pending_entries()
    }

    /// Whether the change may remove most of the entries. Cheap for the usual change, which leaves most where they are.
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

    /// The entries that are removed later, and when: those that are pending and have not returned, and those of this
    /// change if it removes more than nine tenths of all.
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

/// Cuts the batches to as many entries as there is room for; how many they have then.
fn fit(batches: &mut [Batch], room: usize) -> usize {
    let mut left = room;
    for batch in batches {
        batch.entries = batch.entries.min(left);
        left -= batch.entries;
    }
    room - left
}

#[cfg(test)]
mod tests;
