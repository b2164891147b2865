//! Reads single values and checks their type and range. On an error the default is returned and reading continues, so that all
//! problems are reported together.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::effective::EffectiveSettings;
use super::environment::Environment;
use super::error::{Place, Problems};
use super::keys::{self, SettingKind};
use super::places;
use super::raw::Raw;
use super::value::Value;
use crate::core::text::one_line;
use crate::core::watch_list::Labels;

/// The longest duration of a setting: 10 years, as humantime counts them. Sums of a few fit every clock.
const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);
/// The most elements of a list.
const MAX_LIST: usize = 100;
/// The longest element, in bytes.
const MAX_ELEMENT: usize = 128;

/// What the settings are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run the daemon: a project is required, and every secret is read once.
    Poll,
    /// To send requests from a command: a project and its key are required, other secrets are not read.
    Request,
    /// To inspect a running daemon or its state: neither projects nor secrets are required.
    Inspect,
    /// To check the settings: as [`Purpose::Poll`], but a secret that this user cannot read may be readable for the daemon.
    Check,
}

impl Purpose {
    /// Whether a command reads the settings, perhaps those of an installed unit.
    pub(super) fn is_command(self) -> bool {
        self != Self::Poll
    }

    /// Whether the state of an installed unit is used if there is one.
    pub(super) fn uses_installed_state(self) -> bool {
        matches!(self, Self::Inspect | Self::Check)
    }
}

/// Reads typed settings, with the effective values and the problems.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub raw: &'a Raw<'a>,
    pub environment: &'a Environment,
    pub purpose: Purpose,
    pub problems: Problems,
    pub effective: EffectiveSettings,
}

impl<'a> Reader<'a> {
    /// Notes an error at the place where the setting is set.
    pub(super) fn fail(&mut self, key: &str, problem: impl Into<String>, help: impl Into<String>) {
        let place = self.raw.place_of(key);
        self.problems.error(key, place, problem.into(), help.into());
    }

