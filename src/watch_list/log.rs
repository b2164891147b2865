//! What the source tells the log, each fact once.

use std::path::Path;

use super::{ReadError, Snapshot};
use crate::core::watch_list::{LineError, WatchList};
use crate::error::chain;

/// How many rejected lines of one list are told one by one.
const MAX_LINES_TOLD: usize = 20;

/// Tells that `list` follows on `before`.
pub(super) fn applied(path: &Path, before: &Snapshot, list: &WatchList) {
    let file = path.display();
    if before.problem.is_some() {
        tracing::info!(%file, "watch list can be read again");
    }
    rejected(path, before.list.as_deref(), list);
    tracing::info!(
        %file,
        entries = list.entries.len(),
        rejected = list.rejected_total,
        "watch list applied"
    );
}

/// Tells the rejected lines that the list before did not have just so.
fn rejected(path: &Path, before: Option<&WatchList>, list: &WatchList) {
    let file = path.display();
    // Sorted by line, with one error a line.
    let known: &[LineError] = before.map_or(&[], |before| &before.rejected);
    let is_told = |error: &LineError| {
        known
            .binary_search_by_key(&error.line, |known| known.line)
            .is_ok_and(|index| known[index] == *error)
    };
    let mut fresh = list.rejected.iter().filter(|error| !is_told(error));
    for LineError {
        line,
        column,
        problem,
    } in fresh.by_ref().take(MAX_LINES_TOLD)
    {
        tracing::warn!(%file, line, column, reason = %problem, "line of the watch list rejected");
    }
    let not_kept = |list: &WatchList| list.rejected_total - list.rejected.len();
    let mut untold = fresh.count();
    if before.map(not_kept) != Some(not_kept(list)) {
        untold += not_kept(list);
    }
    if untold > 0 {
        let rejected = list.rejected_total;
        tracing::warn!(%file, untold, rejected, "more lines of the watch list rejected");
    }
}

/// Tells that the file cannot be read.
pub(super) fn lost(path: &Path, before: &Snapshot, error: &ReadError) {
    let file = path.display();
    let reason = chain(error);
    if before.list.is_some() {
        tracing::warn!(%file, reason, "watch list cannot be read, the last good one stays in force");
    } else {
        tracing::warn!(%file, reason, "watch list cannot be read, waiting for it");
    }
}
