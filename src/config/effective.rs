//! The values that apply, each with its place.

use std::collections::BTreeMap;
use std::fmt;

use super::error::Place;
use super::keys;
use super::value::Value;

/// One setting as it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingValue {
    /// The path of the key, such as `poll.max_interval` or `webhooks[0].url`.
    pub key: String,
    /// The value as TOML, without secrets.
    pub value: String,
    /// Where it was set; `None` for a default.
    pub place: Option<Place>,
    /// Whether it can be written into a settings file. Secrets and parts of values cannot.
    pub is_setting: bool,
}

/// The values of all settings, by key. Its debug print shows keys only, because URLs may contain secrets.
#[derive(Clone, Default)]
pub struct EffectiveSettings(BTreeMap<String, EffectiveSetting>);

#[derive(Clone)]
struct EffectiveSetting {
    value: Value,
    /// Where the value was set; `None` for a default.
    place: Option<Place>,
    shown: Shown,
}

/// What is shown of a value.
#[derive(Clone)]
enum Shown {
    All,
    Part(String),
    /// A secret, which is not a setting.
    Nothing,
}

impl EffectiveSettings {
    /// The values in the order of the settings table.
    #[must_use]
    pub fn values(&self) -> Vec<SettingValue> {
        let mut values: Vec<SettingValue> = self.0.iter().map(|(key, entry)| entry.shown(key)).collect();
        values.sort_by_cached_key(|value| order(&value.key));
        values
    }

    /// The keys whose values differ in `new`, sorted. A key that only one of both has counts if it was set.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<String> {
        let differs = |key: &&String| match (self.setting(key), new.setting(key)) {
            (Some(old), Some(new)) => old.value != new.value,
            (Some(entry), None) | (None, Some(entry)) => entry.place.is_some(),
            (None, None) => false,
        };
        let mut keys: Vec<&String> = self.0.keys().chain(new.0.keys()).filter(differs).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().cloned().collect()
    }

    /// Restores the values of these keys from `before`.
    pub fn keep(&mut self, kept: &[&str], before: &Self) {
        for key in kept {
            match before.0.get(*key) {
                Some(entry) => self.0.insert((*key).to_owned(), entry.clone()),
                None => self.0.remove(*key),
            };
        }
    }

    fn setting(&self, key: &str) -> Option<&EffectiveSetting> {
        self.0
            .get(key)
            .filter(|entry| !matches!(entry.shown, Shown::Nothing))
    }

    /// Notes the value of a setting.
    pub(super) fn note(&mut self, key: &str, value: Value) {
        self.insert(key, value, None, Shown::All);
    }

    /// Notes a value of which only `part` is shown.
    pub(super) fn note_part(&mut self, key: &str, value: Value, part: String) {
        self.insert(key, value, None, Shown::Part(part));
    }

    /// Notes that a secret is at `place`.
    pub(super) fn note_secret(&mut self, key: &str, place: Place) {
        self.insert(key, Value::String(String::new()), Some(place), Shown::Nothing);
    }

    fn insert(&mut self, key: &str, value: Value, place: Option<Place>, shown: Shown) {
        self.0
            .insert(key.to_owned(), EffectiveSetting { value, place, shown });
    }

    /// Adds the places where the settings were set.
    pub(super) fn with_places(mut self, place_of: impl Fn(&str) -> Option<Place>) -> Self {
        for (key, entry) in &mut self.0 {
            if entry.place.is_none() {
                entry.place = place_of(key);
            }
        }
        self
    }
}

impl EffectiveSetting {
    fn shown(&self, key: &str) -> SettingValue {
        let text = |text: &str| Value::String(text.to_owned()).to_toml();
        SettingValue {
            key: key.to_owned(),
            value: match &self.shown {
                Shown::All => self.value.to_toml(),
                Shown::Part(part) => text(part),
                Shown::Nothing => text("[REDACTED]"),
            },
            place: self.place.clone(),
            is_setting: matches!(self.shown, Shown::All),
        }
    }
}

impl fmt::Debug for EffectiveSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The position of the table, the index into it, the position of the key.
fn order(key: &str) -> (usize, usize, usize) {
    let pattern = keys::pattern(key);
    let table = keys::split(&pattern).0;
    let position = |is_it: &dyn Fn(&str) -> bool| {
        keys::all()
            .position(|known| is_it(known.path))
            .unwrap_or(usize::MAX)
    };
    let index = key
        .split_once('[')
        .and_then(|(_, rest)| rest.split(']').next()?.parse().ok());
    (
        position(&|known| keys::split(known).0 == table),
        index.unwrap_or(0),
        position(&|known| known == pattern),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_key() {
        let settings = |set: &[(&str, i128)]| {
            let mut settings = EffectiveSettings::default();
            settings.note("default", Value::Integer(0));
            for (key, value) in set {
                settings.note(key, Value::Integer(*value));
            }
            settings.with_places(|key| (key != "default").then_some(Place::Flag("--flag")))
        };
        let before = settings(&[("a", 1), ("b", 2), ("c", 3)]);
        let after = settings(&[("a", 1), ("b", 3), ("d", 4)]);
        assert_eq!(before.differences(&after), ["b", "c", "d"]);
        assert_eq!(
            EffectiveSettings::default().differences(&settings(&[])),
            Vec::<String>::new()
        );
        assert!(before.differences(&before).is_empty());
        let mut kept = after.clone();
        kept.keep(&["b", "c", "d"], &before);
        assert!(before.differences(&kept).is_empty());
        assert!(!format!("{after:?}").contains('4'));
    }
}
