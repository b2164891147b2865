//! When to poll next: exponential backoff, adapted to the observed progress and spread over time.

use std::time::Duration;

use backoff::SystemClock;
use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::compact_duration::CompactDuration;
use super::end_forecast::EndForecast;
use super::poll_budget::{PlainBackoff, PollBudget, SavedPolls};

/// Minimum interval for any settings: the resolution of timers.
const FLOOR: Duration = Duration::from_millis(1);
/// Maximum interval for any settings.
const CEILING: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Polls of a running operation on plain backoff before progress is used: a rate needs two counts.
const WARM_UP: u8 = 1;
/// A count predicts this many times the operation's age ahead. More would not poll short operations for a minute, since
/// most start slowly; less would waste polls of long ones.
const PREDICTED_AGES: f64 = 4.0;
/// The cost of a poll, as a fraction of the longest interval. A sleep ends when the expected delay costs as much.
const POLL_COST: f64 = 0.0148;
/// With this many polls in the budget and among the saved polls, a poll has its normal cost. With fewer, it costs more,
/// by this power of the ratio, so that the remaining polls are used where they help most.
const AMPLE_POLLS: f64 = 40.0;
const SCARCITY_POWER: f64 = 0.7;
/// Limits of the factor on the cost.
const SCARCITY_LIMITS: (f64, f64) = (0.4, 2.5);
/// Steps of the longest interval in which the expected delay is integrated.
const STEPS: u32 = 24;

/// An operation beyond this fraction of its estimate when first seen, without a rise, cannot be predicted: plain
/// backoff applies.
const MAX_FIRST_FRACTION: f64 = 0.5;

/// The settings of the schedule (`[poll]`). The schedule is safe with any values.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSettings {
    /// The first interval of the backoff.
    pub initial_interval: Duration,
    /// Minimum time between two polls of one watch.
    pub min_interval: Duration,
    /// Maximum time between two polls of one watch.
    pub max_interval: Duration,
    /// The growth of the interval from poll to poll.
    pub multiplier: f64,
    /// The fraction of the interval that randomness may add or subtract, 0 to 1.
    pub randomization: f64,
    /// Whether the observed progress is used.
    pub adaptive: bool,
}

