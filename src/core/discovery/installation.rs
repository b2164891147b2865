//! What discovery knows of an installation and of its objects, and how that is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::steady;
use crate::core::project_health::Moment;
use crate::core::text;

/// An object without an operation is awaited for this long after its configuration changed.
const AWAITED_FOR: SignedDuration = SignedDuration::from_mins(30);
/// An object stays urgent for this long, unless an operation is found earlier.
const URGENT_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Objects that are not urgent are asked for at most this often.
const REVISIT: SignedDuration = SignedDuration::from_hours(1);
/// The time after the first failed request for an object. It doubles with each further one, up to [`REVISIT`].
const RETRY: SignedDuration = SignedDuration::from_mins(1);
/// The most bytes of a label's value.
const MAX_LABEL: usize = 512;

/// Why an object is asked for before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Its installation is new.
    New,
    /// Its configuration changed, or its last operation finished.
    Changed,
}

/// An object that is asked for once a round, until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Urgent {
    pub urgency: Urgency,
    pub until: SignedDuration,
}

impl Urgent {
    pub fn new(urgency: Urgency, now: SignedDuration) -> Self {
        Self {
            urgency,
            until: now.saturating_add(URGENT_FOR),
        }
    }
}

/// Where an object waits for its next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the urgent ones; asked for in this round.
    Urgent { urgent: Urgent, round: u64 },
    /// Among the others.
    Other,
    /// Its request is queued or in flight.
    InFlight { urgent: Option<Urgent> },
}

/// An object that has a backfill.
#[derive(Debug)]
pub(super) struct Object {
    /// The position of the first rule that matches it.
    pub rule: u16,
    pub fingerprint: u64,
    /// When its configuration changed.
    pub changed: SignedDuration,
    /// The operation that was named last.
    pub operation: Option<Arc<str>>,
    /// An operation that was named, and has to be polled before it counts.
    pub unverified: Option<Arc<str>>,
    pub asked: Option<SignedDuration>,
    /// The requests that failed since it was last read.
    pub failures: u8,
    pub place: Place,
}

impl Object {
    pub fn new(rule: u16, fingerprint: u64, changed: SignedDuration, urgent: Urgent) -> Self {
        Self {
            rule,
            fingerprint,
            changed,
            operation: None,
            unverified: None,
            asked: None,
            failures: 0,
            place: Place::Urgent { urgent, round: 0 },
        }
    }

    /// Becomes urgent. A new installation stays new.
    pub fn hurry(&mut self, urgent: Urgent) {
        match &mut self.place {
            Place::Urgent { urgent: before, .. } => {
                before.until = urgent.until;
                before.urgency = before.urgency.min(urgent.urgency);
            }
            Place::InFlight { urgent: before } => *before = Some(urgent),
            Place::Other => self.place = Place::Urgent { urgent, round: 0 },
        }
    }

    /// Its request starts.
    pub fn start(&mut self) {
        let urgent = self.urgent();
        self.place = Place::InFlight { urgent };
    }

    /// Its request starts if it is still urgent. Returns whether it does.
    pub fn start_urgent(&mut self, now: SignedDuration) -> bool {
        let urgent = self.urgent().filter(|urgent| urgent.until > now);
        self.place = match urgent {
            Some(_) => Place::InFlight { urgent },
            None => Place::Other,
        };
        urgent.is_some()
    }

    /// Its request has ended in this round. Returns whether it was the first one.
    pub fn returned(&mut self, is_urgent: bool, round: u64, now: SignedDuration) -> bool {
        let urgent = self.urgent().filter(|urgent| is_urgent && urgent.until > now);
        self.place = urgent.map_or(Place::Other, |urgent| Place::Urgent { urgent, round });
        self.asked.replace(now).is_none()
    }

    /// When it is asked for next, unless it is urgent.
    pub fn due(&self) -> SignedDuration {
        let Some(asked) = self.asked else {
            return SignedDuration::MIN;
        };
        let delay = match self.failures {
            0 => REVISIT,
            failures => (RETRY * (1 << (failures - 1).min(6))).min(REVISIT),
        };
        asked.saturating_add(delay)
    }

    pub fn urgent(&self) -> Option<Urgent> {
        match self.place {
            Place::Urgent { urgent, .. } => Some(urgent),
            Place::InFlight { urgent } => urgent,
            Place::Other => None,
        }
    }
}

