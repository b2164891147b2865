//! Starts and stops pollers until they match what the sources ask for: loads new watches, and removes old ones.

use std::collections::{HashMap, btree_map};
use std::sync::Arc;
use std::time::Duration;

use super::admission::FIRST_ANSWER;
use super::messages::{DepartedChunk, DesiredChange, JobResult, LoadError, LoadedChunk};
use super::project_task::{ProjectTask, STORE_RETRY};
use super::watches::{WatchNumber, Watched};
use crate::ampersand::Fetch;
use crate::clock;
use crate::core::poller::{LeavingStep, Poller, Removal};
use crate::core::schedule::spread;
use crate::core::source::{Demand, Source, Terms};
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::error::chain;
use crate::store::Store;

/// The number of watches that are loaded or removed at once. More would delay polls.
const CHUNK: usize = 1_000;

impl<F: Fetch> ProjectTask<F> {
    /// Applies a change of what one source asks for.
    pub(super) fn change(&mut self, change: DesiredChange) {
        for id in &change.withdrawn {
            self.withdraw(id, change.source);
        }
        for (id, terms) in change.set {
            self.set(id, change.source, terms);
        }
        self.reconciliation.added_total = change.added_total;
        self.reconciliation.guards.extend(change.applied);
        if change.generation.is_some() {
            self.reconciliation.desired = change.generation;
        }
    }

    /// Notes that a source asks for a watch on these terms.
    pub(super) fn set(&mut self, id: Arc<str>, source: Source, terms: Arc<Terms>) {
        let reconciliation = &mut self.reconciliation;
        if let Some(loading) = reconciliation.loading.get_mut(&id) {
            return add_demand(loading, source, terms);
        }
        let Some(number) = self.watches.find(&id) else {
            match reconciliation.pending.entry(id) {
                btree_map::Entry::Occupied(mut pending) => pending.get_mut().set(source, terms),
                btree_map::Entry::Vacant(free) => {
                    free.insert(Demand::new(source, terms));
                }
            }
            return;
        };
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        match slot.poller.returns_mut() {
            Some(returns) => {
                reconciliation.returning += usize::from(returns.is_none());
                add_demand(returns, source, terms);
            }
            None => {
                slot.watched.demand.set(source, terms);
                self.terms_changed(number);
            }
        }
    }

    /// Notes that a source no longer asks for a watch, and removes the watch after the last one.
    pub(super) fn withdraw(&mut self, id: &Arc<str>, source: Source) {
        let reconciliation = &mut self.reconciliation;
        if let Some(pending) = reconciliation.pending.get_mut(id) {
            if !pending.withdraw(source) {
                reconciliation.pending.remove(id);
            }
        } else if let Some(loading) = reconciliation.loading.get_mut(id) {
            withdraw_demand(loading, source);
        } else if let Some(number) = self.watches.find(id)
            && let Some(slot) = self.watches.get_mut(number)
        {
            match slot.poller.returns_mut() {
                Some(returns) => {
                    let was_returning = returns.is_some();
                    withdraw_demand(returns, source);
                    reconciliation.returning -= usize::from(was_returning && returns.is_none());
                }
                None if slot.watched.demand.withdraw(source) => self.terms_changed(number),
                None => self.remove_watch(number),
            }
        }
    }

    /// Notes new labels, and acts on a new deadline.
    fn terms_changed(&mut self, number: WatchNumber) {
        let wall = self.moment().wall;
        if let Some(slot) = self.watches.get_mut(number) {
            let watched = &mut slot.watched;
            let deadline = watched.deadline();
            watched.is_unrecorded |= watched.watch.pin_start(&watched.id, deadline, wall);
        }
        self.group_watch(number);
        self.note_change(number);
        self.set_alarm_again(number);
    }

