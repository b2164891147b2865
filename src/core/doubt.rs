//! Probes: which watch is polled while requests are sent one by one, and how long a 403 leaves the key in doubt.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// After this many probes that decide nothing, a 403 concerns its operation alone: the other watches must not wait for an
/// answer that may never come.
pub const MAX_PROBES: usize = 3;

/// The question whether a 403 concerns its operation or the project's key.
#[derive(Debug, Clone, PartialEq)]
pub struct Doubt {
    operation: Arc<str>,
    /// The operations whose probes decided nothing, in order.
    undecided: Vec<Arc<str>>,
}

impl Doubt {
    /// The doubt after a 403 of `operation`.
    #[must_use]
    pub fn new(operation: &str) -> Self {
        Self {
            operation: Arc::from(operation),
            undecided: Vec::new(),
        }
    }

    /// The operation that was answered with 403.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Records that the probe of `operation` decided nothing. Returns whether it was the last one.
    pub fn record_undecided(&mut self, operation: &str) -> bool {
        self.undecided.push(Arc::from(operation));
        self.undecided.len() >= MAX_PROBES
    }

    /// The priority of a watch as the next probe of this doubt.
    pub fn priority(&self, candidate: &ProbeCandidate<'_>) -> ProbePriority {
        let mut undecided = self.undecided.iter();
        ProbePriority::Doubt {
            // Its own 403 shows nothing about another operation.
            is_not_forbidden: !candidate.is_forbidden,
            undecided: Reverse(undecided.rposition(|operation| **operation == *candidate.operation)),
            is_answered: candidate.is_answered,
            is_of_other_installation: candidate.is_of_other_installation,
            last_answer: candidate.last_answer,
            polled: Reverse(candidate.polled),
        }
    }
}

/// A watch that may be the next probe.
#[derive(Debug, Clone, Copy)]
pub struct ProbeCandidate<'a> {
    /// The operation ID.
    pub operation: &'a str,
    /// When it was polled last.
    pub polled: Duration,
    /// Whether it was answered with 403 since it was last answered with 200.
    pub is_forbidden: bool,
    /// Whether its last poll was answered with 200.
    pub is_answered: bool,
    /// Whether it may be of another installation than the operation that was answered with 403.
    pub is_of_other_installation: bool,
    /// When it was last answered with 200.
    pub last_answer: Option<Timestamp>,
}

/// The priority of a watch as the next probe: the watch with the highest one is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbePriority {
    /// While the credentials are rejected: the watch that was polled the longest ago.
    Rejected(Reverse<Duration>),
    /// During a doubt. The order of the fields is their weight.
    Doubt {
        /// Whether a 403 of this watch would be new.
        is_not_forbidden: bool,
        /// Its last probe that decided nothing: none is best, then the earliest.
        undecided: Reverse<Option<usize>>,
        /// As in [`ProbeCandidate`].
        is_answered: bool,
        /// As in [`ProbeCandidate`].
        is_of_other_installation: bool,
        /// As in [`ProbeCandidate`].
        last_answer: Option<Timestamp>,
        /// As in [`ProbeCandidate`].
        polled: Reverse<Duration>,
    },
}

impl ProbePriority {
    /// Whether the watch is known to be forbidden, so that it is a probe only if there is no other watch.
    #[must_use]
    pub fn is_last_resort(&self) -> bool {
        matches!(
            self,
            Self::Doubt {
                is_not_forbidden: false,
                ..
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(operation: &str) -> ProbeCandidate<'_> {
        ProbeCandidate {
            operation,
            polled: Duration::ZERO,
            is_forbidden: false,
            is_answered: false,
            is_of_other_installation: true,
            last_answer: None,
        }
    }

    fn best<'a>(doubt: &Doubt, candidates: &[ProbeCandidate<'a>]) -> &'a str {
        let best = candidates
            .iter()
            .max_by_key(|candidate| doubt.priority(candidate));
        best.unwrap().operation
    }

    #[test]
    fn the_first_probe_is_the_one_answered_last_of_another_installation_and_each_later_one_is_another() {
        let at = |second| Timestamp::from_second(second).ok();
        let candidates = [
            ProbeCandidate {
                is_answered: true,
                is_of_other_installation: false,
                last_answer: at(9),
                ..candidate("same")
            },
            ProbeCandidate {
                is_answered: true,
                last_answer: at(1),
                ..candidate("earlier")
            },
            ProbeCandidate {
                is_answered: true,
                last_answer: at(2),
                ..candidate("other")
            },
            ProbeCandidate {
                last_answer: at(9),
                ..candidate("failing")
            },
            ProbeCandidate {
                is_forbidden: true,
                ..candidate("forbidden")
            },
        ];
        let mut doubt = Doubt::new("a");
        for (number, expected) in ["other", "earlier", "same", "failing", "other", "earlier"]
            .into_iter()
            .enumerate()
        {
            assert_eq!(best(&doubt, &candidates), expected);
            assert_eq!(doubt.record_undecided(expected), number + 1 >= MAX_PROBES);
        }
    }

    #[test]
    fn a_watch_with_its_own_403_is_the_probe_if_there_is_no_other() {
        let forbidden = ProbeCandidate {
            is_forbidden: true,
            ..candidate("forbidden")
        };
        let mut doubt = Doubt::new("a");
        let _ = doubt.record_undecided("other");
        assert_eq!(best(&doubt, &[forbidden, candidate("other")]), "other");
        assert!(doubt.priority(&forbidden).is_last_resort());
        assert!(!doubt.priority(&candidate("other")).is_last_resort());
    }
}
