//! A row of polls that met the same trouble.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A row of polls that met the same trouble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PollStreak {
    pub(super) since: Timestamp,
    pub(super) lasted: Duration,
    pub(super) polls: u32,
}

impl PollStreak {
    /// One more poll met it; the first begins the row.
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

    /// Time passes.
    pub(super) fn pass(row: &mut Option<Box<Self>>, elapsed: Duration) {
        if let Some(trouble) = row {
            trouble.lasted = trouble.lasted.saturating_add(elapsed);
        }
    }

    /// Another answer came: the row ends, and that it was met is remembered.
    pub(super) fn interrupt(row: &mut Option<Box<Self>>) {
        if let Some(trouble) = row {
            trouble.polls = 0;
        }
    }
}
