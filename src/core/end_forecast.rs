//! How likely an operation is to end soon, given its count, its age and the history of its kind.

use std::sync::Arc;

use super::duration_distribution::DurationDistribution;
use super::t_distribution::TDistribution;

/// Operations may end at any count: of those that have run for t, the fraction (t / (t + s))^c still runs s later.
/// This is c once the count has risen.
const END_EXPONENT: f64 = 0.01;
/// The same before the count has risen: many operations have nothing to do.
const START_EXPONENT: f64 = 0.03;
/// Minimum age, in seconds.
const MIN_AGE: f64 = 0.01;

/// A count whose rate falls to zero within a time, extrapolated linearly, ends between these fractions of that time.
const FADE_RANGE: (f64, f64) = (0.5, 5.0);
/// How often a falling rate means the end.
const FADE_WEIGHT: f64 = 0.25;
/// Below this fraction of the estimate a falling rate is only a slower rate.
const FADE_FROM: f64 = 0.8;

/// What is known about an operation's end.
#[derive(Debug, Clone, PartialEq)]
pub struct EndForecast {
    /// The count compared with the estimate, if there is one.
    pub count: Option<CountForecast>,
    /// Seconds until the rate is zero, if it keeps falling.
    pub fades_in: Option<f64>,
    /// Durations of its kind, if known.
    pub durations: Option<Arc<DurationDistribution>>,
    /// Durations of all kinds of its project, if they can predict its end.
    pub project_durations: Option<Arc<DurationDistribution>>,
    /// Seconds since the operation started.
    pub age: f64,
}

/// A count as a fraction of its estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountForecast {
    /// The processed fraction.
    pub part: f64,
    /// Its increase per second; 0 before the first.
    pub speed: f64,
    /// The increase of `speed` per second.
    pub gain: f64,
    /// The fraction of one record.
    pub record: f64,
    /// Estimation errors of its kind.
    pub errors: TDistribution,
}

impl EndForecast {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        count: None,
        fades_in: None,
        durations: None,
        project_durations: None,
        age: 0.0,
    };

    /// The probability that the running operation ends within `seconds`.
    #[must_use]
    pub fn ends_within(&self, seconds: f64) -> f64 {
        let survival = match self.count {
            Some(_) if self.has_not_risen() => {
                self.survival_by_age(seconds, START_EXPONENT) * self.survival_by_history(seconds)
            }
            Some(count) => count.survival(seconds) * self.survival_by_age(seconds, END_EXPONENT),
            None => self.survival_by_history(seconds),
        };
        let near = self.count.is_none_or(|count| count.part >= FADE_FROM);
        let fading = self.fades_in.filter(|_| near).map_or(0.0, |fades_in| {
            let (from, to) = FADE_RANGE;
            FADE_WEIGHT * ((seconds / fades_in / from).ln() / (to / from).ln()).clamp(0.0, 1.0)
        });
        1.0 - survival * (1.0 - fading)
    }

    /// Whether durations of earlier operations are known.
    #[must_use]
    pub fn has_durations(&self) -> bool {
        self.durations.is_some() || self.project_durations.is_some()
    }

    /// Whether the count has not risen yet.
    #[must_use]
    pub fn has_not_risen(&self) -> bool {
        self.fades_in.is_none() && self.count.is_some_and(|count| count.speed <= 0.0)
    }

    /// Of the operations of its kind, or of its project, that lasted this long, the fraction that lasts `seconds` longer.
    fn survival_by_history(&self, seconds: f64) -> f64 {
        let beyond = |durations: &DurationDistribution, age: f64| durations.beyond(age.max(MIN_AGE).ln());
        let durations = self.durations.as_ref().or(self.project_durations.as_ref());
        durations.map_or(1.0, |durations| {
            (beyond(durations, self.age + seconds) / beyond(durations, self.age)).clamp(0.0, 1.0)
        })
    }

    fn survival_by_age(&self, seconds: f64, exponent: f64) -> f64 {
        let age = self.age.max(MIN_AGE);
        (age / (age + seconds)).powf(exponent)
    }
}

impl CountForecast {
    fn survival(&self, seconds: f64) -> f64 {
        // A falling speed does not become negative.
        let moves = if self.gain < 0.0 {
            seconds.min(self.speed / -self.gain)
        } else {
            seconds
        };
        let part = self.part + moves * (self.speed + self.gain * moves / 2.0);
        (self.beyond(part) / self.beyond(self.part)).clamp(0.0, 1.0)
    }

    /// The fraction of operations that process more than `part` of the estimate.
    fn beyond(&self, part: f64) -> f64 {
        self.errors.beyond(part - 1.0, self.record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::HistoryStatistics;
    use super::*;

    #[test]
    fn an_end_is_more_likely_within_a_longer_time() {
        let count = CountForecast {
            part: 0.9,
            speed: 0.002,
            gain: 0.0,
            record: 1e-4,
            errors: HistoryStatistics::NONE.errors,
        };
        let durations = DurationDistribution::fitted(&[6.9, 7.0, 7.1], None).map(Arc::new);
        for forecast in [
            EndForecast {
                count: Some(count),
                age: 600.0,
                ..EndForecast::UNKNOWN
            },
            EndForecast {
                count: Some(CountForecast { speed: 0.0, ..count }),
                age: 600.0,
                ..EndForecast::UNKNOWN
            },
            EndForecast {
                fades_in: Some(30.0),
                age: 600.0,
                ..EndForecast::UNKNOWN
            },
            EndForecast {
                count: Some(count),
                fades_in: Some(30.0),
                ..EndForecast::UNKNOWN
            },
            EndForecast {
                durations: durations.clone(),
                age: 900.0,
                ..EndForecast::UNKNOWN
            },
            EndForecast {
                project_durations: durations,
                age: 900.0,
                ..EndForecast::UNKNOWN
            },
        ] {
            let probabilities: Vec<f64> = (1..100).map(|s| forecast.ends_within(f64::from(s))).collect();
            assert!(
                probabilities.is_sorted() && probabilities[0] >= 0.0 && probabilities[98] <= 1.0,
                "{forecast:?}"
            );
            assert!(probabilities[98] > probabilities[0]);
        }
        assert_eq!(EndForecast::UNKNOWN.ends_within(1e6), 0.0);
    }
}
