//! Makes what runs agree with what is listed: one poller per watch that is not over, and none for any other.
//!
//! Signals wake it, they never carry data: start, a changed list and recovery are one path. It alone starts pollers,
//! and a replacement starts only after the one before has ended, so that no watch ever has two.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ampersand::Fetch;
use crate::board::{Board, ByKey, Watched};
use crate::clock;
use crate::core::schedule::spread;
use crate::core::watch::Watch;
use crate::core::watch_list::{self, Diff, Entry, Labels, WatchKey, WatchList};
use crate::poller::{Poller, Shared};
use crate::project::{Project, Projects};
use crate::store::{CommitError, ReadError, Store, WatchRecord};
use crate::watch_list::Snapshot;

mod scheduler;
use scheduler::{Ended, Scheduler};

/// How long to wait before what the store could not do is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// From so many of the operations that left the list it is learned at start how long others take.
const LEARNED_FROM: u32 = 5_000;

/// Why a list could not be applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("the state could not be read")]
    Read(#[from] ReadError),
    #[error("the state could not be written")]
    Write(#[from] CommitError),
}

/// How far the listed watches are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The generation of the list that was applied last; `None` before the first.
    pub generation: Option<u64>,
    /// How many watches are listed.
    pub listed: usize,
    /// How many of them are over.
    pub over: usize,
    /// How often a poller panicked.
    pub restarts: u64,
}

impl Standing {
    /// Whether a list was applied and every watch on it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.generation.is_some() && self.listed == self.over
    }
}

/// Waits until a list was applied and every watch on it is over.
pub async fn done(standing: &mut watch::Receiver<Standing>) {
    if standing.wait_for(Standing::is_done).await.is_err() {
        // The supervisor is gone, which happens only at a stop; that is told by somebody else.
        std::future::pending::<()>().await;
    }
}

/// Owns the pollers.
#[derive(Debug)]
pub struct Supervisor<F> {
    shared: Arc<Shared<F>>,
    store: Store,
    projects: Arc<Projects>,
    board: Arc<Board>,
    list: watch::Receiver<Arc<Snapshot>>,
    standing: watch::Sender<Standing>,
    watches: HashMap<ByKey, Listed>,
    scheduler: Scheduler,
    /// The generation of the list that was applied last.
    applied: Option<u64>,
    /// How many watches only wait for their poller to end.
    leaving: usize,
    /// How many pollers each project has.
    polled: BTreeMap<Arc<str>, usize>,
    /// Whether whatever is not listed has been told to the store as having left.
    reconciled: bool,
}

/// A watch that is listed, or whose poller has yet to end.
#[derive(Debug)]
struct Listed {
    watched: Arc<Watched>,
    /// As the list has them.
    labels: Arc<Labels>,
    has_poller: bool,
    /// What is wanted once the poller has ended.
    wanted: Wanted,
    /// Panics of its poller in a row.
    panics: u32,
}

impl Listed {
    /// As the list has them; `None` if it was taken off the list.
    fn labels(&self) -> Option<&Arc<Labels>> {
        (self.wanted != Wanted::Nothing).then_some(&self.labels)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// That it goes on.
    Polling,
    /// That it is not polled: it was taken off the list.
    Nothing,
    /// That it starts anew: it was taken off the list and put back before its poller had ended.
    Again,
}

impl<F: Fetch> Supervisor<F> {
    /// A supervisor without pollers, which will be on the runtime `polling`; `list` brings what is to be watched.
    #[must_use]
    pub fn new(
        shared: Arc<Shared<F>>,
        store: Store,
        projects: Arc<Projects>,
        board: Arc<Board>,
        list: watch::Receiver<Arc<Snapshot>>,
        polling: &Handle,
    ) -> (Self, watch::Receiver<Standing>) {
        let (standing, receiver) = watch::channel(Standing::default());
        let scheduler = Scheduler::start(Arc::clone(&shared), Arc::clone(&projects), polling);
        let supervisor = Self {
            shared,
            store,
            projects,
            board,
            list,
            standing,
            watches: HashMap::new(),
            scheduler,
            applied: None,
            leaving: 0,
            polled: BTreeMap::new(),
            reconciled: false,
        };
        (supervisor, receiver)
    }

