//! The difference between two lists, for one project.

use std::collections::HashMap;
use std::sync::Arc;

use super::Entry;
use crate::core::source::Terms;

/// What changes for one project when a list replaces another.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ListDifference {
    /// Operations that are new, or have other terms, in the order of the list.
    pub set: Vec<(Arc<str>, Arc<Terms>)>,
    /// The number of new ones among them.
    pub added: usize,
    /// Operations that are no longer listed, sorted.
    pub withdrawn: Vec<Arc<str>>,
}

/// The difference for one project. Most changes concern a few of many lines, so equal ends are skipped.
pub fn difference(project: &Arc<str>, before: &[Entry], after: &[Entry]) -> ListDifference {
    let is_same = |(before, after): &(&Entry, &Entry)| before == after;
    let start = before.iter().zip(after).take_while(is_same).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(is_same)
        .count();
    let is_of_project =
        |entry: &&Entry| Arc::ptr_eq(&entry.key.project, project) || entry.key.project == *project;
    let before = before[..before.len() - end].iter().filter(is_of_project);
    let mut gone: HashMap<&Arc<str>, &Entry> = before.map(|entry| (&entry.key.operation, entry)).collect();
    let mut difference = ListDifference::default();
    for entry in after[..after.len() - end].iter().filter(is_of_project) {
        let known = gone.remove(&entry.key.operation);
        difference.added += usize::from(known.is_none());
        if known.is_none_or(|known| known.terms != entry.terms) {
            let set = (Arc::clone(&entry.key.operation), Arc::clone(&entry.terms));
            difference.set.push(set);
        }
    }
    difference.withdrawn = gone.into_keys().cloned().collect();
    // The order of a map is random.
    difference.withdrawn.sort_unstable();
    difference
}
