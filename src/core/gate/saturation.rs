//! Whether the request limits of a project are too low for its operations.

use std::time::Duration;

use jiff::Timestamp;

/// Polls must be late for longer than this before that needs attention.
const SHOWN_AFTER: Duration = Duration::from_mins(1);
/// Without a late poll for this long, polls are on time again.
const CALM_AFTER: Duration = Duration::from_mins(1);

/// How long an operation waited for a poll that the gate admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollDelay {
    /// From the poll before to when this one was due; after a start, from the start.
    pub interval: Duration,
    /// From when it was due to when the gate admitted it, without pauses.
    pub lag: Duration,
}

impl PollDelay {
    /// Whether the operation was polled much more rarely than at the `longest` interval, because of the gate.
    ///
    /// The lag alone shows no overload. After a start all operations are polled often, and polls wait for each other until the
    /// intervals have grown.
    #[must_use]
    pub fn is_late(&self, longest: Duration) -> bool {
        self.interval.min(longest).saturating_add(self.lag) > longest + longest / 2
    }
}

/// How long polls have been late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Saturation {
    late: Option<LatePolls>,
}

#[derive(Debug, Clone, Copy)]
struct LatePolls {
    since: Timestamp,
    first: Duration,
    last: Duration,
}

impl Saturation {
    /// Notes a late poll. `now` is steady time, which does not pass while the process is suspended.
    pub fn note_late_poll(&mut self, wall: Timestamp, now: Duration) {
        let new = LatePolls {
            since: wall,
            first: now,
            last: now,
        };
        let late = self.late.filter(|late| !late.is_calm(now)).unwrap_or(new);
        self.late = Some(LatePolls { last: now, ..late });
    }

    /// Notes that no request waits.
    pub fn note_empty_queue(&mut self) {
        self.late = None;
    }

    /// Since when polls are late, if that is long ago.
    #[must_use]
    pub fn since(&self, now: Duration) -> Option<Timestamp> {
        let late = self.late.filter(|late| !late.is_calm(now))?;
        (late.last.saturating_sub(late.first) > SHOWN_AFTER).then_some(late.since)
    }

    /// When polls are on time again unless another one is late.
    #[must_use]
    pub fn calm_at(&self) -> Option<Duration> {
        self.late.map(|late| late.last.saturating_add(CALM_AFTER))
    }
}

impl LatePolls {
    fn is_calm(&self, now: Duration) -> bool {
        now.saturating_sub(self.last) >= CALM_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> (Timestamp, Duration) {
        let steady = SECOND * u32::try_from(seconds).unwrap();
        let wall = "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap();
        (wall + steady, steady)
    }

    #[test]
    fn a_poll_is_late_when_its_operation_waited_half_an_interval_more_than_the_longest() {
        let is_late = |interval, lag| {
            let delay = PollDelay {
                interval: SECOND * interval,
                lag: SECOND * lag,
            };
            delay.is_late(SECOND * 60)
        };
        assert!(!is_late(60, 30) && is_late(60, 31));
        // A start: the interval is short, and the polls wait for each other.
        assert!(!is_late(2, 50));
        assert!(is_late(2, 89));
        // Only the gate makes a poll late.
        assert!(!is_late(500, 30));
    }

    #[test]
    fn late_polls_count_after_a_minute_and_until_there_is_none_for_a_minute() {
        let mut saturation = Saturation::default();
        for second in [10, 30, 69, 70] {
            let (wall, now) = at(second);
            saturation.note_late_poll(wall, now);
            assert_eq!(saturation.since(now), None, "{second}");
        }
        let (wall, now) = at(71);
        saturation.note_late_poll(wall, now);
        assert_eq!(saturation.since(now), Some(at(10).0));
        assert_eq!(saturation.since(at(130).1), Some(at(10).0));
        assert_eq!(saturation.calm_at(), Some(at(131).1));
        assert_eq!(saturation.since(at(131).1), None);
        // The next one begins again.
        let (wall, now) = at(140);
        saturation.note_late_poll(wall, now);
        assert_eq!(saturation.since(now), None);
    }

    #[test]
    fn an_empty_queue_ends_it_at_once() {
        let mut saturation = Saturation::default();
        for second in 0..100 {
            let (wall, now) = at(second);
            saturation.note_late_poll(wall, now);
        }
        assert!(saturation.since(at(99).1).is_some());
        saturation.note_empty_queue();
        assert_eq!(saturation.since(at(99).1), None);
    }
}