    /// Supervises until `cancel`, then ends all pollers.
    pub async fn run(mut self, cancel: CancellationToken) {
        // A retry of what failed at the store; none at first.
        let mut retry = false;
        loop {
            // Seen before applied, so that a list that comes while this one is applied wakes the loop again.
            let snapshot = self.list.borrow_and_update().clone();
            if let Some(list) = snapshot.list.clone()
                && (retry || self.applied != Some(snapshot.generation))
            {
                match self.apply(&list, snapshot.generation).await {
                    // What is listed has to be on record soon: after a crash it would count as put back.
                    Ok(()) => retry = !self.reconciled,
                    Err(error) => {
                        if !retry {
                            tracing::error!(
                                error = &error as &dyn std::error::Error,
                                "the watch list cannot be applied as long as the state cannot be read and written; trying again"
                            );
                        }
                        retry = true;
                    }
                }
                self.tell_standing().await;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                changed = self.list.changed() => if changed.is_err() { cancel.cancelled().await; break },
                ended = self.scheduler.ended() => {
                    self.ended(ended).await;
                    self.tell_standing().await;
                }
                () = tokio::time::sleep(STORE_RETRY), if retry => {}
            }
        }
        self.scheduler.shut_down().await;
    }

    /// Makes the pollers agree with `list`.
    async fn apply(&mut self, list: &WatchList, generation: u64) -> Result<(), ApplyError> {
        let Diff {
            added: asked,
            removed,
            relabelled,
        } = watch_list::diff(&self.watches, Listed::labels, list);
        let mut removed: Vec<WatchKey> = removed.into_iter().cloned().collect();
        // The map's order is another one at each start.
        removed.sort_unstable();
        for entry in relabelled {
            if let Some(listed) = self.watches.get_mut(&entry.key) {
                listed.labels = Arc::clone(&entry.labels);
                listed.watched.relabel(Arc::clone(&entry.labels));
            }
        }
        // The others were taken off the list before, and their pollers have yet to end.
        let (returning, added): (Vec<&Entry>, Vec<&Entry>) = asked
            .iter()
            .partition(|entry| self.watches.contains_key(&entry.key));
        if !added.is_empty() {
            // One that was taken off just now may still be recorded.
            self.shared.recorder.settled().await;
        }
        let records = self
            .store
            .load(added.iter().map(|entry| entry.key.clone()).collect())
            .await?
            .watches;
        let back: Vec<WatchKey> = records
            .iter()
            .filter(|(_, record)| record.unlisted.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        let (mut watches, started_again) = resume(records, self.store.now());
        for watch in watches.values_mut() {
            watch.share(&self.shared.kinds);
        }
        if !started_again.is_empty() {
            // Before they count as listed: a crash in between would leave them over for good.
            self.store.checkpoint(started_again).await?;
        }
        if !back.is_empty() {
            // Else a crash after its next end would take it for put back once more, and start it again.
            self.store.set_listed(back).await?;
        }
        self.mark_listed(list, &asked, &removed).await;
        if self.applied.is_none() {
            // After all that may fail and is tried again.
            self.learn(&watches).await?;
        }
        for entry in returning {
            if let Some(leaving) = self.watches.get_mut(&entry.key) {
                leaving.wanted = Wanted::Again;
                leaving.labels = Arc::clone(&entry.labels);
                self.leaving -= 1;
            }
        }
        self.remove(&removed).await;
        self.add(&added, watches).await;
        self.applied = Some(generation);
        Ok(())
    }

    /// Learns at start from what has ended: what left the list, and what is listed.
    async fn learn(&self, listed: &HashMap<WatchKey, Watch>) -> Result<(), ReadError> {
        let left = self.store.left(LEARNED_FROM).await?;
        let mut listed: Vec<_> = listed.iter().collect();
        // Only what ended last is remembered.
        listed.sort_unstable_by_key(|(key, watch)| (watch.last_poll(), *key));
        let listed = listed.into_iter().map(|(_, watch)| watch);
        for watch in left.iter().rev().chain(listed) {
            watch.teach(&self.shared.kinds);
        }
        Ok(())
    }

    /// Tells the store what is on the list and what has left it, from which retention counts. A failure costs no
    /// more than that an old watch is remembered for longer.
    async fn mark_listed(&mut self, list: &WatchList, asked: &[&Entry], removed: &[WatchKey]) {
        let now = self.store.now();
        let all = || list.entries.iter().map(|entry| entry.key.clone()).collect();
        let (left, listed) = if self.reconciled {
            let left = self.store.set_unlisted(removed.to_vec(), now).await;
            (left, asked.iter().map(|entry| entry.key.clone()).collect())
        } else {
            (self.store.reconcile_listed(all(), now).await, all())
        };
        let marked = match left {
            Ok(()) => self.store.set_listed(listed).await,
            failed => failed,
        };
        match marked {
            Ok(()) => self.reconciled = true,
            Err(error) => {
                if std::mem::replace(&mut self.reconciled, false) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what is listed could not be recorded; trying again"
                    );
                }
            }
        }
    }

