//! The script of the demo: customers, their backfills, and faults.

use std::time::Duration;

use crate::core::phase::Phase;
use crate::simulator::{
    CountCurve, RetryAfter, SimulatedBackfill, SimulatedEstimate, SimulatedInstallation, SimulatedObject,
    SimulatedOperation, SimulatedOutcome, SimulatedReply,
};

/// One backfill of the demo.
pub(super) struct Backfill {
    pub(super) customer: &'static str,
    pub(super) object: &'static str,
    seconds: u64,
    total: u64,
    curve: CountCurve,
    estimate: SimulatedEstimate,
    outcome: SimulatedOutcome,
    /// What it demonstrates.
    pub(super) role: &'static str,
}

impl Backfill {
    /// Customer and object.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.customer, self.object)
    }

    fn simulated_object(&self) -> SimulatedObject {
        let read = SimulatedOperation {
            curve: self.curve,
            estimate: self.estimate,
            outcome: self.outcome.clone(),
            result: (self.outcome == SimulatedOutcome::Failure)
                .then(|| format!("[{}] REQUEST_LIMIT_EXCEEDED", self.object)),
            ..SimulatedOperation::new("", Duration::from_secs(self.seconds), self.total)
        };
        SimulatedObject::reading(self.object, SimulatedBackfill::new(read))
    }

    /// The expected final phase.
    pub(super) fn end(&self) -> Phase {
        match self.outcome {
            SimulatedOutcome::Success => Phase::Succeeded,
            SimulatedOutcome::Failure => Phase::Failed,
            SimulatedOutcome::Other(_) => Phase::Ended,
        }
    }
}

/// All backfills, by customer and object.
pub(super) fn backfills() -> Vec<Backfill> {
    let backfill = |customer, object, seconds, total, role| Backfill {
        customer,
        object,
        seconds,
        total,
        curve: CountCurve::Linear,
        estimate: SimulatedEstimate::Right,
        outcome: SimulatedOutcome::Success,
        role,
    };
    vec![
        Backfill {
            curve: CountCurve::SlowFirst,
            ..backfill(
                "acme",
                "account",
                25,
                18_000,
                "slow at first: the estimated end moves",
            )
        },
        backfill("acme", "contact", 6, 2_400, "a quick success"),
        Backfill {
            curve: CountCurve::Stall,
            ..backfill("borealis", "deal", 24, 9_000, "stalls for a while, then resumes")
        },
        Backfill {
            estimate: SimulatedEstimate::Missing,
            ..backfill(
                "borealis",
                "lead",
                20,
                5_300,
                "no estimate: a count and a rate, no percent",
            )
        },
        Backfill {
            outcome: SimulatedOutcome::Failure,
            ..backfill("cobalt", "invoice", 13, 6_000, "fails, with the reason")
        },
        Backfill {
            curve: CountCurve::Restart,
            ..backfill(
                "cobalt",
                "ticket",
                22,
                7_200,
                "retried by the platform: counts from zero",
            )
        },
        Backfill {
            estimate: SimulatedEstimate::Wrong(0.6),
            ..backfill(
                "gale",
                "task",
                18,
                12_000,
                "more records than estimated: never 100 % too early",
            )
        },
    ]
}

/// The customers, in the order in which they install.
pub(super) const CUSTOMERS: [&str; 4] = ["acme", "borealis", "cobalt", "gale"];

/// The objects of a customer's backfills.
pub(super) fn objects(customer: &str) -> Vec<&'static str> {
    let own = backfills().into_iter().filter(|part| part.customer == customer);
    own.map(|part| part.object).collect()
}

/// The installation of a customer. Its backfills start when it is added.
pub(super) fn installation(customer: &str) -> SimulatedInstallation {
    let backfills = backfills();
    let own = backfills.iter().filter(|part| part.customer == customer);
    SimulatedInstallation::new(customer, own.map(Backfill::simulated_object))
}

/// One step of the script.
pub(super) enum ScriptedStep {
    /// A customer installs the integration.
    Install(&'static str),
    /// The next answers of the API, with a description.
    Faults(Vec<SimulatedReply>, &'static str),
}

/// The steps, each with its time since the start.
pub(super) fn steps() -> Vec<(Duration, ScriptedStep)> {
    const INSTALLED: [u64; 4] = [1, 2, 3, 8];
    let bad_gateway = SimulatedReply::Status(502, RetryAfter::Absent);
    let slow_down = SimulatedReply::Status(429, RetryAfter::Seconds(Duration::from_secs(2)));
    let faults = [
        (5, vec![bad_gateway; 4], "502 to four requests; each is retried"),
        (
            18,
            vec![slow_down],
            "429, Retry-After: 2; all requests of the project wait",
        ),
    ];
    let faults = faults
        .into_iter()
        .map(|(at, replies, text)| (at, ScriptedStep::Faults(replies, text)));
    let installs = INSTALLED.into_iter().zip(CUSTOMERS.map(ScriptedStep::Install));
    let mut steps: Vec<_> = installs
        .chain(faults)
        .map(|(at, step)| (Duration::from_secs(at), step))
        .collect();
    steps.sort_by_key(|(at, _)| *at);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_takes_less_than_a_minute_and_every_backfill_has_a_customer_that_installs() {
        let backfills = backfills();
        let mut installed = Vec::new();
        for (at, step) in steps() {
            let ScriptedStep::Install(customer) = step else {
                continue;
            };
            installed.push(customer);
            for part in backfills.iter().filter(|part| part.customer == customer) {
                assert!(at + Duration::from_secs(part.seconds) < Duration::from_secs(35));
            }
        }
        assert_eq!(installed, CUSTOMERS);
        assert!(backfills.iter().all(|part| installed.contains(&part.customer)));
        assert!(backfills.is_sorted_by_key(|part| (part.customer, part.object)));
    }
}