    fn remove_watch(&mut self, number: WatchNumber) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let was_returning = slot.poller.is_returning();
        let id = Arc::clone(&slot.watched.id);
        match slot.poller.remove() {
            Removal::AlreadyLeaving => {
                self.reconciliation.returning -= usize::from(was_returning);
                return;
            }
            Removal::Depart => self.reconciliation.departing.push(number),
            Removal::Withdraw(ticket) => {
                self.gate.leave(ticket);
                self.reconciliation.departing.push(number);
            }
            Removal::Abort => self.requests.abort(number),
            Removal::Wait => {}
        }
        self.watches.set_alarm(number, None);
        self.leave_group(number);
        self.watches.stop_counting(number);
        self.note_removal(number, &id);
        self.watches_changed();
    }

    /// Starts to load the next chunk of new watches. Returns when to retry after a failure.
    pub(super) fn load_listed(&mut self, now: Duration) -> Option<Duration> {
        if self.reconciliation.loading.is_empty() && !self.reconciliation.pending.is_empty() {
            if let Some(retry) = self.reconciliation.retry.filter(|retry| *retry > now) {
                return Some(retry);
            }
            while self.reconciliation.loading.len() < CHUNK
                && let Some((id, demand)) = self.reconciliation.pending.pop_first()
            {
                self.reconciliation.loading.insert(id, Some(demand));
            }
            let keys = self
                .reconciliation
                .loading
                .keys()
                .map(|id| self.key(id))
                .collect();
            let store = self.services.recorder.store().clone();
            let loading = async move { JobResult::Loaded(LoadedChunk(load(&store, keys).await)) };
            self.jobs.spawn_on(loading, &self.services.background);
        }
        if self.reconciliation.is_settled() {
            if self.reconciliation.applied != self.reconciliation.desired {
                self.use_samples();
                self.reconciliation.applied = self.reconciliation.desired;
                self.is_view_changed = true;
            }
            self.note_loaded_ends();
            self.reconciliation.guards.clear();
        }
        None
    }

    /// Starts to poll the watches of a loaded chunk.
    pub(super) fn loaded(&mut self, LoadedChunk(loaded): LoadedChunk) {
        let chunk = std::mem::take(&mut self.reconciliation.loading);
        let mut known = match loaded {
            Ok(known) => known,
            Err(error) => {
                if self.reconciliation.retry.is_none() {
                    tracing::error!(
                        project = &*self.name,
                        error = chain(&error),
                        "watch list not applied; retrying"
                    );
                }
                self.reconciliation.retry = Some(self.now() + STORE_RETRY);
                let back = chunk.into_iter().filter_map(|(id, demand)| Some((id, demand?)));
                self.reconciliation.pending.extend(back);
                return;
            }
        };
        self.reconciliation.retry = None;
        let window = self.window();
        for (id, demand) in chunk {
            let watch = known.remove(&self.key(&id)).unwrap_or_default();
            let is_removed = demand.is_none();
            let demand = demand.unwrap_or_else(|| Demand::new(Source::File, Arc::default()));
            let number = self.start_watch(id, demand, watch, window);
            if is_removed {
                // Loading recorded it as listed.
                self.remove_watch(number);
            }
        }
    }

    /// Adds a watch, and schedules its first poll.
    fn start_watch(
        &mut self,
        id: Arc<str>,
        demand: Demand,
        mut watch: Watch,
        window: Duration,
    ) -> WatchNumber {
        watch.share(None, &mut self.kinds);
        if !self.reconciliation.has_used_samples
            && let Some((kind, sample)) = watch.history_sample()
        {
            let sample = (watch.last_poll(), Arc::clone(kind), sample);
            self.reconciliation.samples.push(sample);
        }
        let now = self.now();
        let deadline = demand.terms().deadline;
        let is_start_new = watch.pin_start(&id, deadline, self.moment().wall);
        let is_finished = watch.phase().is_finished();
        let due = watch
            .next_poll()
            .map(|due| clock::between(self.moment().wall, due));
        let first = due
            .filter(|due| !due.is_zero())
            .unwrap_or_else(|| spread(&id, window))
            .min(self.settings.poll.schedule.longest());
        let watched = Watched {
            id,
            demand,
            watch,
            group: None,
            first_answer_until: (now + first + FIRST_ANSWER).into(),
            is_unrecorded: is_start_new,
            is_announced: false,
        };
        let number = self.watches.insert(watched, Poller::Finished, now);
        self.group_watch(number);
        if !is_finished {
            self.sleep(number, now + first);
        }
        if self
            .watches
            .get(number)
            .is_some_and(|slot| slot.watched.watch.has_failed())
        {
            self.concerns.loaded_failures.push(number);
            self.note_announcement(number);
        } else {
            self.note_change(number);
        }
        number
    }

    /// The window over which the first polls are spread: the time that the gate needs for them.
    fn window(&self) -> Duration {
        let per_second = self.gate.limits().per_second.max(0.001);
        Duration::from_secs_f64(self.reconciliation.added_total.saturating_sub(1) as f64 / per_second)
            .min(self.settings.poll.schedule.longest())
    }

    /// Adds the finished operations of the first list to the history, in the order in which they finished.
    fn use_samples(&mut self) {
        self.reconciliation.has_used_samples = true;
        let mut samples = std::mem::take(&mut self.reconciliation.samples);
        samples.sort_by_key(|(finished, ..)| *finished);
        for (_, kind, sample) in samples {
            self.kinds.add_sample(&kind, sample);
        }
    }

    /// Records the last states of removed watches, and that they are no longer listed.
    pub(super) fn depart(&mut self) {
        while !self.reconciliation.departing.is_empty() {
            let rest = self.reconciliation.departing.len().saturating_sub(CHUNK);
            let numbers = self.reconciliation.departing.split_off(rest);
            let mut keys = Vec::with_capacity(numbers.len());
            let mut states = Vec::new();
            for number in &numbers {
                let Some(slot) = self.watches.get(*number) else {
                    continue;
                };
                let key = self.key(&slot.watched.id);
                if slot.watched.is_unrecorded {
                    states.push((key.clone(), slot.watched.watch.clone()));
                }
                keys.push(key);
            }
            let store = self.services.recorder.store().clone();
            let departing = async move {
                let result = match store.checkpoint(states).await {
                    Ok(()) => store.set_unlisted(keys, store.now()).await,
                    failed => failed,
                };
                JobResult::Departed(DepartedChunk { numbers, result })
            };
            self.jobs.spawn_on(departing, &self.services.background);
        }
    }

    /// Drops the watches of a recorded chunk. Those that were put back are loaded again.
    pub(super) fn departed(&mut self, DepartedChunk { numbers, result }: DepartedChunk) {
        if let Err(error) = &result {
            tracing::warn!(
                project = &*self.name,
                error = chain(error),
                "removals from the watch list not recorded; retrying"
            );
            self.channels.view.send_if_modified(|view| {
                view.failed_removals += 1;
                false
            });
            self.is_view_changed = true;
        }
        let window = self.window();
        for number in numbers {
            let slot = self.watches.get_mut(number);
            let departs = slot.is_some_and(|slot| !slot.poller.ended(LeavingStep::Departure));
            let Some(slot) = departs.then(|| self.watches.remove(number)).flatten() else {
                continue;
            };
            let Poller::Leaving(leaving) = slot.poller else {
                continue;
            };
            let Some(demand) = leaving.returns else { continue };
            self.reconciliation.returning -= 1;
            let Watched { id, watch, .. } = *slot.watched;
            if result.is_ok() {
                self.reconciliation.pending.insert(id, demand);
            } else {
                // The state in memory is the latest.
                let (watch, _) = continue_watch(watch, Duration::ZERO, Listed::Again);
                let number = self.start_watch(id, demand, watch, window);
                if let Some(slot) = self.watches.get_mut(number) {
                    slot.watched.is_unrecorded = true;
                }
            }
        }
    }

    pub(super) fn key(&self, id: &Arc<str>) -> WatchKey {
        WatchKey::of(&self.name, id)
    }
}