    /// Notes a warning at the place where the setting is set.
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
            format!("use a number from {least} to {most}"),
        );
    }

    /// Where the setting is set, if it is.
    pub(super) fn place_set(&self, key: &str) -> Option<Place> {
        self.raw.get(key).and_then(|_| self.raw.place_of(key))
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &str, expected: &str) -> Option<&'a str> {
        match self.raw.get(key)? {
            Value::Text(text) | Value::String(text) if text.trim().is_empty() => {
                self.fail(key, "is empty", format!("use {expected}, or remove the setting"));
                None
            }
            value @ (Value::Text(text) | Value::String(text)) => {
                self.effective.note(key, value.clone());
                Some(text)
            }
            value => {
                self.wrong_type(key, expected, value, "write it in quotation marks");
                None
            }
        }
    }

    /// As [`Reader::text`], or the default.
    pub(super) fn text_or_default(&mut self, key: &str, expected: &str) -> &'a str {
        let default = default_text(key);
        match self.text(key, expected) {
            Some(text) => text,
            None => {
                self.note_text(key, default);
                default
            }
        }
    }

    /// Notes a text that is not set.
    pub(super) fn note_text(&mut self, key: &str, text: &str) {
        self.effective.note(key, Value::String(text.to_owned()));
    }

    /// A name of 1 to `most` characters that need no quoting in URLs, metrics and lists.
    pub(super) fn name(&mut self, key: &str, most: usize) -> Option<Arc<str>> {
        let text = self.text(key, "a name")?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        // "." and ".." would change the path of a URL.
        if text.len() > most || !text.chars().all(legal) || text == "." || text == ".." {
            let problem = format!("{:?} is not a valid name", one_line(text, 150));
            self.fail(
                key,
                problem,
                format!("use 1 to {most} characters of A-Z a-z 0-9 . _ ~ -"),
            );
            return None;
        }
        Some(Arc::from(text))
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &str) -> Duration {
        let SettingKind::Duration { default, least } = keys::kind(key) else {
            unreachable!("{key} is not a duration")
        };
        let duration = self.duration_from(key, default, least);
        self.note_duration(key, Some(duration));
        duration
    }

    /// A duration, or `None` for `"off"`.
    pub(super) fn duration_or_off(&mut self, key: &str) -> Option<Duration> {
        /// The shortest duration that is not zero.
        const SHORTEST: Duration = Duration::from_millis(1);
        let SettingKind::DurationOrOff { default } = keys::kind(key) else {
            unreachable!("{key} is not a duration or off")
        };
        let duration = match self.raw.get(key) {
            None => default,
            Some(Value::Text(text) | Value::String(text)) if text == "off" => None,
            Some(_) => Some(self.duration_from(key, SHORTEST, SHORTEST)),
        };
        self.note_duration(key, duration);
        duration
    }

    fn note_duration(&mut self, key: &str, duration: Option<Duration>) {
        let text = duration.map_or_else(
            || "off".to_owned(),
            |duration| humantime::format_duration(duration).to_string(),
        );
        self.effective.note(key, Value::String(text));
    }

    fn duration_from(&mut self, key: &str, default: Duration, least: Duration) -> Duration {
        const HELP: &str = "write numbers with units, such as \"250ms\", \"30s\", \"5m\" or \"1h 30m\"";
        let text = match self.raw.get(key) {
            None => return default,
            Some(Value::Text(text) | Value::String(text)) => text,
            Some(Value::Integer(number)) => {
                let help = format!("add the unit, as in \"{number}s\"");
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
            self.fail(key, format!("{:?} is not a duration", one_line(text, 80)), HELP);
            return default;
        };
        if duration < least || duration > LONGEST {
            let bounds = format!(
                "use at least {} and at most 10 years",
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

    /// A number, whole or not.
    pub(super) fn number(&mut self, key: &str) -> f64 {
        let SettingKind::Number { default, least, most } = keys::kind(key) else {
            unreachable!("{key} is not a number")
        };
        let number = self.number_from(key, default, &(least..=most));
        self.effective.note(key, Value::Float(number));
        number
    }

    fn number_from(&mut self, key: &str, default: f64, range: &RangeInclusive<f64>) -> f64 {
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
                let help = format!("use a number from {least} to {most}, without quotation marks");
                self.wrong_type(key, "a number", value, &help);
            }
        }
        default
    }

    /// A whole number from 1.
    pub(super) fn count(&mut self, key: &str) -> NonZeroUsize {
        let SettingKind::Count { default, most } = keys::kind(key) else {
            unreachable!("{key} is not a whole number")
        };
        let count = self.count_from(key, default, most);
        let number = i128::try_from(count.get()).unwrap_or(i128::MAX);
        self.effective.note(key, Value::Integer(number));
        count
    }

    fn count_from(&mut self, key: &str, default: usize, most: usize) -> NonZeroUsize {
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
                let help = format!("use a whole number from 1 to {most}, without quotation marks");
                self.wrong_type(key, "a whole number", value, &help);
            }
        }
        NonZeroUsize::MIN
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str) -> bool {
        let SettingKind::Boolean { default } = keys::kind(key) else {
            unreachable!("{key} is not true or false")
        };
        let value = self.boolean_from(key, default);
        self.effective.note(key, Value::Boolean(value));
        value
    }

    fn boolean_from(&mut self, key: &str, default: bool) -> bool {
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

    /// A list of 1 to [`MAX_LIST`] texts. In the environment it is separated by commas, or written as in TOML.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let help = "write a list of texts, such as [\"one\", \"two\"]";
        let values = match self.raw.get(key)? {
            Value::Array(values) => values.clone(),
            Value::Text(text) if text.starts_with('[') => match Value::parse_array(text) {
                Some(values) => values,
                None => {
                    self.fail(
                        key,
                        "is not a valid TOML list",
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
            let help = format!("use 1 to {MAX_LIST} elements, or remove the setting");
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
            .note(key, Value::list(texts.iter().map(String::as_str)));
        Some(texts)
    }

    /// Labels. In the environment they are `key=value`, separated by commas, or a table as in TOML.
    pub(super) fn labels(&mut self, key: &str) -> Option<Labels> {
        const HELP: &str = "write a table of texts, such as { team = \"crm\" }";
        let entries = match self.raw.get(key)? {
            Value::Table(entries) => entries.clone(),
            Value::Text(text) if text.starts_with('{') => match Value::parse_table(text) {
                Some(entries) => entries,
                None => {
                    self.fail(key, "is not a valid TOML table", HELP);
                    return None;
                }
            },
            Value::Text(text) => {
                let labels = text.split(',').map(|label| {
                    let (name, value) = label.split_once('=')?;
                    let value = Value::String(value.trim().to_owned());
                    Some((name.trim().to_owned(), value))
                });
                match labels.collect::<Option<Vec<_>>>() {
                    Some(entries) => entries,
                    None => {
                        self.fail(
                            key,
                            "has a label without \"=\"",
                            "write key=value, separated by commas",
                        );
                        return None;
                    }
                }
            }
            value => {
                self.wrong_type(key, "a table of texts", value, HELP);
                return None;
            }
        };
        let mut labels = Labels::new();
        for (name, value) in &entries {
            match value {
                Value::String(text) => labels.push((name.clone(), text.clone())),
                value => {
                    self.wrong_type(key, "texts in the table", value, HELP);
                    return None;
                }
            }
        }
        self.effective.note(key, Value::Table(entries));
        Some(labels)
    }

    /// A path. A relative one starts in the folder that the process was started in.
    pub(super) fn path_or(&mut self, key: &str, default: impl FnOnce() -> PathBuf) -> PathBuf {
        let path = match self.path_set(key) {
            Some(path) => self.environment.absolute(&path),
            None => default(),
        };
        self.effective.note(key, Value::from_os(path.as_os_str()));
        path
    }

    /// Whether a part of the path matches.
    pub(super) fn has_path_with(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let text = match self.raw.get(key) {
            Some(Value::Text(text) | Value::String(text)) => text,
            _ => return false,
        };
        text.split('/').any(matches)
    }

    fn path_set(&mut self, key: &str) -> Option<PathBuf> {
        match self.raw.get(key)? {
            Value::NotUtf8(path) => Some(PathBuf::from(path)),
            _ => self.text(key, "a path").map(PathBuf::from),
        }
    }

    /// The path of a `*_file` setting. A relative one starts in `$CREDENTIALS_DIRECTORY`, otherwise beside the settings
    /// file that names it; commands also search [`places::CREDSTORE`].
    pub(super) fn file(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.path_set(key)?;
        let credentials = self.environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
        let folder = credentials.or_else(|| self.raw.folder_of(key));
        let found = folder.map_or_else(|| path.clone(), |folder| folder.join(&path));
        let found = self.environment.absolute(&found);
        let stored = self.credstore().map(|credstore| credstore.join(&path));
        let found = match stored {
            Some(stored) if path.is_relative() && !found.exists() && stored.exists() => stored,
            _ => found,
        };
        self.effective.note(key, Value::from_os(found.as_os_str()));
        Some(found)
    }

    /// The folder of the installed unit's secrets, for commands outside of the unit.
    pub(super) fn credstore(&self) -> Option<&'static Path> {
        let is_in_unit = self.environment.get("CREDENTIALS_DIRECTORY").is_some();
        (self.purpose.is_command() && !is_in_unit).then_some(Path::new(places::CREDSTORE))
    }
}

/// The default of a setting that is text.
pub(super) fn default_text(key: &str) -> &'static str {
    let default = keys::kind(key).text_default();
    default.expect("each path that is read as text has text as its default")
}
