//! The percentage steps that were reported.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::is_default;

/// The highest percentage before success, in tenths: reaching the estimate is not success.
const MAX_TENTHS: u16 = 999;

/// Tolerance for comparing a percentage with a step.
const TOLERANCE: f64 = 1e-9;

/// A percentage with one decimal, in tenths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Percent(u16);

impl Percent {
    /// `count` as a percentage of `total`, at most 99.9.
    pub(super) fn of(count: u64, total: NonZeroU64) -> Self {
        let tenths = (count as f64 / total.get() as f64 * 1000.0).round();
        Self(tenths.min(f64::from(MAX_TENTHS)) as u16)
    }

    pub(super) fn get(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    fn steps(self, step: f64) -> u32 {
        (self.get() / step + TOLERANCE).floor() as u32
    }
}

/// `count` as a percentage of `total` with one decimal, before success: at most 99.9.
#[must_use]
pub fn unfinished_percent(count: u64, total: NonZeroU64) -> f64 {
    Percent::of(count, total).get()
}

/// Remembers percentages instead of steps, so that a changed `progress_step` applies at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Steps {
    /// The last reported percentage, or its value after a changed estimate.
    reported: Percent,
    /// The highest percentage since the last restart or lowering.
    highest: Percent,
    /// The percentage at the last answer, if a changed estimate lowered it by a step or more.
    #[serde(skip_serializing_if = "is_default")]
    lower: Option<Percent>,
    /// How often a changed estimate lowered the percentage by a step or more.
    #[serde(skip_serializing_if = "is_default")]
    lowered: u32,
}

impl Steps {
    /// Converts the state of version 0.1: `steps` steps of size `step` were reported, at percentage `now`.
    pub(super) fn adopt(&mut self, steps: u32, now: Percent, step: f64) {
        // More steps than the percentage contains: the estimate has changed since.
        let was_lowered = steps > now.steps(step);
        *self = Self {
            reported: now,
            highest: now,
            lower: None,
            lowered: u32::from(was_lowered),
        };
    }

    /// Detects a changed estimate. `before` is the previous count as a percentage of the current estimate.
    ///
    /// Replicas may disagree, so only the second such answer in a row lowers the percentage.
    pub(super) fn check_estimate(&mut self, before: Percent, step: f64) {
        if before.get() + step > self.highest.get() + TOLERANCE {
            self.lower = None;
        } else if let Some(lower) = self.lower.take() {
            self.lowered = self.lowered.saturating_add(1);
            (self.reported, self.highest) = (lower, lower);
        } else {
            self.lower = Some(before);
        }
    }

    /// The highest step above the last reported percentage and not above `now`, which is reported from now on.
    pub(super) fn cross(&mut self, now: Percent, step: f64) -> Option<f64> {
        self.highest = self.highest.max(now);
        let reached = f64::from(now.steps(step)) * step;
        if reached <= self.reported.get() + TOLERANCE {
            return None;
        }
        self.reported = now;
        Some(reached)
    }

    /// How often a changed estimate lowered the percentage.
    pub(super) fn lowered(&self) -> u32 {
        self.lowered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(tenths: u16) -> Percent {
        Percent(tenths)
    }

    #[test]
    fn a_step_is_crossed_once_whatever_the_step_was_before() {
        let mut steps = Steps::default();
        assert_eq!(steps.cross(percent(505), 10.0), Some(50.0));
        assert_eq!(steps.cross(percent(505), 1.0), None);
        assert_eq!(steps.cross(percent(512), 1.0), Some(51.0));
        assert_eq!(steps.cross(percent(740), 25.0), None);
        assert_eq!(steps.cross(percent(760), 25.0), Some(75.0));
        assert_eq!(steps.cross(percent(799), 10.0), None);
        assert_eq!(steps.cross(percent(999), 10.0), Some(90.0));
    }

    #[test]
    fn the_smallest_step_misses_no_tenth() {
        let mut steps = Steps::default();
        for tenths in 1..=999 {
            let crossed = steps.cross(percent(tenths), 0.1).unwrap();
            assert!((crossed - f64::from(tenths) / 10.0).abs() < 1e-9, "{tenths}");
        }
    }

    #[test]
    fn an_estimate_lowers_the_percentage_with_the_second_answer() {
        let mut steps = Steps::default();
        let _ = steps.cross(percent(900), 10.0);
        steps.check_estimate(percent(90), 10.0);
        assert_eq!((steps.lowered(), steps.cross(percent(150), 10.0)), (0, None));
        // The old estimate returned in between: another replica.
        steps.check_estimate(percent(900), 10.0);
        steps.check_estimate(percent(90), 10.0);
        assert_eq!(steps.lowered(), 0);
        steps.check_estimate(percent(150), 10.0);
        assert_eq!(
            (steps.lowered(), steps.cross(percent(170), 10.0)),
            (1, Some(10.0))
        );
    }

    #[test]
    fn a_percentage_that_falls_by_less_than_a_step_continues_above_the_last_report() {
        let mut steps = Steps::default();
        let _ = steps.cross(percent(250), 10.0);
        for _ in 0..3 {
            steps.check_estimate(percent(180), 10.0);
        }
        assert_eq!((steps.lowered(), steps.cross(percent(240), 10.0)), (0, None));
        assert_eq!(steps.cross(percent(300), 10.0), Some(30.0));
    }
}
