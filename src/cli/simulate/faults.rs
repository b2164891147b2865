//! The faults to simulate.

use std::str::FromStr;
use std::time::Duration;

use crate::simulator::{FaultPlan, RetryAfter};

/// Faults. Probabilities are numbers from 0 to 1, together at most 1.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Faults")]
pub(super) struct FaultArgs {
    /// Probability of a 500, 502, 503 or 504
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    server_errors: Probability,

    /// Probability of a connection reset without an answer
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    resets: Probability,

    /// Probability of a body that is cut off half way
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    truncated: Probability,

    /// Probability of no answer
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    hangs: Probability,

    /// Probability of a 200 with a body that is not JSON
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    garbage: Probability,

    /// Probability of a 429
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    throttle: Probability,

    /// Retry-After of a 429
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    retry_after: Duration,

    /// Delay of each answer
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    latency: Duration,
}

impl FaultArgs {
    /// The plan of these options.
    pub(super) fn plan(&self) -> FaultPlan {
        FaultPlan {
            server_error: self.server_errors.0,
            throttle: self.throttle.0,
            reset: self.resets.0,
            truncate: self.truncated.0,
            hang: self.hangs.0,
            garbage: self.garbage.0,
            retry_after: RetryAfter::Seconds(self.retry_after),
            latency: self.latency,
            ..FaultPlan::default()
        }
    }
}

/// A probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Probability(pub(super) f64);

impl FromStr for Probability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|probability| (0.0..=1.0).contains(probability))
            .map(Self)
            .ok_or_else(|| "use a number from 0 (never) to 1 (always)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(arguments: &str) -> Result<FaultArgs, clap::Error> {
        let command = FaultArgs::augment_args(clap::Command::new("simulate").no_binary_name(true));
        FaultArgs::from_arg_matches(&command.try_get_matches_from(arguments.split(' '))?)
    }

    #[test]
    fn probabilities_become_a_plan() {
        let arguments = "--server-errors 0.2 --resets 0.05 --throttle 0.02 --retry-after 7s --latency 5ms";
        let plan = parse(arguments).unwrap().plan();
        assert_eq!(
            plan,
            FaultPlan {
                server_error: 0.2,
                reset: 0.05,
                throttle: 0.02,
                retry_after: RetryAfter::Seconds(Duration::from_secs(7)),
                latency: Duration::from_millis(5),
                ..FaultPlan::default()
            }
        );
        for wrong in ["--resets 1.5", "--resets -0.1", "--resets NaN", "--resets often"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
