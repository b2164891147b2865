//! A duration in eight bytes.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration to the nanosecond, at most 584 years, stored like a `Duration`. Each watch has five, some optional; a
/// `Duration` has 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Duration", into = "Duration")]
pub struct CompactDuration(
    /// Nanoseconds plus one, so that an `Option` has the same size.
    NonZeroU64,
);

impl CompactDuration {
    /// Zero.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// As a `Duration`.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// Adds `by`.
    pub fn extend(&mut self, by: Duration) {
        *self = self.get().saturating_add(by).into();
    }
}

impl Default for CompactDuration {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<Duration> for CompactDuration {
    fn from(duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }
}

impl From<CompactDuration> for Duration {
    fn from(duration: CompactDuration) -> Self {
        duration.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_a_duration_and_is_stored_as_one() {
        for duration in [
            Duration::ZERO,
            Duration::new(3, 7),
            Duration::from_hours(1_000_000),
        ] {
            let compact = CompactDuration::from(duration);
            assert_eq!(compact.get(), duration);
            let stored = serde_json::to_string(&duration).unwrap();
            assert_eq!(serde_json::to_string(&compact).unwrap(), stored);
            assert_eq!(serde_json::from_str::<CompactDuration>(&stored).unwrap(), compact);
        }
        assert_eq!(size_of::<Option<CompactDuration>>(), 8);
    }

    #[test]
    fn the_longest_stays_the_longest() {
        let mut duration = CompactDuration::from(Duration::MAX);
        let longest = duration;
        duration.extend(Duration::MAX);
        assert_eq!(duration, longest);
        assert!(duration.get() > Duration::from_hours(24 * 365 * 500));
    }
}
