//! The watch-list file as a stream of desired lists.
//!
//! The file is checked by `stat`, every `refresh`. It is read when device, inode, size, mtime or ctime changed,
//! and once a minute in any case, for file systems with a coarse clock. Content applies when two checks in a row found it,
//! so that a file that is half written does no harm. After whole lines were appended, the second check follows at once. A
//! list that cannot be used leaves the previous one active. A change that removes nearly all entries removes them after a
//! delay (`core::watch_list::shrink`). inotify was rejected: it loses a ConfigMap volume with its old folder, runs out of
//! instances, and does not work on network file systems.
//!
//! Files are accessed on blocking threads, one at a time, so that a hung network file system blocks only this source.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::core::watch_list::WatchList;

mod file;
mod log;
mod source;
mod stability;

pub use file::{MAX_FILE_BYTES, WatchListError, read};
pub use source::WatchListSource;

/// The state of the watch list at one moment.
#[derive(Debug, Clone, Default)]
pub struct WatchListSnapshot {
    /// The list that applies. `None` before the first. It may name projects that are no longer configured, if the settings
    /// changed while the file could not be read.
    pub list: Option<Arc<WatchList>>,
    /// Why the file cannot be used now. `list` is then unchanged.
    pub problem: Option<Arc<WatchListError>>,
    /// The line errors of a file that was read and cannot be used. It has no entries.
    pub refused: Option<Arc<WatchList>>,
    /// Since when there is a `problem`.
    pub problem_since: Option<Timestamp>,
    /// Since when lines of the file are rejected.
    pub rejected_since: Option<Timestamp>,
    /// The entries of `list` that the file no longer has, and that are removed later.
    pub pending_removal: Option<PendingRemoval>,
    /// Whether no file has been found since the start, and none is required: `list` is empty.
    pub is_absent: bool,
    /// Whether the file was checked at least once.
    pub is_checked: bool,
    /// The number of changes of `list`.
    pub generation: u64,
    /// The number of the last completed reload, as [`WatchListHandle::reload`] returned it.
    pub reloads: u64,
    /// When the file was last applied, or found unchanged by a reload.
    pub last_success: Option<Timestamp>,
}

/// A removal of nearly all entries that is delayed, in case they return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRemoval {
    /// The number of entries that are removed unless they return.
    pub entries: usize,
    /// When the change was noticed.
    pub since: Timestamp,
    /// When the first entries are removed.
    pub due: Timestamp,
}

impl WatchListSnapshot {
    /// The lines of the file as it was last read, whether they apply or not.
    #[must_use]
    pub fn file(&self) -> Option<&WatchList> {
        self.refused.as_deref().or(self.list.as_deref())
    }

    /// Notes since when there is a problem and since when lines are rejected.
    fn date(&mut self, now: Timestamp) {
        let since = |applies: bool, before: Option<Timestamp>| applies.then(|| before.unwrap_or(now));
        let has_rejected = self.file().is_some_and(|file| file.rejected_total > 0);
        self.problem_since = since(self.problem.is_some(), self.problem_since);
        self.rejected_since = since(has_rejected, self.rejected_since);
    }

    /// Whether the file has lines, all of them are rejected, and there was no list before.
    #[must_use]
    pub fn has_only_rejected_lines(&self) -> bool {
        self.list.is_none() && self.refused.is_some()
    }

    /// Whether the file has been missing since the start, so that the daemon waits for it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let has_no_list = self.list.is_none() || self.is_absent;
        has_no_list && matches!(self.problem.as_deref(), Some(WatchListError::Missing))
    }

    /// Logs the rejected lines again, for a reader who sees only the end of the log. Returns their number.
    pub fn log_rejected_lines(&self, path: &Path) -> usize {
        self.file().map_or(0, |list| {
            log::rejected(path, None, list);
            list.rejected_total
        })
    }
}

/// Waits until all lines of the file are rejected and there was no list before.
pub async fn only_rejected_lines(snapshots: &mut watch::Receiver<Arc<WatchListSnapshot>>) {
    let found = snapshots.wait_for(|snapshot| snapshot.has_only_rejected_lines());
    if found.await.is_err() {
        // The source ends only at a stop.
        std::future::pending::<()>().await;
    }
}

/// The settings of a [`WatchListSource`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchListSettings {
    /// The file.
    pub path: PathBuf,
    /// Whether the file is awaited when it is missing. Otherwise the list is empty until there is one.
    pub is_required: bool,
    /// How often it is checked.
    pub refresh: Duration,
    /// How long a removal of nearly all entries is delayed.
    pub shrink_delay: Duration,
    /// The names of the configured projects, the default first.
    pub projects: Vec<Arc<str>>,
}

/// The target state of the source. It is complete, so that intermediate ones can be missed.
#[derive(Debug, Clone)]
struct SourceTarget {
    settings: Arc<WatchListSettings>,
    /// The number of requested reloads.
    reload: u64,
}

/// Controls a [`WatchListSource`] and gives access to its snapshots.
#[derive(Debug, Clone)]
pub struct WatchListHandle {
    targets: watch::Sender<SourceTarget>,
    snapshots: watch::Receiver<Arc<WatchListSnapshot>>,
}

impl WatchListHandle {
    /// Subscribes to snapshots. It also wakes for changes that do not concern the list.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<WatchListSnapshot>> {
        self.snapshots.clone()
    }

    /// Reads the file now and applies removals at once. Returns the number of the reload, which is complete when
    /// [`WatchListSnapshot::reloads`] has reached it. A file that is being written is left to the next checks.
    pub fn reload(&self) -> u64 {
        self.update(|_| {})
    }

    /// Replaces the settings, and reloads as [`WatchListHandle::reload`].
    pub fn apply_settings(&self, settings: WatchListSettings) -> u64 {
        self.update(|target| target.settings = Arc::new(settings))
    }

    fn update(&self, change: impl FnOnce(&mut SourceTarget)) -> u64 {
        let mut number = 0;
        self.targets.send_modify(|target| {
            change(target);
            target.reload += 1;
            number = target.reload;
        });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_time_of_the_read_that_found_it() {
        let at = |second| Timestamp::from_second(second).ok();
        let mut snapshot = WatchListSnapshot::default();
        let list = |rejected_total| WatchList {
            rejected_total,
            ..WatchList::default()
        };
        snapshot.list = Some(Arc::new(list(1)));
        for second in [1, 2] {
            snapshot.date(at(second).unwrap());
            assert_eq!((snapshot.rejected_since, snapshot.problem_since), (at(1), None));
        }
        snapshot.problem = Some(Arc::new(WatchListError::Missing));
        snapshot.date(at(3).unwrap());
        assert_eq!(snapshot.problem_since, at(3));
        snapshot.problem = None;
        snapshot.list = Some(Arc::new(list(0)));
        snapshot.date(at(4).unwrap());
        assert_eq!((snapshot.rejected_since, snapshot.problem_since), (None, None));
    }
}
