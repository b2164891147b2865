//! Deadlines of operations.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest deadline after the start: ten years, as for settings.
const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);

/// When an operation should be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// At this time.
    At(Timestamp),
    /// This long after the operation's start.
    After(Duration),
}

impl Deadline {
    /// Parses an RFC 3339 time, or a duration such as `1h30m`.
    ///
    /// # Errors
    /// [`DeadlineProblem`].
    pub fn parse(text: &str) -> Result<Self, DeadlineProblem> {
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err(DeadlineProblem::Zero),
            Ok(duration) if duration <= LONGEST => Ok(Self::After(duration)),
            Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err(DeadlineProblem::TooLong),
            Err(_) => text
                .parse()
                .map(Self::At)
                .map_err(|_| DeadlineProblem::Unreadable),
        }
    }
}

/// Why a text is not a deadline, as the rest of a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeadlineProblem {
    /// Neither a time nor a duration.
    #[error("is neither a duration nor a time")]
    Unreadable,
    /// A duration of zero.
    #[error("is a duration that is too short")]
    Zero,
    /// A duration of more than ten years.
    #[error("is a duration that is too long")]
    TooLong,
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => time.fmt(f),
            Self::After(duration) => humantime::format_duration(*duration).fmt(f),
        }
    }
}

impl Serialize for Deadline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Deadline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_read() {
        let at = |text: &str| Ok(Deadline::At(text.parse().unwrap()));
        assert_eq!(
            Deadline::parse("2026-12-01T06:00:00Z"),
            at("2026-12-01T06:00:00Z")
        );
        assert_eq!(
            Deadline::parse("2026-12-01T06:00:00.5+01:00"),
            at("2026-12-01T05:00:00.5Z")
        );
        let after = |seconds| Ok(Deadline::After(Duration::from_secs(seconds)));
        assert_eq!(Deadline::parse("1h30m"), after(5400));
        assert_eq!(Deadline::parse("1h 30m"), after(5400));
        for unusable in [
            "",
            "tomorrow",
            "2026-12-01",
            "2026-12-01T06:00:00",
            "2026-13-01T06:00:00Z",
            "90",
            "-1h",
        ] {
            assert_eq!(
                Deadline::parse(unusable),
                Err(DeadlineProblem::Unreadable),
                "{unusable:?}"
            );
        }
        for (unusable, problem) in [
            ("0s", DeadlineProblem::Zero),
            ("0h 0m", DeadlineProblem::Zero),
            ("11y", DeadlineProblem::TooLong),
            ("99999999999999999999y", DeadlineProblem::TooLong),
        ] {
            assert_eq!(Deadline::parse(unusable), Err(problem), "{unusable:?}");
        }
    }

    #[test]
    fn a_deadline_is_read_back_as_it_was_written() {
        for text in ["2026-12-01T06:00:00Z", "1h 30m", "1day", "250ms"] {
            let deadline = Deadline::parse(text).unwrap();
            let written = serde_json::to_string(&deadline).unwrap();
            assert_eq!(serde_json::from_str::<Deadline>(&written).unwrap(), deadline);
        }
        serde_json::from_str::<Deadline>("\"tomorrow\"").unwrap_err();
    }
}
