//! The difference between running watches and a watch list.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::{Entry, Labels, WatchKey, WatchList};

/// What to change so that the running watches match a list.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Diff<'old, 'new> {
    /// Listed but not running, in the order of the list.
    pub added: Vec<&'new Entry>,
    /// Running but no longer listed, in any order.
    pub removed: Vec<&'old WatchKey>,
    /// Running with other labels, in the order of the list.
    pub relabelled: Vec<&'new Entry>,
}

/// Compares the running watches with `desired`. `labels` returns the labels of a running watch; `None` if it is
/// leaving.
pub fn diff<'old, 'new, K: Borrow<WatchKey> + Eq + Hash, T>(
    running: &'old HashMap<K, T>,
    labels: impl Fn(&T) -> Option<&Arc<Labels>>,
    desired: &'new WatchList,
) -> Diff<'old, 'new> {
    let mut diff = Diff::default();
    let mut kept = 0;
    for entry in &desired.entries {
        match running.get(&entry.key).and_then(&labels) {
            None => diff.added.push(entry),
            Some(labels) => {
                kept += 1;
                if *labels != entry.labels {
                    diff.relabelled.push(entry);
                }
            }
        }
    }
    let running = running.iter().filter(|(_, of)| labels(of).is_some());
    // Most changes of a long list remove nothing.
    if running.clone().count() > kept {
        let asked: HashSet<&WatchKey> = desired.entries.iter().map(|entry| &entry.key).collect();
        let gone = running
            .map(|(key, _)| key.borrow())
            .filter(|key| !asked.contains(key));
        diff.removed.extend(gone);
    }
    diff
}