impl ScheduleSettings {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        initial_interval: Duration::from_secs(2),
        min_interval: Duration::from_secs(2),
        max_interval: Duration::from_mins(1),
        multiplier: 1.5,
        randomization: 0.2,
        adaptive: true,
    };

    /// The longest interval, within the limits for any settings.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.max_interval.clamp(FLOOR, CEILING)
    }

    /// The shortest interval, within the limits for any settings.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        self.min_interval.clamp(FLOOR, self.longest())
    }

    fn first(&self) -> Duration {
        self.initial_interval.clamp(self.shortest(), self.longest())
    }

    /// The backoff interval after `interval`.
    fn grow(&self, interval: Duration) -> Duration {
        let mut backoff = ExponentialBackoff::<SystemClock> {
            current_interval: interval,
            initial_interval: self.first(),
            randomization_factor: 0.0,
            multiplier: if self.multiplier.is_finite() {
                self.multiplier.clamp(1.0, 1e6)
            } else {
                1.0
            },
            max_interval: self.longest(),
            max_elapsed_time: None,
            ..Default::default()
        };
        // `Default` resets the current interval; `next_backoff` advances it by one step.
        backoff.current_interval = interval;
        let _ = backoff.next_backoff();
        backoff.current_interval.clamp(self.shortest(), self.longest())
    }

    /// `interval` randomised by `random_fraction`, a number from 0 to 1, and clamped.
    #[must_use]
    pub fn randomize(&self, interval: Duration, random_fraction: f64) -> Duration {
        let part = self.part();
        let random_fraction = if random_fraction.is_finite() {
            random_fraction.clamp(0.0, 1.0)
        } else {
            0.5
        };
        let factor = 1.0 + part * (2.0 * random_fraction - 1.0);
        let seconds = (interval.min(CEILING).as_secs_f64() * factor).min(CEILING.as_secs_f64());
        Duration::from_secs_f64(seconds).clamp(self.shortest(), self.longest())
    }

    /// The fraction that randomness may add or subtract.
    fn part(&self) -> f64 {
        if self.randomization.is_finite() {
            self.randomization.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The mean of the randomised `interval`, in seconds.
    fn mean(&self, interval: Duration) -> f64 {
        let [low, high] =
            [0.0, 1.0].map(|random_fraction| self.randomize(interval, random_fraction).as_secs_f64());
        let part = self.part();
        let middle = interval.as_secs_f64();
        let (least, most) = (middle * (1.0 - part), middle * (1.0 + part));
        if most <= least {
            return low;
        }
        // Values outside of the bounds are moved to the bounds.
        let between = (high * high - low * low) / 2.0 + low * (low - least) + high * (most - high);
        (between / (most - least)).clamp(low, high)
    }

    /// The interval of plain backoff after `attempts` attempts, at least one.
    #[must_use]
    pub fn after_attempts(&self, attempts: u32) -> Duration {
        let mut interval = self.first();
        for _ in 1..attempts {
            let next = self.grow(interval);
            if next == interval {
                break;
            }
            interval = next;
        }
        interval
    }
}

/// The schedule of one watch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The next interval of plain backoff; `None` before the first.
    interval: Option<CompactDuration>,
    /// Failed polls in a row. They have their own backoff, so that one lost answer causes no long sleep.
    failures: u32,
    /// Polls that showed the operation running; saturates.
    seen: u8,
    /// Polls compared with plain backoff.
    #[serde(default)]
    budget: PollBudget,
}

/// Plain backoff with mean intervals, for comparison.
#[derive(Debug, Clone)]
struct PlainSchedule<'a> {
    settings: &'a ScheduleSettings,
    interval: Duration,
}

impl PlainBackoff for PlainSchedule<'_> {
    fn sleep(&self) -> f64 {
        self.settings.mean(self.interval)
    }

    fn step(&mut self) -> bool {
        let next = self.settings.grow(self.interval);
        std::mem::replace(&mut self.interval, next) == next
    }
}

impl Schedule {
    /// The time to sleep after a poll that showed the operation running or unknown. Uses `saved_polls` when the budget
    /// does not suffice.
    #[must_use]
    pub fn after_answer(
        &mut self,
        settings: &ScheduleSettings,
        forecast: EndForecast,
        random_fraction: f64,
        saved_polls: &mut SavedPolls,
    ) -> Duration {
        self.failures = 0;
        self.seen = self.seen.saturating_add(1);
        self.count_sleep(settings);
        let adaptive_interval = settings
            .adaptive
            .then(|| self.adaptive_interval(settings, &forecast, saved_polls))
            .flatten()
            // Durations of earlier operations can rule out an early end without a second count.
            .filter(|interval| {
                self.seen > WARM_UP || (forecast.has_durations() && *interval == settings.longest())
            });
        let Some(interval) = adaptive_interval else {
            self.budget.count_plain_sleep();
            return settings.randomize(self.plain(settings), random_fraction);
        };
        // Randomness could only shorten the longest interval, and the watches are already spread.
        let wait = if interval == settings.longest() {
            interval
        } else {
            settings.randomize(interval, random_fraction)
        };
        self.affordable(settings, wait, saved_polls)
    }

