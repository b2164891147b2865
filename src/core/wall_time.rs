//! An optional wall-clock time in eight bytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A time to the microsecond, or none. Each watch has four; an `Option<Timestamp>` has 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Option<Timestamp>", into = "Option<Timestamp>")]
pub struct WallTime(i64);

impl WallTime {
    /// No time. No timestamp has this number of microseconds.
    pub const NONE: Self = Self(i64::MIN);

    /// The time, if there is one.
    #[must_use]
    pub fn get(self) -> Option<Timestamp> {
        if self == Self::NONE {
            // The error of the conversion would be allocated.
            return None;
        }
        Timestamp::from_microsecond(self.0).ok()
    }
}

impl Default for WallTime {
    fn default() -> Self {
        Self::NONE
    }
}

impl From<Option<Timestamp>> for WallTime {
    fn from(time: Option<Timestamp>) -> Self {
        time.map_or(Self::NONE, |time| Self(time.as_microsecond()))
    }
}

impl From<Timestamp> for WallTime {
    fn from(time: Timestamp) -> Self {
        Some(time).into()
    }
}

impl From<WallTime> for Option<Timestamp> {
    fn from(time: WallTime) -> Self {
        time.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_to_the_microsecond_and_none_is_none() {
        let time: Timestamp = "2026-11-23T11:48:35.123456789Z".parse().unwrap();
        let kept = WallTime::from(time).get().unwrap();
        assert_eq!(kept.to_string(), "2026-11-23T11:48:35.123456Z");
        assert_eq!(WallTime::NONE.get(), None);
        assert_eq!(WallTime::from(Timestamp::MIN).get(), Some(Timestamp::MIN));
    }

    #[test]
    fn it_is_stored_as_a_timestamp_is() {
        for text in ["\"2026-11-23T11:48:35Z\"", "null"] {
            let time: WallTime = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&time).unwrap(), text);
        }
    }
}