    async fn add(&mut self, added: &[&Entry], mut known: HashMap<WatchKey, Watch>) {
        // First polls are spread over as long as the gate needs for them, so that a start is no stampede.
        let mut fresh: HashMap<&str, usize> = HashMap::new();
        for entry in added {
            *fresh.entry(&entry.key.project).or_default() += 1;
        }
        for (name, fresh) in &fresh {
            if let Some(project) = self.projects.get(name) {
                // Before the first of them polls, which depends on it; those that are over are taken out afterwards.
                let polled = self.polled.get(*name).copied().unwrap_or(0);
                project.set_watches(polled + fresh).await;
            }
        }
        self.board.reserve(added.len());
        self.watches.reserve(added.len());
        for entry in added {
            let Some(project) = self.projects.get(&entry.key.project) else {
                continue;
            };
            let watch = known.remove(&entry.key).unwrap_or_default();
            if watch.was_seen() {
                project.was_known().await;
            }
            let watched = Arc::new(Watched::new(entry.key.clone(), Arc::clone(&entry.labels), watch));
            let window = self.window(&project, fresh.get(&*entry.key.project).copied().unwrap_or(1));
            let first = self.first_poll(&watched, window);
            self.insert(watched, &project, first).await;
        }
    }

    async fn insert(&mut self, watched: Arc<Watched>, project: &Arc<Project>, first: Duration) {
        self.board.insert(Arc::clone(&watched));
        let by_key = ByKey(Arc::clone(&watched));
        let mut listed = Listed {
            labels: watched.labels(),
            watched,
            has_poller: false,
            wanted: Wanted::Polling,
            panics: 0,
        };
        self.start(&mut listed, project, first).await;
        self.watches.insert(by_key, listed);
    }

    /// Starts the poller of a watch that has none; a watch that is over needs none.
    async fn start(&mut self, listed: &mut Listed, project: &Arc<Project>, first: Duration) {
        if listed.watched.look(|watch| watch.phase().is_over()) {
            return;
        }
        let poller = Box::new(Poller::new(
            Arc::clone(project),
            Arc::clone(&listed.watched),
            first,
        ));
        self.scheduler.start_poller(poller).await;
        *self.polled.entry(Arc::clone(&project.name)).or_default() += 1;
        listed.has_poller = true;
    }

