//! One time on both clocks.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::operation::later;
use crate::clock;

/// A moment on the monotonic clock and on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) wall: Timestamp,
}

impl Moment {
    /// This moment.
    pub(super) fn now() -> Self {
        Self {
            instant: clock::instant(),
            wall: microseconds(clock::wall()),
        }
    }

    /// The moment after `wait`. A wait that no clock can count is a year.
    pub(super) fn after(self, wait: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let due = |wait| self.instant.checked_add(wait);
        let (instant, wait) = match due(wait) {
            Some(instant) => (instant, wait),
            None => (due(YEAR).unwrap_or(self.instant), YEAR),
        };
        Self {
            instant,
            wall: microseconds(later(self.wall, wait)),
        }
    }

    /// The time of the wall clock `age` before, or the beginning of time.
    pub(super) fn wall_before(self, age: Duration) -> Timestamp {
        let before = self.wall.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
        microseconds(before)
    }
}

/// The time in microseconds, as the API gives it.
fn microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
