//! The values that apply, each with where it comes from.

use std::collections::BTreeMap;

use super::error::Place;
use super::keys::{KEYS, pattern};
use super::value::Value;

/// One setting as it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingValue {
    /// The path of the key, such as `poll.max_interval` or `webhooks[0].url`.
    pub key: String,
    /// The value, as TOML. Of a secret, and of what may be one, it shows nothing.
    pub value: String,
    /// Where it was given; `None` for a default.
    pub place: Option<Place>,
    /// Whether this can be written into a settings file: secrets and parts of values cannot.
    pub is_setting: bool,
}

/// Collects the values while they are read.
#[derive(Debug, Default)]
pub(super) struct Effective(BTreeMap<String, Noted>);

#[derive(Debug)]
struct Noted {
    value: String,
    /// Of a secret; the place of a setting is known elsewhere.
    secret_place: Option<Place>,
    /// Whether it is the whole value, so that it can be written into a settings file.
    is_whole: bool,
}

impl Effective {
    /// This is the value of the setting.
    pub(super) fn note(&mut self, key: &str, value: &Value) {
        let noted = Noted {
            value: value.to_toml(),
            secret_place: None,
            is_whole: true,
        };
        self.0.insert(key.to_owned(), noted);
    }

    /// As [`Effective::note`], unless there is a value.
    pub(super) fn note_default(&mut self, key: &str, value: &Value) {
        if !self.0.contains_key(key) {
            self.note(key, value);
        }
    }

    /// This is shown of a setting whose value may be a secret.
    pub(super) fn note_part(&mut self, key: &str, part: String) {
        let noted = Noted {
            value: Value::String(part).to_toml(),
            secret_place: None,
            is_whole: false,
        };
        self.0.insert(key.to_owned(), noted);
    }

    /// A secret is here, which is no setting.
    pub(super) fn note_secret(&mut self, key: &str, place: Place) {
        let noted = Noted {
            value: Value::String("[REDACTED]".to_owned()).to_toml(),
            secret_place: Some(place),
            is_whole: false,
        };
        self.0.insert(key.to_owned(), noted);
    }

    /// The values in the order of [`KEYS`], tables one after the other.
    pub(super) fn into_values(self, place_of: impl Fn(&str) -> Option<Place>) -> Vec<SettingValue> {
        let values = self.0.into_iter().map(|(key, noted)| SettingValue {
            place: noted.secret_place.or_else(|| place_of(&key)),
            value: noted.value,
            key,
            is_setting: noted.is_whole,
        });
        let mut values: Vec<_> = values.collect();
        values.sort_by_cached_key(|value| order(&value.key));
        values
    }
}

/// The table's place among the tables, the index, the key's place within the table.
fn order(key: &str) -> (usize, usize, usize) {
    let of_pattern = pattern(key);
    let table = table_of(&of_pattern);
    let position = |wanted: &dyn Fn(&str) -> bool| KEYS.iter().position(|known| wanted(known));
    let index = key
        .split_once('[')
        .and_then(|(_, rest)| rest.split(']').next()?.parse().ok());
    (
        position(&|known| table_of(known) == table).unwrap_or(KEYS.len()),
        index.unwrap_or(0),
        position(&|known| known == of_pattern).unwrap_or(KEYS.len()),
    )
}

/// What stands before the last name of a key.
fn table_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(table, _)| table)
}
