//! The task that checks and reads the file.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::file::{self, Content, Signature, WatchListError};
use super::stability::{Finding, Stability, StabilityChange};
use super::{PendingRemoval, SourceTarget, WatchListHandle, WatchListSettings, WatchListSnapshot, log};
use crate::clock;
use crate::core::watch_list::{Entry, ListChange, ShrinkGuard, UnusableList, WatchList, parse, removes_most};
use crate::error::chain;
use crate::store::{Store, StoreReadError};

/// When the file is read again although `stat` shows no change.
const REREAD: Duration = Duration::from_secs(60);
/// The longest wait for the second check, for any `refresh`.
const MAX_CONFIRM: Duration = Duration::from_millis(250);
/// The wait between the two checks of a reload, which has a caller.
const RELOAD_CONFIRM: Duration = Duration::from_millis(20);
/// The wait between the two checks after lines were appended. It is longer than a tick of the file system's clock.
const APPEND_CONFIRM: Duration = Duration::from_millis(10);
/// A shorter `refresh` would be a busy loop.
const MIN_REFRESH: Duration = Duration::from_millis(10);
/// The pause before a failed read of the state is retried.
const STATE_RETRY: Duration = Duration::from_secs(1);
/// The time without an answer of the file system that is reported.
const LATE: Duration = Duration::from_secs(10);

/// Entries that were removed from the file while the daemon was stopped.
#[derive(Debug, Default)]
struct LostEntries {
    /// The number of entries before.
    of: usize,
    entries: Vec<Entry>,
}

/// When entries are removed that the file no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalMode {
    /// After a delay, if they are nearly all.
    Guarded,
    /// At once, by a reload.
    AtOnce,
}

/// Whether a list comes from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    Present,
    /// There is none, and none is required.
    Absent,
}

/// The task that checks and reads the file.
#[derive(Debug)]
pub struct WatchListSource {
    targets: watch::Receiver<SourceTarget>,
    snapshots: watch::Sender<Arc<WatchListSnapshot>>,
    settings: Arc<WatchListSettings>,
    stability: Stability,
    guard: ShrinkGuard,
    /// The state with the list of the previous run, until a list applies.
    state: Option<Store>,
    /// The signature of the content that was read last.
    seen: Option<Signature>,
    read_due: Instant,
    /// The zero of the guard's times.
    start: Instant,
}

impl WatchListSource {
    /// A source of the file, and its handle.
    #[must_use]
    pub fn new(settings: WatchListSettings) -> (Self, WatchListHandle) {
        let settings = Arc::new(settings);
        let first = SourceTarget {
            settings: Arc::clone(&settings),
            reload: 0,
        };
        let (target_sender, targets) = watch::channel(first);
        let (snapshots, snapshot_receiver) = watch::channel(Arc::default());
        let now = clock::instant();
        let source = Self {
            targets,
            snapshots,
            settings,
            stability: Stability::default(),
            guard: ShrinkGuard::default(),
            state: None,
            seen: None,
            read_due: now,
            start: now,
        };
        let handle = WatchListHandle {
            targets: target_sender,
            snapshots: snapshot_receiver,
        };
        (source, handle)
    }

    /// Reads the list of the previous run from `state`, so that a list that was emptied in between removes nothing at once.
    #[must_use]
    pub fn continuing(mut self, state: Store) -> Self {
        self.state = Some(state);
        self
    }