/// An installation.
#[derive(Debug)]
pub(super) struct Installation {
    pub integration: Arc<str>,
    pub group: Arc<str>,
    pub first_seen: Timestamp,
    /// The last round whose list had it.
    pub round: u64,
    pub objects: BTreeMap<Arc<str>, Object>,
}

/// An installation as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredInstallation {
    integration: String,
    group: String,
    first_seen: Timestamp,
    objects: BTreeMap<String, StoredObject>,
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredObject {
    fingerprint: u64,
    changed: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    urgency: Option<Urgency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// An object of a group for which no operation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited<'a> {
    /// The ID of its installation.
    pub installation: &'a str,
    /// Its name.
    pub object: &'a str,
    /// Whether so much time has passed that it is not awaited any more.
    pub is_missing: bool,
}

impl Installation {
    pub fn new(integration: Arc<str>, group: Arc<str>, first_seen: Timestamp) -> Self {
        Self {
            integration,
            group,
            first_seen,
            round: 0,
            objects: BTreeMap::new(),
        }
    }

    /// The installation as it was stored, and its objects.
    pub fn restore(stored: StoredInstallation, now: Moment) -> (Self, Vec<(Arc<str>, Object)>) {
        let objects = stored.objects.into_iter().map(|(name, object)| {
            let urgent = object.urgency.zip(object.until).map(|(urgency, until)| Urgent {
                urgency,
                until: to_steady(until, now).min(steady(now).saturating_add(URGENT_FOR)),
            });
            let place = match urgent {
                Some(urgent) if urgent.until > steady(now) => Place::Urgent { urgent, round: 0 },
                _ => Place::Other,
            };
            let object = Object {
                rule: 0,
                fingerprint: object.fingerprint,
                changed: past(object.changed, now),
                operation: object.operation.map(Arc::from),
                unverified: None,
                asked: object.asked.map(|asked| past(asked, now)),
                failures: 0,
                place,
            };
            (name.into(), object)
        });
        let objects = objects.collect();
        let installation = Self::new(stored.integration.into(), stored.group.into(), stored.first_seen);
        (installation, objects)
    }

    pub fn store(&self, now: Moment) -> StoredInstallation {
        let objects = self.objects.iter().map(|(name, object)| {
            let mut urgent = object.urgent();
            if object.unverified.is_some() {
                // Nothing remembers the operation, so that the object has to be asked for again.
                urgent = Some(Urgent::new(Urgency::New, steady(now)));
            }
            let stored = StoredObject {
                fingerprint: object.fingerprint,
                changed: to_wall(object.changed, now),
                operation: object.operation.as_deref().map(str::to_owned),
                asked: object.asked.map(|asked| to_wall(asked, now)),
                urgency: urgent.map(|urgent| urgent.urgency),
                until: urgent.map(|urgent| to_wall(urgent.until, now)),
            };
            (name.to_string(), stored)
        });
        StoredInstallation {
            integration: self.integration.to_string(),
            group: self.group.to_string(),
            first_seen: self.first_seen,
            objects: objects.collect(),
        }
    }

    /// The objects for which no operation was found.
    pub fn awaited<'a>(
        &'a self,
        id: &'a str,
        now: SignedDuration,
    ) -> impl Iterator<Item = Awaited<'a>> + use<'a> {
        let without = self
            .objects
            .iter()
            .filter(|(_, object)| object.operation.is_none());
        without.map(move |(name, object)| Awaited {
            installation: id,
            object: name,
            is_missing: object.unverified.is_none() && now.saturating_sub(object.changed) >= AWAITED_FOR,
        })
    }
}

/// A text of the API as the value of a label: without control characters, and short.
pub(super) fn label_value(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| if text::is_control(c) { '\u{fffd}' } else { c })
        .collect();
    text::cut(&printable, MAX_LABEL)
}

/// A time that has passed. One in the future was written before the clock was set back.
fn past(wall: Timestamp, now: Moment) -> SignedDuration {
    to_steady(wall, now).min(steady(now))
}

fn to_steady(wall: Timestamp, now: Moment) -> SignedDuration {
    steady(now).saturating_sub(now.wall.duration_since(wall))
}

fn to_wall(time: SignedDuration, now: Moment) -> Timestamp {
    let ago = steady(now).saturating_sub(time);
    now.wall.checked_sub(ago).unwrap_or(Timestamp::MIN)
}
