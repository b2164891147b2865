//! What is wrong with the settings, told together.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// How many problems are kept; a file full of nonsense must not fill the memory or the screen.
const MAX_PROBLEMS: usize = 100;

/// Where a setting was given. Orders as problems are told: the file from its top, the environment, the flags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The settings file as a whole.
    File(PathBuf),
    /// A spot in the settings file; line and column count from 1, the column in characters.
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

/// One thing that is wrong, or at least doubtful, with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigProblem {
    /// The path of the key, such as `poll.max_interval` or `webhooks[0].url`; empty where no key is concerned.
    pub key: String,
    /// Where the value was given; `None` where nothing was given.
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    help: {}", self.problem, self.help)
    }
}

/// All that is wrong with the settings. Displays one block for each problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<ConfigProblem>,
    left_out: usize,
}

impl ConfigErrors {
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
            write!(
                f,
                "\nand {} more problems, which are left out here",
                self.left_out
            )?;
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
    /// Whether what follows is only a consequence of the errors so far.
    is_closed: bool,
    /// Secrets that cannot be read here, and may be readable for the daemon.
    unread: Vec<ConfigProblem>,
}

impl Problems {
    pub(super) fn error(&mut self, key: &str, place: Option<Place>, problem: String, help: String) {
        if self.leave_out() {
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

    /// What follows is only a consequence of the errors so far, and is left out.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the next error is one too many; it is then counted, and needs no words.
    pub(super) fn leave_out(&mut self) -> bool {
        if self.is_closed {
            return true;
        }
        let full = self.errors.len() == MAX_PROBLEMS;
        self.left_out += usize::from(full);
        full
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

    /// A secret cannot be read here.
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

    /// The warnings, the secrets that cannot be read here, and the errors if there are any.
    pub(super) fn part(mut self) -> (Vec<ConfigProblem>, Vec<ConfigProblem>, Option<ConfigErrors>) {
        let (warnings, unread) = (
            std::mem::take(&mut self.warnings),
            std::mem::take(&mut self.unread),
        );
        let errors = (!self.errors.is_empty()).then(|| self.into_errors());
        (warnings, unread, errors)
    }

    /// Whether an error was told of this very key.
    pub(super) fn has_error(&self, key: &str) -> bool {
        self.errors.iter().any(|error| error.key == key)
    }

    /// The errors, in the order in which they are told.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.errors
            .sort_by_cached_key(|error| (error.place.is_none(), error.place.clone(), error.key.clone()));
        ConfigErrors {
            problems: self.errors,
            left_out: self.left_out,
        }
    }
}

/// A spot in a file, from a byte offset into its text.
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
    fn problems_are_told_in_the_order_of_their_places_and_bounded() {
        let mut problems = Problems::default();
        let text = "x\n".repeat(300);
        problems.error("nowhere", None, "is missing".into(), "give it".into());
        problems.error(
            "flag",
            Some(Place::Flag("--listen")),
            "is odd".into(),
            "mend it".into(),
        );
        problems.error(
            "env",
            Some(Place::Environment("E".into())),
            "is odd".into(),
            "mend it".into(),
        );
        for line in (0..200).rev() {
            problems.error(
                "k",
                Some(spot(Path::new("f"), &text, line * 2)),
                "is odd".into(),
                "mend it".into(),
            );
        }
        let errors = problems.into_errors();
        let told = errors.to_string();
        assert_eq!(errors.problems().len(), MAX_PROBLEMS);
        assert!(
            told.starts_with("f:104:1: k: is odd\n    help: mend it\nf:105:1: k:"),
            "{told}"
        );
        assert!(
            told.contains("environment variable E: env: is odd\n    help: mend it\nflag --listen: flag:")
        );
        assert!(told.ends_with(
            "\nnowhere: is missing\n    help: give it\nand 103 more problems, which are left out here"
        ));
    }
}
