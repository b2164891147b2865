//! The task that looks at the file.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::file::{self, Content, Signature, WatchListError};
use super::stability::{Finding, Looks, Verdict};
use super::{Order, PendingRemoval, WatchListHandle, WatchListSettings, WatchListSnapshot, log};
use crate::clock;
use crate::core::watch_list::{Entry, ListChange, ShrinkGuard, UnusableList, WatchList, parse, removes_most};
use crate::error::chain;
use crate::store::{ReadError as StateReadError, Store};

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
/// Between two questions to a state that cannot be read.
const STATE_RETRY: Duration = Duration::from_secs(1);
/// How long the file system may take to answer before that is told.
const LATE: Duration = Duration::from_secs(10);

/// Entries that the list lost while the daemon was stopped.
#[derive(Debug, Default)]
struct Lost {
    /// How many it had.
    of: usize,
    entries: Vec<Entry>,
}

/// When entries that the file no longer has are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removals {
    /// After the delay of the settings, if they are nearly all.
    Guarded,
    /// At once: somebody asked for it.
    AtOnce,
}

/// The task that looks at the file.
#[derive(Debug)]
pub struct WatchListSource {
    orders: watch::Receiver<Order>,
    snapshots: watch::Sender<Arc<WatchListSnapshot>>,
    settings: Arc<WatchListSettings>,
    looks: Looks,
    guard: ShrinkGuard,
    /// Knows what the list had before the start, until a list applies.
    state: Option<Store>,
    /// What `stat` told of the content that was read last.
    seen: Option<Signature>,
    read_due: Instant,
    /// What the guard's times count from.
    start: Instant,
}

impl WatchListSource {
    /// A source of the file, and its handle.
    #[must_use]
    pub fn new(settings: WatchListSettings) -> (Self, WatchListHandle) {
        let settings = Arc::new(settings);
        let first = Order {
            settings: Arc::clone(&settings),
            reload: 0,
        };
        let (order_sender, orders) = watch::channel(first);
        let (snapshots, snapshot_receiver) = watch::channel(Arc::default());
        let now = clock::instant();
        let source = Self {
            orders,
            snapshots,
            settings,
            looks: Looks::default(),
            guard: ShrinkGuard::default(),
            state: None,
            seen: None,
            read_due: now,
            start: now,
        };
        let handle = WatchListHandle {
            orders: order_sender,
            snapshots: snapshot_receiver,
        };
        (source, handle)
    }

