//! The log messages of the source. Each fact is logged once.

use std::path::Path;
use std::time::Duration;

use super::{WatchListError, WatchListSnapshot};
use crate::core::watch_list::{LineError, LineProblem, ListChange, WatchList};
use crate::error::chain;

/// The number of lines of each kind that are logged one by one.
const MAX_LINES_NAMED: usize = 20;

/// Logs that a list applies.
pub(super) fn applied(path: &Path, before: &WatchListSnapshot, list: &WatchList) {
    let file = path.display();
    if before.problem.is_some() {
        tracing::info!(%file, "watch list readable again");
    }
    rejected(path, before.file(), list);
    noted(path, before.file(), list);
    tracing::info!(
        %file,
        entries = list.entries.len(),
        rejected = list.rejected_total,
        repeated = list.repeated_total,
        "watch list applied"
    );
}

/// Logs that there is no file, and that none is required.
pub(super) fn absent(path: &Path, before: &WatchListSnapshot) {
    if !before.is_absent {
        tracing::info!(file = %path.display(), "no watch list; watches come from discovery and the HTTP API");
    }
}

/// Logs the rejected lines that the previous list did not have.
pub(super) fn rejected(path: &Path, before: Option<&WatchList>, list: &WatchList) {
    let file = path.display();
    let new_lines = NewLines::of(before, list, |list| (&list.rejected, list.rejected_total));
    for (line, column, reason) in new_lines.named() {
        tracing::warn!(%file, line, column, %reason, "line of the watch list rejected");
    }
    if new_lines.unnamed > 0 {
        let (more, rejected) = (new_lines.unnamed, list.rejected_total);
        tracing::warn!(%file, more, rejected, "more lines of the watch list rejected");
    }
}

/// Logs the lines that apply without their deadline, and those that repeat another.
fn noted(path: &Path, before: Option<&WatchList>, list: &WatchList) {
    let file = path.display();
    let new_lines = NewLines::of(before, list, |list| {
        (&list.without_deadline, list.without_deadline_total)
    });
    for (line, column, reason) in new_lines.named() {
        tracing::warn!(%file, line, column, %reason, "deadline in the watch list ignored");
    }
    if new_lines.unnamed > 0 {
        let (more, ignored) = (new_lines.unnamed, list.without_deadline_total);
        tracing::warn!(%file, more, ignored, "more deadlines in the watch list ignored");
    }

    let new_lines = NewLines::of(before, list, |list| (&list.repeated, list.repeated_total));
    for (line, column, reason) in new_lines.named() {
        tracing::info!(%file, line, column, %reason, "line of the watch list repeats an operation");
    }
    if new_lines.unnamed > 0 {
        let (more, repeated) = (new_lines.unnamed, list.repeated_total);
        tracing::info!(%file, more, repeated, "more lines of the watch list repeat operations");
    }
}

/// Lines of one kind that the previous list did not have.
struct NewLines<'a> {
    first: Vec<&'a LineError>,
    unnamed: usize,
}

impl<'a> NewLines<'a> {
    fn of(
        before: Option<&'a WatchList>,
        list: &'a WatchList,
        kind: impl Fn(&'a WatchList) -> (&'a Vec<LineError>, usize),
    ) -> Self {
        // Sorted by line, with one error a line.
        let known: &[LineError] = before.map_or(&[], |before| kind(before).0);
        let is_known = |error: &LineError| {
            known
                .binary_search_by_key(&error.line, |known| known.line)
                .is_ok_and(|index| known[index] == *error)
        };
        let (kept, total) = kind(list);
        let mut new_lines = kept.iter().filter(|error| !is_known(error));
        let first = new_lines.by_ref().take(MAX_LINES_NAMED).collect();
        let mut unnamed = new_lines.count();
        let not_kept = |(kept, total): (&Vec<LineError>, usize)| total - kept.len();
        if before.map(|before| not_kept(kind(before))) != Some(not_kept((kept, total))) {
            unnamed += not_kept((kept, total));
        }
        Self { first, unnamed }
    }

    /// Line, column and reason of each that is named.
    fn named(&self) -> impl Iterator<Item = (u32, u32, &LineProblem)> {
        self.first
            .iter()
            .map(|error| (error.line, error.column, &error.problem))
    }
}

/// Logs that a removal of nearly all entries is delayed.
pub(super) fn shrunk(path: &Path, change: ListChange, listed: usize, delay: Duration) {
    tracing::warn!(
        file = %path.display(),
        entries = listed,
        entries_before = change.before,
        pending_removal = change.delayed,
        delay_seconds = delay.as_secs_f64(),
        "the watch list lost most of its entries; they are removed after watch_list_shrink_delay unless they return; a \
         reload removes them at once"
    );
}

/// Logs that pending entries were removed.
pub(super) fn removed(path: &Path, removed: usize) {
    tracing::info!(
        file = %path.display(),
        removed,
        "entries removed that did not return to the watch list"
    );
}

/// Logs that the file cannot be used.
pub(super) fn lost(path: &Path, before: &WatchListSnapshot, error: &WatchListError) {
    if before.problem.as_ref().is_some_and(|known| known.is_same(error)) {
        return;
    }
    let file = path.display();
    let reason = chain(error);
    if before.list.is_some() && !before.is_absent {
        tracing::warn!(%file, reason, "watch list cannot be read, the last good one stays active");
    } else {
        tracing::warn!(%file, reason, "watch list cannot be read, waiting for it");
    }
}
