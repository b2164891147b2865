//! How likely an operation ends how soon, as far as its count and its age tell.

use super::duration_distribution::DurationDistribution;
use super::t_distribution::TDistribution;

/// How soon operations end whatever their count says: of those that ran for a time t, the part (t / (t + s))^c still runs a
/// time s later. This is c once the count moves.
const ENDS_EARLY: f64 = 0.01;
/// And this before it moves: many an operation has nothing to do.
const ENDS_AT_ONCE: f64 = 0.03;
/// An operation is taken to be this old at least, in seconds.
const MIN_AGE: f64 = 0.01;

/// A course whose rate fades to nothing within a time, were the fall to go on straight, ends between these parts
/// of that time: early or late, the course bends.
const FADE: (f64, f64) = (0.5, 5.0);
/// How often a fading course ends at all where it points to.
const FADES_OUT: f64 = 0.25;
/// Before this part of the estimated total a slower course is just slower.
const FADES_FROM: f64 = 0.8;

/// What is known of an operation's end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndForecast {
    /// How the count moves towards the estimated total, where there is one.
    pub motion: Option<CountForecast>,
    /// In how many seconds the rate would fade to nothing, if it does fade.
    pub fades_in: Option<f64>,
    /// The logarithm of the seconds that operations of its kind last, where that is known.
    pub durations: Option<DurationDistribution>,
    /// For how many seconds the operation has run.
    pub age: f64,
}

/// How a count moves, the estimated total being 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountForecast {
    /// How much is processed.
    pub part: f64,
    /// By how much that rises a second; 0 before it has risen.
    pub speed: f64,
    /// By how much the speed rises a second.
    pub gain: f64,
    /// How much one record is.
    pub record: f64,
    /// How far beyond the estimated total operations of its kind go on.
    pub errors: TDistribution,
}

impl EndForecast {
    /// Nothing to go by.
    pub const UNKNOWN: Self = Self {
        motion: None,
        fades_in: None,
        durations: None,
        age: 0.0,
    };

    /// How likely, from 0 to 1, the operation that runs now has ended in so many seconds.
    #[must_use]
    pub fn ends_within(&self, seconds: f64) -> f64 {
        let runs_on = match self.motion {
            Some(_) if self.stands_still() => self.outlives(seconds, ENDS_AT_ONCE) * self.lasts_on(seconds),
            Some(motion) => motion.runs_on(seconds) * self.outlives(seconds, ENDS_EARLY),
            None => self.lasts_on(seconds),
        };
        let near = self.motion.is_none_or(|motion| motion.part >= FADES_FROM);
        let fading = self.fades_in.filter(|_| near).map_or(0.0, |fades_in| {
            let (from, to) = FADE;
            FADES_OUT * ((seconds / fades_in / from).ln() / (to / from).ln()).clamp(0.0, 1.0)
        });
        1.0 - runs_on * (1.0 - fading)
    }

    /// Whether the count has not risen yet.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        self.fades_in.is_none() && self.motion.is_some_and(|motion| motion.speed <= 0.0)
    }

    /// Which part of the operations of its kind that have lasted as long last so many seconds longer.
    fn lasts_on(&self, seconds: f64) -> f64 {
        let beyond = |durations: &DurationDistribution, age: f64| durations.beyond(age.max(MIN_AGE).ln());
        self.durations.as_ref().map_or(1.0, |durations| {
            (beyond(durations, self.age + seconds) / beyond(durations, self.age)).clamp(0.0, 1.0)
        })
    }

    fn outlives(&self, seconds: f64, exponent: f64) -> f64 {
        let age = self.age.max(MIN_AGE);
        (age / (age + seconds)).powf(exponent)
    }
}

impl CountForecast {
    fn runs_on(&self, seconds: f64) -> f64 {
        // A speed that falls does not fall below nothing.
        let moves = if self.gain < 0.0 {
            seconds.min(self.speed / -self.gain)
        } else {
            seconds
        };
        let part = self.part + moves * (self.speed + self.gain * moves / 2.0);
        (self.beyond(part) / self.beyond(self.part)).clamp(0.0, 1.0)
    }

    /// Which part of all operations process more than this part of what was estimated.
    fn beyond(&self, part: f64) -> f64 {
        self.errors.beyond(part - 1.0, self.record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::HistoryStatistics;
    use super::*;

    #[test]
    fn the_longer_the_likelier() {
        let motion = CountForecast {
            part: 0.9,
            speed: 0.002,
            gain: 0.0,
            record: 1e-4,
            errors: HistoryStatistics::NONE.errors,
        };
        let durations = DurationDistribution::learned([6.9, 7.0, 7.1].into_iter()).unwrap();
        for outlook in [
            EndForecast {
                motion: Some(motion),
                fades_in: None,
                durations: None,
                age: 600.0,
            },
            EndForecast {
                motion: Some(CountForecast { speed: 0.0, ..motion }),
                fades_in: None,
                durations: None,
                age: 600.0,
            },
            EndForecast {
                motion: None,
                fades_in: Some(30.0),
                durations: None,
                age: 600.0,
            },
            EndForecast {
                motion: Some(motion),
                fades_in: Some(30.0),
                durations: None,
                age: 0.0,
            },
            EndForecast {
                durations: Some(durations),
                age: 900.0,
                ..EndForecast::UNKNOWN
            },
        ] {
            let chances: Vec<f64> = (1..100).map(|s| outlook.ends_within(f64::from(s))).collect();
            assert!(
                chances.is_sorted() && chances[0] >= 0.0 && chances[98] <= 1.0,
                "{outlook:?}"
            );
            assert!(chances[98] > chances[0]);
        }
        assert_eq!(EndForecast::UNKNOWN.ends_within(1e6), 0.0);
    }
}