    /// Takes what the list had before from `state`, so that a list which was emptied meanwhile removes nothing at once.
    #[must_use]
    pub fn continuing(mut self, state: Store) -> Self {
        self.state = Some(state);
        self
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
                let _ = self.look(Removals::Guarded).await;
                self.remove_due();
            } else {
                self.reload(order).await;
            }
            let wait = self.next_look();
            tokio::select! {
                // Without any handle there are no more orders, and the branch is off.
                Ok(()) = self.orders.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    fn next_look(&self) -> Duration {
        let refresh = self.settings.refresh.max(MIN_REFRESH);
        if self.looks.is_waiting() {
            return refresh.min(MAX_CONFIRM);
        }
        match self.guard.pending() {
            Some(pending) if self.is_good() => pending.due.saturating_sub(self.steady_now()).min(refresh),
            _ => refresh,
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
        let mut verdict = self.look(Removals::AtOnce).await;
        if verdict == Verdict::Wait {
            sleep(RELOAD_CONFIRM).await;
            verdict = self.look(Removals::AtOnce).await;
            // The two were so close that `stat` may not tell a write that came between or after them.
            self.seen = None;
        }
        let is_good = self.is_good();
        if verdict == Verdict::Same && is_good {
            let removed = self.guard.release();
            if removed > 0 {
                self.publish_removed(removed);
            } else {
                tracing::info!(file = %self.settings.path.display(), "watch list read again, nothing changed");
            }
        }
        self.publish(|snapshot| {
            snapshot.reloads = order.reload;
            if is_good {
                snapshot.last_success = Some(clock::wall());
            }
        });
    }

    /// Whether the list that applies is what the file has, as far as is known.
    fn is_good(&self) -> bool {
        self.looks.has_rested() && self.snapshots.borrow().problem.is_none()
    }

    /// Removes what is due to be removed, unless the file may have changed since, or cannot be read.
    fn remove_due(&mut self) {
        if self.is_good() {
            let removed = self.guard.expire(self.steady_now());
            if removed > 0 {
                self.publish_removed(removed);
            }
        }
    }

    /// One look, and what follows from it.
    async fn look(&mut self, removals: Removals) -> Verdict {
        let is_settled = self.looks.has_rested() && clock::instant() < self.read_due;
        let known = if is_settled { self.seen } else { None };
        let (settings, before) = (Arc::clone(&self.settings), self.looks.content());
        let answer = blocking(move || file::look(&settings.path, known, before));
        match late_told(answer, LATE, || self.tell_late()).await {
            Ok(None) => Verdict::Same,
            Ok(Some(content)) => self.found(content, removals).await,
            Err(error) => {
                let error = Arc::new(error);
                let verdict = self.looks.note(Finding::Problem(Arc::clone(&error)));
                if verdict == Verdict::Holds {
                    self.lose(error, None);
                }
                verdict
            }
        }
    }

    async fn found(&mut self, content: Content, removals: Removals) -> Verdict {
        let was_waiting = self.looks.is_waiting();
        self.seen = Some(content.signature);
        self.read_due = clock::instant() + REREAD;
        let verdict = self.looks.note(Finding::Content(content.extent));
        if verdict == Verdict::Wait && content.appended {
            return self.confirm(content, removals).await;
        }
        match verdict {
            Verdict::Holds => {
                let list = self.parse(content.bytes).await;
                self.take(list, removals).await;
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
    async fn confirm(&mut self, content: Content, removals: Removals) -> Verdict {
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
            self.take(list, removals).await;
        }
        verdict
    }

    async fn parse(&self, bytes: Vec<u8>) -> WatchList {
        let settings = Arc::clone(&self.settings);
        blocking(move || parse(&bytes, &settings.projects)).await
    }

    /// Applies what the file lists, if it is of any use.
    async fn take(&mut self, mut list: WatchList, removals: Removals) {
        let error = match list.unusable() {
            None => return self.apply(list, removals).await,
            Some(UnusableList::NotText) => WatchListError::NotText,
            Some(UnusableList::NoLineParses) => WatchListError::NoLineParses {
                lines: list.rejected_total,
            },
        };
        list.entries = Vec::new();
        self.lose(Arc::new(error), Some(list));
    }

    async fn apply(&mut self, list: WatchList, removals: Removals) {
        let lost = match (self.state.take(), removals) {
            (Some(state), Removals::Guarded) => self.lost_since_stop(&state, &list).await,
            _ => Lost::default(),
        };
        let before = Arc::clone(&self.snapshots.borrow());
        let (now, delay) = (self.steady_now(), self.settings.shrink_delay);
        if before.problem.is_some() {
            // Nobody knows whether the entries had returned meanwhile.
            self.guard.postpone(now, delay);
        }
        log::applied(&self.settings.path, &before, &list);
        let listed = list.entries.len();
        let change = match removals {
            Removals::Guarded if !lost.entries.is_empty() => {
                self.guard.resume(list, lost.entries, now, delay);
                ListChange {
                    before: lost.of,
                    delayed: self.guard.pending().map_or(0, |pending| pending.entries),
                }
            }
            Removals::Guarded => self.guard.change(list, now, delay),
            Removals::AtOnce => self.guard.change(list, now, Duration::ZERO),
        };
        if change.delayed > 0 {
            log::shrunk(&self.settings.path, change, listed, delay);
        }
        self.publish_list(|snapshot| {
            snapshot.problem = None;
            snapshot.refused = None;
            snapshot.looked = true;
            snapshot.last_success = Some(clock::wall());
        });
    }

    /// What the list had when the daemon stopped and lacks now, if that is nearly all.
    async fn lost_since_stop(&self, state: &Store, list: &WatchList) -> Lost {
        let mut has_failed = false;
        loop {
            let error = match self.read_lost(state, list).await {
                Ok(lost) => return lost,
                Err(error) => error,
            };
            if !std::mem::replace(&mut has_failed, true) {
                tracing::error!(
                    error = chain(&error),
                    "the state does not say what the watch list had before; the list is not applied until it does; \
                     trying again"
                );
            }
            sleep(STATE_RETRY).await;
        }
    }

    async fn read_lost(&self, state: &Store, list: &WatchList) -> Result<Lost, StateReadError> {
        if self.settings.shrink_delay.is_zero() {
            return Ok(Lost::default());
        }
        let keys = list.entries.iter().map(|entry| entry.key.clone()).collect();
        let listed = state.listed_before(self.settings.projects.clone(), keys).await?;
        if !removes_most(listed.total, listed.absent.len()) {
            return Ok(Lost::default());
        }
        Ok(Lost {
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
            snapshot.looked = true;
        });
    }

    fn tell_late(&mut self) {
        let seconds = LATE.as_secs();
        let error = Arc::new(WatchListError::NoAnswer { seconds });
        self.looks.hold(Finding::Problem(Arc::clone(&error)));
        self.lose(error, None);
    }

    fn publish_removed(&self, removed: usize) {
        log::removed(&self.settings.path, removed);
        self.publish_list(|_| {});
    }

    /// Publishes the list that applies, and what else changed.
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
        self.snapshots
            .send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }

    fn steady_now(&self) -> Duration {
        clock::instant().saturating_duration_since(self.start)
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
mod tests;
