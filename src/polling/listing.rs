//! From what is asked for to what is polled: new watches are loaded, removed ones depart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::answers::Done;
use super::project_task::{ProjectTask, STORE_RETRY};
use super::watches::{Number, Watched};
use crate::ampersand::Fetch;
use crate::clock;
use crate::core::history::HistorySample;
use crate::core::operation_kind::OperationKind;
use crate::core::poller::{LeavingStep, Poller, Removal};
use crate::core::schedule::spread;
use crate::core::watch::Watch;
use crate::core::watch_list::{Labels, WatchKey};
use crate::error::chain;
use crate::store::{CommitError, ReadError, Store};

/// This many watches are loaded, or depart, at a time: more would delay polls.
const CHUNK: usize = 1_000;

/// What a new list asks of one project.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The generation of the list.
    pub generation: u64,
    /// Whether this is the last part of it.
    pub is_last: bool,
    pub added: Vec<(Arc<str>, Arc<Labels>)>,
    pub removed: Vec<Arc<str>>,
    pub relabelled: Vec<(Arc<str>, Arc<Labels>)>,
    /// How many watches the whole list adds to the project: their first polls are spread over the time that they take.
    pub fresh: usize,
}

/// Watches on their way into and out of the project.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The generation of the list that is being applied.
    wanted: Option<u64>,
    applied: Option<u64>,
    fresh: usize,
    /// Those that have yet to be loaded.
    pending: BTreeMap<Arc<str>, Arc<Labels>>,
    /// Those that are being loaded; `None` for those that were removed meanwhile.
    loading: BTreeMap<Arc<str>, Option<Arc<Labels>>>,
    /// When loading is tried again after a failure.
    retry: Option<Duration>,
    /// How many leave that were put back.
    returning: usize,
    /// Those whose last state has yet to be recorded.
    pub departing: Vec<Number>,
    /// What the listed operations that are finished can add_to_history, by when they finished. Used once, after the first list.
    samples: Vec<Taught>,
    has_history: bool,
}

/// When an operation finished, and what others of its kind can learn from it.
type Taught = (Option<Timestamp>, Arc<OperationKind>, HistorySample);

/// Watches were loaded, or could not be.
#[derive(Debug)]
pub(super) struct Loaded(Result<HashMap<WatchKey, Watch>, LoadError>);

/// The last states of removed watches were recorded, or could not be.
#[derive(Debug)]
pub(super) struct Departed {
    numbers: Vec<Number>,
    result: Result<(), CommitError>,
}

