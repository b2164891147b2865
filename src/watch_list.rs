//! The watch-list file as a stream of desired lists.
//!
//! The file is looked at by `stat`, every `refresh`. It is read when device, inode, size, mtime or ctime changed,
//! and once a minute in any case, for file systems whose clock is coarse. What is read holds when two looks in a
//! row found the same content, so that a file caught half written does no harm. Where whole lines were appended the second
//! look comes at once: lines that may yet follow do no harm either. inotify was rejected: it loses a
//! ConfigMap volume with its old folder, runs out of instances, and is silent on network file systems.
//!
//! Files are touched on blocking threads only, one at a time: a hung network file system holds up this source and
//! nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::watch_list::{WatchList, parse};

mod file;
mod log;
mod looks;

use file::{Content, Signature};
pub use file::{MAX_FILE_BYTES, ReadError, read};
use looks::{Finding, Looks, Verdict};

/// How long after the last read the file is read again though `stat` tells nothing new.
const REREAD: Duration = Duration::from_secs(60);
/// The longest wait for the second look, however long `refresh` is.
const MAX_CONFIRM: Duration = Duration::from_millis(250);
/// Between the two looks of a reload, which somebody asked for and waits for.
const RELOAD_CONFIRM: Duration = Duration::from_millis(20);
/// Between the two where whole lines were appended: longer than what a file system's clock is coarse by.
const APPEND_CONFIRM: Duration = Duration::from_millis(10);
/// A shorter `refresh` would be a busy loop.
const MIN_REFRESH: Duration = Duration::from_millis(10);
/// How long the file system may take to answer before that is told.
const LATE: Duration = Duration::from_secs(10);

/// What is known of the watch list at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The last good list; `None` before the first. It may name projects that are not configured any more, where
    /// the projects changed while the file was away.
    pub list: Option<Arc<WatchList>>,
    /// Why the file cannot be read at present. `list` then stays as it was.
    pub problem: Option<Arc<ReadError>>,
    /// Whether the file was looked at, whatever that found.
    pub looked: bool,
    /// How often `list` became another one.
    pub generation: u64,
    /// The number of the last reload that was carried out, as [`Handle::reload`] gave it.
    pub reloads: u64,
    /// When the file was last applied, or found unchanged by a reload.
    pub last_success: Option<Timestamp>,
}

#[derive(Debug)]
struct Settings {
    path: PathBuf,
    refresh: Duration,
    projects: Vec<Arc<str>>,
}

/// What is wanted of the source: always the whole of it, so that missing an intermediate one loses nothing.
#[derive(Debug, Clone)]
struct Order {
    settings: Arc<Settings>,
    /// Counts the reloads asked for.
    reload: u64,
}

