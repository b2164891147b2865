//! The phases of a watch, and how many watches are in each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a watch is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet answered by the API.
    #[default]
    Pending,
    /// The operation is in progress.
    Running,
    /// In progress, but its count does not rise.
    Stalled,
    /// Finished: success.
    Succeeded,
    /// Finished: failure.
    Failed,
    /// Finished: with another status.
    Ended,
    /// Finished: the API no longer knows the operation.
    Gone,
    /// Finished: `give_up_after` has passed.
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

    /// Every phase, that which needs attention most first. The status page has the same order.
    pub const BY_URGENCY: [Self; 8] = [
        Self::Failed,
        Self::Stalled,
        Self::Gone,
        Self::Ended,
        Self::Expired,
        Self::Running,
        Self::Pending,
        Self::Succeeded,
    ];

    /// The place in [`Self::BY_URGENCY`]. Lower needs more attention.
    #[must_use]
    pub fn urgency(self) -> usize {
        Self::BY_URGENCY
            .iter()
            .take_while(|phase| **phase != self)
            .count()
    }

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

    /// The phase with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    /// Whether the watch is no longer polled.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Stalled => false,
            Self::Succeeded | Self::Failed | Self::Ended | Self::Gone | Self::Expired => true,
        }
    }

    /// Whether a finished watch starts again when its ID is removed from the list and added again.
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

/// How many watches are in each phase. It is small, because each watch may have its own group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseCounts([u32; Phase::ALL.len()]);

impl PhaseCounts {
    /// Counts one more watch in `phase`.
    pub fn add(&mut self, phase: Phase) {
        self.0[phase as usize] += 1;
    }

    /// Counts one watch less in `phase`.
    pub fn remove(&mut self, phase: Phase) {
        let count = &mut self.0[phase as usize];
        *count = count.saturating_sub(1);
    }

    /// The number of watches in `phase`.
    #[must_use]
    pub fn of(&self, phase: Phase) -> usize {
        self.0[phase as usize] as usize
    }

    /// Each phase with its count, in the order of [`Phase::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Phase, usize)> {
        Phase::ALL.into_iter().map(|phase| (phase, self.of(phase)))
    }

    /// The number of watches.
    #[must_use]
    pub fn total(&self) -> usize {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Whether there is no watch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// The number of finished watches.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_a_place() {
        let mut places = Phase::ALL.map(Phase::urgency);
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
