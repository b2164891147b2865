//! The watch-list file as a stream of desired lists.
//!
//! The file is checked by `stat`, every `refresh`. It is read when device, inode, size, mtime or ctime changed,
//! and once a minute in any case, for file systems whose clock is coarse. What is read applies when two looks in a
//! row found the same content, so that a file caught half written does no harm. Where whole lines were appended the second
//! look comes at once: lines that may yet follow do no harm either. A list that cannot be used leaves the one before
//! active, and a change that removes nearly all entries removes them after a delay (`core::watch_list::shrink`).
//! inotify was rejected: it loses a ConfigMap volume with its old folder, runs out of instances, and is silent on
//! network file systems.
//!
//! Files are touched on blocking threads only, one at a time: a hung network file system holds up this source and
//! nothing else.

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

/// What is known of the watch list at one moment.
#[derive(Debug, Clone, Default)]
pub struct WatchListSnapshot {
    /// The list that applies; `None` before the first. It may name projects that are not configured any more, where
    /// the projects changed while the file was away.
    pub list: Option<Arc<WatchList>>,
    /// Why the file cannot be used at present. `list` then stays as it was.
    pub problem: Option<Arc<WatchListError>>,
    /// What is wrong with the lines of a file that was read and cannot be used; it has no entries.
    pub refused: Option<Arc<WatchList>>,
    /// Entries of `list` that the file no longer has, and that are removed later.
    pub pending_removal: Option<PendingRemoval>,
    /// Whether the file was looked at, whatever that found.
    pub looked: bool,
    /// How often `list` became another one.
    pub generation: u64,
    /// The number of the last reload that was carried out, as [`WatchListHandle::reload`] gave it.
    pub reloads: u64,
    /// When the file was last applied, or found unchanged by a reload.
    pub last_success: Option<Timestamp>,
}

/// A removal of nearly all entries, which waits for the entries to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRemoval {
    /// How many entries are removed when they do not return.
    pub entries: usize,
    /// When the change was seen.
    pub since: Timestamp,
    /// When the first of them are removed.
    pub due: Timestamp,
}

impl WatchListSnapshot {
    /// The lines of the file as it was last read, be it of use or not.
    #[must_use]
    pub fn file(&self) -> Option<&WatchList> {
        self.refused.as_deref().or(self.list.as_deref())
    }

    /// Whether the file has lines, none of them can be used, and there was no list before.
    #[must_use]
    pub fn has_only_rejected_lines(&self) -> bool {
        self.list.is_none() && self.refused.is_some()
    }

    /// Whether the file was missing all the time, so that it is awaited.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.list.is_none() && matches!(self.problem.as_deref(), Some(WatchListError::Missing))
    }

    /// Names the rejected lines of the file at `path` in the log, for a reader who sees its end only; how many there
    /// are.
    pub fn name_rejected_lines(&self, path: &Path) -> usize {
        self.file().map_or(0, |list| {
            log::rejected(path, None, list);
            list.rejected_total
        })
    }
}

/// Waits until the file turns out to have lines of which none can be used, before there was a list.
pub async fn only_rejected_lines(snapshots: &mut watch::Receiver<Arc<WatchListSnapshot>>) {
    let found = snapshots.wait_for(|snapshot| snapshot.has_only_rejected_lines());
    if found.await.is_err() {
        // The source has ended, which happens only at a stop.
        std::future::pending::<()>().await;
    }
}

/// What a [`WatchListSource`] reads, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchListSettings {
    /// The file.
    pub path: PathBuf,
    /// How often it is checked.
    pub refresh: Duration,
    /// How long a change that removes nearly all entries waits for them to return.
    pub shrink_delay: Duration,
    /// The names of the configured projects, the default first.
    pub projects: Vec<Arc<str>>,
}

/// What is wanted of the source: always the whole of it, so that missing an intermediate one loses nothing.
#[derive(Debug, Clone)]
struct Order {
    settings: Arc<WatchListSettings>,
    /// Counts the reloads asked for.
    reload: u64,
}

/// Steers a [`WatchListSource`] and hands out what it finds.
#[derive(Debug, Clone)]
pub struct WatchListHandle {
    orders: watch::Sender<Order>,
    snapshots: watch::Receiver<Arc<WatchListSnapshot>>,
}

impl WatchListHandle {
    /// What is found, from now on. It wakes also when only a flag of the snapshot changed.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<WatchListSnapshot>> {
        self.snapshots.clone()
    }

    /// Reads the file now, without waiting for the next look, applies what it removes at once, and returns the
    /// reload's number: it was carried out when [`WatchListSnapshot::reloads`] has reached it. A file that is being written just
    /// then is left to the next looks.
    pub fn reload(&self) -> u64 {
        self.order(|_| {})
    }

    /// Replaces the settings, and reloads as [`WatchListHandle::reload`].
    pub fn set(&self, settings: WatchListSettings) -> u64 {
        self.order(|order| order.settings = Arc::new(settings))
    }

    fn order(&self, change: impl FnOnce(&mut Order)) -> u64 {
        let mut number = 0;
        self.orders.send_modify(|order| {
            change(order);
            order.reload += 1;
            number = order.reload;
        });
        number
    }
}
