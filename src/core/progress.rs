//! Percent, rate, estimated end and stalls of one operation's record count.

use std::num::NonZeroU64;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::compact_duration::CompactDuration;
use super::end_forecast::EndForecast;
use super::event::ProgressData;
use super::history::HistoryStatistics;
use super::operation;
use super::phase::Phase;
use super::trend::Trend;
use super::wall_time::WallTime;
use super::watch_settings::WatchSettings;

mod steps;

pub use steps::unfinished_percent;
use steps::{Percent, Steps};

/// Weight of a poll relative to the next one, for the rate.
const SMOOTHING: f64 = 0.7;

/// Maximum time to the estimated end: ten years.
const MAX_REMAINING_SECONDS: f64 = 10.0 * 365.25 * 86_400.0;

/// Marks the steps of a rebuilt count as those of the last reported percentage.
const UNKNOWN_STEPS: u32 = u32::MAX;

/// What is stored of an operation's counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgressTracker {
    /// The highest count since the last restart.
    processed: Option<u64>,
    total: Option<NonZeroU64>,
    /// Weighted sums over the recent polls; their quotient is the rate.
    records: f64,
    seconds: f64,
    /// The trend that the schedule uses.
    #[serde(default)]
    trend: Trend,
    /// How often the count restarted.
    restarts: u32,
    /// How long the operation was observed without a rise of the count.
    unchanged: CompactDuration,
    /// When the count last rose or restarted.
    #[serde(default, skip_serializing_if = "is_default")]
    changed: WallTime,
    /// The count, and `restarts`, at the last stall.
    stalled_at: (u64, u32),
    /// Time and count since the last progress event.
    #[serde(rename = "told_ago")]
    reported_ago: CompactDuration,
    #[serde(rename = "told_count")]
    reported_count: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    steps: Steps,
    /// The number of steps that version 0.1 had reported; converted with the next count.
    #[serde(default, rename = "told_step", skip_serializing_if = "is_default")]
    old_steps: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    doubts: Doubts,
    /// Time since the last measurement. Unknown after a restart, so that the gap does not count as a rate.
    #[serde(skip)]
    measured_ago: Option<CompactDuration>,
}

/// What the next answer must confirm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Doubts {
    /// The last count was far below the highest.
    count_fell: bool,
    /// The last answer had a count but no estimate.
    total_left: bool,
    /// The platform retried the operation, and no count was seen since.
    was_retried: bool,
    /// Whether the last stall had no count. Stored here because it needs no extra memory.
    stalled_without_count: bool,
}

/// How an answer changed the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CountChange {
    /// The answer shows no count.
    None,
    /// The count did not rise, or a dip is not confirmed yet.
    Same,
    /// The count rose, or is the first one.
    Rose,
    /// The count restarted at a lower value.
    Restarted,
}

/// Whether the platform retried the operation since the previous answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAttempt {
    /// The same attempt.
    Same,
    /// A new attempt: the count restarts.
    New,
}

/// Input besides the answer.
#[derive(Debug, Clone, Copy)]
pub struct ProgressContext<'a> {
    /// Wall-clock time.
    pub now: Timestamp,
    /// How long the operation was observed up to now; zero after a failed poll.
    pub observed_for: Duration,
    /// Whether it was retried.
    pub attempt: RetryAttempt,
    /// Settings for events.
    pub settings: &'a WatchSettings,
}

impl ProgressTracker {
    /// Rebuilds the counts from events. `stalled` is the count at the last reported stall.
    #[must_use]
    pub fn rebuilt(
        processed: u64,
        total: Option<u64>,
        restarts: u32,
        stalled: Option<u64>,
        stalled_without_count: bool,
    ) -> Self {
        Self {
            processed: Some(processed),
            total: total.and_then(NonZeroU64::new),
            restarts,
            stalled_at: (stalled.unwrap_or(0), restarts),
            reported_count: processed,
            old_steps: UNKNOWN_STEPS,
            doubts: Doubts {
                stalled_without_count,
                ..Doubts::default()
            },
            ..Self::default()
        }
    }

