//! Polls in a row with the same kind of failure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Polls in a row with the same kind of failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PollStreak {
    pub(super) since: Timestamp,
    pub(super) lasted: Duration,
    pub(super) polls: u32,
}

impl PollStreak {
    /// Counts one more poll; the first starts the streak.
    pub(super) fn meet(row: &mut Option<Box<Self>>, now: Timestamp) -> &Self {
        let trouble = row.get_or_insert_with(|| {
            Box::new(Self {
                since: now,
                lasted: Duration::ZERO,
                polls: 0,
            })
        });
        if trouble.polls == 0 {
            (trouble.since, trouble.lasted) = (now, Duration::ZERO);
        }
        trouble.polls = trouble.polls.saturating_add(1);
        trouble
    }

    /// Adds time to a running streak.
    pub(super) fn pass(row: &mut Option<Box<Self>>, elapsed: Duration) {
        if let Some(trouble) = row {
            trouble.lasted = trouble.lasted.saturating_add(elapsed);
        }
    }

    /// Ends the streak after another answer, but remembers that there was one.
    pub(super) fn interrupt(row: &mut Option<Box<Self>>) {
        if let Some(trouble) = row {
            trouble.polls = 0;
        }
    }
}