    /// The adaptive interval: long while the end is far, short where it is likely, longer again after it. `None` for
    /// plain backoff.
    fn adaptive_interval(
        &self,
        settings: &ScheduleSettings,
        forecast: &EndForecast,
        saved_polls: &SavedPolls,
    ) -> Option<Duration> {
        let plain = self.plain_schedule(settings);
        let wait = || {
            let scarcity = scarcity(f64::from(self.budget.unused() + saved_polls.polls()));
            let wait = worthwhile_sleep(settings, forecast, scarcity);
            if scarcity > 1.0 && wait < settings.longest() {
                // The polls of plain backoff are in the budget already: one is left out only if not worth its cost.
                let paid = Duration::from_secs_f64(self.budget.until_plain(&plain));
                return wait.min(paid.max(worthwhile_sleep(settings, forecast, 1.0)));
            }
            wait
        };
        match forecast.count {
            _ if forecast.durations.is_some() => Some(wait()),
            Some(count) if forecast.has_not_risen() && count.part >= MAX_FIRST_FRACTION => None,
            None if !forecast.has_durations() => forecast.fades_in.map(|_| wait().min(plain.interval)),
            _ => Some(wait().min(prediction_horizon(settings, forecast).max(plain.interval))),
        }
    }

    /// Counts time since the last poll.
    pub fn add_time(&mut self, elapsed: Duration) {
        self.budget.add_time(elapsed);
    }

    /// Counts the sleep in which the operation ended.
    pub fn end(&mut self, settings: &ScheduleSettings) {
        self.budget.count_last_sleep(&mut self.plain_schedule(settings));
    }

    /// Polls that plain backoff would have made beyond those made.
    #[must_use]
    pub fn unused(&self) -> f32 {
        self.budget.unused()
    }

    /// `chosen`, or the time until plain backoff polls if no polls are left.
    fn affordable(
        &mut self,
        settings: &ScheduleSettings,
        chosen: Duration,
        saved_polls: &mut SavedPolls,
    ) -> Duration {
        let plain = self.plain_schedule(settings);
        let shortage = self.budget.shortage(chosen.as_secs_f64(), &plain);
        let (wait, saved) = if shortage <= 0.0 || saved_polls.take(shortage) {
            (chosen, shortage)
        } else {
            let wait = Duration::from_secs_f64(self.budget.until_plain(&plain))
                .clamp(settings.shortest(), settings.longest());
            (wait.max(chosen), 0.0)
        };
        self.budget.start_sleep(wait.as_secs_f64(), saved);
        wait
    }

    fn plain_schedule<'a>(&self, settings: &'a ScheduleSettings) -> PlainSchedule<'a> {
        let interval = self
            .interval
            .map_or_else(|| settings.first(), CompactDuration::get);
        PlainSchedule {
            settings,
            interval: interval.clamp(settings.shortest(), settings.longest()),
        }
    }

    fn count_sleep(&mut self, settings: &ScheduleSettings) {
        let mut plain = self.plain_schedule(settings);
        self.budget.count_sleep(&mut plain);
        self.interval = Some(plain.interval.into());
    }

    /// The time to sleep after a failed poll, on a backoff of its own.
    #[must_use]
    pub fn after_failure(&mut self, settings: &ScheduleSettings, random_fraction: f64) -> Duration {
        self.count_sleep(settings);
        self.failures = self.failures.saturating_add(1);
        settings.randomize(settings.after_attempts(self.failures), random_fraction)
    }

    fn plain(&mut self, settings: &ScheduleSettings) -> Duration {
        let interval = self
            .interval
            .map_or_else(|| settings.first(), CompactDuration::get)
            .clamp(settings.shortest(), settings.longest());
        self.interval = Some(settings.grow(interval).into());
        interval
    }
}

/// How far ahead the count of an operation of this age predicts.
fn prediction_horizon(settings: &ScheduleSettings, forecast: &EndForecast) -> Duration {
    let longest = settings.longest().as_secs_f64();
    Duration::from_secs_f64((PREDICTED_AGES * forecast.age.max(0.0)).min(longest))
}

/// The factor on [`POLL_COST`] with this many polls left.
fn scarcity(left: f64) -> f64 {
    let (least, most) = SCARCITY_LIMITS;
    (AMPLE_POLLS / (left.max(0.0) + 1.0))
        .powf(SCARCITY_POWER)
        .clamp(least, most)
}