/// Adds what a source asks for to what others ask for.
fn add_demand(demand: &mut Option<Demand>, source: Source, terms: Arc<Terms>) {
    match demand {
        Some(demand) => demand.set(source, terms),
        None => *demand = Some(Demand::new(source, terms)),
    }
}

/// Removes what a source asks for.
fn withdraw_demand(demand: &mut Option<Demand>, source: Source) {
    if demand.as_mut().is_some_and(|demand| !demand.withdraw(source)) {
        *demand = None;
    }
}

/// Loads watches, and records changes that a crash must not undo.
async fn load(store: &Store, keys: Vec<WatchKey>) -> Result<HashMap<WatchKey, Watch>, LoadError> {
    let records = store.load(keys).await?.watches;
    let now = store.now();
    let mut back = Vec::new();
    let mut started_again = Vec::new();
    let mut watches = HashMap::with_capacity(records.len());
    for (key, record) in records {
        let listed = if record.unlisted.is_some() {
            back.push(key.clone());
            Listed::Again
        } else {
            Listed::Always
        };
        let (watch, again) = continue_watch(record.watch, clock::between(record.saved, now), listed);
        if again {
            started_again.push((key.clone(), watch.clone()));
        }
        watches.insert(key, watch);
    }
    // The order of a map is random.
    started_again.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    back.sort_unstable();
    if !started_again.is_empty() {
        // First, because a crash between the two writes would leave them finished.
        store.checkpoint(started_again).await?;
    }
    if !back.is_empty() {
        // Without this, a crash after the next end would start it again.
        store.set_listed(back).await?;
    }
    Ok(watches)
}

/// Whether a watch was listed all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Always,
    Again,
}

/// Continues a watch that was recorded this long ago. Returns also whether it starts again.
fn continue_watch(mut watch: Watch, ago: Duration, listed: Listed) -> (Watch, bool) {
    let again = listed == Listed::Again && watch.phase().may_start_again();
    if again {
        watch.start_again();
    } else {
        watch.resume(ago);
    }
    (watch, again)
}
