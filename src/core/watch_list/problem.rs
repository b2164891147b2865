//! Problems of watch list lines, and their messages.

use std::fmt;
use std::sync::Arc;

use super::{MAX_ID_LEN, MAX_LABEL_KEY_CHARS, MAX_LABELS, MAX_LINE_BYTES, WatchKey};
use crate::core::deadline::DeadlineProblem;
use crate::core::text;

/// Maximum bytes of a line's text in a [`LineProblem`].
const MAX_QUOTED_BYTES: usize = 80;
/// Maximum project names in a message.
const MAX_PROJECTS_NAMED: usize = 8;

/// A problem of a line, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// The line's number, from 1.
    pub line: u32,
    /// The column in characters, from 1, without a byte-order mark.
    pub column: u32,
    /// The problem.
    pub problem: LineProblem,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.problem)
    }
}

/// A problem of a line. Quoted text is truncated, and escaped when displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineProblem {
    /// Longer than [`MAX_LINE_BYTES`].
    LineTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not UTF-8.
    NotUtf8,
    /// A control character other than tab, or a tab in quotes.
    ControlCharacter(char),
    /// The line begins with a label.
    MissingId,
    /// A character that operation IDs do not contain.
    IdCharacter(char),
    /// An operation ID of more than [`MAX_ID_LEN`] characters.
    IdTooLong {
        /// Its length in characters.
        characters: usize,
    },
    /// The ID `.` or `..`.
    IdIsDots,
    /// Text after the ID without `=`.
    NotALabel {
        /// The text.
        word: String,
    },
    /// A label that begins with `=`.
    LabelWithoutKey,
    /// A key of more than [`MAX_LABEL_KEY_CHARS`] characters.
    LabelKeyTooLong,
    /// A key with `=`, white space or a control character.
    LabelKeyCharacter,
    /// `project` or `deadline`, which are not labels.
    ReservedKey,
    /// A key with a quote.
    QuoteInKey,
    /// A quoted value without a closing quote.
    UnclosedQuote,
    /// A backslash in quotes before a character that it cannot escape.
    UnknownEscape(char),
    /// Text right after a closing quote.
    TextAfterQuote,
    /// `deadline=` with neither a time nor a duration. The line applies without it.
    UnusableDeadline {
        /// The value.
        value: String,
        /// Why it is unusable.
        problem: DeadlineProblem,
    },
    /// The same key twice.
    RepeatedLabel {
        /// The key.
        key: String,
    },
    /// More than [`MAX_LABELS`] labels.
    TooManyLabels,
    /// `project=` with a name that is not configured.
    UnknownProject {
        /// The name.
        name: String,
        /// The configured projects.
        configured: Arc<[Arc<str>]>,
    },
    /// An operation that an earlier line already lists.
    RepeatedId {
        /// The watch.
        key: WatchKey,
        /// The number of the earlier line, which applies.
        first_line: u32,
    },
    /// The lines before it already have the maximum number of entries.
    TooManyEntries {
        /// The maximum.
        most: usize,
    },
}

impl LineProblem {
    pub(super) fn not_a_label(word: &str) -> Self {
        let word = text::cut(word, MAX_QUOTED_BYTES);
        Self::NotALabel { word }
    }

    pub(super) fn unusable_deadline(value: &str, problem: DeadlineProblem) -> Self {
        let value = text::cut(value, MAX_QUOTED_BYTES);
        Self::UnusableDeadline { value, problem }
    }

    pub(super) fn repeated_label(key: &str) -> Self {
        let key = text::cut(key, MAX_QUOTED_BYTES);
        Self::RepeatedLabel { key }
    }

    pub(super) fn unknown_project(name: &str, configured: &Arc<[Arc<str>]>) -> Self {
        Self::UnknownProject {
            name: text::cut(name, MAX_QUOTED_BYTES),
            configured: Arc::clone(configured),
        }
    }
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong { bytes } => {
                write!(
                    f,
                    "the line has {bytes} bytes, at most {MAX_LINE_BYTES} are allowed"
                )
            }
            Self::NotUtf8 => write!(f, "not UTF-8; save the file as UTF-8"),
            Self::ControlCharacter('\t') => write!(f, "a tab in quotes; write a space"),
            Self::ControlCharacter(c) => {
                write!(
                    f,
                    "control character U+{:04X}; only tabs are allowed",
                    u32::from(*c)
                )
            }
            Self::MissingId => write!(f, "the line begins with a label; put the operation ID before it"),
            Self::IdCharacter(c) => write!(
                f,
                "{c:?} cannot be part of an operation ID, which is made of A-Z a-z 0-9 . _ ~ -"
            ),
            Self::IdTooLong { characters } => write!(
                f,
                "the operation ID has {characters} characters, at most {MAX_ID_LEN} are allowed"
            ),
            Self::IdIsDots => write!(f, "an operation ID cannot be . or .."),
            Self::NotALabel { word } => {
                write!(
                    f,
                    "{word:?} is not a label; write key=value, and one operation per line"
                )
            }
            Self::LabelWithoutKey => write!(f, "the label has no key before its =; write key=value"),
            Self::LabelKeyCharacter => {
                f.write_str("a label key contains '=', white space or a control character")
            }
            Self::ReservedKey => f.write_str("'project' and 'deadline' are reserved and cannot be labels"),
            Self::LabelKeyTooLong => {
                write!(
                    f,
                    "the label's key has more than {MAX_LABEL_KEY_CHARS} characters; shorten it"
                )
            }
            Self::QuoteInKey => write!(f, "a label's key cannot have quotes; write them around the value"),
            Self::UnclosedQuote => write!(f, "the quoted value has no end; write \" after it"),
            Self::UnknownEscape(c) => {
                write!(
                    f,
                    "a backslash before {c:?}; in quotes write \\\\ for a backslash"
                )
            }
            Self::TextAfterQuote => {
                write!(
                    f,
                    "text right after a quoted value; write a space, or \\\" for a quote in it"
                )
            }
            Self::UnusableDeadline { value, problem } => write!(
                f,
                "the deadline {value:?} is ignored, because it {problem}; write a time such as 2026-12-01T06:00:00Z, or a \
                 duration such as 1h30m"
            ),
            Self::RepeatedLabel { key } => {
                write!(f, "the label {key:?} occurs twice; keep one of them")
            }
            Self::TooManyLabels => write!(f, "more than {MAX_LABELS} labels; remove some of them"),
            Self::UnknownProject { name, configured } => unknown_project(f, name, configured),
            Self::RepeatedId { key, first_line } => write!(
                f,
                "operation {} of project {:?} is already on line {first_line}; this line is ignored",
                key.operation, key.project
            ),
            Self::TooManyEntries { most } => write!(
                f,
                "more than {most} operations; remove finished ones from the list, or run a second daemon"
            ),
        }
    }
}

fn unknown_project(f: &mut fmt::Formatter<'_>, name: &str, configured: &[Arc<str>]) -> fmt::Result {
    if configured.is_empty() {
        return write!(f, "no project is configured");
    }
    write!(f, "project {name:?} is not configured; configured: ")?;
    for (index, known) in configured.iter().take(MAX_PROJECTS_NAMED).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{known:?}")?;
    }
    match configured.len().saturating_sub(MAX_PROJECTS_NAMED) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}