/// Steers a [`WatchListSource`] and hands out what it finds.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: watch::Sender<Order>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Handle {
    /// What is found, from now on. It wakes also when only a flag of the snapshot changed.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Reads the file now, without waiting for the next look, and returns the reload's number: it was carried out
    /// when [`Snapshot::reloads`] has reached it. A file that is being written just then is left to the next looks.
    pub fn reload(&self) -> u64 {
        self.order(|_| {})
    }

    /// Replaces the settings, and reloads as [`Handle::reload`].
    pub fn set(&self, path: PathBuf, refresh: Duration, projects: Vec<Arc<str>>) -> u64 {
        let settings = Arc::new(Settings {
            path,
            refresh,
            projects,
        });
        self.order(|order| order.settings = settings)
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

/// The task that looks at the file.
#[derive(Debug)]
pub struct WatchListSource {
    orders: watch::Receiver<Order>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    settings: Arc<Settings>,
    looks: Looks,
    /// What `stat` told of the content that was read last.
    seen: Option<Signature>,
    read_due: Instant,
}

impl WatchListSource {
    /// A source of the file at `path`, looked at every `refresh`, and its handle. `projects` are the names of the
    /// configured projects, the default first.
    #[must_use]
    pub fn new(path: PathBuf, refresh: Duration, projects: Vec<Arc<str>>) -> (Self, Handle) {
        let settings = Arc::new(Settings {
            path,
            refresh,
            projects,
        });
        let first = Order {
            settings: Arc::clone(&settings),
            reload: 0,
        };
        let (order_sender, orders) = watch::channel(first);
        let (snapshots, snapshot_receiver) = watch::channel(Arc::default());
        let source = Self {
            orders,
            snapshots,
            settings,
            looks: Looks::default(),
            seen: None,
            read_due: clock::instant(),
        };
        let handle = Handle {
            orders: order_sender,
            snapshots: snapshot_receiver,
        };
        (source, handle)
    }

    /// Looks at the file until `cancel`. A look that hangs does not hold up the end, though its thread lives on.
    pub async fn run(mut self, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.keep_looking()).await;
    }

    async fn keep_looking(&mut self) {
        loop {
            // Marked as seen before the look, so that an order which comes during it, or between it and the wait
            // below, is met by `changed`, which then returns at once.
            let order = self.orders.borrow_and_update().clone();
            let carried_out = self.snapshots.borrow().reloads;
            if order.reload == carried_out {
                // What follows has been done; only a reload looks again at once.
                let _ = self.look().await;
            } else {
                self.reload(order).await;
            }
            let refresh = self.settings.refresh.max(MIN_REFRESH);
            let wait = if self.looks.is_waiting() {
                refresh.min(MAX_CONFIRM)
            } else {
                refresh
            };
            tokio::select! {
                // Without any handle there are no more orders, and the branch is off.
                Ok(()) = self.orders.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn reload(&mut self, order: Order) {
        let is_other_list =
            order.settings.path != self.settings.path || order.settings.projects != self.settings.projects;
        self.settings = order.settings;
        if is_other_list {
            self.looks.forget();
        }
        self.seen = None;
        let mut verdict = self.look().await;
        if verdict == Verdict::Wait {
            sleep(RELOAD_CONFIRM).await;
            verdict = self.look().await;
            // The two were so close that `stat` may not tell a write that came between or after them.
            self.seen = None;
        }
        if verdict == Verdict::Same && self.looks.has_rested() {
            tracing::info!(file = %self.settings.path.display(), "watch list read again, nothing changed");
        }
        let is_good = self.looks.has_rested();
        self.publish(|snapshot| {
            snapshot.reloads = order.reload;
            if is_good {
                snapshot.last_success = Some(clock::wall());
            }
        });
    }

    /// One look, and what follows from it.
    async fn look(&mut self) -> Verdict {
        let is_settled = self.looks.has_rested() && clock::instant() < self.read_due;
        let known = if is_settled { self.seen } else { None };
        let (settings, holds) = (Arc::clone(&self.settings), self.looks.content());
        let answer = blocking(move || file::look(&settings.path, known, holds));
        match late_told(answer, LATE, || self.tell_late()).await {
            Ok(None) => Verdict::Same,
            Ok(Some(content)) => self.found(content).await,
            Err(error) => {
                let error = Arc::new(error);
                let verdict = self.looks.note(Finding::Problem(Arc::clone(&error)));
                if verdict == Verdict::Holds {
                    self.lose(error);
                }
                verdict
            }
        }
    }

    async fn found(&mut self, content: Content) -> Verdict {
        let was_waiting = self.looks.is_waiting();
        self.seen = Some(content.signature);
        self.read_due = clock::instant() + REREAD;
        let verdict = self.looks.note(Finding::Content(content.extent));
        if verdict == Verdict::Wait && content.appended {
            return self.confirm(content).await;
        }
        match verdict {
            Verdict::Holds => {
                let list = self.parse(content.bytes).await;
                self.apply(list);
            }
            // A file that never rests has been looked at all the same.
            Verdict::Wait if was_waiting && !self.snapshots.borrow().looked => {
                self.publish(|snapshot| snapshot.looked = true);
            }
            Verdict::Wait | Verdict::Same => {}
        }
        verdict
    }

    /// Takes the second look at whole lines that were appended, once they are parsed.
    async fn confirm(&mut self, content: Content) -> Verdict {
        let (extent, read) = (content.extent, clock::instant());
        let list = self.parse(content.bytes).await;
        sleep(APPEND_CONFIRM.saturating_sub(read.elapsed())).await;
        let (settings, seen) = (Arc::clone(&self.settings), self.seen);
        let answer = blocking(move || file::look(&settings.path, seen, None));
        let Ok(None) = late_told(answer, LATE, || self.tell_late()).await else {
            // Whatever it found, the next look finds too.
            return Verdict::Wait;
        };
        let verdict = self.looks.note(Finding::Content(extent));
        if verdict == Verdict::Holds {
            self.apply(list);
        }
        verdict
    }

    async fn parse(&self, bytes: Vec<u8>) -> WatchList {
        let settings = Arc::clone(&self.settings);
        blocking(move || parse(&bytes, &settings.projects)).await
    }

    fn apply(&mut self, list: WatchList) {
        let before = Arc::clone(&self.snapshots.borrow());
        log::applied(&self.settings.path, &before, &list);
        self.publish(|snapshot| {
            if snapshot.list.as_deref() != Some(&list) {
                snapshot.list = Some(Arc::new(list));
                snapshot.generation += 1;
            }
            snapshot.problem = None;
            snapshot.looked = true;
            snapshot.last_success = Some(clock::wall());
        });
    }

    fn lose(&mut self, error: Arc<ReadError>) {
        let before = Arc::clone(&self.snapshots.borrow());
        log::lost(&self.settings.path, &before, &error);
        self.publish(|snapshot| {
            snapshot.problem = Some(error);
            snapshot.looked = true;
        });
    }

    fn tell_late(&mut self) {
        let seconds = LATE.as_secs();
        let error = Arc::new(ReadError::NoAnswer { seconds });
        self.looks.hold(Finding::Problem(Arc::clone(&error)));
        self.lose(error);
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshots
            .send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }
}

/// Runs what may block where it blocks nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Waits for `work`, and calls `tell` once when that takes longer than `limit`.
async fn late_told<T>(work: impl Future<Output = T>, limit: Duration, tell: impl FnOnce()) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = sleep(limit) => tell(),
    }
    work.await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lateness_is_told_after_the_limit_and_not_before() {
        let told = Cell::new(false);
        late_told(sleep(LATE - Duration::from_millis(1)), LATE, || told.set(true)).await;
        assert!(!told.get());
        let answer = async {
            sleep(LATE + Duration::from_millis(1)).await;
            7
        };
        assert_eq!(late_told(answer, LATE, || told.set(true)).await, 7);
        assert!(told.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_does_not_answer_keeps_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch.list");
        std::fs::write(&path, "one").unwrap();
        let (mut source, handle) = WatchListSource::new(path, MAX_CONFIRM, vec!["main".into()]);
        assert_eq!(source.look().await, Verdict::Wait);
        assert_eq!(source.look().await, Verdict::Holds);
        source.tell_late();
        let snapshot = Arc::clone(&handle.snapshots().borrow());
        assert!(matches!(
            snapshot.problem.as_deref(),
            Some(ReadError::NoAnswer { .. })
        ));
        assert!(snapshot.list.is_some());
        assert_eq!(source.look().await, Verdict::Wait);
        assert_eq!(source.look().await, Verdict::Holds);
        let snapshot = Arc::clone(&handle.snapshots().borrow());
        assert!(snapshot.problem.is_none());
        assert_eq!(snapshot.generation, 1, "the list is the one from before");
    }

    #[tokio::test(start_paused = true)]
    async fn whole_lines_that_are_appended_hold_at_once_and_all_else_wants_a_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch.list");
        std::fs::write(&path, "one\n").unwrap();
        let (mut source, handle) = WatchListSource::new(path.clone(), MAX_CONFIRM, vec!["main".into()]);
        assert_eq!(source.look().await, Verdict::Wait);
        assert_eq!(source.look().await, Verdict::Holds);
        for (content, verdict) in [
            ("one\ntwo\nthree\n", Verdict::Holds),
            // Half a line, and a list that is another one although it is longer.
            ("one\ntwo\nthree\nfo", Verdict::Wait),
            ("one\nzwo\nthree\nfour\n", Verdict::Wait),
            ("one\ntwo\n", Verdict::Wait),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(source.look().await, verdict, "{content:?}");
        }
        assert_eq!(handle.snapshots().borrow().generation, 2);
    }

    /// `stat` cannot be made to hide a change on a usual file system, so the source is made to believe that it has
    /// seen the new content already.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_stat_does_not_show_is_found_after_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch.list");
        std::fs::write(&path, "one").unwrap();
        let (mut source, handle) = WatchListSource::new(path.clone(), MAX_CONFIRM, vec!["main".into()]);
        assert_eq!(source.look().await, Verdict::Wait);
        assert_eq!(source.look().await, Verdict::Holds);

        std::fs::write(&path, "two").unwrap();
        let hidden = file::look(&path, None, None).unwrap().unwrap();
        source.seen = Some(hidden.signature);
        tokio::time::advance(REREAD - Duration::from_millis(1)).await;
        assert_eq!(source.look().await, Verdict::Same);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(source.look().await, Verdict::Wait);
        assert_eq!(source.look().await, Verdict::Holds);
        let list = handle.snapshots().borrow().list.clone().unwrap();
        assert_eq!(list.entries[0].key.to_string(), "main/two");
    }
}