/// Why watches could not be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the state could not be read")]
    Read(#[from] ReadError),
    #[error("the state could not be written")]
    Write(#[from] CommitError),
}

impl Listing {
    /// The generation of the list that was applied last.
    pub fn applied(&self) -> Option<u64> {
        self.applied
    }
}

impl<F: Fetch> ProjectTask<F> {
    /// Applies a part of a new list.
    pub(super) fn change(&mut self, change: Change) {
        for id in &change.removed {
            self.remove(id);
        }
        for (id, labels) in change.relabelled {
            self.relabel(&id, labels);
        }
        for (id, labels) in change.added {
            self.add(id, labels);
        }
        self.listing.fresh = change.fresh;
        if change.is_last {
            self.listing.wanted = Some(change.generation);
        }
    }

    fn add(&mut self, id: Arc<str>, labels: Arc<Labels>) {
        let listing = &mut self.listing;
        if let Some(loading) = listing.loading.get_mut(&id) {
            *loading = Some(labels);
            return;
        }
        let Some(number) = self.watches.find(&id) else {
            listing.pending.insert(id, labels);
            return;
        };
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let was_returning = slot.poller.is_returning();
        if slot.poller.put_back(Arc::clone(&labels)) {
            listing.returning += usize::from(!was_returning);
        } else {
            self.relabel(&id, labels);
        }
    }

    fn relabel(&mut self, id: &Arc<str>, labels: Arc<Labels>) {
        if let Some(pending) = self.listing.pending.get_mut(id) {
            *pending = labels;
        } else if let Some(loading) = self.listing.loading.get_mut(id) {
            *loading = Some(labels);
        } else if let Some(number) = self.watches.find(id)
            && let Some(slot) = self.watches.get_mut(number)
        {
            match &mut slot.poller {
                Poller::Leaving(leaving) => leaving.returns = Some(labels),
                _ => slot.watched.labels = labels,
            }
            self.note_change(number);
        }
    }

    fn remove(&mut self, id: &Arc<str>) {
        if self.listing.pending.remove(id).is_some() {
            return;
        }
        if let Some(loading) = self.listing.loading.get_mut(id) {
            *loading = None;
            return;
        }
        if let Some(number) = self.watches.find(id) {
            self.remove_watch(number);
        }
    }

    fn remove_watch(&mut self, number: Number) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let was_returning = slot.poller.is_returning();
        let id = Arc::clone(&slot.watched.id);
        match slot.poller.remove() {
            Removal::AlreadyLeaving => {
                self.listing.returning -= usize::from(was_returning);
                return;
            }
            Removal::Depart => self.listing.departing.push(number),
            Removal::Withdraw(ticket) => {
                self.gate.leave(ticket);
                self.listing.departing.push(number);
            }
            Removal::Abort => self.requests.abort(number),
            Removal::Wait => {}
        }
        self.watches.set_alarm(number, None);
        self.watches.discount(number);
        self.note_removal(&id);
        self.watches_changed();
    }

    /// Starts to load what is to be watched, a chunk at a time. Returns when to try again after a failure.
    pub(super) fn load_listed(&mut self, now: Duration) -> Option<Duration> {
        if self.listing.loading.is_empty() && !self.listing.pending.is_empty() {
            if let Some(retry) = self.listing.retry.filter(|retry| *retry > now) {
                return Some(retry);
            }
            while self.listing.loading.len() < CHUNK
                && let Some((id, labels)) = self.listing.pending.pop_first()
            {
                self.listing.loading.insert(id, Some(labels));
            }
            let keys = self.listing.loading.keys().map(|id| self.key(id)).collect();
            let store = self.shared.recorder.store().clone();
            let loading = async move { Done::Loaded(Loaded(load(&store, keys).await)) };
            self.jobs.spawn_on(loading, &self.shared.background);
        }
        let listing = &self.listing;
        let is_settled = listing.loading.is_empty() && listing.pending.is_empty() && listing.returning == 0;
        if is_settled && listing.applied != listing.wanted {
            self.learn();
            self.listing.applied = self.listing.wanted;
            self.is_view_changed = true;
        }
        None
    }

    /// A chunk was loaded: its watches are polled from now on.
    pub(super) fn loaded(&mut self, Loaded(loaded): Loaded) {
        let chunk = std::mem::take(&mut self.listing.loading);
        let mut known = match loaded {
            Ok(known) => known,
            Err(error) => {
                if self.listing.retry.is_none() {
                    tracing::error!(
                        project = &*self.name,
                        error = chain(&error),
                        "the watch list cannot be applied as long as the state cannot be read and written; trying again"
                    );
                }
                self.listing.retry = Some(self.now() + STORE_RETRY);
                let back = chunk.into_iter().filter_map(|(id, labels)| Some((id, labels?)));
                self.listing.pending.extend(back);
                return;
            }
        };
        self.listing.retry = None;
        let window = self.window();
        for (id, labels) in chunk {
            let watch = known.remove(&self.key(&id)).unwrap_or_default();
            let is_removed = labels.is_none();
            let number = self.begin(id, labels.unwrap_or_default(), watch, window);
            if is_removed {
                // It counts as listed since it was loaded.
                self.remove_watch(number);
            }
        }
    }

    /// Begins to watch.
    fn begin(&mut self, id: Arc<str>, labels: Arc<Labels>, mut watch: Watch, window: Duration) -> Number {
        watch.share(None, &mut self.kinds);
        if !self.listing.has_history
            && let Some((kind, sample)) = watch.history_sample()
        {
            let sample = (watch.last_poll(), Arc::clone(kind), sample);
            self.listing.samples.push(sample);
        }
        let now = self.now();
        let is_finished = watch.phase().is_finished();
        let due = watch
            .next_poll()
            .map(|due| clock::between(self.shared.recorder.now(), due));
        let first = due
            .filter(|due| !due.is_zero())
            .unwrap_or_else(|| spread(&id, window))
            .min(self.settings.poll.schedule.longest());
        let watched = Watched {
            id,
            labels,
            watch,
            is_unrecorded: false,
            is_announced: false,
        };
        let number = self.watches.insert(watched, Poller::Finished, now);
        if !is_finished {
            self.sleep(number, now + first);
        }
        self.note_change(number);
        number
    }

    /// The first polls of new watches are spread over the time that the gate needs for them.
    fn window(&self) -> Duration {
        let per_second = self.gate.limits().per_second.max(0.001);
        Duration::from_secs_f64(self.listing.fresh.saturating_sub(1) as f64 / per_second)
            .min(self.settings.poll.schedule.longest())
    }

    /// Learns from the finished operations of the first list, in the order in which they finished.
    fn learn(&mut self) {
        self.listing.has_history = true;
        let mut samples = std::mem::take(&mut self.listing.samples);
        samples.sort_by_key(|(finished, ..)| *finished);
        for (_, kind, sample) in samples {
            self.kinds.add_sample(&kind, sample);
        }
    }

    /// Records the last states of removed watches, and that they were removed.
    pub(super) fn depart(&mut self) {
        while !self.listing.departing.is_empty() {
            let rest = self.listing.departing.len().saturating_sub(CHUNK);
            let numbers = self.listing.departing.split_off(rest);
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
            let store = self.shared.recorder.store().clone();
            let departing = async move {
                let result = match store.checkpoint(states).await {
                    Ok(()) => store.set_unlisted(keys, store.now()).await,
                    failed => failed,
                };
                Done::Departed(Departed { numbers, result })
            };
            self.jobs.spawn_on(departing, &self.shared.background);
        }
    }

    /// Removed watches have left; those that were put back meanwhile are loaded again.
    pub(super) fn departed(&mut self, Departed { numbers, result }: Departed) {
        if let Err(error) = &result {
            tracing::warn!(
                project = &*self.name,
                error = chain(error),
                "what was removed from the watch list could not be recorded; trying again"
            );
            self.inlets.view.send_if_modified(|view| {
                view.unrecorded_departures += 1;
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
            let Some(labels) = leaving.returns else { continue };
            self.listing.returning -= 1;
            let Watched { id, watch, .. } = *slot.watched;
            if result.is_ok() {
                self.listing.pending.insert(id, labels);
            } else {
                // Where it stood is the best that is known.
                let (watch, _) = continue_watch(watch, Duration::ZERO, Was::Away);
                let number = self.begin(id, labels, watch, window);
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

/// Loads watches as they continue now. What a crash must not undo is recorded before.
async fn load(store: &Store, keys: Vec<WatchKey>) -> Result<HashMap<WatchKey, Watch>, LoadError> {
    let records = store.load(keys).await?.watches;
    let now = store.now();
    let mut back = Vec::new();
    let mut started_again = Vec::new();
    let mut watches = HashMap::with_capacity(records.len());
    for (key, record) in records {
        let was = if record.unlisted.is_some() {
            back.push(key.clone());
            Was::Away
        } else {
            Was::Listed
        };
        let (watch, again) = continue_watch(record.watch, clock::between(record.saved, now), was);
        if again {
            started_again.push((key.clone(), watch.clone()));
        }
        watches.insert(key, watch);
    }
    // The map's order is another one at each start.
    started_again.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    back.sort_unstable();
    if !started_again.is_empty() {
        // Before they count as listed: a crash in between would leave them finished for good.
        store.checkpoint(started_again).await?;
    }
    if !back.is_empty() {
        // Else a crash after its next end would take it for put back once more, and start it again.
        store.set_listed(back).await?;
    }
    Ok(watches)
}

/// Whether a watch was on the list all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    Listed,
    Away,
}

/// The watch that was recorded this long ago, as it continues now, and whether it starts again.
fn continue_watch(mut watch: Watch, ago: Duration, was: Was) -> (Watch, bool) {
    let again = was == Was::Away && watch.phase().may_start_again();
    if again {
        watch.start_again();
    } else {
        watch.resume(ago);
    }
    (watch, again)
}
