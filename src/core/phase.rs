//! The phases of a watch, and how many watches are in each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not seen yet.
    Pending,
    /// Seen running.
    Running,
    /// Running, but its count stands still.
    Stalled,
    /// Over: success.
    Succeeded,
    /// Over: failure.
    Failed,
    /// Over: another status.
    Ended,
    /// Over: the API no longer knows it.
    Gone,
    /// Over: watched for long enough.
    Expired,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Stalled,
        Self::Succeeded,
        Self::Failed,
        Self::Ended,
        Self::Gone,
        Self::Expired,
    ];

    /// The phase's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Gone => "gone",
            Self::Expired => "expired",
        }
    }

    /// Whether the watch has no poller any more.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Stalled => false,
            Self::Succeeded | Self::Failed | Self::Ended | Self::Gone | Self::Expired => true,
        }
    }

    /// Whether a watch that is over starts again when its ID is put back on the list: its end may not have been one.
    #[must_use]
    pub fn may_start_again(self) -> bool {
        matches!(self, Self::Ended | Self::Gone | Self::Expired)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many watches are in each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseCounts([usize; Phase::ALL.len()]);

impl PhaseCounts {
    /// One more watch is in `phase`.
    pub fn add(&mut self, phase: Phase) {
        self.0[phase as usize] += 1;
    }

    /// One watch less is in `phase`.
    pub fn remove(&mut self, phase: Phase) {
        let count = &mut self.0[phase as usize];
        *count = count.saturating_sub(1);
    }

    /// How many are in `phase`.
    #[must_use]
    pub fn of(&self, phase: Phase) -> usize {
        self.0[phase as usize]
    }

    /// Each phase with its count, in the order of [`Phase::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Phase, usize)> {
        Phase::ALL.into_iter().zip(self.0)
    }

    /// How many watches there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// How many of them are finished.
    #[must_use]
    pub fn finished(&self) -> usize {
        let finished = self.iter().filter(|(phase, _)| phase.is_finished());
        finished.map(|(_, count)| count).sum()
    }
}

impl std::iter::Sum for PhaseCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            for (sum, count) in sum.0.iter_mut().zip(counts.0) {
                *sum += count;
            }
            sum
        })
    }
}
