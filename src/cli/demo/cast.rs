//! What happens in the demo: who runs, how that goes, and what goes wrong in between.

use std::time::Duration;

use crate::core::phase::Phase;
use crate::simulator::{Course, Estimate, Fate, Reply, RetryAfter, SimulatedOperation};

/// One backfill of the demo.
pub(super) struct Part {
    pub(super) customer: &'static str,
    object: &'static str,
    seconds: u64,
    total: u64,
    course: Course,
    estimate: Estimate,
    fate: Fate,
    /// What it is there for.
    pub(super) role: &'static str,
}

impl Part {
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
            course: self.course,
            estimate: self.estimate,
            fate: self.fate.clone(),
            result: (self.fate == Fate::Failure).then(|| format!("[{}] REQUEST_LIMIT_EXCEEDED", self.object)),
            ..SimulatedOperation::new(self.id(), Duration::from_secs(self.seconds), self.total)
        }
    }

    /// How its watch ends when all is well with the daemon.
    pub(super) fn end(&self) -> Phase {
        match self.fate {
            Fate::Success => Phase::Succeeded,
            Fate::Failure => Phase::Failed,
            Fate::Other(_) => Phase::Ended,
        }
    }
}

/// All backfills, in the order of their IDs.
pub(super) fn parts() -> Vec<Part> {
    let part = |customer, object, seconds, total, role| Part {
        customer,
        object,
        seconds,
        total,
        course: Course::Linear,
        estimate: Estimate::Right,
        fate: Fate::Success,
        role,
    };
    vec![
        part("acme", "contact", 7, 2_400, "a quick success"),
        Part {
            course: Course::SlowFirst,
            ..part(
                "borealis",
                "account",
                28,
                18_000,
                "slow at first: the estimated end moves",
            )
        },
        Part {
            estimate: Estimate::Missing,
            ..part(
                "cobalt",
                "lead",
                22,
                5_300,
                "no estimate: a count and a rate, no percent",
            )
        },
        Part {
            course: Course::Stall,
            ..part(
                "dunes",
                "deal",
                26,
                9_000,
                "stands still for a while, then goes on",
            )
        },
        Part {
            course: Course::Restart,
            ..part(
                "ember",
                "ticket",
                24,
                7_200,
                "retried by the platform: counts from zero",
            )
        },
        Part {
            fate: Fate::Failure,
            ..part("fjord", "invoice", 15, 6_000, "fails, with the reason")
        },
        Part {
            estimate: Estimate::Wrong(0.6),
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
pub(super) enum Turn {
    /// The latecomer is added to the watch list.
    Add,
    /// The API answers the next polls so.
    Mishap(Vec<Reply>, &'static str),
}

/// What happens when, counted from the start.
pub(super) fn turns() -> Vec<(Duration, Turn)> {
    let bad_gateway = Reply::Status(502, RetryAfter::Absent);
    let slow_down = Reply::Status(429, RetryAfter::Seconds(Duration::from_secs(2)));
    vec![
        (
            Duration::from_secs(4),
            Turn::Mishap(vec![bad_gateway; 4], "502 to four polls; each is tried again"),
        ),
        (Duration::from_secs(8), Turn::Add),
        (
            Duration::from_secs(20),
            Turn::Mishap(vec![slow_down], "429, Retry-After: 2; the project's polls wait"),
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
        assert!(parts.is_sorted_by_key(Part::id));
        assert!(parts.iter().any(|part| part.customer == LATECOMER));
    }
}
