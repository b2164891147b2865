//! What is to go wrong.

use std::str::FromStr;
use std::time::Duration;

use crate::simulator::{FaultPlan, RetryAfter};

/// What goes wrong. Chances are numbers from 0 to 1 and add up to at most 1.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Faults")]
pub(super) struct FaultArgs {
    /// The chance of a 500, 502, 503 or 504
    #[arg(long, value_name = "CHANCE", default_value = "0")]
    server_errors: Chance,

    /// The chance of a connection that is reset without an answer
    #[arg(long, value_name = "CHANCE", default_value = "0")]
    resets: Chance,

    /// The chance of a body that breaks off half way
    #[arg(long, value_name = "CHANCE", default_value = "0")]
    truncated: Chance,

    /// The chance of a request that is never answered
    #[arg(long, value_name = "CHANCE", default_value = "0")]
    hangs: Chance,

    /// The chance of a 200 whose body is no JSON
    #[arg(long, value_name = "CHANCE", default_value = "0")]
    garbage: Chance,

    /// The chance of a 429
    #[arg(long, value_name = "CHANCE", default_value = "0")]
    throttle: Chance,

    /// How long a 429 asks to be left alone (`5s`)
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    retry_after: Duration,

    /// How long every answer takes
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    latency: Duration,
}

impl FaultArgs {
    /// The plan that the options ask for.
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
pub(super) struct Chance(pub(super) f64);

impl FromStr for Chance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|chance| (0.0..=1.0).contains(chance))
            .map(Self)
            .ok_or_else(|| "a chance is a number from 0 (never) to 1 (always)".to_owned())
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
    fn chances_become_a_plan() {
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
