//! Problems of the settings, collected and reported together.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// The most problems that are kept.
const MAX_PROBLEMS: usize = 100;

/// Where a setting is set. Ordered as problems are reported: files from the top, environment, flags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A settings file as a whole.
    File(PathBuf),
    /// A position in a settings file. Line and column count from 1, the column in characters.
    Spot {
        /// The settings file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// A command-line flag, as it is typed.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Spot { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One error or warning about the settings. Displays place, key, problem and help.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigProblem {
    /// The path of the key, such as `poll.max_interval` or `webhooks[0].url`; empty if it concerns no key.
    pub key: String,
    /// Where the value is set; `None` if it is not set.
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&problem_text(
            self.place.as_ref(),
            &self.key,
            &self.problem,
            &self.help,
        ))
    }
}

/// A problem of a setting with its place, and the help on a second line. `key` and `help` may be empty.
#[must_use]
pub fn problem_text(place: Option<impl fmt::Display>, key: &str, problem: &str, help: &str) -> String {
    let mut text = String::new();
    if let Some(place) = place {
        text.push_str(&format!("{place}: "));
    }
    if !key.is_empty() {
        text.push_str(&format!("{key}: "));
    }
    text.push_str(problem);
    if !help.is_empty() {
        text.push_str(&format!("\n    help: {help}"));
    }
    text
}

/// All errors of the settings. Displays one block for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<ConfigProblem>,
    left_out: usize,
}

impl ConfigErrors {
    /// One line: the first problem without its help, and how many there are.
    #[must_use]
    pub fn summary(&self) -> String {
        let first = self.problems.first().map(|first| {
            let text = problem_text(first.place.as_ref(), &first.key, &first.problem, "");
            text.replace('\n', " ")
        });
        let first = first.unwrap_or_default();
        match self.problems.len() + self.left_out {
            0 | 1 => first,
            count => format!("{count} errors; the first: {first}"),
        }
    }

    /// The problems, ordered by place, then key.
    #[must_use]
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more problems", self.left_out)?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}

/// Collects problems while the settings are read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Vec<ConfigProblem>,
    left_out: usize,
    warnings: Vec<ConfigProblem>,
    /// Whether later errors are consequences of those so far.
    is_closed: bool,
    /// Secrets that this user cannot read. The daemon may be able to.
    unread: Vec<ConfigProblem>,
}

impl Problems {
    pub(super) fn error(&mut self, key: &str, place: Option<Place>, problem: String, help: String) {
        if self.is_full() {
            return;
        }
        let key = key.to_owned();
        self.errors.push(ConfigProblem {
            key,
            place,
            problem,
            help,
        });
    }

    /// Discards all later errors, which are consequences of those so far.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the next error is discarded. It is then counted.
    pub(super) fn is_full(&mut self) -> bool {
        if self.is_closed {
            return true;
        }
        let is_full = self.errors.len() == MAX_PROBLEMS;
        self.left_out += usize::from(is_full);
        is_full
    }

    pub(super) fn warning(&mut self, key: &str, place: Option<Place>, problem: String, help: String) {
        if self.warnings.len() == MAX_PROBLEMS {
            return;
        }
        let key = key.to_owned();
        self.warnings.push(ConfigProblem {
            key,
            place,
            problem,
            help,
        });
    }

    /// Notes a secret that this user cannot read.
    pub(super) fn unread(&mut self, key: &str, place: Option<Place>, problem: String, help: String) {
        if self.is_closed {
            return;
        }
        self.unread.push(ConfigProblem {
            key: key.to_owned(),
            place,
            problem,
            help,
        });
    }

    /// The warnings, the unreadable secrets, and the errors if there are any.
    pub(super) fn split(mut self) -> (Vec<ConfigProblem>, Vec<ConfigProblem>, Option<ConfigErrors>) {
        let (warnings, unread) = (
            std::mem::take(&mut self.warnings),
            std::mem::take(&mut self.unread),
        );
        let errors = (!self.errors.is_empty()).then(|| self.into_errors());
        (warnings, unread, errors)
    }

    /// Whether this key has an error.
    pub(super) fn has_error(&self, key: &str) -> bool {
        self.errors.iter().any(|error| error.key == key)
    }

    /// The errors, ordered by place and key.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.errors
            .sort_by_cached_key(|error| (error.place.is_none(), error.place.clone(), error.key.clone()));
        ConfigErrors {
            problems: self.errors,
            left_out: self.left_out,
        }
    }
}

/// The position of a byte offset in the text of a file.
pub(super) fn spot(file: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place::Spot {
        file: file.to_owned(),
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_counts_lines_and_characters_from_one() {
        let text = "a = 1\nü = 2\r\nc = 3";
        let at = |offset| spot(Path::new("f"), text, offset).to_string();
        assert_eq!(at(0), "f:1:1");
        assert_eq!(at(6), "f:2:1");
        assert_eq!(at(8), "f:2:2");
        assert_eq!(at(text.len()), "f:3:6");
        assert_eq!(at(9_999), "f:3:6");
    }

    #[test]
    fn problems_are_ordered_by_place_and_bounded() {
        let mut problems = Problems::default();
        let text = "x\n".repeat(300);
        problems.error("nowhere", None, "is missing".into(), "set it".into());
        problems.error(
            "flag",
            Some(Place::Flag("--listen")),
            "is odd".into(),
            "fix it".into(),
        );
        problems.error(
            "env",
            Some(Place::Environment("E".into())),
            "is odd".into(),
            "fix it".into(),
        );
        for line in (0..200).rev() {
            problems.error(
                "k",
                Some(spot(Path::new("f"), &text, line * 2)),
                "is odd".into(),
                "fix it".into(),
            );
        }
        let errors = problems.into_errors();
        let text = errors.to_string();
        assert_eq!(errors.problems().len(), MAX_PROBLEMS);
        assert!(
            text.starts_with("f:104:1: k: is odd\n    help: fix it\nf:105:1: k:"),
            "{text}"
        );
        assert!(text.contains("environment variable E: env: is odd\n    help: fix it\nflag --listen: flag:"));
        assert!(text.ends_with("\nnowhere: is missing\n    help: set it\nand 103 more problems"));
    }
}