    async fn remove(&mut self, keys: &[WatchKey]) {
        let mut stood = Vec::new();
        for key in keys {
            self.board.remove(key);
            let Some(listed) = self.watches.get_mut(key) else {
                continue;
            };
            if let Some(changed) = listed.watched.take_changed() {
                stood.push((key.clone(), changed));
            }
            if listed.has_poller {
                self.scheduler.stop_poller(Arc::clone(&listed.watched)).await;
                listed.wanted = Wanted::Nothing;
                self.leaving += 1;
            } else {
                self.watches.remove(key);
            }
        }
        // Where they stood, for when they are put back.
        if !stood.is_empty()
            && let Err(error) = self.store.checkpoint(stood).await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "removed watches could not be written down"
            );
        }
    }

    /// A poller has ended: its watch is over, or it was taken off the list, or it panicked.
    async fn ended(&mut self, Ended { watched, panic }: Ended) {
        let key = &watched.key;
        let Some(mut listed) = self.watches.remove(key) else {
            return;
        };
        listed.has_poller = false;
        if let Some(polled) = self.polled.get_mut(&key.project) {
            *polled -= 1;
        }
        match listed.wanted {
            Wanted::Nothing => self.leaving -= 1,
            Wanted::Again => {
                let stood = listed.watched.look(Watch::clone);
                self.return_of(key, listed.labels, stood).await;
            }
            Wanted::Polling => {
                if let Some(panic) = panic
                    && let Some(project) = self.projects.get(&key.project)
                {
                    listed.panics = listed.panics.saturating_add(1);
                    let wait = self.shared.poll.borrow().pace.after_attempts(listed.panics);
                    tracing::error!(
                        project = &*key.project,
                        operation_id = &*key.operation,
                        panic,
                        restart_in_seconds = wait.as_secs_f64(),
                        "a poller panicked: this is a bug, please report it; the watch goes on"
                    );
                    self.standing.send_modify(|standing| standing.restarts += 1);
                    self.shared.metrics.poller_restarted();
                    self.start(&mut listed, &project, wait).await;
                }
                self.watches.insert(ByKey(watched), listed);
            }
        }
    }

    /// A watch was put back on the list before its poller had ended.
    async fn return_of(&mut self, key: &WatchKey, labels: Arc<Labels>, stood: Watch) {
        let Some(project) = self.projects.get(&key.project) else {
            return;
        };
        self.shared.recorder.settled().await;
        let (watch, again) = match self.store.load(vec![key.clone()]).await {
            Ok(mut records) => records
                .watches
                .remove(key)
                .map_or_else(Default::default, |record| {
                    go_on(
                        record.watch,
                        clock::between(record.saved, self.store.now()),
                        Was::Away,
                    )
                }),
            Err(error) => {
                // Where it stood when its poller was stopped is the best that is known.
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the state of a returning watch is unreadable"
                );
                go_on(stood, Duration::ZERO, Was::Away)
            }
        };
        if again && let Err(error) = self.store.checkpoint(vec![(key.clone(), watch.clone())]).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "that a watch starts again could not be written down; its first event does"
            );
        }
        let watched = Arc::new(Watched::new(key.clone(), labels, watch));
        let window = self.window(&project, 1);
        let first = self.first_poll(&watched, window);
        self.insert(watched, &project, first).await;
    }

    /// When a watch is polled first: when it was due before a restart, else somewhere in `window`.
    fn first_poll(&self, watched: &Watched, window: Duration) -> Duration {
        let longest = self.shared.poll.borrow().pace.longest();
        let due = watched
            .look(Watch::next_poll)
            .map(|due| clock::between(self.store.now(), due));
        due.filter(|due| !due.is_zero())
            .unwrap_or_else(|| spread(&watched.key.operation, window))
            .min(longest)
    }

    fn window(&self, project: &Project, fresh: usize) -> Duration {
        let per_second = project.gate().limits().per_second.max(0.001);
        Duration::from_secs_f64((fresh.saturating_sub(1)) as f64 / per_second)
            .min(self.shared.poll.borrow().pace.longest())
    }

    async fn tell_standing(&mut self) {
        for (name, polled) in &self.polled {
            if let Some(project) = self.projects.get(name) {
                project.set_watches(*polled).await;
            }
        }
        let listed = self.watches.len() - self.leaving;
        // Whoever is listed and has no poller is over.
        let polled: usize = self.polled.values().sum();
        let over = listed.saturating_sub(polled.saturating_sub(self.leaving));
        // Together: whoever waits for the end must never see a new list with the counts of the one before.
        self.standing.send_modify(|standing| {
            standing.generation = self.applied;
            standing.listed = listed;
            standing.over = over;
        });
    }
}

/// The watches that were recorded as they go on now, and those of them that start again.
fn resume(
    records: HashMap<WatchKey, WatchRecord>,
    now: Timestamp,
) -> (HashMap<WatchKey, Watch>, Vec<(WatchKey, Watch)>) {
    let mut started_again = Vec::new();
    let watches = records
        .into_iter()
        .map(|(key, record)| {
            let was = if record.unlisted.is_some() {
                Was::Away
            } else {
                Was::Listed
            };
            let (watch, again) = go_on(record.watch, clock::between(record.saved, now), was);
            if again {
                started_again.push((key.clone(), watch.clone()));
            }
            (key, watch)
        })
        .collect();
    // The map's order is another one at each start.
    started_again.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    (watches, started_again)
}

/// Whether a watch was on the list all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    Listed,
    Away,
}

/// The watch that was recorded so long ago, as it goes on now, and whether it starts again.
fn go_on(mut watch: Watch, ago: Duration, was: Was) -> (Watch, bool) {
    let again = was == Was::Away && watch.phase().may_start_again();
    if again {
        watch.start_again();
    } else {
        watch.resume(ago);
    }
    (watch, again)
}

#[cfg(test)]
mod tests;
