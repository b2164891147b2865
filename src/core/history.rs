//! The history of finished operations of one kind: how long they took, and how wrong their estimates were.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::duration_distribution::{DurationDistribution, MAX_SAMPLES};
use super::t_distribution::TDistribution;

/// The prior of estimation errors, as a fraction of the estimate.
const ERROR_PRIOR: TDistribution = TDistribution {
    centre: 0.0,
    width: 0.03,
};
const MIN_ERRORS: usize = 3;
/// A fit is repeated once more than one in so many samples is new: it costs far more than a poll.
const REFIT_AFTER: usize = 8;

/// The data of a succeeded operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistorySample {
    /// How long it ran.
    pub duration: Duration,
    /// Processed and estimated records, if both are known.
    pub records: Option<(u64, u64)>,
}

/// Statistics of finished operations.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryStatistics {
    /// The distribution of the kind's durations, if there are samples.
    pub durations: Option<Arc<DurationDistribution>>,
    /// The distribution of the durations of all kinds of the project, if there are enough samples.
    pub project_durations: Option<Arc<DurationDistribution>>,
    /// The distribution of estimation errors: records beyond the estimate, as a fraction of the estimate.
    pub errors: TDistribution,
}

impl HistoryStatistics {
    /// Statistics without samples.
    pub const NONE: Self = Self {
        durations: None,
        project_durations: None,
        errors: ERROR_PRIOR,
    };
}

impl Default for HistoryStatistics {
    fn default() -> Self {
        Self::NONE
    }
}

/// The most recent samples, and their statistics.
#[derive(Debug, Default)]
pub struct History {
    durations: VecDeque<f32>,
    errors: VecDeque<f32>,
    statistics: HistoryStatistics,
    /// Samples since the statistics were computed.
    added: usize,
}

impl History {
    /// Adds a sample.
    pub fn add_sample(&mut self, sample: HistorySample) {
        if !sample.duration.is_zero() {
            push_sample(&mut self.durations, sample.duration.as_secs_f32().ln());
        }
        if let Some((processed, estimated)) = sample.records {
            push_sample(&mut self.errors, processed as f32 / estimated.max(1) as f32 - 1.0);
        }
        self.added += 1;
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.durations.is_empty() && self.errors.is_empty()
    }

    /// The number of durations.
    #[must_use]
    pub fn duration_count(&self) -> usize {
        self.durations.len()
    }

    /// The statistics of the samples, computed on demand: a start adds many samples at once. Durations unlike these are
    /// expected as in `project`.
    #[must_use]
    pub fn statistics(&mut self, project: Option<&Arc<DurationDistribution>>) -> &HistoryStatistics {
        let samples = self.durations.len().max(self.errors.len());
        if self.added > samples / REFIT_AFTER {
            self.added = 0;
            self.statistics = HistoryStatistics {
                durations: DurationDistribution::fitted(self.durations.make_contiguous(), project)
                    .map(Arc::new),
                project_durations: None,
                errors: fitted(&mut self.errors, ERROR_PRIOR.width).unwrap_or(ERROR_PRIOR),
            };
        }
        &self.statistics
    }
}

fn push_sample(samples: &mut VecDeque<f32>, sample: f32) {
    if samples.len() == MAX_SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn fitted(samples: &mut VecDeque<f32>, guess: f64) -> Option<TDistribution> {
    let samples = samples.make_contiguous();
    TDistribution::fitted(samples, guess).filter(|_| samples.len() >= MIN_ERRORS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, records: Option<(u64, u64)>) -> HistorySample {
        HistorySample {
            duration: Duration::from_secs(seconds),
            records,
        }
    }

    #[test]
    fn durations_are_known_from_the_first_and_better_with_more() {
        let mut history = History::default();
        assert_eq!(history.statistics(None), &HistoryStatistics::NONE);
        let outlasts = |history: &mut History, seconds: f64| {
            let durations = history.statistics(None).durations.as_ref().unwrap();
            durations.beyond(seconds.ln())
        };
        history.add_sample(sample(600, None));
        let first = outlasts(&mut history, 500.0);
        for seconds in [620, 580] {
            history.add_sample(sample(seconds, None));
        }
        assert!(outlasts(&mut history, 500.0) > first);
        assert!(outlasts(&mut history, 300.0) > 0.7 && outlasts(&mut history, 1_200.0) < 0.3);
        assert_eq!(history.statistics(None).errors, ERROR_PRIOR);
        // Later samples replace earlier ones.
        for _ in 0..MAX_SAMPLES {
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
        let errors = history.statistics(None).errors;
        assert!(
            (errors.centre - 0.3).abs() < 1e-6 && errors.width < 0.02,
            "{errors:?}"
        );
        history.add_sample(sample(0, Some((u64::MAX, 0))));
        history.add_sample(sample(0, Some((0, u64::MAX))));
        let statistics = history.statistics(None);
        assert_eq!(statistics.errors.centre, errors.centre);
        assert_eq!(statistics.durations, None);
    }
}
