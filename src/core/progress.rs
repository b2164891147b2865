//! Percent, rate, estimated end and stall of one operation's count of records.

use std::num::NonZeroU64;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::ProgressData;
use super::experience::Experience;
use super::operation;
use super::outlook::Outlook;
use super::span::Span;
use super::trend::Trend;
use super::watch::Phase;

/// How much an older poll weighs in the rate beside the one after it.
const SMOOTHING: f64 = 0.7;

/// No end is estimated further ahead than this: ten years.
const FARTHEST_END: f64 = 10.0 * 365.25 * 86_400.0;

/// The steps of a rebuilt count, until they are compared: those of the percentage that was reported last.
const UNKNOWN_STEP: u32 = u32::MAX;

/// What is remembered of an operation's counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracker {
    processed: Option<u64>,
    total: Option<NonZeroU64>,
    /// Records and seconds of the recent polls, older ones weighing less; their quotient is the rate.
    records: f64,
    seconds: f64,
    /// What the schedule goes by.
    #[serde(default)]
    trend: Trend,
    /// How often the count started afresh.
    restarts: u32,
    /// For how long the count was seen not to change.
    unchanged: Span,
    /// The count, and `restarts`, at the last stall.
    stalled_at: (u64, u32),
    /// Time and count since progress was last told.
    told_ago: Span,
    told_step: u32,
    told_count: u64,
    /// Time since the count was last looked at. Unknown after a restart of the daemon: such a gap gives no rate.
    #[serde(skip)]
    looked_ago: Option<Span>,
}

/// What an observation changed in the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// The operation shows no count.
    None,
    /// The same count as before.
    Same,
    /// More than before, or the first count.
    Rose,
    /// Less than before: the operation counts afresh.
    Restarted,
}

impl Tracker {
    /// The count as the last event reported it. `stalled` is the count at the last stall that was reported.
    #[must_use]
    pub fn rebuilt(processed: u64, total: Option<u64>, restarts: u32, stalled: Option<u64>) -> Self {
        Self {
            processed: Some(processed),
            total: total.and_then(NonZeroU64::new),
            restarts,
            stalled_at: (stalled.unwrap_or(0), restarts),
            told_step: UNKNOWN_STEP,
            told_count: processed,
            ..Self::default()
        }
    }

    /// Time passes, whether or not anything is seen.
    pub fn pass(&mut self, elapsed: Duration) {
        self.told_ago.extend(elapsed);
        if let Some(ago) = &mut self.looked_ago {
            ago.extend(elapsed);
        }
    }

    /// Looks at the counts. `seen_for` is how long the operation was in sight up to now: zero after a poll that
    /// showed nothing.
    pub fn look(&mut self, progress: Option<&operation::Progress>, seen_for: Duration) -> Change {
        let Some(count) = progress.and_then(|progress| progress.records_processed) else {
            return Change::None;
        };
        self.total = progress
            .and_then(|progress| progress.records_estimated_total)
            .and_then(NonZeroU64::new);
        let ago = self.looked_ago.replace(Span::ZERO);
        match self.processed.replace(count) {
            None => {
                self.told_ago = Span::ZERO;
                self.told_count = count;
                Change::Rose
            }
            Some(before) if count < before => {
                let restarts = self.restarts.saturating_add(1);
                *self = Self {
                    processed: self.processed,
                    total: self.total,
                    restarts,
                    told_ago: self.told_ago,
                    told_count: count,
                    stalled_at: self.stalled_at,
                    looked_ago: self.looked_ago,
                    ..Self::default()
                };
                Change::Restarted
            }
            Some(before) => {
                if let Some(ago) = ago.map(Span::get).filter(|ago| !ago.is_zero()) {
                    self.records = self.records * SMOOTHING + (count - before) as f64;
                    self.seconds = self.seconds * SMOOTHING + ago.as_secs_f64();
                    self.trend.rise(count - before, ago);
                }
                if count > before {
                    self.unchanged = Span::ZERO;
                    Change::Rose
                } else {
                    self.unchanged.extend(seen_for);
                    Change::Same
                }
            }
        }
    }

    /// For how long the count was seen not to change.
    #[must_use]
    pub fn unchanged(&self) -> Duration {
        self.unchanged.get()
    }

