//! The watches of one project with their pollers: by number, by ID, and by the time of what each waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::core::compact_duration::CompactDuration;
use crate::core::phase::PhaseCounts;
use crate::core::poller::Poller;
use crate::core::watch::Watch;
use crate::core::watch_list::Labels;

/// The number of a watch in its project; it is given again after the watch has left.
pub(super) type Number = u32;

/// One watch and its poller.
#[derive(Debug)]
pub(super) struct Slot {
    pub poller: Poller,
    /// When the last observation was made, or watching began.
    pub observed: CompactDuration,
    /// When it was polled last, or watching began.
    pub polled: CompactDuration,
    /// When its poller has to be attended to.
    alarm: Option<CompactDuration>,
    /// Commits that failed and panics in a row.
    pub setbacks: u32,
    pub watched: Box<Watched>,
}

/// What is remembered of one watch. Boxed, so that the numbers stay close together.
#[derive(Debug)]
pub(super) struct Watched {
    pub id: Arc<str>,
    pub labels: Arc<Labels>,
    pub watch: Watch,
    /// Whether it changed since it was recorded.
    pub is_unrecorded: bool,
    /// Whether it is among the changes that wait to be asked for.
    pub is_announced: bool,
}

#[derive(Debug, Default)]
pub(super) struct Watches {
    slots: Vec<Option<Slot>>,
    free: Vec<Number>,
    by_id: BTreeMap<Arc<str>, Number>,
    alarms: BTreeSet<(CompactDuration, Number)>,
    /// Of those that are not leaving.
    phases: PhaseCounts,
    refusals: Refusals,
}

/// How many unfinished watches the API refuses.
#[derive(Debug, Default)]
struct Refusals {
    /// Since it answered with their operation.
    refused: usize,
    /// Three times in a row or more.
    repeatedly: usize,
}

/// So many refusals in a row are no chance.
const REPEATEDLY: u32 = 3;

impl Refusals {
    fn of(watch: &Watch) -> (usize, usize) {
        if watch.phase().is_finished() {
            return (0, 0);
        }
        let repeatedly = watch.refusals() >= REPEATEDLY;
        (watch.is_refused().into(), repeatedly.into())
    }

    fn add(&mut self, watch: &Watch) {
        let (refused, repeatedly) = Self::of(watch);
        self.refused += refused;
        self.repeatedly += repeatedly;
    }

    fn remove(&mut self, watch: &Watch) {
        let (refused, repeatedly) = Self::of(watch);
        self.refused = self.refused.saturating_sub(refused);
        self.repeatedly = self.repeatedly.saturating_sub(repeatedly);
    }
}

impl Watches {
    pub fn insert(&mut self, watched: Watched, poller: Poller, observed: Duration) -> Number {
        self.phases.add(watched.watch.phase());
        self.refusals.add(&watched.watch);
        let id = Arc::clone(&watched.id);
        let slot = Some(Slot {
            poller,
            observed: observed.into(),
            polled: observed.into(),
            alarm: None,
            setbacks: 0,
            watched: Box::new(watched),
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                // A list has at most two million operations.
                (self.slots.len() - 1) as Number
            }
        };
        self.by_id.insert(id, number);
        number
    }

    /// Takes a watch out that has departed.
    pub fn remove(&mut self, number: Number) -> Option<Slot> {
        self.set_alarm(number, None);
        let slot = self.slots.get_mut(number as usize)?.take()?;
        self.by_id.remove(&slot.watched.id);
        self.free.push(number);
        if !slot.poller.is_leaving() {
            self.phases.remove(slot.watched.watch.phase());
            self.refusals.remove(&slot.watched.watch);
        }
        Some(slot)
    }

    pub fn get(&self, number: Number) -> Option<&Slot> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, number: Number) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub fn find(&self, id: &str) -> Option<Number> {
        self.by_id.get(id).copied()
    }

    /// The watch moves on. It must not be leaving.
    pub fn replace_watch(&mut self, number: Number, watch: Watch, is_unrecorded: bool) {
        let Some(slot) = self.slots.get_mut(number as usize).and_then(Option::as_mut) else {
            return;
        };
        let (before, after) = (slot.watched.watch.phase(), watch.phase());
        if before != after {
            self.phases.remove(before);
            self.phases.add(after);
        }
        self.refusals.remove(&slot.watched.watch);
        self.refusals.add(&watch);
        slot.watched.watch = watch;
        slot.watched.is_unrecorded = is_unrecorded;
    }

    /// A watch that was removed does not count any more.
    pub fn discount(&mut self, number: Number) {
        if let Some(slot) = self.slots.get(number as usize).and_then(Option::as_ref) {
            self.phases.remove(slot.watched.watch.phase());
            self.refusals.remove(&slot.watched.watch);
        }
    }

    /// When the poller has to be attended to.
    pub fn set_alarm(&mut self, number: Number, at: Option<Duration>) {
        let Some(slot) = self.slots.get_mut(number as usize).and_then(Option::as_mut) else {
            return;
        };
        let at = at.map(CompactDuration::from);
        if slot.alarm == at {
            return;
        }
        if let Some(before) = std::mem::replace(&mut slot.alarm, at) {
            self.alarms.remove(&(before, number));
        }
        if let Some(at) = at {
            self.alarms.insert((at, number));
        }
    }

    pub fn next_alarm(&self) -> Option<Duration> {
        self.alarms.first().map(|(at, _)| at.get())
    }

    /// The next poller whose time has come; its alarm is off then.
    pub fn pop_alarm(&mut self, now: Duration) -> Option<Number> {
        let (at, number) = *self.alarms.first()?;
        if at.get() > now {
            return None;
        }
        self.set_alarm(number, None);
        Some(number)
    }

    pub fn phases(&self) -> PhaseCounts {
        self.phases
    }

    /// How many are polled.
    pub fn polled(&self) -> usize {
        self.phases.total() - self.phases.finished()
    }

    /// Whether all unfinished watches but this one, at least one, are refused.
    pub fn are_others_refused(&self, number: Number) -> bool {
        let own = self
            .get(number)
            .map_or(0, |slot| Refusals::of(&slot.watched.watch).0);
        let others = self.polled().saturating_sub(1);
        others > 0 && self.refusals.refused - own >= others
    }

    /// Whether all unfinished watches, at least two, are refused repeatedly.
    pub fn are_all_refused(&self) -> bool {
        self.polled() >= 2 && self.refusals.repeatedly >= self.polled()
    }

    /// How many numbers are in use, or were.
    pub fn numbers(&self) -> Number {
        self.slots.len() as Number
    }

    pub fn iter(&self) -> impl Iterator<Item = (Number, &Slot)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, slot)| Some((number as Number, slot.as_ref()?)))
    }

    /// Those with a higher ID than `after`, in order.
    pub fn after(&self, after: Option<&Arc<str>>) -> impl Iterator<Item = &Slot> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.by_id.range::<Arc<str>, _>((from, Bound::Unbounded));
        range.filter_map(|(_, number)| self.get(*number))
    }
}
