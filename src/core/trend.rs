//! The recent trend of a count: its rate, and whether it accelerates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::end_forecast::{CountForecast, EndForecast};
use super::history::HistoryStatistics;

/// Weight of a poll relative to the next one.
const SMOOTHING: f32 = 0.2;
/// This many falls of the rate in a row are a trend, not a pause between two bursts.
const MIN_FALLS: u8 = 3;
/// Maximum seconds between two polls (ten years), so that sums stay finite.
const LONGEST: f32 = 3.2e8;

/// The trend in few bytes: weighted sums over the polls, and the newest rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trend {
    records: f32,
    seconds: f32,
    /// Seconds weighted by their age; with `seconds`, the mean age of the smoothed rate.
    moment: f32,
    /// Records per second between the newest two polls, and the seconds between them.
    rate: f32,
    span: f32,
    /// How often in a row the rate fell.
    falls: u8,
}

impl Trend {
    /// The count rose by `records` within `elapsed`.
    pub fn rise(&mut self, records: u64, elapsed: Duration) {
        let span = elapsed.as_secs_f32().clamp(1e-3, LONGEST);
        let rate = records as f32 / span;
        if self.seconds > 0.0 {
            let faded = self.falls >= MIN_FALLS;
            let least = 1.0 / span;
            // An unchanged count continues a fall only after several falls; before that it may be a pause.
            if rate + least < self.rate && (rate > 0.0 || faded) {
                self.falls = self.falls.saturating_add(1);
            } else if rate > self.rate + least || (rate == 0.0 && self.rate > 0.0 && !faded) {
                self.falls = 0;
            }
        }
        self.moment = SMOOTHING * (self.moment + self.seconds * span) + span * span / 2.0;
        self.records = SMOOTHING * self.records + records as f32;
        self.seconds = SMOOTHING * self.seconds + span;
        (self.rate, self.span) = (rate, span);
    }

    /// The forecast for `count` processed records of `total`, with the statistics of its kind.
    #[must_use]
    pub fn forecast(
        &self,
        count: u64,
        total: Option<u64>,
        age: Duration,
        statistics: HistoryStatistics,
    ) -> EndForecast {
        let movement = self.movement();
        EndForecast {
            count: total.map(|total| {
                let total = total.max(1) as f64;
                CountForecast {
                    part: count as f64 / total,
                    speed: movement.speed / total,
                    gain: movement.gain / total,
                    record: 1.0 / total,
                    errors: statistics.errors,
                }
            }),
            fades_in: movement.fades_in,
            durations: statistics.durations,
            // An estimate predicts better than operations of other kinds.
            project_durations: statistics.project_durations.filter(|_| total.is_none()),
            age: age.as_secs_f64(),
        }
    }

    fn movement(&self) -> CountMovement {
        if self.records <= 0.0 || self.seconds <= 0.0 {
            return CountMovement::default();
        }
        let (rate, half) = (f64::from(self.rate), f64::from(self.span) / 2.0);
        let smoothed = f64::from(self.records) / f64::from(self.seconds);
        let faded = self.falls >= MIN_FALLS;
        // The smoothed rate is older than the newest one: their difference shows the acceleration.
        let apart = f64::from(self.moment) / f64::from(self.seconds) - half;
        // A difference of less than one record between two polls is noise, unless the rate keeps falling.
        let difference = match rate - smoothed {
            all if faded => all,
            some => some.signum() * (some.abs() - 1.0 / f64::from(self.span)).max(0.0),
        };
        let bend = if apart > 0.0 { difference / apart } else { 0.0 };
        let fades_in = (faded && bend < 0.0).then(|| if rate > 0.0 { rate / -bend } else { apart });
        let (speed, gain) = if rate > 0.0 {
            let gain = if fades_in.is_some() { bend } else { bend.max(0.0) };
            ((rate + bend * half).max(0.0), gain)
        } else {
            (smoothed, 0.0)
        };
        CountMovement {
            speed,
            gain,
            fades_in,
        }
    }
}

/// Records per second, their increase per second, and the seconds until the rate is zero.
#[derive(Default)]
struct CountMovement {
    speed: f64,
    gain: f64,
    fades_in: Option<f64>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::duration_distribution::DurationDistribution;
    use super::*;

    const AGE: Duration = Duration::from_mins(5);

    fn risen(rises: &[u64]) -> Trend {
        let mut trend = Trend::default();
        for records in rises {
            trend.rise(*records, Duration::from_secs(10));
        }
        trend
    }

    #[test]
    fn only_a_rate_that_keeps_falling_fades() {
        assert_eq!(
            risen(&[100; 8])
                .forecast(800, None, AGE, HistoryStatistics::NONE)
                .fades_in,
            None
        );
        assert_eq!(
            risen(&[100, 0, 0, 100, 0, 0])
                .forecast(200, None, AGE, HistoryStatistics::NONE)
                .fades_in,
            None
        );
        let fading = risen(&[100, 80, 60, 40, 20]).forecast(300, None, AGE, HistoryStatistics::NONE);
        assert!(fading.fades_in.is_some_and(|seconds| seconds < 30.0));
    }

    #[test]
    fn operations_of_other_kinds_predict_only_where_no_estimate_does() {
        let statistics = HistoryStatistics {
            project_durations: DurationDistribution::fitted(&[5.0; 9], None).map(Arc::new),
            ..HistoryStatistics::NONE
        };
        let forecast = |total| Trend::default().forecast(1, total, AGE, statistics.clone());
        assert!(forecast(None).project_durations.is_some());
        assert!(forecast(Some(9)).project_durations.is_none());
    }

    #[test]
    fn extreme_counts_and_times_stay_finite_and_survive_being_stored() {
        let mut trend = Trend::default();
        for elapsed in [Duration::ZERO, Duration::MAX, Duration::MAX, Duration::ZERO] {
            trend.rise(u64::MAX, elapsed);
            let stored = serde_json::to_string(&trend).unwrap();
            assert_eq!(serde_json::from_str::<Trend>(&stored).unwrap(), trend);
        }
    }
}
