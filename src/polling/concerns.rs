//! The operations of a project that need attention, by concern.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::watches::WatchNumber;
use crate::core::attention::{Concern, ConcernList};
use crate::core::wall_time::WallTime;

/// The operations that need attention, by concern.
#[derive(Debug, Default)]
pub(super) struct Concerns {
    pub lists: [ConcernList; Concern::ALL.len()],
    failures: Failures,
    /// Watches that were loaded with an end without success. A success that makes it obsolete may be loaded after it.
    pub loaded_failures: Vec<WatchNumber>,
}

/// The ends without success that are shown, by what makes them obsolete. Those of unknown objects are absent.
#[derive(Debug, Default)]
struct Failures {
    by_backfill: BTreeSet<(u64, WallTime, WatchNumber)>,
    keys: BTreeMap<WatchNumber, (u64, WallTime)>,
}

impl Failures {
    fn remove(&mut self, number: WatchNumber) {
        if let Some((hash, start)) = self.keys.remove(&number) {
            self.by_backfill.remove(&(hash, start, number));
        }
    }
}

impl Concerns {
    /// The operations with this concern.
    pub fn list(&mut self, concern: Concern) -> &mut ConcernList {
        &mut self.lists[concern as usize]
    }

    /// Adds an end without success. `key` is what makes it obsolete: a later start of the same backfill.
    pub fn add_failure(&mut self, number: WatchNumber, since: Timestamp, key: Option<(u64, WallTime)>) {
        self.list(Concern::Failed).set(number, Some(since));
        if let Some((hash, start)) = key {
            self.failures.keys.insert(number, (hash, start));
            self.failures.by_backfill.insert((hash, start, number));
        }
    }

    /// Removes an end without success.
    pub fn remove_failure(&mut self, number: WatchNumber) {
        self.list(Concern::Failed).remove(number);
        self.failures.remove(number);
    }

    /// Removes a watch that leaves. Its number may then belong to another one.
    pub fn remove(&mut self, number: WatchNumber) {
        for list in &mut self.lists {
            list.remove(number);
        }
        self.failures.remove(number);
    }

    /// Whether no failure can become obsolete.
    pub fn has_no_failures(&self) -> bool {
        self.failures.by_backfill.is_empty()
    }

    /// The failures that a success of this backfill and start may make obsolete.
    pub fn earlier(&self, hash: u64, start: WallTime) -> impl Iterator<Item = WatchNumber> {
        let range = self
            .failures
            .by_backfill
            .range((hash, WallTime::NONE, 0)..(hash, start, 0));
        range.map(|(_, _, number)| *number)
    }
}
