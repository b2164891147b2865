//! The difference between what runs and what a list asks for.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::{Entry, Labels, WatchKey, WatchList};

/// What to do so that what runs becomes what a list asks for. Watches named in none of the three stay as they are.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Diff<'old, 'new> {
    /// Asked for and not running, in the order of the list.
    pub added: Vec<&'new Entry>,
    /// Running and not asked for any more, in no order.
    pub removed: Vec<&'old WatchKey>,
    /// Running with other labels than those asked for, in the order of the list.
    pub relabelled: Vec<&'new Entry>,
}

/// The difference between what runs, by key, and what `desired` asks for. `labels` are those of what runs; `None` where that is
/// as good as gone.
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
    // Most changes of a long list take nothing away.
    if running.clone().count() > kept {
        let asked: HashSet<&WatchKey> = desired.entries.iter().map(|entry| &entry.key).collect();
        let gone = running
            .map(|(key, _)| key.borrow())
            .filter(|key| !asked.contains(key));
        diff.removed.extend(gone);
    }
    diff
}
