//! Where a watch stands.

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
    pub fn is_over(self) -> bool {
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