    /// Remembers where the count stands still.
    pub fn mark_stall(&mut self) {
        self.stalled_at = (self.processed.unwrap_or(0), self.restarts);
    }

    /// The count at the last stall and how often counting had started afresh by then: what tells one stall from
    /// another.
    #[must_use]
    pub fn stalled_at(&self) -> (u64, u32) {
        self.stalled_at
    }

    /// Whether progress is to be told now, and what tells this occurrence from another: with an estimate when a
    /// further step of `step` percentage points was reached, else when the count rose and `interval` has passed.
    pub fn tell(&mut self, step: f64, interval: Duration) -> Option<String> {
        let count = self.processed?;
        let occurrence = if let Some(percent) = self.percent() {
            if self.told_step == UNKNOWN_STEP {
                let reported = self.percent_of(self.told_count).unwrap_or(0.0);
                self.told_step = (reported / step).floor() as u32;
            }
            let reached = (percent / step).floor() as u32;
            if reached <= self.told_step {
                return None;
            }
            self.told_step = reached;
            format!("restart {} percent {}", self.restarts, f64::from(reached) * step)
        } else {
            if count <= self.told_count || self.told_ago.get() < interval {
                return None;
            }
            format!("restart {} count {count}", self.restarts)
        };
        self.told_ago = Span::ZERO;
        self.told_count = count;
        Some(occurrence)
    }

    /// How far the end may be, for the schedule.
    #[must_use]
    pub fn outlook(&self, age: Duration, experience: &Experience) -> Outlook {
        let total = self.records().map(|(_, total)| total);
        self.trend
            .outlook(self.processed.unwrap_or(0), total, age, experience)
    }

    /// How many records are processed, and how many were estimated, where both are known.
    #[must_use]
    pub fn records(&self) -> Option<(u64, u64)> {
        self.processed.zip(self.total())
    }

    /// What events and pages tell `now`, in that phase.
    #[must_use]
    pub fn data(&self, now: Timestamp, phase: Phase) -> Option<ProgressData> {
        let records_processed = self.processed?;
        Some(ProgressData {
            records_processed,
            records_estimated_total: self.total(),
            percent: if phase == Phase::Succeeded {
                self.total.map(|_| 100.0)
            } else {
                self.percent()
            },
            records_per_second: self.rate().map(|rate| (rate * 10.0).round() / 10.0),
            estimated_end_time: if phase.is_over() {
                None
            } else {
                self.remaining().and_then(|remaining| {
                    let end = now.checked_add(remaining).ok()?;
                    Timestamp::from_second(end.as_second()).ok()
                })
            },
            estimate_exceeded: self.total().is_some_and(|total| records_processed > total),
        })
    }

    /// Processed of estimated total, to one decimal and below 100: an estimate reached is no success yet.
    fn percent(&self) -> Option<f64> {
        self.percent_of(self.processed?)
    }

    fn percent_of(&self, count: u64) -> Option<f64> {
        let total = self.total()?;
        Some(((count as f64 / total as f64 * 1000.0).round() / 10.0).min(99.9))
    }

    fn total(&self) -> Option<u64> {
        self.total.map(NonZeroU64::get)
    }

