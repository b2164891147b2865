//! What operations have in common, kept once for all of them, and what those that have ended taught of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::budget::Savings;
use super::experience::{Experience, Lesson, Lessons};
use super::operation::Operation;
use super::text;

/// The most bytes of an ID or of an object's name that are kept: the API's answer may have a mebibyte.
const MAX_NAME: usize = 256;
/// The most bytes that the names of an operation's objects may have together.
const MAX_OBJECTS: usize = 2048;
/// So many kinds are kept, and with them what was learned, also when no operation of theirs is watched.
const FEW: usize = 1_000;

/// What an operation shares with others of its integration: hundreds of thousands of operations are of a few kinds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kind {
    /// What tells it from others.
    #[serde(flatten)]
    pub traits: Traits,
    /// What its operations taught. Learned anew at each start, from those that are on record.
    #[serde(skip)]
    lessons: Mutex<Lessons>,
}

/// What tells one kind of operations from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traits {
    /// The Ampersand project ID.
    pub project_id: String,
    /// The integration ID.
    pub integration_id: String,
    /// The objects that are read.
    pub objects: Vec<String>,
}

impl Kind {
    /// What operations of this kind that have ended taught of those that run.
    #[must_use]
    pub fn experience(&self) -> Experience {
        lock(&self.lessons).experience()
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.traits == other.traits
    }
}

impl Traits {
    fn of(operation: &Operation) -> Self {
        Self {
            project_id: text::cut(&operation.project_id, MAX_NAME),
            integration_id: text::cut(&operation.integration_id, MAX_NAME),
            objects: objects(operation).map(|name| text::cut(name, MAX_NAME)).collect(),
        }
    }

    /// Whether the operation has these.
    #[must_use]
    pub fn is_of(&self, operation: &Operation) -> bool {
        text::is_cut_of(&self.project_id, &operation.project_id, MAX_NAME)
            && text::is_cut_of(&self.integration_id, &operation.integration_id, MAX_NAME)
            && self.objects.len() == objects(operation).count()
            && self
                .objects
                .iter()
                .zip(objects(operation))
                .all(|(kept, name)| text::is_cut_of(kept, name, MAX_NAME))
    }
}

/// The objects of an operation, as far as there is room for their names.
fn objects(operation: &Operation) -> impl Iterator<Item = &str> {
    let mut room = MAX_OBJECTS;
    operation
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.objects.as_deref())
        .unwrap_or_default()
        .iter()
        .map(String::as_str)
        .take_while(move |name| {
            let length = name.len().min(MAX_NAME);
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        })
}

/// The kinds of all operations that are watched.
#[derive(Debug, Default)]
pub struct Kinds {
    known: Mutex<Known>,
    savings: Mutex<Savings>,
}

#[derive(Debug, Default)]
struct Known {
    kinds: HashMap<Traits, Arc<Kind>>,
    /// How many there may be before those that nobody has any more are forgotten.
    most: usize,
}

impl Kinds {
    /// The kind of the operation, the same for all that are alike.
    #[must_use]
    pub fn of(&self, operation: &Operation) -> Arc<Kind> {
        self.with(&Traits::of(operation))
    }

    /// The kind that has these traits.
    #[must_use]
    pub fn with(&self, traits: &Traits) -> Arc<Kind> {
        let mut known = lock(&self.known);
        if let Some(kind) = known.kinds.get(traits) {
            return Arc::clone(kind);
        }
        if known.kinds.len() >= known.most {
            known.kinds.retain(|_, kind| Arc::strong_count(kind) > 1);
            known.most = (2 * known.kinds.len()).max(FEW);
        }
        let kind = Arc::new(Kind {
            traits: traits.clone(),
            lessons: Mutex::default(),
        });
        known.kinds.insert(traits.clone(), Arc::clone(&kind));
        kind
    }

    /// The polls that operations have left unused at their end, for others to make.
    pub fn savings(&self) -> MutexGuard<'_, Savings> {
        lock(&self.savings)
    }

    /// An operation with these traits has succeeded.
    pub fn learn(&self, traits: &Traits, lesson: Lesson) {
        lock(&self.with(traits).lessons).learn(lesson);
    }
}

/// Locks what no holder can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::{ActionType, Metadata, Status};

    fn operation(integration_id: &str, objects: &[String]) -> Operation {
        Operation {
            id: "op".to_owned(),
            project_id: "p".to_owned(),
            integration_id: integration_id.to_owned(),
            config_id: "c".to_owned(),
            installation_id: "i".to_owned(),
            action_type: ActionType::Read,
            status: Status::InProgress,
            result: None,
            create_time: None,
            metadata: Some(Metadata {
                objects: Some(objects.to_vec()),
                ..Metadata::default()
            }),
        }
    }

    #[test]
    fn operations_that_are_alike_have_one_kind() {
        let kinds = Kinds::default();
        let contact = ["contact".to_owned()];
        let one = kinds.of(&operation("a", &contact));
        assert!(Arc::ptr_eq(&one, &kinds.of(&operation("a", &contact))));
        for other in [operation("b", &contact), operation("a", &[])] {
            assert_ne!(one, kinds.of(&other));
            assert!(!one.traits.is_of(&other));
        }
        assert!(one.traits.is_of(&operation("a", &contact)));
    }

    #[test]
    fn long_names_are_cut_and_still_known_again() {
        let names: Vec<String> = (0..20).map(|n| format!("{n}{}", "x".repeat(300))).collect();
        let long = operation(&"y".repeat(1000), &names);
        let kind = Kinds::default().of(&long);
        assert!(kind.traits.is_of(&long));
        assert!(kind.traits.integration_id.len() <= MAX_NAME);
        assert!(kind.traits.objects.iter().map(String::len).sum::<usize>() <= MAX_OBJECTS);
        assert!(!kind.traits.is_of(&operation(&"z".repeat(1000), &names)));
    }

    #[test]
    fn what_was_learned_outlasts_the_operations() {
        let kinds = Kinds::default();
        let lesson = Lesson {
            lasted: std::time::Duration::from_mins(5),
            records: None,
        };
        for _ in 0..3 {
            kinds.learn(&Traits::of(&operation("a", &[])), lesson);
        }
        let kind = kinds.of(&operation("a", &[]));
        assert!(kind.experience().durations.is_some());
        assert_eq!(kinds.of(&operation("b", &[])).experience(), Experience::NONE);
    }

    #[test]
    fn kinds_that_nobody_has_are_forgotten() {
        let kinds = Kinds::default();
        let held: Vec<Arc<Kind>> = (0..50)
            .map(|n| kinds.of(&operation(&format!("held {n}"), &[])))
            .collect();
        for n in 0..10_000 {
            let _ = kinds.of(&operation(&n.to_string(), &[]));
        }
        assert!(kinds.known.lock().unwrap().kinds.len() <= 2 * held.len() + FEW);
        assert!(Arc::ptr_eq(&held[0], &kinds.of(&operation("held 0", &[]))));
    }
}