    /// Adds time, with or without an answer.
    pub fn add_time(&mut self, elapsed: Duration) {
        self.reported_ago.extend(elapsed);
        if let Some(ago) = &mut self.measured_ago {
            ago.extend(elapsed);
        }
    }

    /// Applies the counts of an answer.
    pub fn observe(
        &mut self,
        progress: Option<&operation::Progress>,
        context: &ProgressContext<'_>,
    ) -> CountChange {
        self.doubts.was_retried |= context.attempt == RetryAttempt::New && self.processed.is_some();
        let Some(count) = progress.and_then(|progress| progress.records_processed) else {
            self.unchanged.extend(context.observed_for);
            return CountChange::None;
        };
        self.adopt_old_steps(context.settings.progress_step);
        self.set_total(progress.and_then(|progress| progress.records_estimated_total));
        let Some(highest) = self.processed else {
            self.processed = Some(count);
            self.change(context.now);
            self.reported_ago = CompactDuration::ZERO;
            self.reported_count = count;
            self.measured_ago = Some(CompactDuration::ZERO);
            return CountChange::Rose;
        };
        let is_far_below = u128::from(count) * 10 < u128::from(highest) * 9;
        if self.doubts.was_retried || (is_far_below && self.doubts.count_fell) {
            return self.restart(highest, count, context);
        }
        self.doubts.count_fell = is_far_below;
        if let Some(before) = self.percent() {
            self.steps.check_estimate(before, context.settings.progress_step);
        }
        if is_far_below {
            self.unchanged.extend(context.observed_for);
            return CountChange::Same;
        }
        // A smaller dip comes from a lagging replica.
        let risen = count.saturating_sub(highest);
        let ago = self.measured_ago.replace(CompactDuration::ZERO);
        if let Some(ago) = ago.map(CompactDuration::get).filter(|ago| !ago.is_zero()) {
            self.records = self.records * SMOOTHING + risen as f64;
            self.seconds = self.seconds * SMOOTHING + ago.as_secs_f64();
            self.trend.rise(risen, ago);
        }
        if risen == 0 {
            self.unchanged.extend(context.observed_for);
            return CountChange::Same;
        }
        self.processed = Some(count);
        self.change(context.now);
        CountChange::Rose
    }

    /// Restarts rate, estimated end and steps from `count`.
    fn restart(&mut self, highest: u64, count: u64, context: &ProgressContext<'_>) -> CountChange {
        *self = Self {
            processed: Some(count),
            total: self.total,
            restarts: self.restarts.saturating_add(1),
            unchanged: self.unchanged,
            changed: self.changed,
            stalled_at: self.stalled_at,
            reported_ago: self.reported_ago,
            reported_count: count,
            doubts: Doubts {
                total_left: self.doubts.total_left,
                stalled_without_count: self.doubts.stalled_without_count,
                ..Doubts::default()
            },
            measured_ago: Some(CompactDuration::ZERO),
            ..Self::default()
        };
        match count.cmp(&highest) {
            std::cmp::Ordering::Less => {
                self.change(context.now);
                CountChange::Restarted
            }
            std::cmp::Ordering::Equal => {
                // A new attempt without a new count may be as stuck as the previous one.
                self.unchanged.extend(context.observed_for);
                CountChange::Same
            }
            std::cmp::Ordering::Greater => {
                self.change(context.now);
                CountChange::Rose
            }
        }
    }

    fn change(&mut self, now: Timestamp) {
        self.unchanged = CompactDuration::ZERO;
        self.changed = now.into();
    }

    /// A new estimate counts at once; a missing one counts with the second answer.
    fn set_total(&mut self, total: Option<u64>) {
        let total = total.and_then(NonZeroU64::new);
        let leaves = total.is_none() && self.total.is_some();
        if leaves && !self.doubts.total_left {
            self.doubts.total_left = true;
        } else {
            self.total = total;
            self.doubts.total_left = false;
        }
    }

    fn adopt_old_steps(&mut self, step: f64) {
        let steps = std::mem::take(&mut self.old_steps);
        if steps > 0 {
            self.steps.adopt(steps, self.percent().unwrap_or_default(), step);
        }
    }

