//! The objects that wait for their next request, in order.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::installation::{Object, Place, Urgency};
use super::request::ObjectKey;

/// Urgent objects by the round in which they were asked for last, those of the newest installations first.
type UrgentQueue = BTreeSet<(u64, Reverse<Timestamp>, ObjectKey)>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    new: UrgentQueue,
    changed: UrgentQueue,
    /// All others by when they are due.
    others: BTreeSet<(SignedDuration, ObjectKey)>,
}

impl Queue {
    pub fn insert(&mut self, key: &ObjectKey, object: &Object, first_seen: Timestamp) {
        match object.place {
            Place::Urgent { urgent, round } => {
                let entry = (round, Reverse(first_seen), key.clone());
                self.urgent(urgent.urgency).insert(entry);
            }
            Place::Other => {
                self.others.insert((object.due(), key.clone()));
            }
            Place::InFlight { .. } => {}
        }
    }

    pub fn remove(&mut self, key: &ObjectKey, object: &Object, first_seen: Timestamp) {
        match object.place {
            Place::Urgent { urgent, round } => {
                let entry = (round, Reverse(first_seen), key.clone());
                self.urgent(urgent.urgency).remove(&entry);
            }
            Place::Other => {
                self.others.remove(&(object.due(), key.clone()));
            }
            Place::InFlight { .. } => {}
        }
    }

    /// The next urgent object that was not asked for in this round.
    pub fn next_urgent(&self, round: u64) -> Option<&ObjectKey> {
        let first = |queue: &'_ UrgentQueue| queue.first().is_some_and(|(asked, ..)| *asked < round);
        let queue = [&self.new, &self.changed]
            .into_iter()
            .find(|queue| first(queue))?;
        queue.first().map(|(.., key)| key)
    }

    /// The object that is due first of those that are not urgent, and when.
    pub fn next_other(&self) -> Option<(SignedDuration, &ObjectKey)> {
        self.others.first().map(|(due, key)| (*due, key))
    }

    fn urgent(&mut self, urgency: Urgency) -> &mut UrgentQueue {
        match urgency {
            Urgency::New => &mut self.new,
            Urgency::Changed => &mut self.changed,
        }
    }
}
