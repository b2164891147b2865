//! Reads single values: of the right type, within their range. What is wrong is noted, a stand-in is returned, and
//! reading goes on, so that all problems are told together.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::defaults;
use super::effective::Effective;
use super::environment::Environment;
use super::error::{Place, Problems};
use super::raw::Raw;
use super::value::Value;
use crate::core::text::one_line;

/// The shortest time that is not zero.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);
/// The longest time that a setting takes: 10 years, as humantime counts them. Sums of a few fit every clock.
const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);
/// The most elements of a list, and the longest element in bytes.
const MAX_LIST: usize = 100;
const MAX_ELEMENT: usize = 128;

/// What the settings are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To poll: projects are wanted, and every secret is read once.
    Poll,
    /// To ask the API from a command: projects are wanted and their keys read, other secrets are not touched.
    Request,
    /// To look at a running daemon or its state: neither is touched.
    Inspect,
    /// To check: as to poll, but a secret that this user cannot read may be one that the daemon can.
    Check,
}

impl Purpose {
    /// Whether the settings of an installed unit are meant, from a login shell.
    pub(super) fn is_of_shell(self) -> bool {
        self != Self::Poll
    }

    /// Whether the state of an installed unit is meant.
    pub(super) fn wants_its_state(self) -> bool {
        matches!(self, Self::Inspect | Self::Check)
    }
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub raw: &'a Raw<'a>,
    pub environment: &'a Environment,
    pub purpose: Purpose,
    pub problems: Problems,
    pub effective: Effective,
}

impl<'a> Reader<'a> {
    /// Notes an error, at the place where the setting was given.
    pub(super) fn fail(&mut self, key: &str, problem: impl Into<String>, help: impl Into<String>) {
        let place = self.raw.place_of(key);
        self.problems.error(key, place, problem.into(), help.into());
    }

    /// Notes a warning likewise.
    pub(super) fn warn(&mut self, key: &str, problem: impl Into<String>, help: impl Into<String>) {
        let place = self.raw.place_of(key);
        self.problems.warning(key, place, problem.into(), help.into());
    }

    fn wrong_type(&mut self, key: &str, expected: &str, value: &Value, help: &str) {
        self.fail(
            key,
            format!("expected {expected}, found {}", value.describe()),
            help,
        );
    }

    fn out_of_range<T: Display>(&mut self, key: &str, found: T, least: T, most: T) {
        self.fail(
            key,
            format!("{found} is out of range"),
            format!("give a number from {least} to {most}"),
        );
    }

