//! The customers to simulate.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::faults::Probability;
use super::operations::OperationArgs;
use crate::simulator::{CustomerChange, CustomerPlan, SeededRandom};

/// Customers, whose backfills discovery finds. `--duration`, `--course`, `--estimate` and `--failures` apply to them, too.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Customers")]
pub(super) struct CustomerArgs {
    /// Number of customers that install the integration
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = clap::value_parser!(u32).range(..=100_000))]
    customers: u32,

    /// Number of objects with a backfill for each customer, such as 3, or a range such as 1..5
    #[arg(long, value_name = "COUNT", default_value = "1..5")]
    objects: ObjectCounts,

    /// Time in which the customers install, at random
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    install_over: Duration,

    /// Probability that a customer later adds an object, backfills an object again, or deletes the installation
    #[arg(long, value_name = "PROBABILITY", default_value = "0")]
    changes: Probability,

    /// Number of backfills of earlier customers, which ended days ago
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = clap::value_parser!(u32).range(..=500_000))]
    old_backfills: u32,
}

/// The least and the largest number of objects.
#[derive(Debug, Clone, PartialEq)]
struct ObjectCounts(RangeInclusive<u32>);

impl FromStr for ObjectCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LARGEST: u32 = 100;
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let parse = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|count| (1..=LARGEST).contains(count))
                .ok_or_else(|| format!("use a number from 1 to {LARGEST}, or a range such as 1..5"))
        };
        let (from, to) = (parse(from)?, parse(to)?);
        if from > to {
            return Err("the range ends before it begins; put the smaller number first".to_owned());
        }
        Ok(Self(from..=to))
    }
}

impl CustomerArgs {
    /// Whether there are installations to discover.
    pub(super) fn has_any(&self) -> bool {
        self.customers > 0 || self.old_backfills > 0
    }

    /// What to print about the customers.
    pub(super) fn summary(&self) -> String {
        let over = humantime::format_duration(self.install_over);
        format!(
            "Customers that install within {over}: {}. Backfills that ended days ago: {}.",
            self.customers, self.old_backfills
        )
    }

    /// What random customers do.
    pub(super) fn generate(
        &self,
        operations: &OperationArgs,
        random: &SeededRandom,
    ) -> Vec<(Duration, CustomerChange)> {
        let plan = CustomerPlan {
            customers: self.customers,
            objects: self.objects.0.clone(),
            install_over: self.install_over,
            old_backfills: self.old_backfills,
            changes: self.changes.0,
            ..CustomerPlan::default()
        };
        plan.generate(random, |random| operations.generate_one(String::new(), random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_counts_are_one_or_a_range() {
        assert_eq!("3".parse(), Ok(ObjectCounts(3..=3)));
        assert_eq!("1..5".parse(), Ok(ObjectCounts(1..=5)));
        for wrong in ["0", "5..1", "..", "1..", "101", "x", ""] {
            assert!(wrong.parse::<ObjectCounts>().is_err(), "{wrong}");
        }
    }
}
