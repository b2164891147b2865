//! What happens in the demo: who runs, how that goes, and what goes wrong in between.

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
    /// What it is there for.
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

    /// How its watch ends when all is well with the daemon.
    pub(super) fn end(&self) -> Phase {
        match self.outcome {
            SimulatedOutcome::Success => Phase::Succeeded,
            SimulatedOutcome::Failure => Phase::Failed,
            SimulatedOutcome::Other(_) => Phase::Ended,
        }
    }
}

/// All backfills, in the order of their IDs.
pub(super) fn parts() -> Vec<Backfill> {
    let part = |customer, object, seconds, total, role| Backfill {
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
        part("acme", "contact", 7, 2_400, "a quick success"),
        Backfill {
            curve: CountCurve::SlowFirst,
            ..part(
                "borealis",
                "account",
                28,
                18_000,
                "slow at first: the estimated end moves",
            )
        },
        Backfill {
            estimate: SimulatedEstimate::Missing,
            ..part(
                "cobalt",
                "lead",
                22,
                5_300,
                "no estimate: a count and a rate, no percent",
            )
        },
        Backfill {
            curve: CountCurve::Stall,
            ..part(
                "dunes",
                "deal",
                26,
                9_000,
                "stands still for a while, then goes on",
            )
        },
        Backfill {
            curve: CountCurve::Restart,
            ..part(
                "ember",
                "ticket",
                24,
                7_200,
                "retried by the platform: counts from zero",
            )
        },
        Backfill {
            outcome: SimulatedOutcome::Failure,
            ..part("fjord", "invoice", 15, 6_000, "fails, with the reason")
        },
        Backfill {
            estimate: SimulatedEstimate::Wrong(0.6),
            ..part(
                "gale",
                "task",
                18,
                12_000,
                "more records than estimated: never 100 % too early",
            )
        },
    ]
}

/// The backfill that is put on the watch list while the daemon runs.
pub(super) const LATECOMER: &str = "gale";

/// Something that happens on the way.
pub(super) enum ScriptedStep {
    /// The latecomer is added to the watch list.
    Add,
    /// The API answers the next polls so.
    Mishap(Vec<SimulatedReply>, &'static str),
}

/// What happens when, counted from the start.
pub(super) fn turns() -> Vec<(Duration, ScriptedStep)> {
    let bad_gateway = SimulatedReply::Status(502, RetryAfter::Absent);
    let slow_down = SimulatedReply::Status(429, RetryAfter::Seconds(Duration::from_secs(2)));
    vec![
        (
            Duration::from_secs(4),
            ScriptedStep::Mishap(vec![bad_gateway; 4], "502 to four polls; each is tried again"),
        ),
        (Duration::from_secs(8), ScriptedStep::Add),
        (
            Duration::from_secs(20),
            ScriptedStep::Mishap(vec![slow_down], "429, Retry-After: 2; the project's polls wait"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_less_than_a_minute_and_is_listed_in_order() {
        let parts = parts();
        let joined = turns().into_iter().map(|(at, _)| at).max().unwrap();
        for part in &parts {
            assert!(joined + Duration::from_secs(part.seconds) < Duration::from_secs(55));
        }
        assert!(parts.is_sorted_by_key(Backfill::id));
        assert!(parts.iter().any(|part| part.customer == LATECOMER));
    }
}