    /// Checks the file until `cancel`. A hanging check does not delay the end, although its thread continues.
    pub async fn run(mut self, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.check_repeatedly()).await;
    }

    async fn check_repeatedly(&mut self) {
        loop {
            // Marked as seen before the check, so that `changed` below returns at once after a change during the check.
            let target = self.targets.borrow_and_update().clone();
            let carried_out = self.snapshots.borrow().reloads;
            if target.reload == carried_out {
                // The result is applied already. Only a reload checks again at once.
                let _ = self.check(RemovalMode::Guarded).await;
                self.remove_due();
            } else {
                self.reload(target).await;
            }
            let wait = self.next_check();
            tokio::select! {
                // Without handles this branch is disabled.
                Ok(()) = self.targets.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    fn next_check(&self) -> Duration {
        let refresh = self.settings.refresh.max(MIN_REFRESH);
        if self.stability.is_unconfirmed() {
            return refresh.min(MAX_CONFIRM);
        }
        match self.guard.pending() {
            Some(pending) if self.is_good() => pending.due.saturating_sub(self.steady_now()).min(refresh),
            _ => refresh,
        }
    }

    async fn reload(&mut self, target: SourceTarget) {
        let is_other_list =
            target.settings.path != self.settings.path || target.settings.projects != self.settings.projects;
        let is_other_rule = target.settings.is_required != self.settings.is_required;
        self.settings = target.settings;
        if is_other_list || is_other_rule {
            self.stability.reset();
        }
        self.seen = None;
        let mut verdict = self.check(RemovalMode::AtOnce).await;
        if verdict == StabilityChange::Unconfirmed {
            sleep(RELOAD_CONFIRM).await;
            verdict = self.check(RemovalMode::AtOnce).await;
            // The two checks are so close that `stat` may not show a write between or after them.
            self.seen = None;
        }
        let is_good = self.is_good();
        if verdict == StabilityChange::Unchanged && is_good {
            let removed = self.guard.release();
            if removed > 0 {
                self.publish_removed(removed);
            } else if !self.snapshots.borrow().is_absent {
                tracing::info!(file = %self.settings.path.display(), "watch list read again, nothing changed");
            }
        }
        self.publish(|snapshot| {
            snapshot.reloads = target.reload;
            if is_good {
                snapshot.last_success = Some(clock::wall());
            }
        });
    }

    /// Whether the list that applies is the content of the file, as of the last check.
    fn is_good(&self) -> bool {
        let snapshot = self.snapshots.borrow();
        let is_absent = snapshot.is_absent && !self.stability.is_unconfirmed();
        (self.stability.is_stable() || is_absent) && snapshot.problem.is_none()
    }

    /// Removes due entries, unless the file may have changed since or cannot be read.
    fn remove_due(&mut self) {
        if self.is_good() {
            let removed = self.guard.expire(self.steady_now());
            if removed > 0 {
                self.publish_removed(removed);
            }
        }
    }

    /// Checks the file once, and applies the result.
    async fn check(&mut self, removals: RemovalMode) -> StabilityChange {
        let is_settled = self.stability.is_stable() && clock::instant() < self.read_due;
        let known = if is_settled { self.seen } else { None };
        let (settings, before) = (Arc::clone(&self.settings), self.stability.content());
        let answer = blocking(move || file::check(&settings.path, known, before));
        match report_late(answer, LATE, || self.report_no_answer()).await {
            Ok(None) => StabilityChange::Unchanged,
            Ok(Some(content)) => self.found(content, removals).await,
            Err(error) => {
                let error = Arc::new(error);
                let verdict = self.stability.observe(Finding::Problem(Arc::clone(&error)));
                if verdict == StabilityChange::Applies {
                    if self.may_be_absent(&error) {
                        self.apply(WatchList::default(), FileState::Absent, removals)
                            .await;
                    } else {
                        self.lose(error, None);
                    }
                }
                verdict
            }
        }
    }

    /// Whether the file is missing, is not required, and was never found.
    fn may_be_absent(&self, error: &WatchListError) -> bool {
        let snapshot = self.snapshots.borrow();
        let was_found = snapshot.file().is_some() && !snapshot.is_absent;
        !self.settings.is_required && !was_found && matches!(error, WatchListError::Missing)
    }

    async fn found(&mut self, content: Content, removals: RemovalMode) -> StabilityChange {
        let was_unconfirmed = self.stability.is_unconfirmed();
        self.seen = Some(content.signature);
        self.read_due = clock::instant() + REREAD;
        let verdict = self.stability.observe(Finding::Content(content.fingerprint));
        if verdict == StabilityChange::Unconfirmed && content.appended {
            return self.confirm(content, removals).await;
        }
        match verdict {
            StabilityChange::Applies => {
                let list = self.parse(content.bytes).await;
                self.take(list, removals).await;
            }
            // A file that changes all the time counts as checked too.
            StabilityChange::Unconfirmed if was_unconfirmed && !self.snapshots.borrow().is_checked => {
                self.publish(|snapshot| snapshot.is_checked = true);
            }
            StabilityChange::Unconfirmed | StabilityChange::Unchanged => {}
        }
        verdict
    }

    /// Checks appended lines a second time, after parsing them.
    async fn confirm(&mut self, content: Content, removals: RemovalMode) -> StabilityChange {
        let (fingerprint, read) = (content.fingerprint, clock::instant());
        let list = self.parse(content.bytes).await;
        sleep(APPEND_CONFIRM.saturating_sub(read.elapsed())).await;
        let (settings, seen) = (Arc::clone(&self.settings), self.seen);
        let answer = blocking(move || file::check(&settings.path, seen, None));
        let Ok(None) = report_late(answer, LATE, || self.report_no_answer()).await else {
            // The next check finds the same.
            return StabilityChange::Unconfirmed;
        };
        let verdict = self.stability.observe(Finding::Content(fingerprint));
        if verdict == StabilityChange::Applies {
            self.take(list, removals).await;
        }
        verdict
    }

    async fn parse(&self, bytes: Vec<u8>) -> WatchList {
        let settings = Arc::clone(&self.settings);
        blocking(move || parse(&bytes, &settings.projects)).await
    }

    /// Applies a list, if it can be used.
    async fn take(&mut self, mut list: WatchList, removals: RemovalMode) {
        let error = match list.unusable() {
            None => return self.apply(list, FileState::Present, removals).await,
            Some(UnusableList::NotText) => WatchListError::NotText,
            Some(UnusableList::NoLineParses) => WatchListError::NoLineParses {
                lines: list.rejected_total,
            },
        };
        list.entries = Vec::new();
        self.lose(Arc::new(error), Some(list));
    }

    async fn apply(&mut self, list: WatchList, file: FileState, removals: RemovalMode) {
        let lost = match (self.state.take(), removals) {
            (Some(state), RemovalMode::Guarded) => self.lost_since_stop(&state, &list).await,
            _ => LostEntries::default(),
        };
        let before = Arc::clone(&self.snapshots.borrow());
        let (now, delay) = (self.steady_now(), self.settings.shrink_delay);
        if before.problem.is_some() {
            // The entries may have returned while the file could not be read.
            self.guard.postpone(now, delay);
        }
        match file {
            FileState::Present => log::applied(&self.settings.path, &before, &list),
            FileState::Absent => log::absent(&self.settings.path, &before),
        }
        let listed = list.entries.len();
        let change = match removals {
            RemovalMode::Guarded if !lost.entries.is_empty() => {
                self.guard.resume(list, lost.entries, now, delay);
                ListChange {
                    before: lost.of,
                    delayed: self.guard.pending().map_or(0, |pending| pending.entries),
                }
            }
            RemovalMode::Guarded => self.guard.change(list, now, delay),
            RemovalMode::AtOnce => self.guard.change(list, now, Duration::ZERO),
        };
        if change.delayed > 0 {
            log::shrunk(&self.settings.path, change, listed, delay);
        }
        self.publish_list(|snapshot| {
            snapshot.problem = None;
            snapshot.refused = None;
            snapshot.is_absent = file == FileState::Absent;
            snapshot.is_checked = true;
            snapshot.last_success = Some(clock::wall());
        });
    }

    /// The entries that the list lost since the daemon stopped, if they are nearly all.
    async fn lost_since_stop(&self, state: &Store, list: &WatchList) -> LostEntries {
        let mut has_failed = false;
        loop {
            let error = match self.read_lost(state, list).await {
                Ok(lost) => return lost,
                Err(error) => error,
            };
            if !std::mem::replace(&mut has_failed, true) {
                tracing::error!(
                    error = chain(&error),
                    "previous watch list cannot be read from the state; the watch list is not applied; retrying"
                );
            }
            sleep(STATE_RETRY).await;
        }
    }

    async fn read_lost(&self, state: &Store, list: &WatchList) -> Result<LostEntries, StoreReadError> {
        if self.settings.shrink_delay.is_zero() {
            return Ok(LostEntries::default());
        }
        let keys = list.entries.iter().map(|entry| entry.key.clone()).collect();
        let listed = state.listed_before(self.settings.projects.clone(), keys).await?;
        if !removes_most(listed.total, listed.absent.len()) {
            return Ok(LostEntries::default());
        }
        Ok(LostEntries {
            of: listed.total,
            entries: state.entries(&listed.absent).await?,
        })
    }

    fn lose(&mut self, error: Arc<WatchListError>, refused: Option<WatchList>) {
        let before = Arc::clone(&self.snapshots.borrow());
        if let Some(list) = &refused {
            log::rejected(&self.settings.path, before.file(), list);
        }
        log::lost(&self.settings.path, &before, &error);
        self.publish(|snapshot| {
            snapshot.problem = Some(error);
            snapshot.refused = refused.map(Arc::new);
            snapshot.is_checked = true;
        });
    }

    fn report_no_answer(&mut self) {
        let seconds = LATE.as_secs();
        let error = Arc::new(WatchListError::NoAnswer { seconds });
        self.stability.set(Finding::Problem(Arc::clone(&error)));
        self.lose(error, None);
    }

    fn publish_removed(&self, removed: usize) {
        log::removed(&self.settings.path, removed);
        self.publish_list(|_| {});
    }

    /// Publishes the list that applies, together with another change.
    fn publish_list(&self, change: impl FnOnce(&mut WatchListSnapshot)) {
        let list = self.guard.list();
        let pending = self.guard.pending();
        let now = clock::wall();
        let wait = pending.map(|pending| pending.due.saturating_sub(self.steady_now()));
        self.publish(|snapshot| {
            change(snapshot);
            let is_same = |known: &Arc<WatchList>| Arc::ptr_eq(known, list);
            if !snapshot.list.as_ref().is_some_and(is_same) {
                snapshot.list = Some(Arc::clone(list));
                snapshot.generation += 1;
            }
            let since = snapshot.pending_removal.map_or(now, |known| known.since);
            snapshot.pending_removal = pending.zip(wait).map(|(pending, wait)| PendingRemoval {
                entries: pending.entries,
                since,
                due: SignedDuration::try_from(wait)
                    .ok()
                    .and_then(|wait| now.checked_add(wait).ok())
                    .unwrap_or(now),
            });
        });
    }

    fn publish(&self, change: impl FnOnce(&mut WatchListSnapshot)) {
        let now = clock::wall();
        self.snapshots.send_modify(|snapshot| {
            let snapshot = Arc::make_mut(snapshot);
            change(snapshot);
            snapshot.date(now);
        });
    }

    fn steady_now(&self) -> Duration {
        clock::instant().saturating_duration_since(self.start)
    }
}

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, which drops this future.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Waits for `work`, and calls `report` once if it takes longer than `limit`.
async fn report_late<T>(work: impl Future<Output = T>, limit: Duration, report: impl FnOnce()) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = sleep(limit) => report(),
    }
    work.await
}

#[cfg(test)]
mod tests;
