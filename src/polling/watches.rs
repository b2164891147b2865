//! The watches of one project with their pollers: by number, by operation ID, and by alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::core::compact_duration::CompactDuration;
use crate::core::deadline::Deadline;
use crate::core::phase::PhaseCounts;
use crate::core::poller::Poller;
use crate::core::source::Demand;
use crate::core::watch::Watch;

/// The number of a watch in its project. It is reused after the watch has left.
pub(super) type WatchNumber = u32;

/// The number of a group in its project. It is reused after its last watch has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupNumber(pub u32);

/// One watch and its poller.
#[derive(Debug)]
pub(super) struct Slot {
    pub poller: Poller,
    /// The time of the last observation, or of the start; on the monotonic clock, like all times here.
    pub observed: CompactDuration,
    /// The time of the last poll, or of the start.
    pub polled: CompactDuration,
    /// When its poller has to act.
    alarm: Option<CompactDuration>,
    /// Failed commits and panics in a row.
    pub failures: u32,
    pub watched: Box<Watched>,
}

/// The state of one watch. It is boxed, so that slots stay small.
#[derive(Debug)]
pub(super) struct Watched {
    pub id: Arc<str>,
    pub demand: Demand,
    pub watch: Watch,
    /// Its group, unless it is leaving.
    pub group: Option<GroupNumber>,
    /// Until when a deadline that has passed waits for the first answer; zero after an answer.
    pub first_answer_until: CompactDuration,
    /// Whether it changed since it was recorded.
    pub is_unrecorded: bool,
    /// Whether it is among the changes for the reader.
    pub is_announced: bool,
}

/// The watches of one project, with the indexes that find them.
#[derive(Debug, Default)]
pub(super) struct Watches {
    slots: Vec<Option<Slot>>,
    free: Vec<WatchNumber>,
    by_id: BTreeMap<Arc<str>, WatchNumber>,
    alarms: BTreeSet<(CompactDuration, WatchNumber)>,
    /// Without watches that are leaving.
    phases: PhaseCounts,
    refusals: Refusals,
}

/// The number of unfinished watches that the API refuses.
#[derive(Debug, Default)]
struct Refusals {
    /// At least once since the last answer with an operation.
    refused: usize,
    /// At least [`REPEATEDLY`] times in a row.
    repeatedly: usize,
}

/// This many refusals in a row are no coincidence.
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

impl Watched {
    /// When the operation should be finished.
    pub fn deadline(&self) -> Option<Deadline> {
        self.demand.terms().deadline
    }
}

impl Watches {
    pub fn insert(&mut self, watched: Watched, poller: Poller, observed: Duration) -> WatchNumber {
        self.phases.add(watched.watch.phase());
        self.refusals.add(&watched.watch);
        let id = Arc::clone(&watched.id);
        let slot = Some(Slot {
            poller,
            observed: observed.into(),
            polled: observed.into(),
            alarm: None,
            failures: 0,
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
                (self.slots.len() - 1) as WatchNumber
            }
        };
        self.by_id.insert(id, number);
        number
    }

    /// Removes a watch that has departed.
    pub fn remove(&mut self, number: WatchNumber) -> Option<Slot> {
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

    pub fn get(&self, number: WatchNumber) -> Option<&Slot> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, number: WatchNumber) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub fn find(&self, id: &str) -> Option<WatchNumber> {
        self.by_id.get(id).copied()
    }

    /// Replaces the state of a watch, which must not be leaving.
    pub fn replace_watch(&mut self, number: WatchNumber, watch: Watch, is_unrecorded: bool) {
        let Some(Some(slot)) = self.slots.get_mut(number as usize) else {
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

    /// Excludes a removed watch from all counts.
    pub fn stop_counting(&mut self, number: WatchNumber) {
        if let Some(Some(slot)) = self.slots.get(number as usize) {
            self.phases.remove(slot.watched.watch.phase());
            self.refusals.remove(&slot.watched.watch);
        }
    }

    /// Sets when the poller has to act.
    pub fn set_alarm(&mut self, number: WatchNumber, at: Option<Duration>) {
        let Some(Some(slot)) = self.slots.get_mut(number as usize) else {
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

    /// Takes the next alarm that is due.
    pub fn pop_alarm(&mut self, now: Duration) -> Option<WatchNumber> {
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

    /// The number of unfinished watches.
    pub fn polled(&self) -> usize {
        self.phases.total() - self.phases.finished()
    }

    /// Whether there are other unfinished watches, and all of them are refused.
    pub fn are_others_refused(&self, number: WatchNumber) -> bool {
        let own = self
            .get(number)
            .map_or(0, |slot| Refusals::of(&slot.watched.watch).0);
        let others = self.polled().saturating_sub(1);
        others > 0 && self.refusals.refused - own >= others
    }

    /// Whether there are at least two unfinished watches, and all are refused repeatedly.
    pub fn are_all_refused(&self) -> bool {
        self.polled() >= 2 && self.refusals.repeatedly >= self.polled()
    }

    /// One more than the highest number that was ever used.
    pub fn numbers(&self) -> WatchNumber {
        self.slots.len() as WatchNumber
    }

    pub fn iter(&self) -> impl Iterator<Item = (WatchNumber, &Slot)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, slot)| Some((number as WatchNumber, slot.as_ref()?)))
    }

    /// The watches with a higher operation ID than `after`, in order.
    pub fn after(&self, after: Option<&Arc<str>>) -> impl Iterator<Item = &Slot> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.by_id.range::<Arc<str>, _>((from, Bound::Unbounded));
        range.filter_map(|(_, number)| self.get(*number))
    }
}
