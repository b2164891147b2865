//! Polls in a streak with the same kind of failure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Consecutive polls with the same kind of failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PollStreak {
    /// The time of the first of these polls.
    pub(super) since: Timestamp,
    /// The watched time since then, without times when the daemon did not run.
    pub(super) lasted: Duration,
    pub(super) polls: u32,
}

impl PollStreak {
    /// Counts one more poll; the first starts the streak.
    pub(super) fn count_poll(streak: &mut Option<Box<Self>>, now: Timestamp) -> &Self {
        let streak = streak.get_or_insert_with(|| {
            Box::new(Self {
                since: now,
                lasted: Duration::ZERO,
                polls: 0,
            })
        });
        if streak.polls == 0 {
            (streak.since, streak.lasted) = (now, Duration::ZERO);
        }
        streak.polls = streak.polls.saturating_add(1);
        streak
    }

    /// Adds time to a running streak.
    pub(super) fn add_time(streak: &mut Option<Box<Self>>, elapsed: Duration) {
        if let Some(streak) = streak {
            streak.lasted = streak.lasted.saturating_add(elapsed);
        }
    }

    /// Ends the streak after another answer, but remembers that there was one.
    pub(super) fn interrupt(streak: &mut Option<Box<Self>>) {
        if let Some(streak) = streak {
            streak.polls = 0;
        }
    }
}
