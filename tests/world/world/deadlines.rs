//! Promises about deadlines: each that passes is reported once, on time, unless the operation finishes first.

use std::time::Duration;

use backfill_watch::core::deadline::Deadline;
use backfill_watch::core::source::Source;
use backfill_watch::core::watch_list::WatchKey;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{GRACE, REQUEST_TIMEOUT, State, TICK};
use crate::extras::wall_at;
use crate::scenario::seconds;

/// An event may wait so long for what it includes.
const GATHERING: Duration = Duration::from_secs(10);
/// A watch that was just added is polled before its deadline counts, for so long.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

impl State {
    /// The range of times that the clock on the wall may have shown since then.
    fn walls(&self, then: Duration) -> (Timestamp, Timestamp) {
        let steps = self.steps_since(then);
        let (least, most) = steps.fold((self.step, self.step), |(least, most), step| {
            (least.min(step), most.max(step))
        });
        let at = |time: Duration, step: i64| wall_at(time) + SignedDuration::from_secs(step);
        (at(then, least), at(self.now(), most))
    }

    fn steps_since(&self, then: Duration) -> impl Iterator<Item = i64> {
        let first = self.steps.partition_point(|(from, _)| *from <= then);
        self.steps[first.saturating_sub(1)..]
            .iter()
            .map(|(_, step)| *step)
    }

    /// When the clock on the wall shows this, unless it is set again.
    fn time_of(&self, wall: Timestamp) -> Duration {
        let since = wall.duration_since(wall_at(Duration::ZERO)) - SignedDuration::from_secs(self.step);
        Duration::try_from(since).unwrap_or_default()
    }

    pub(super) fn check_overdue(&mut self, key: &WatchKey, data: &Value) -> Result<(), String> {
        let now = self.now();
        let at: Timestamp = data["deadline"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or("it has no deadline")?;
        let lately = now.saturating_sub(self.lag);
        let (_, latest) = self.walls(lately);
        if at > latest + SignedDuration::from_micros(1500) {
            return Err("its deadline has not passed".to_owned());
        }
        let demand = self.demands.get(key).ok_or("nobody asks for it")?;
        let created = self.created.get(key).copied();
        let started = self.reported.get(key).and_then(|reported| reported.started);
        let (first, last) = self.walls(Duration::ZERO);
        // How certain it is that this is the deadline. The start that a duration counts from is not known exactly.
        let certainty = |deadline: Deadline| match deadline {
            Deadline::At(time) => (time == at).then_some(2),
            Deadline::After(duration) => {
                let start = at - SignedDuration::try_from(duration).unwrap();
                let near =
                    |started: Duration| start.duration_since(wall_at(started)).unsigned_abs() <= self.lag;
                let is_known = created == Some(start) || started.is_some_and(near);
                let is_possible = first <= start && start <= last;
                is_known.then_some(1).or(is_possible.then_some(0))
            }
        };
        // Until the list was read after a start, the other sources apply alone.
        let is_started = now < self.run_began + self.lag + FIRST_ANSWER;
        let alone = Source::ALL.into_iter().filter(|_| is_started);
        let alone = alone.filter_map(|source| demand.of(source));
        let asked = demand.since(lately).filter_map(|terms| terms.deadline);
        let asked: Vec<Deadline> = asked
            .chain(self.maybe_added(key).and_then(|terms| terms.deadline))
            .chain(alone.filter_map(|terms| terms.deadline))
            .collect();
        let best = asked.iter().filter_map(|deadline| certainty(*deadline)).max();
        let is_best = |deadline: &Deadline| best.is_some() && certainty(*deadline) == best;
        let possible: Vec<Deadline> = asked.into_iter().rev().filter(is_best).collect();
        if possible.is_empty() {
            return Err(format!("nobody asked for this deadline since {lately:?}"));
        }
        let reported = self.overdue.entry(key.clone()).or_default();
        let Some(deadline) = possible
            .iter()
            .copied()
            .find(|deadline| !reported.contains(deadline))
        else {
            return Err(format!("it was reported before: {possible:?}"));
        };
        reported.push(deadline);
        Ok(())
    }

    /// An unfinished operation whose deadline passed and was not reported in time.
    pub(super) fn late_deadline(&self) -> Option<String> {
        let now = self.now();
        self.listed.iter().find_map(|key| {
            let demand = self.demands.get(key)?;
            let deadline = demand.latest()?.1.deadline?;
            let reported = self.reported.get(key);
            let is_finished = reported.is_some_and(|reported| reported.ended.is_some());
            let is_reported = self
                .overdue
                .get(key)
                .is_some_and(|reported| reported.contains(&deadline));
            let put = *self.put.get(key)?;
            // An unknown start counts from when the daemon first saw the operation, and recorded that.
            let started = reported.and_then(|reported| reported.started);
            let passes = match deadline {
                Deadline::At(time) => self.time_of(time),
                Deadline::After(duration) => match (started, self.created.get(key)) {
                    (Some(_), Some(created)) => {
                        self.time_of(*created + SignedDuration::try_from(duration).unwrap())
                    }
                    // The daemon cannot distinguish a clock that is set from time in which the machine did not run.
                    _ if self.stepped > Duration::ZERO => return None,
                    (Some(started), None) => started + duration,
                    (None, _) => put.max(self.run_began) + self.lag + duration,
                },
            };
            // What was just added or loaded is polled first.
            let longest = self
                .since(now.saturating_sub(seconds(600)))
                .map(|knobs| knobs.max)
                .max()?;
            let settled = put
                .max(demand.deadline_since())
                .max(self.run_began)
                .max(self.stepped)
                .max(self.full_last);
            let unsettled = longest.mul_f64(1.2) + FIRST_ANSWER + self.lag;
            let allowed = REQUEST_TIMEOUT + GATHERING + (self.lag - GRACE) + seconds(5);
            let latest = (passes + allowed).max(settled + unsettled);
            (!is_finished && !is_reported && now > latest + TICK).then(|| {
                format!("{key} is not reported overdue: its deadline {deadline} passed at {passes:?}")
            })
        })
    }
}