    fn rate(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.records / self.seconds)
    }

    fn remaining(&self) -> Option<Duration> {
        let rest = self
            .total()?
            .checked_sub(self.processed?)
            .filter(|rest| *rest > 0)?;
        let seconds = rest as f64 / self.rate().filter(|rate| *rate > 0.0)?;
        (seconds <= FARTHEST_END).then(|| Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(processed: u64, total: Option<u64>) -> operation::Progress {
        operation::Progress {
            records_processed: Some(processed),
            records_estimated_total: total,
            ..Default::default()
        }
    }

    fn look(tracker: &mut Tracker, seconds: u64, processed: u64, total: Option<u64>) -> Change {
        let elapsed = Duration::from_secs(seconds);
        tracker.pass(elapsed);
        tracker.look(Some(&counts(processed, total)), elapsed)
    }

    #[test]
    fn percent_has_one_decimal_and_stays_below_100_until_success() {
        let mut tracker = Tracker::default();
        for (count, percent) in [
            (0, 0.0),
            (1250, 25.0),
            (1666, 33.3),
            (4999, 99.9),
            (5000, 99.9),
            (6000, 99.9),
        ] {
            let _ = look(&mut tracker, 10, count, Some(5000));
            let data = tracker.data(Timestamp::UNIX_EPOCH, Phase::Running).unwrap();
            assert_eq!(data.percent, Some(percent), "{count}");
            assert_eq!(data.estimate_exceeded, count > 5000);
        }
        assert_eq!(
            tracker
                .data(Timestamp::UNIX_EPOCH, Phase::Succeeded)
                .unwrap()
                .percent,
            Some(100.0)
        );
    }

    #[test]
    fn a_steady_count_gives_its_rate_and_its_end() {
        let mut tracker = Tracker::default();
        for poll in 0..10 {
            let _ = look(&mut tracker, 10, poll * 100, Some(2000));
        }
        let data = tracker.data(Timestamp::UNIX_EPOCH, Phase::Running).unwrap();
        assert_eq!(data.records_per_second, Some(10.0));
        assert_eq!(
            data.estimated_end_time,
            Some(Timestamp::from_second(110).unwrap())
        );
        let outlook = tracker.outlook(Duration::ZERO, &Experience::NONE);
        assert!(outlook.ends_within(100.0) < 0.2 && outlook.ends_within(120.0) > 0.8);
    }

    #[test]
    fn without_an_estimate_there_is_a_count_and_a_rate_and_no_percent() {
        let mut tracker = Tracker::default();
        let _ = look(&mut tracker, 10, 0, None);
        let _ = look(&mut tracker, 10, 50, Some(0));
        let data = tracker.data(Timestamp::UNIX_EPOCH, Phase::Running).unwrap();
        assert_eq!((data.percent, data.estimated_end_time), (None, None));
        assert_eq!(data.records_per_second, Some(5.0));
    }

    #[test]
    fn a_count_that_goes_backwards_starts_afresh() {
        let mut tracker = Tracker::default();
        let _ = look(&mut tracker, 10, 0, Some(100));
        let _ = look(&mut tracker, 10, 90, Some(100));
        assert!(tracker.tell(10.0, Duration::ZERO).is_some());
        assert_eq!(look(&mut tracker, 10, 5, Some(100)), Change::Restarted);
        assert_eq!(
            tracker
                .data(Timestamp::UNIX_EPOCH, Phase::Running)
                .unwrap()
                .records_per_second,
            None
        );
        let _ = look(&mut tracker, 10, 25, Some(100));
        assert_eq!(
            tracker.tell(10.0, Duration::ZERO).as_deref(),
            Some("restart 1 percent 20")
        );
    }

    #[test]
    fn one_step_is_told_once_and_the_highest_only() {
        let mut tracker = Tracker::default();
        let _ = look(&mut tracker, 10, 45, Some(100));
        assert_eq!(
            tracker.tell(10.0, Duration::ZERO).as_deref(),
            Some("restart 0 percent 40")
        );
        assert_eq!(tracker.tell(10.0, Duration::ZERO), None);
        let _ = look(&mut tracker, 10, 49, Some(100));
        assert_eq!(tracker.tell(10.0, Duration::ZERO), None);
    }

    #[test]
    fn without_an_estimate_progress_is_told_once_an_interval_when_it_rose() {
        let mut tracker = Tracker::default();
        let minute = Duration::from_mins(1);
        let _ = look(&mut tracker, 10, 45, None);
        assert_eq!(tracker.tell(10.0, minute), None);
        let _ = look(&mut tracker, 59, 46, None);
        assert_eq!(tracker.tell(10.0, minute), None);
        let _ = look(&mut tracker, 1, 46, None);
        assert_eq!(tracker.tell(10.0, minute).as_deref(), Some("restart 0 count 46"));
        let _ = look(&mut tracker, 90, 46, None);
        assert_eq!(tracker.tell(10.0, minute), None);
    }

    #[test]
    fn a_rate_never_spans_a_restart_of_the_daemon() {
        let mut tracker = Tracker::default();
        let _ = look(&mut tracker, 10, 0, Some(100));
        let json = serde_json::to_string(&tracker).unwrap();
        let mut restored: Tracker = serde_json::from_str(&json).unwrap();
        let _ = look(&mut restored, 1, 90, Some(100));
        let motion = restored
            .outlook(Duration::ZERO, &Experience::NONE)
            .motion
            .unwrap();
        assert_eq!((motion.part, motion.speed), (0.9, 0.0));
    }
}
