//! The script of the demo: backfills, faults and changes of the watch list.

use std::time::Duration;

use crate::core::phase::Phase;
use crate::simulator::{
    CountCurve, RetryAfter, SimulatedEstimate, SimulatedOperation, SimulatedOutcome, SimulatedReply,
};

/// One backfill of the demo.
pub(super) struct Backfill {
    pub(super) customer: &'static str,
    object: &'static str,
    seconds: u64,
    total: u64,
    curve: CountCurve,
    estimate: SimulatedEstimate,
    outcome: SimulatedOutcome,
    /// What it demonstrates.
    pub(super) role: &'static str,
}

impl Backfill {
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.customer, self.object)
    }

    /// Its line of the watch list.
    pub(super) fn line(&self) -> String {
        format!("{}  customer={}\n", self.id(), self.customer)
    }

    pub(super) fn operation(&self) -> SimulatedOperation {
        SimulatedOperation {
            objects: vec![self.object.to_owned()],
            curve: self.curve,
            estimate: self.estimate,
            outcome: self.outcome.clone(),
            result: (self.outcome == SimulatedOutcome::Failure)
                .then(|| format!("[{}] REQUEST_LIMIT_EXCEEDED", self.object)),
            ..SimulatedOperation::new(self.id(), Duration::from_secs(self.seconds), self.total)
        }
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

/// All backfills, in the order of their IDs.
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
        backfill("acme", "contact", 7, 2_400, "a quick success"),
        Backfill {
            curve: CountCurve::SlowFirst,
            ..backfill(
                "borealis",
                "account",
                28,
                18_000,
                "slow at first: the estimated end moves",
            )
        },
        Backfill {
            estimate: SimulatedEstimate::Missing,
            ..backfill(
                "cobalt",
                "lead",
                22,
                5_300,
                "no estimate: a count and a rate, no percent",
            )
        },
        Backfill {
            curve: CountCurve::Stall,
            ..backfill("dunes", "deal", 26, 9_000, "stalls for a while, then resumes")
        },
        Backfill {
            curve: CountCurve::Restart,
            ..backfill(
                "ember",
                "ticket",
                24,
                7_200,
                "retried by the platform: counts from zero",
            )
        },
        Backfill {
            outcome: SimulatedOutcome::Failure,
            ..backfill("fjord", "invoice", 15, 6_000, "fails, with the reason")
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

/// The customer whose backfill is added while the daemon runs.
pub(super) const LATECOMER: &str = "gale";

/// One step of the script.
pub(super) enum ScriptedStep {
    /// Add the latecomer to the watch list.
    AddToList,
    /// The next answers of the API, with a description.
    Faults(Vec<SimulatedReply>, &'static str),
}

/// The steps, each with its time since the start.
pub(super) fn steps() -> Vec<(Duration, ScriptedStep)> {
    let bad_gateway = SimulatedReply::Status(502, RetryAfter::Absent);
    let slow_down = SimulatedReply::Status(429, RetryAfter::Seconds(Duration::from_secs(2)));
    vec![
        (
            Duration::from_secs(4),
            ScriptedStep::Faults(vec![bad_gateway; 4], "502 to four polls; each is retried"),
        ),
        (Duration::from_secs(8), ScriptedStep::AddToList),
        (
            Duration::from_secs(20),
            ScriptedStep::Faults(vec![slow_down], "429, Retry-After: 2; the project's polls wait"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_takes_less_than_a_minute_and_is_sorted() {
        let backfills = backfills();
        let joined = steps().into_iter().map(|(at, _)| at).max().unwrap();
        for part in &backfills {
            assert!(joined + Duration::from_secs(part.seconds) < Duration::from_secs(55));
        }
        assert!(backfills.is_sorted_by_key(Backfill::id));
        assert!(backfills.iter().any(|part| part.customer == LATECOMER));
    }
}