    /// Where the setting was given, if it was.
    pub(super) fn given_at(&self, key: &str) -> Option<Place> {
        self.raw.get(key).and_then(|_| self.raw.place_of(key))
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &str, expected: &str) -> Option<&'a str> {
        match self.raw.get(key)? {
            Value::Text(text) | Value::String(text) if text.trim().is_empty() => {
                self.fail(
                    key,
                    "is empty",
                    format!("give {expected}, or leave the setting out"),
                );
                None
            }
            value @ (Value::Text(text) | Value::String(text)) => {
                self.effective.note(key, value);
                Some(text)
            }
            value => {
                self.wrong_type(key, expected, value, "write it as text, between quotation marks");
                None
            }
        }
    }

    /// A name: 1 to `most` characters that need no quoting in URLs, metrics and lists.
    pub(super) fn name(&mut self, key: &str, most: usize) -> Option<Arc<str>> {
        let text = self.text(key, "a name")?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        // "." and ".." would change the path of a URL.
        if text.len() > most || !text.chars().all(legal) || text == "." || text == ".." {
            let problem = format!("{:?} is no valid name", one_line(text, 150));
            self.fail(
                key,
                problem,
                format!("use 1 to {most} characters of A-Z a-z 0-9 . _ ~ -"),
            );
            return None;
        }
        Some(Arc::from(text))
    }

    /// A time of at least `least`.
    pub(super) fn duration(&mut self, key: &str, default: Duration, least: Duration) -> Duration {
        let duration = self.given_duration(key, default, least);
        let text = humantime::format_duration(duration).to_string();
        self.effective.note(key, &Value::String(text));
        duration
    }

    fn given_duration(&mut self, key: &str, default: Duration, least: Duration) -> Duration {
        const HELP: &str = "write numbers with units, such as \"250ms\", \"30s\", \"5m\" or \"1h 30m\"";
        let text = match self.raw.get(key) {
            None => return default,
            Some(Value::Text(text) | Value::String(text)) => text,
            Some(Value::Integer(number)) => {
                let help = format!("write the unit too, as in \"{number}s\"");
                self.fail(
                    key,
                    format!("expected a duration, found the whole number {number}"),
                    help,
                );
                return default;
            }
            Some(value) => {
                self.wrong_type(key, "a duration", value, HELP);
                return default;
            }
        };
        let Ok(duration) = humantime::parse_duration(text) else {
            self.fail(key, format!("{:?} is no duration", one_line(text, 80)), HELP);
            return default;
        };
        if duration < least || duration > LONGEST {
            let bounds = format!(
                "give at least {} and at most 10 years",
                humantime::format_duration(least)
            );
            self.fail(
                key,
                format!(
                    "{text:?} is too {}",
                    if duration < least { "short" } else { "long" }
                ),
                bounds,
            );
            return default;
        }
        duration
    }

    /// A time, or `None` for `"off"`.
    pub(super) fn duration_or_off(&mut self, key: &str, default: Option<Duration>) -> Option<Duration> {
        let duration = match self.raw.get(key) {
            None => default,
            Some(Value::Text(text) | Value::String(text)) if text == "off" => None,
            Some(_) => Some(self.duration(key, SHORTEST, SHORTEST)),
        };
        let text = duration.map_or_else(
            || "off".to_owned(),
            |duration| humantime::format_duration(duration).to_string(),
        );
        self.effective.note(key, &Value::String(text));
        duration
    }

    /// A number, whole or not.
    pub(super) fn number(&mut self, key: &str, default: f64, range: &RangeInclusive<f64>) -> f64 {
        let number = self.given_number(key, default, range);
        self.effective.note(key, &Value::Float(number));
        number
    }

    fn given_number(&mut self, key: &str, default: f64, range: &RangeInclusive<f64>) -> f64 {
        let (least, most) = (*range.start(), *range.end());
        let parsed = match self.raw.get(key) {
            None => return default,
            Some(Value::Float(number)) => Ok(*number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a number that large is out of range anyway"
            )]
            Some(Value::Integer(number)) => Ok(*number as f64),
            Some(value @ Value::Text(text)) => text.parse().map_err(|_| value),
            Some(value) => Err(value),
        };
        match parsed {
            Ok(number) if range.contains(&number) => return number,
            Ok(number) => self.out_of_range(key, number, least, most),
            Err(value) => {
                let help = format!("give a number from {least} to {most}, without quotation marks");
                self.wrong_type(key, "a number", value, &help);
            }
        }
        default
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count(&mut self, key: &str, default: usize, most: usize) -> NonZeroUsize {
        let count = self.given_count(key, default, most);
        let number = i128::try_from(count.get()).unwrap_or(i128::MAX);
        self.effective.note(key, &Value::Integer(number));
        count
    }

    fn given_count(&mut self, key: &str, default: usize, most: usize) -> NonZeroUsize {
        let parsed = match self.raw.get(key) {
            None => Ok(i128::try_from(default).unwrap_or(i128::MAX)),
            Some(Value::Integer(number)) => Ok(*number),
            Some(value @ Value::Text(text)) => text.parse().map_err(|_| value),
            Some(value) => Err(value),
        };
        match parsed {
            Ok(number) => match usize::try_from(number)
                .ok()
                .filter(|n| *n <= most)
                .and_then(NonZeroUsize::new)
            {
                Some(count) => return count,
                None => self.out_of_range(key, number, 1, i128::try_from(most).unwrap_or(i128::MAX)),
            },
            Err(value) => {
                let help = format!("give a whole number from 1 to {most}, without quotation marks");
                self.wrong_type(key, "a whole number", value, &help);
            }
        }
        NonZeroUsize::MIN
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let value = self.given_boolean(key, default);
        self.effective.note(key, &Value::Boolean(value));
        value
    }

    fn given_boolean(&mut self, key: &str, default: bool) -> bool {
        let value = match self.raw.get(key) {
            None => return default,
            Some(Value::Boolean(value)) => return *value,
            Some(Value::Text(text)) if text.eq_ignore_ascii_case("true") => return true,
            Some(Value::Text(text)) if text.eq_ignore_ascii_case("false") => return false,
            Some(value) => value,
        };
        self.wrong_type(
            key,
            "true or false",
            value,
            "write true or false, without quotation marks",
        );
        default
    }

    /// A list of texts, none empty and at least one. In the environment parted by commas, or written as in TOML.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let help = "write a list of texts, such as [\"one\", \"two\"]";
        let values = match self.raw.get(key)? {
            Value::Array(values) => values.clone(),
            Value::Text(text) if text.starts_with('[') => match Value::parse_array(text) {
                Some(values) => values,
                None => {
                    self.fail(
                        key,
                        "is no valid TOML list",
                        "write [\"one\", \"two\"], or one,two",
                    );
                    return None;
                }
            },
            Value::Text(text) => text
                .split(',')
                .map(|part| Value::String(part.trim().to_owned()))
                .collect(),
            value => {
                self.wrong_type(key, "a list of texts", value, help);
                return None;
            }
        };
        if values.is_empty() || values.len() > MAX_LIST {
            let help = format!("give 1 to {MAX_LIST} elements, or leave the setting out");
            self.fail(key, format!("the list has {} elements", values.len()), help);
            return None;
        }
        let mut texts = Vec::with_capacity(values.len());
        for value in &values {
            match value {
                Value::String(text) if (1..=MAX_ELEMENT).contains(&text.len()) => texts.push(text.clone()),
                Value::String(_) => {
                    self.fail(
                        key,
                        "an element of the list is empty or too long",
                        format!("use 1 to {MAX_ELEMENT} bytes"),
                    );
                    return None;
                }
                value => {
                    self.wrong_type(key, "texts in the list", value, help);
                    return None;
                }
            }
        }
        self.effective
            .note(key, &Value::list(texts.iter().map(String::as_str)));
        Some(texts)
    }

    /// A path; a relative one starts from the folder that the process was started in.
    pub(super) fn path_or(&mut self, key: &str, default: impl FnOnce() -> PathBuf) -> PathBuf {
        let path = match self.given_path(key) {
            Some(path) => self.environment.absolute(&path),
            None => default(),
        };
        self.effective.note(key, &Value::from_os(path.as_os_str()));
        path
    }

    /// Whether a part of the path that is given is such.
    pub(super) fn has_path_with(&self, key: &str, is_such: impl Fn(&str) -> bool) -> bool {
        let text = match self.raw.get(key) {
            Some(Value::Text(text) | Value::String(text)) => text,
            _ => return false,
        };
        text.split('/').any(is_such)
    }

    fn given_path(&mut self, key: &str) -> Option<PathBuf> {
        match self.raw.get(key)? {
            Value::NotUtf8(path) => Some(PathBuf::from(path)),
            _ => self.text(key, "a path").map(PathBuf::from),
        }
    }

    /// The path of a `*_file` setting. A relative one is below `$CREDENTIALS_DIRECTORY`, or without that beside the
    /// settings file that names it; for commands in a login shell it may be below [`defaults::CREDSTORE`].
    pub(super) fn file(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.given_path(key)?;
        let credentials = self.environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
        let folder = credentials.or_else(|| self.raw.folder_of(key));
        let found = folder.map_or_else(|| path.clone(), |folder| folder.join(&path));
        let found = self.environment.absolute(&found);
        // A name without a folder may be that of a credential.
        let stored = self.credstore().map(|credstore| credstore.join(&path));
        let found = match stored {
            Some(stored) if path.is_relative() && !found.exists() && stored.exists() => stored,
            _ => found,
        };
        self.effective.note(key, &Value::from_os(found.as_os_str()));
        Some(found)
    }

    /// Where the secrets of the installed unit are, for commands in a login shell.
    pub(super) fn credstore(&self) -> Option<&'static Path> {
        let is_in_unit = self.environment.get("CREDENTIALS_DIRECTORY").is_some();
        (self.purpose.is_of_shell() && !is_in_unit).then_some(Path::new(defaults::CREDSTORE))
    }
}
