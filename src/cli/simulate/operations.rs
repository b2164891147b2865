//! The operations to simulate.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use super::faults::Probability;
use crate::simulator::{CountCurve, SeededRandom, SimulatedEstimate, SimulatedOperation, SimulatedOutcome};

const OBJECTS: [&str; 4] = ["contact", "account", "opportunity", "lead"];

/// The operations to simulate.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Operations")]
pub(super) struct OperationArgs {
    /// Number of operations in the watch list; by default 12, with customers none
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(super) operations: Option<u32>,

    /// Duration of an operation, such as 90s, or a range such as 30s..2m
    #[arg(long, value_name = "DURATION", default_value = "30s..2m")]
    duration: Durations,

    /// How record counts grow
    #[arg(long, value_enum, default_value = "mixed")]
    course: CurveArg,

    /// Which estimated totals are reported
    #[arg(long, value_enum, default_value = "mixed")]
    estimate: EstimateArg,

    /// Probability that an operation fails
    #[arg(long, value_name = "PROBABILITY", default_value = "0.1")]
    failures: Probability,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum CurveArg {
    /// The same number of records every second
    Linear,
    /// Most records early
    FastFirst,
    /// Most records late
    SlowFirst,
    /// Many records at once, with pauses
    Bursts,
    /// A pause in the middle
    Stall,
    /// From zero again half way, as after a retry
    Restart,
    /// Any of these, at random
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum EstimateArg {
    /// The true total
    Right,
    /// Between half and twice the true total
    Wrong,
    /// No estimate, as with most providers
    Missing,
    /// Any of these, at random
    Mixed,
}

/// A shortest and a longest duration.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Durations {
    from: Duration,
    to: Duration,
}

impl FromStr for Durations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let parse = |text: &str| {
            humantime::parse_duration(text.trim())
                .map_err(|error| format!("{error}; use a duration such as 90s, or a range such as 30s..2m"))
        };
        let (from, to) = (parse(from)?, parse(to)?);
        if from > to {
            return Err("the range ends before it begins; put the shorter duration first".to_owned());
        }
        Ok(Self { from, to })
    }
}

impl OperationArgs {
    /// Random operations. The seed is part of their IDs.
    pub(super) fn generate(&self, count: u32, seed: u64, random: &SeededRandom) -> Vec<SimulatedOperation> {
        (1..=count)
            .map(|number| self.generate_one(format!("sim-{seed}-{number:04}"), random))
            .collect()
    }

    /// A random operation.
    pub(super) fn generate_one(&self, id: String, random: &SeededRandom) -> SimulatedOperation {
        let spread = self.duration.to.saturating_sub(self.duration.from);
        let duration = self.duration.from + spread.mul_f64(random.next_f64());
        // From 500 to 50,000, with an even distribution of magnitudes. The cast saturates.
        let total = (500.0 * 100_f64.powf(random.next_f64())) as u64;
        let object = pick(&OBJECTS, random);
        let curve = self.curve(random);
        let estimate = self.estimate(random);
        let outcome = if random.next_f64() < self.failures.0 {
            SimulatedOutcome::Failure
        } else {
            SimulatedOutcome::Success
        };
        SimulatedOperation {
            objects: vec![object.to_owned()],
            curve,
            estimate,
            outcome,
            ..SimulatedOperation::new(id, duration, total)
        }
    }

    fn curve(&self, random: &SeededRandom) -> CountCurve {
        match self.course {
            CurveArg::Linear => CountCurve::Linear,
            CurveArg::FastFirst => CountCurve::FastFirst,
            CurveArg::SlowFirst => CountCurve::SlowFirst,
            CurveArg::Bursts => CountCurve::Bursts,
            CurveArg::Stall => CountCurve::Stall,
            CurveArg::Restart => CountCurve::Restart,
            CurveArg::Mixed => pick(&CountCurve::ALL, random),
        }
    }

    fn estimate(&self, random: &SeededRandom) -> SimulatedEstimate {
        let wrong = SimulatedEstimate::Wrong(0.5 * 4_f64.powf(random.next_f64()));
        match self.estimate {
            EstimateArg::Right => SimulatedEstimate::Right,
            EstimateArg::Wrong => wrong,
            EstimateArg::Missing => SimulatedEstimate::Missing,
            EstimateArg::Mixed => pick(
                &[SimulatedEstimate::Right, wrong, SimulatedEstimate::Missing],
                random,
            ),
        }
    }
}

/// A random element of `choices`, which is not empty.
fn pick<T: Copy>(choices: &[T], random: &SeededRandom) -> T {
    // The remainder is below the number of choices.
    choices[(random.next_u64() % choices.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> OperationArgs {
        OperationArgs {
            operations: None,
            duration: "10s..20s".parse().unwrap(),
            course: CurveArg::Mixed,
            estimate: EstimateArg::Mixed,
            failures: Probability(0.5),
        }
    }

    #[test]
    fn a_seed_determines_the_operations() {
        let generate = |seed| arguments().generate(200, seed, &SeededRandom::new(seed));
        assert_eq!(generate(1), generate(1));
        assert_ne!(generate(1), generate(2));
        assert_ne!(generate(1)[0].id, generate(2)[0].id);
    }

    #[test]
    fn operations_are_within_the_options() {
        let operations = arguments().generate(200, 1, &SeededRandom::new(1));
        let range = Duration::from_secs(10)..=Duration::from_secs(20);
        assert!(
            operations
                .iter()
                .all(|operation| range.contains(&operation.duration))
        );
        assert!(
            operations
                .iter()
                .all(|operation| (500..=50_000).contains(&operation.total))
        );
        let failures = operations
            .iter()
            .filter(|operation| operation.outcome == SimulatedOutcome::Failure);
        assert!((60..140).contains(&failures.count()));
        for curve in CountCurve::ALL {
            assert!(operations.iter().any(|operation| operation.curve == curve));
        }
        let certain = OperationArgs {
            course: CurveArg::Stall,
            estimate: EstimateArg::Missing,
            failures: Probability(0.0),
            ..arguments()
        };
        assert!(
            certain
                .generate(200, 1, &SeededRandom::new(1))
                .iter()
                .all(|operation| {
                    (operation.curve, operation.estimate, &operation.outcome)
                        == (
                            CountCurve::Stall,
                            SimulatedEstimate::Missing,
                            &SimulatedOutcome::Success,
                        )
                })
        );
    }

    #[test]
    fn durations_are_one_or_a_range() {
        let seconds = |from, to| Durations {
            from: Duration::from_secs(from),
            to: Duration::from_secs(to),
        };
        assert_eq!("90s".parse(), Ok(seconds(90, 90)));
        assert_eq!("30s..2m".parse(), Ok(seconds(30, 120)));
        for wrong in ["2m..30s", "..", "30", "30s..", ""] {
            assert!(wrong.parse::<Durations>().is_err(), "{wrong}");
        }
    }
}
