//! What the output is fitted to.

use std::env;

use console::measure_text_width;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::format;
use crate::cli::terminal::{self, TerminalStyle};
use crate::cli::text_wrap::wrap;
use crate::clock;

/// Where and when the status is printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) style: TerminalStyle,
    /// The width of a terminal, or that of the variable `COLUMNS`. `None` for no limit.
    pub(super) width: Option<usize>,
    pub(super) now: Timestamp,
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        let variable = || env::var("COLUMNS").ok()?.parse().ok();
        Self {
            style: TerminalStyle::stdout(),
            width: terminal::columns().or_else(variable).filter(|width| *width > 0),
            now: clock::wall(),
        }
    }

    /// `text` after `start`, in lines that fit. The others are indented as far as `start` reaches.
    pub(super) fn paragraph(&self, start: &str, text: &str) -> Vec<String> {
        let blanks = start.len() - start.trim_start_matches(' ').len();
        let hang = measure_text_width(start) - blanks;
        let lines = wrap(&format!("{start}{text}"), self.width, hang);
        lines.split('\n').map(str::to_owned).collect()
    }

    /// The time since a member that is a time: `4m 00s`.
    pub(super) fn age(&self, time: &Value) -> Option<String> {
        timestamp(time).map(|time| format::time(clock::between(time, self.now)))
    }
}

/// The time of a member.
pub(super) fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The time of the screen.
    pub(in crate::cli::status) const AT: &str = "2026-11-23T12:00:00Z";

    /// A screen without colours.
    pub(in crate::cli::status) fn screen(width: Option<usize>) -> Screen {
        Screen {
            style: TerminalStyle {
                colour: false,
                unicode: true,
            },
            width,
            now: AT.parse().unwrap(),
        }
    }

    #[test]
    fn a_member_that_is_no_time_has_no_age() {
        let screen = screen(None);
        assert_eq!(
            screen.age(&"2026-11-23T11:58:51Z".into()).as_deref(),
            Some("1m 09s")
        );
        assert_eq!(screen.age(&"yesterday".into()), None);
        assert_eq!(screen.age(&Value::Null), None);
    }
}
