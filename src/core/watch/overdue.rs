//! Deadlines of one operation, and which of them were reported.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::deadline::Deadline;
use super::super::event::{Event, EventType, millis};
use super::super::start_time;
use super::super::wall_time::WallTime;
use super::{Reporter, Watch, WatchContext};

/// How many reported deadlines a watch keeps.
const MAX_REPORTED: usize = 16;

/// What a watch keeps about its deadlines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DeadlineRecord {
    /// When the watch was first watched: the start, until one is known.
    #[serde(default)]
    first_watched: WallTime,
    /// The deadlines that were reported, earliest first.
    #[serde(default)]
    reported: Vec<ReportedDeadline>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ReportedDeadline {
    at: WallTime,
    /// For a deadline after the start. A start that is known later does not make it another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Deadline>,
}

impl DeadlineRecord {
    /// These times were reported.
    pub(super) fn of(times: impl IntoIterator<Item = Timestamp>) -> Option<Box<Self>> {
        let mut record = Self::default();
        for time in times {
            record.add(time, Deadline::At(time));
        }
        (!record.reported.is_empty()).then(|| Box::new(record))
    }

    fn contains(&self, at: Timestamp, deadline: Deadline) -> bool {
        let is_known = self
            .reported
            .iter()
            .any(|reported| reported.at == at.into() || reported.after == Some(deadline));
        // Those before the earliest kept may have been reported and dropped.
        let earliest = self.reported.first().and_then(|reported| reported.at.get());
        is_known || (self.reported.len() == MAX_REPORTED && earliest.is_some_and(|earliest| at < earliest))
    }

    fn add(&mut self, at: Timestamp, deadline: Deadline) {
        let place = self
            .reported
            .partition_point(|reported| reported.at.get() <= Some(at));
        let after = matches!(deadline, Deadline::After(_)).then_some(deadline);
        self.reported
            .insert(place, ReportedDeadline { at: at.into(), after });
        if self.reported.len() > MAX_REPORTED {
            self.reported.remove(0);
        }
    }
}

impl Watch {
    /// The time of a deadline, in milliseconds like its event's ID. `id` is the operation ID.
    ///
    /// A deadline after the start counts from `createTime`, else from the time in the ID, else from when the operation was first
    /// seen or, before that, first watched.
    #[must_use]
    pub fn deadline_time(&self, id: &str, deadline: Deadline, now: Timestamp) -> Option<Timestamp> {
        let time = match deadline {
            Deadline::At(time) => time,
            Deadline::After(duration) => {
                let pinned = || self.deadlines.as_deref()?.first_watched.get();
                let start = self
                    .known_start(id, now)
                    .or_else(pinned)
                    .or_else(|| now.checked_sub(self.watched.get()).ok())?;
                start.checked_add(duration).ok()?
            }
        };
        Timestamp::from_millisecond(time.as_millisecond()).ok()
    }

    /// Keeps when the watch was first watched, if a deadline after the start depends on it. Returns true if that is new.
    pub fn pin_start(&mut self, id: &str, deadline: Option<Deadline>, now: Timestamp) -> bool {
        let counts_from_start = matches!(deadline, Some(Deadline::After(_))) && !self.phase.is_finished();
        if !counts_from_start || self.known_start(id, now).is_some() {
            return false;
        }
        let record = self.deadlines.get_or_insert_default();
        let is_new = record.first_watched == WallTime::NONE;
        if is_new {
            record.first_watched = now.checked_sub(self.watched.get()).unwrap_or(now).into();
        }
        is_new
    }

    fn known_start(&self, id: &str, now: Timestamp) -> Option<Timestamp> {
        self.create_time()
            .or_else(|| start_time::of_id(id, now))
            .or(self.first_seen.get())
    }

    /// Time until the deadline passes; zero if it has passed. `None` without one, when it was reported, and when the watch is
    /// finished.
    #[must_use]
    pub fn overdue_in(&self, id: &str, deadline: Option<Deadline>, now: Timestamp) -> Option<Duration> {
        let at = self.unreported(id, deadline, now)?;
        Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
    }

    /// The deadline, if it passed and was reported, and the watch is not finished.
    #[must_use]
    pub fn overdue_since(&self, id: &str, deadline: Option<Deadline>, now: Timestamp) -> Option<Timestamp> {
        let deadline = deadline.filter(|_| !self.phase.is_finished())?;
        let at = self.deadline_time(id, deadline, now)?;
        self.is_reported(at, deadline).then_some(at)
    }

    /// Reports the deadline if it has passed.
    pub(super) fn report_overdue(&mut self, cx: &WatchContext<'_>, events: &mut Vec<Event>) {
        let id = &cx.key.operation;
        let _ = self.pin_start(id, cx.deadline, cx.now);
        let passed = self
            .unreported(id, cx.deadline, cx.now)
            .filter(|at| *at <= cx.now);
        let (Some(at), Some(deadline)) = (passed, cx.deadline) else {
            return;
        };
        self.deadlines.get_or_insert_default().add(at, deadline);
        Reporter {
            events,
            previous: None,
            cx,
        }
        .report(self, EventType::Overdue, &millis(at), |data| {
            data.deadline = Some(at);
        });
    }

    fn unreported(&self, id: &str, deadline: Option<Deadline>, now: Timestamp) -> Option<Timestamp> {
        let deadline = deadline.filter(|_| !self.phase.is_finished())?;
        let at = self.deadline_time(id, deadline, now)?;
        (!self.is_reported(at, deadline)).then_some(at)
    }

    fn is_reported(&self, at: Timestamp, deadline: Deadline) -> bool {
        let record = self.deadlines.as_deref();
        record.is_some_and(|record| record.contains(at, deadline))
    }
}