    /// Whether a count was ever shown.
    #[must_use]
    pub fn has_count(&self) -> bool {
        self.processed.is_some()
    }

    /// How long the operation was observed without a rise of the count.
    #[must_use]
    pub fn unchanged(&self) -> Duration {
        self.unchanged.get()
    }

    /// When the count last rose or restarted.
    #[must_use]
    pub fn changed(&self, now: Timestamp) -> Option<Timestamp> {
        self.processed?;
        // Version 0.1 did not store it.
        self.changed
            .get()
            .or_else(|| now.checked_sub(self.unchanged.get()).ok())
    }

    /// Marks the current count as stalled.
    pub fn mark_stall(&mut self) {
        self.stalled_at = (self.processed.unwrap_or(0), self.restarts);
        self.doubts.stalled_without_count = self.processed.is_none();
    }

    /// Identifies the last stall; part of the event ID.
    #[must_use]
    pub fn stall_occurrence(&self) -> String {
        if self.doubts.stalled_without_count {
            return "no count".to_owned();
        }
        let (count, restarts) = self.stalled_at;
        format!("restart {restarts} count {count}")
    }

    /// Whether to report progress now. Returns what identifies the report: the percentage step, or the count when the
    /// estimate is unusable and `progress_interval` has passed.
    pub fn report(&mut self, settings: &WatchSettings) -> Option<String> {
        let count = self.processed?;
        let percent = self.percent();
        let step = percent.and_then(|percent| self.steps.cross(percent, settings.progress_step));
        let occurrence = if let Some(step) = step {
            match self.steps.lowered() {
                0 => format!("restart {} percent {step}", self.restarts),
                lowered => format!("restart {} lowered {lowered} percent {step}", self.restarts),
            }
        } else {
            let is_usable = percent.is_some() && !self.is_exceeded();
            if is_usable
                || count <= self.reported_count
                || self.reported_ago.get() < settings.progress_interval
            {
                return None;
            }
            format!("restart {} count {count}", self.restarts)
        };
        self.reported_ago = CompactDuration::ZERO;
        self.reported_count = count;
        Some(occurrence)
    }

    /// The forecast for the schedule.
    #[must_use]
    pub fn forecast(&self, age: Duration, statistics: HistoryStatistics) -> EndForecast {
        let total = self.records().map(|(_, total)| total);
        self.trend
            .forecast(self.processed.unwrap_or(0), total, age, statistics)
    }

    /// The last count of records.
    #[must_use]
    pub fn records_processed(&self) -> Option<u64> {
        self.processed
    }

    /// Processed and estimated records, if both are known.
    #[must_use]
    pub fn records(&self) -> Option<(u64, u64)> {
        self.processed.zip(self.total())
    }

    /// The data for events and pages, as of the poll at `now`.
    #[must_use]
    pub fn data(&self, now: Timestamp, phase: Phase) -> Option<ProgressData> {
        let records_processed = self.processed?;
        Some(ProgressData {
            records_processed,
            records_estimated_total: self.total(),
            percent: if phase == Phase::Succeeded {
                self.total.map(|_| 100.0)
            } else {
                self.percent().map(Percent::get)
            },
            records_per_second: self.rate().map(|rate| (rate * 10.0).round() / 10.0),
            estimated_end_time: if phase.is_finished() {
                None
            } else {
                self.remaining().and_then(|remaining| {
                    let ago = self.measured_ago.unwrap_or_default().get();
                    let end = now.checked_add(remaining).ok()?.checked_sub(ago).ok()?;
                    Timestamp::from_second(end.as_second()).ok()
                })
            },
            estimate_exceeded: self.is_exceeded(),
        })
    }

    fn percent(&self) -> Option<Percent> {
        Some(Percent::of(self.processed?, self.total?))
    }

    fn is_exceeded(&self) -> bool {
        self.records().is_some_and(|(count, total)| count > total)
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
        (seconds <= MAX_REMAINING_SECONDS).then(|| Duration::from_secs_f64(seconds))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