/// The time until the expected delay is worth a poll.
fn worthwhile_sleep(settings: &ScheduleSettings, forecast: &EndForecast, scarcity: f64) -> Duration {
    let longest = settings.longest().as_secs_f64();
    let (cost, step) = (POLL_COST * scarcity * longest, longest / f64::from(STEPS));
    if longest * forecast.ends_within(longest) < cost {
        return settings.longest();
    }
    let (mut delay, mut ended) = (0.0, 0.0);
    for passed in 0..STEPS {
        let ends = forecast.ends_within(step * f64::from(passed + 1));
        let more = step * (ended + ends) / 2.0;
        if delay + more >= cost {
            // Within a step the delay grows with the square of the time.
            let seconds = step * (f64::from(passed) + ((cost - delay) / more).sqrt());
            return Duration::from_secs_f64(seconds).clamp(settings.shortest(), settings.longest());
        }
        (delay, ended) = (delay + more, ends);
    }
    settings.longest()
}

/// The offset of the first poll of an operation in `window`, from a stable hash of its ID.
#[must_use]
pub fn spread(operation: &str, window: Duration) -> Duration {
    let hash = Sha256::digest(operation.as_bytes());
    let mut high = [0; 4];
    high.copy_from_slice(&hash[..4]);
    window
        .min(CEILING)
        .mul_f64(f64::from(u32::from_be_bytes(high)) / 2f64.powi(32))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::duration_distribution::DurationDistribution;
    use super::super::end_forecast::CountForecast;
    use super::super::history::HistoryStatistics;
    use super::super::t_distribution::TDistribution;
    use super::*;

    fn settings() -> ScheduleSettings {
        ScheduleSettings {
            adaptive: false,
            ..ScheduleSettings::DEFAULT
        }
    }

    fn ample_polls() -> SavedPolls {
        let mut saved_polls = SavedPolls::default();
        saved_polls.add(AMPLE_POLLS as f32);
        saved_polls
    }

    #[test]
    fn plain_backoff_grows_from_the_initial_to_the_maximal_interval() {
        let mut schedule = Schedule::default();
        let waits: Vec<f64> = (0..11)
            .map(|_| {
                schedule
                    .after_answer(&settings(), EndForecast::UNKNOWN, 0.5, &mut SavedPolls::default())
                    .as_secs_f64()
            })
            .collect();
        assert_eq!(waits[..4], [2.0, 3.0, 4.5, 6.75]);
        assert_eq!(waits[9..], [60.0, 60.0]);
    }

    #[test]
    fn a_failure_is_retried_soon_and_the_schedule_continues() {
        let mut schedule = Schedule::default();
        for _ in 0..20 {
            let _ = schedule.after_answer(&settings(), EndForecast::UNKNOWN, 0.5, &mut SavedPolls::default());
        }
        assert_eq!(schedule.after_failure(&settings(), 0.5), Duration::from_secs(2));
        assert_eq!(schedule.after_failure(&settings(), 0.5), Duration::from_secs(3));
        assert_eq!(
            schedule.after_answer(&settings(), EndForecast::UNKNOWN, 0.5, &mut SavedPolls::default()),
            Duration::from_mins(1)
        );
        assert_eq!(schedule.after_failure(&settings(), 0.5), Duration::from_secs(2));
    }

    fn moving(part: f64, speed: f64) -> EndForecast {
        EndForecast {
            count: Some(CountForecast {
                part,
                speed,
                gain: 0.0,
                record: 1e-5,
                errors: HistoryStatistics::NONE.errors,
            }),
            age: 600.0,
            ..EndForecast::UNKNOWN
        }
    }

    fn adaptive() -> (ScheduleSettings, Schedule) {
        let settings = ScheduleSettings {
            adaptive: true,
            ..settings()
        };
        let mut schedule = Schedule::default();
        for _ in 0..WARM_UP {
            let _ = schedule.after_answer(&settings, moving(0.1, 0.001), 0.5, &mut ample_polls());
        }
        (settings, schedule)
    }

    #[test]
    fn adaptive_sleeps_long_while_the_end_is_far_and_shortly_where_it_is_likely() {
        let (settings, mut schedule) = adaptive();
        let mut wait = |part, speed| {
            schedule
                .after_answer(&settings, moving(part, speed), 0.5, &mut ample_polls())
                .as_secs_f64()
        };
        assert_eq!(wait(0.2, 0.001), 60.0);
        assert!((2.0..20.0).contains(&wait(0.97, 0.001)));
        assert!(wait(0.97, 0.001) > wait(0.97, 0.01), "the faster, the closer");
        assert!(wait(0.97, 1.0) < 3.0);
    }

    #[test]
    fn the_first_counts_of_an_operation_predict_a_few_times_its_age() {
        let (settings, schedule) = adaptive();
        let wait = |age: f64| {
            let forecast = EndForecast {
                age,
                ..moving(0.01, 0.001)
            };
            schedule
                .clone()
                .after_answer(&settings, forecast, 0.5, &mut ample_polls())
        };
        assert!(wait(2.0) <= Duration::from_secs(10), "{:?}", wait(2.0));
        assert!(wait(8.0) <= Duration::from_secs(39) && wait(8.0) > wait(2.0));
        assert_eq!(wait(f64::MAX), settings.longest());
    }

    #[test]
    fn adaptive_backs_off_again_when_the_estimate_proves_wrong() {
        let (settings, mut schedule) = adaptive();
        let waits: Vec<Duration> = [1.03, 1.2, 2.0, 10.0]
            .map(|part| schedule.after_answer(&settings, moving(part, 0.001), 0.5, &mut ample_polls()))
            .into();
        assert!(waits[0] < Duration::from_secs(15));
        assert!(waits.is_sorted(), "{waits:?}");
        assert!(waits[3] > Duration::from_secs(55), "{waits:?}");
    }

    #[test]
    fn a_sleep_of_the_longest_interval_is_left_to_chance_only_where_nothing_is_known() {
        let (settings, mut schedule) = adaptive();
        let far = moving(0.2, 0.0001);
        assert_eq!(
            schedule.after_answer(&settings, far, 0.0, &mut ample_polls()),
            settings.longest()
        );
        while schedule.after_answer(&settings, EndForecast::UNKNOWN, 0.5, &mut SavedPolls::default())
            < settings.longest()
        {}
        let wait = schedule.after_answer(&settings, EndForecast::UNKNOWN, 0.0, &mut SavedPolls::default());
        assert_eq!(wait, Duration::from_secs(48));
    }

    #[test]
    fn an_unchanged_count_near_its_end_follows_plain_backoff_and_one_at_zero_is_polled_rarely() {
        let (settings, mut schedule) = adaptive();
        let mut wait = |part| {
            schedule
                .after_answer(&settings, moving(part, 0.0), 0.5, &mut ample_polls())
                .as_secs_f64()
        };
        assert_eq!(wait(0.9), 3.0);
        assert!(wait(0.0) > 20.0);
    }

    #[test]
    fn a_schedule_takes_few_bytes() {
        assert!(size_of::<Schedule>() <= 32 && size_of::<super::super::trend::Trend>() <= 24);
    }

    #[test]
    fn a_falling_rate_without_an_estimate_is_polled_more_densely_than_by_plain_backoff() {
        let (settings, mut schedule) = adaptive();
        for _ in 0..20 {
            let _ = schedule.after_answer(&settings, EndForecast::UNKNOWN, 0.5, &mut SavedPolls::default());
        }
        let mut wait = |fades_in| {
            let forecast = EndForecast {
                fades_in,
                age: 600.0,
                ..EndForecast::UNKNOWN
            };
            schedule
                .after_answer(&settings, forecast, 0.5, &mut ample_polls())
                .as_secs_f64()
        };
        assert_eq!(wait(None), 60.0);
        assert_eq!(wait(Some(1000.0)), 60.0);
        assert!(wait(Some(30.0)) < 45.0);
    }

    #[test]
    fn a_count_without_an_estimate_is_polled_densely_around_the_usual_end_of_its_kind() {
        let (settings, mut schedule) = adaptive();
        let mut wait = |age| {
            let forecast = EndForecast {
                durations: DurationDistribution::fitted(&[6.38, 6.4, 6.42], None).map(Arc::new),
                age,
                ..EndForecast::UNKNOWN
            };
            schedule
                .after_answer(&settings, forecast, 0.5, &mut ample_polls())
                .as_secs_f64()
        };
        assert_eq!(wait(20.0), 60.0);
        assert!(wait(600.0) < 20.0);
        assert_eq!(wait(20_000.0), 60.0);
    }

    fn usually(seconds: f32) -> Option<Arc<DurationDistribution>> {
        let samples = [0.98, 0.99, 1.0, 1.01, 1.02].map(|factor: f32| (factor * seconds).ln());
        DurationDistribution::fitted(&samples, None).map(Arc::new)
    }

    #[test]
    fn the_second_poll_waits_where_its_kind_never_ends_early() {
        let first_wait = |seconds| {
            let forecast = EndForecast {
                durations: usually(seconds),
                age: 1.0,
                ..EndForecast::UNKNOWN
            };
            let settings = ScheduleSettings {
                adaptive: true,
                ..settings()
            };
            Schedule::default().after_answer(&settings, forecast, 0.5, &mut SavedPolls::default())
        };
        assert_eq!(first_wait(1_000.0), Duration::from_mins(1));
        assert_eq!(first_wait(5.0), Duration::from_secs(2));
    }

    #[test]
    fn durations_of_other_kinds_predict_a_few_times_the_age() {
        let (settings, schedule) = adaptive();
        let wait = |durations: Option<_>, project_durations, age| {
            let forecast = EndForecast {
                durations,
                project_durations,
                age,
                ..EndForecast::UNKNOWN
            };
            schedule
                .clone()
                .after_answer(&settings, forecast, 0.5, &mut ample_polls())
        };
        assert_eq!(wait(usually(1_000.0), None, 5.0), settings.longest());
        assert!(wait(None, usually(1_000.0), 5.0) <= Duration::from_secs(20));
        assert_eq!(wait(None, usually(1_000.0), 100.0), settings.longest());
        assert!(wait(None, usually(1_000.0), 980.0) < Duration::from_secs(20));
    }

    #[test]
    fn the_spread_is_stable_and_fills_the_window() {
        let window = Duration::from_secs(100);
        let places: Vec<f64> = (0..1000)
            .map(|n| spread(&format!("op-{n}"), window).as_secs_f64())
            .collect();
        assert_eq!(spread("op-7", window).as_secs_f64(), places[7]);
        for tenth in 0..10 {
            let low = f64::from(tenth) * 10.0;
            let inside = places
                .iter()
                .filter(|place| (low..low + 10.0).contains(*place))
                .count();
            assert!(
                (60..140).contains(&inside),
                "{inside} of 1,000 in one tenth of the window"
            );
        }
    }

    fn any_schedule() -> impl Strategy<Value = ScheduleSettings> {
        let duration = || any::<(u64, u32)>().prop_map(|(s, n)| Duration::new(s, n % 1_000_000_000));
        (
            duration(),
            duration(),
            duration(),
            any::<f64>(),
            any::<f64>(),
            any::<bool>(),
        )
            .prop_map(
                |(initial_interval, min_interval, max_interval, multiplier, randomization, adaptive)| {
                    ScheduleSettings {
                        initial_interval,
                        min_interval,
                        max_interval,
                        multiplier,
                        randomization,
                        adaptive,
                    }
                },
            )
    }

    fn any_outlook() -> impl Strategy<Value = EndForecast> {
        let student = || any::<(f64, f64)>().prop_map(|(centre, width)| TDistribution { centre, width });
        let motion =
            (any::<(f64, f64, f64, f64)>(), student()).prop_map(|((part, speed, gain, record), errors)| {
                CountForecast {
                    part,
                    speed,
                    gain,
                    record,
                    errors,
                }
            });
        (
            prop::option::of(motion),
            prop::option::of(any::<f64>()),
            prop::collection::vec(any::<f32>(), 0..40),
            any::<bool>(),
            any::<f64>(),
        )
            .prop_map(|(count, fades_in, durations, is_of_kind, age)| {
                let durations = DurationDistribution::fitted(&durations, None).map(Arc::new);
                EndForecast {
                    count,
                    fades_in,
                    project_durations: durations.clone(),
                    durations: durations.filter(|_| is_of_kind),
                    age,
                }
            })
    }

    /// Forecasts with an end that may be near.
    fn likely_outlook() -> impl Strategy<Value = EndForecast> {
        (0.0..2.0, 0.0..0.1, 0.01..1.0, 0.0..1e4).prop_map(|(part, speed, width, age)| EndForecast {
            count: Some(CountForecast {
                part,
                speed,
                gain: 0.0,
                record: 1e-5,
                errors: TDistribution { centre: 0.0, width },
            }),
            age,
            ..EndForecast::UNKNOWN
        })
    }

    proptest! {
        #[test]
        fn the_bounds_apply_to_any_settings_and_any_observations(
            settings in any_schedule(),
            steps in prop::collection::vec((any::<bool>(), any_outlook(), any::<f64>()), 0..60),
        ) {
            let mut schedule = Schedule::default();
            for (answered, forecast, random_fraction) in steps {
                let wait = if answered {
                    schedule.after_answer(&settings, forecast, random_fraction, &mut ample_polls())
                } else {
                    schedule.after_failure(&settings, random_fraction)
                };
                prop_assert!(!wait.is_zero());
                prop_assert!(wait <= settings.max_interval.max(FLOOR));
                prop_assert!(wait >= settings.min_interval.min(settings.max_interval.min(CEILING)));
            }
        }

        #[test]
        fn no_more_polls_than_plain_backoff_and_a_fiftieth(
            settings in any_schedule(),
            watches in prop::collection::vec(
                prop::collection::vec((any::<bool>(), likely_outlook(), any::<f64>()), 0..80),
                1..6,
            ),
        ) {
            let settings = ScheduleSettings { randomization: 0.0, adaptive: true, ..settings };
            let mut saved_polls = SavedPolls::default();
            let (mut polls, mut plain_polls) = (0.0, 0.0);
            for answers in watches {
                let (mut schedule, mut plain) = (Schedule::default(), Schedule::default());
                let (mut now, mut plain_due) = (0.0, 0.0);
                for (is_known, forecast, random_fraction) in answers {
                    polls += 1.0;
                    // The rounding of times must not cost plain backoff a poll.
                    while plain_due <= now * (1.0 + 1e-5) && plain_due <= now + settings.longest().as_secs_f64() {
                        plain_polls += 1.0;
                        let sleep = plain.plain(&settings).as_secs_f64();
                        if sleep * 1e5 < now - plain_due {
                            // Too many to count one by one.
                            plain_polls += ((now - plain_due) / sleep).floor();
                            plain_due += ((now - plain_due) / sleep).floor() * sleep;
                        }
                        plain_due += sleep;
                    }
                    prop_assert!(polls <= 1.02 * plain_polls + 1e-3, "{polls} {plain_polls}");
                    let forecast = if is_known { forecast } else { EndForecast::UNKNOWN };
                    now += schedule.after_answer(&settings, forecast, random_fraction, &mut saved_polls).as_secs_f64();
                }
                saved_polls.add(schedule.unused());
            }
        }
    }
}
