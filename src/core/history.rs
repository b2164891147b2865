//! What operations of one kind that have ended teach of those that run: how long they take, and how wrong their estimates
//! are.

use std::collections::VecDeque;
use std::time::Duration;

use super::duration_distribution::{DurationDistribution, MEMORY};
use super::t_distribution::TDistribution;

/// Where between nothing and the whole the error of an estimate lies before any was seen, as a part of the estimate.
const ERRORS: TDistribution = TDistribution {
    centre: 0.0,
    width: 0.03,
};
/// So many estimates must have been seen before their errors are expected again.
const ENOUGH: usize = 3;

/// What an operation that has succeeded teaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistorySample {
    /// How long it ran.
    pub lasted: Duration,
    /// How many records it processed, and how many were estimated, where both are known.
    pub records: Option<(u64, u64)>,
}

/// What was learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistoryStatistics {
    /// The logarithm of the seconds that operations last, once there are enough to tell.
    pub durations: Option<DurationDistribution>,
    /// By how much more than was estimated is processed, as a part of the estimate.
    pub errors: TDistribution,
}

impl HistoryStatistics {
    /// Nothing yet.
    pub const NONE: Self = Self {
        durations: None,
        errors: ERRORS,
    };
}

impl Default for HistoryStatistics {
    fn default() -> Self {
        Self::NONE
    }
}

/// What the operations that ended last were like, and what follows from it.
#[derive(Debug, Default)]
pub struct History {
    durations: VecDeque<f32>,
    errors: VecDeque<f32>,
    /// What follows from both; `None` until somebody asks.
    statistics: Option<HistoryStatistics>,
}

impl History {
    /// Takes in one more.
    pub fn add_sample(&mut self, sample: HistorySample) {
        if !sample.lasted.is_zero() {
            remember(&mut self.durations, sample.lasted.as_secs_f32().ln());
        }
        if let Some((processed, estimated)) = sample.records {
            remember(&mut self.errors, processed as f32 / estimated.max(1) as f32 - 1.0);
        }
        // A start learns from many at once, most of which others soon replace.
        self.statistics = None;
    }

    /// What follows from all.
    #[must_use]
    pub fn statistics(&mut self) -> HistoryStatistics {
        *self.statistics.get_or_insert_with(|| HistoryStatistics {
            durations: DurationDistribution::learned(self.durations.iter().copied()),
            errors: fitted(&mut self.errors, ERRORS.width).unwrap_or(ERRORS),
        })
    }
}

fn remember(samples: &mut VecDeque<f32>, sample: f32) {
    if samples.len() == MEMORY {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn fitted(samples: &mut VecDeque<f32>, guess: f64) -> Option<TDistribution> {
    let samples = samples.make_contiguous();
    TDistribution::fitted(samples, guess).filter(|_| samples.len() >= ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, records: Option<(u64, u64)>) -> HistorySample {
        HistorySample {
            lasted: Duration::from_secs(seconds),
            records,
        }
    }

    #[test]
    fn durations_are_told_once_there_are_enough() {
        let mut history = History::default();
        for seconds in [600, 620] {
            history.add_sample(sample(seconds, None));
            assert_eq!(history.statistics(), HistoryStatistics::NONE);
        }
        history.add_sample(sample(580, None));
        let outlasts = |history: &mut History, seconds: f64| {
            let durations = history.statistics().durations.unwrap();
            durations.beyond(seconds.ln())
        };
        assert!(outlasts(&mut history, 300.0) > 0.7 && outlasts(&mut history, 1_200.0) < 0.3);
        assert_eq!(history.statistics().errors, ERRORS);
        // What comes later counts alone, in the end.
        for _ in 0..MEMORY {
            history.add_sample(sample(60, None));
        }
        assert!(outlasts(&mut history, 300.0) < 0.1);
    }

    #[test]
    fn an_estimate_that_is_always_as_wrong_becomes_a_good_one() {
        let mut history = History::default();
        for _ in 0..10 {
            history.add_sample(sample(0, Some((1_300, 1_000))));
        }
        let errors = history.statistics().errors;
        assert!(
            (errors.centre - 0.3).abs() < 1e-6 && errors.width < 0.02,
            "{errors:?}"
        );
        history.add_sample(sample(0, Some((u64::MAX, 0))));
        history.add_sample(sample(0, Some((0, u64::MAX))));
        let statistics = history.statistics();
        assert_eq!(statistics.errors.centre, errors.centre);
        assert_eq!(statistics.durations, None);
    }
}
