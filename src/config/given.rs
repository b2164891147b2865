//! The values that were given, for naming what a reload changes.

use std::collections::BTreeMap;
use std::fmt;

use super::value::Value;

/// The values of the settings that were given, by key. Its debug print shows keys alone, since URLs may have secrets.
#[derive(Clone, Default)]
pub struct Given(pub(super) BTreeMap<String, Value>);

impl Given {
    /// The keys whose values are others in `new`, given before or not.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<String> {
        let mut keys: Vec<&String> = self.0.keys().chain(new.0.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.0.get(*key) != new.0.get(*key));
        keys.into_iter().cloned().collect()
    }

    /// The values of these keys stay as they were in `before`.
    pub fn keep(&mut self, kept: &[&str], before: &Self) {
        for key in kept {
            match before.0.get(*key) {
                Some(value) => self.0.insert((*key).to_owned(), value.clone()),
                None => self.0.remove(*key),
            };
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_key() {
        let given = |pairs: &[(&str, i128)]| {
            let pairs = pairs.iter();
            Given(
                pairs
                    .map(|(key, value)| ((*key).to_owned(), Value::Integer(*value)))
                    .collect(),
            )
        };
        let before = given(&[("a", 1), ("b", 2), ("c", 3)]);
        let after = given(&[("a", 1), ("b", 3), ("d", 4)]);
        assert_eq!(before.differences(&after), ["b", "c", "d"]);
        assert!(before.differences(&before).is_empty());
        let mut kept = after.clone();
        kept.keep(&["b", "c", "d"], &before);
        assert!(before.differences(&kept).is_empty());
        assert!(!format!("{after:?}").contains('4'));
    }
}
