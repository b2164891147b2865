//! Kinds of operations: shared data of similar operations, and the history of their finished ones.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::duration_distribution::DurationDistribution;
use super::history::{History, HistorySample, HistoryStatistics};
use super::operation::Operation;
use super::poll_budget::SavedPolls;
use super::text;

/// Maximum bytes of a stored ID or object name: the API's answer may have 1 MiB.
const MAX_NAME: usize = 256;
/// Maximum bytes of all object names of an operation.
const MAX_OBJECTS: usize = 2048;
/// This many kinds are kept, with their history, even if no operation has them.
const MIN_KINDS: usize = 1_000;
/// The durations of a project's operations count from this number on.
const MIN_PROJECT_SAMPLES: usize = 5;

/// What similar operations share. Hundreds of thousands of operations have only a few kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OperationKind {
    /// The Ampersand project ID; empty if unknown.
    pub project_id: String,
    /// The integration ID; empty if unknown.
    pub integration_id: String,
    /// The objects that are read.
    pub objects: Vec<String>,
}

impl OperationKind {
    /// The kind of the operation.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        Self {
            project_id: text::cut(operation.project_id.as_deref().unwrap_or_default(), MAX_NAME),
            integration_id: text::cut(operation.integration_id.as_deref().unwrap_or_default(), MAX_NAME),
            objects: objects(operation).map(|name| text::cut(name, MAX_NAME)).collect(),
        }
    }

    /// Whether the operation is of this kind.
    #[must_use]
    pub fn is_of(&self, operation: &Operation) -> bool {
        text::is_cut_of(
            &self.project_id,
            operation.project_id.as_deref().unwrap_or_default(),
            MAX_NAME,
        ) && text::is_cut_of(
            &self.integration_id,
            operation.integration_id.as_deref().unwrap_or_default(),
            MAX_NAME,
        ) && self.objects.len() == objects(operation).count()
            && self
                .objects
                .iter()
                .zip(objects(operation))
                .all(|(kept, name)| text::is_cut_of(kept, name, MAX_NAME))
    }
}

/// The object names of an operation, up to [`MAX_OBJECTS`] bytes.
fn objects(operation: &Operation) -> impl Iterator<Item = &str> {
    let mut left = MAX_OBJECTS;
    operation
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.objects.as_deref())
        .unwrap_or_default()
        .iter()
        .map(String::as_str)
        .take_while(move |name| {
            let length = name.len().min(MAX_NAME);
            let fits = length <= left;
            left = left.saturating_sub(length);
            fits
        })
}

/// The kinds of a project's operations, with the history of each.
#[derive(Debug, Default)]
pub struct OperationKinds {
    known: HashMap<Arc<OperationKind>, Option<Box<RefCell<History>>>>,
    /// The history of all kinds together.
    all: RefCell<History>,
    /// Polls that finished operations left for others.
    saved_polls: Cell<SavedPolls>,
    /// The number of kinds that triggers the removal of unused ones.
    cleanup_at: usize,
}

impl OperationKinds {
    /// Replaces `kind` by an equal one that other operations share.
    pub fn share(&mut self, kind: &mut Arc<OperationKind>) {
        if let Some((known, _)) = self.known.get_key_value(kind) {
            *kind = Arc::clone(known);
            return;
        }
        if self.known.len() >= self.cleanup_at {
            self.known.retain(|kind, _| Arc::strong_count(kind) > 1);
            self.cleanup_at = (2 * self.known.len()).max(MIN_KINDS);
        }
        self.known.insert(Arc::clone(kind), None);
    }

    /// Adds a succeeded operation to the history of its kind.
    pub fn add_sample(&mut self, kind: &Arc<OperationKind>, sample: HistorySample) {
        self.all.get_mut().add_sample(sample);
        let mut kind = Arc::clone(kind);
        self.share(&mut kind);
        if let Some(history) = self.known.get_mut(&kind) {
            history.get_or_insert_default().get_mut().add_sample(sample);
        }
    }

    /// The statistics of finished operations of this kind.
    #[must_use]
    pub fn statistics(&self, kind: &OperationKind) -> HistoryStatistics {
        if self.all.borrow().is_empty() {
            return HistoryStatistics::NONE;
        }
        let project = self.project_durations();
        let history = self.known.get(kind).and_then(Option::as_deref);
        let statistics = history.map(|history| history.borrow_mut().statistics(project.as_ref()).clone());
        HistoryStatistics {
            project_durations: project,
            ..statistics.unwrap_or_default()
        }
    }

    /// The durations of all finished operations, if there are enough.
    fn project_durations(&self) -> Option<Arc<DurationDistribution>> {
        let mut all = self.all.borrow_mut();
        if all.duration_count() < MIN_PROJECT_SAMPLES {
            return None;
        }
        all.statistics(None).durations.clone()
    }

    /// Adds polls that a finished operation did not use.
    pub fn add_saved_polls(&mut self, polls: f32) {
        self.saved_polls.get_mut().add(polls);
    }

    /// Lets a decision use saved polls.
    pub fn with_saved_polls<T>(&self, decide: impl FnOnce(&mut SavedPolls) -> T) -> T {
        let mut saved_polls = self.saved_polls.get();
        let decided = decide(&mut saved_polls);
        self.saved_polls.set(saved_polls);
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::{Metadata, Status};

    fn operation(integration_id: &str, objects: &[String]) -> Operation {
        Operation {
            project_id: Some("p".to_owned()),
            integration_id: Some(integration_id.to_owned()),
            metadata: Some(Metadata {
                objects: Some(objects.to_vec()),
                ..Metadata::default()
            }),
            ..Operation::new("op", Status::InProgress)
        }
    }

    fn shared(kinds: &mut OperationKinds, operation: &Operation) -> Arc<OperationKind> {
        let mut kind = Arc::new(OperationKind::of(operation));
        kinds.share(&mut kind);
        kind
    }

    #[test]
    fn operations_that_are_alike_have_one_kind() {
        let mut kinds = OperationKinds::default();
        let contact = ["contact".to_owned()];
        let one = shared(&mut kinds, &operation("a", &contact));
        assert!(Arc::ptr_eq(&one, &shared(&mut kinds, &operation("a", &contact))));
        for other in [operation("b", &contact), operation("a", &[])] {
            assert_ne!(one, shared(&mut kinds, &other));
            assert!(!one.is_of(&other));
        }
        assert!(one.is_of(&operation("a", &contact)));
    }

    #[test]
    fn long_names_are_cut_and_still_recognized() {
        let names: Vec<String> = (0..20).map(|n| format!("{n}{}", "x".repeat(300))).collect();
        let long = operation(&"y".repeat(1000), &names);
        let kind = OperationKind::of(&long);
        assert!(kind.is_of(&long));
        assert!(kind.integration_id.len() <= MAX_NAME);
        assert!(kind.objects.iter().map(String::len).sum::<usize>() <= MAX_OBJECTS);
        assert!(!kind.is_of(&operation(&"z".repeat(1000), &names)));
    }

    #[test]
    fn the_history_outlasts_its_operations() {
        let mut kinds = OperationKinds::default();
        let sample = HistorySample {
            duration: std::time::Duration::from_mins(5),
            records: None,
        };
        for _ in 0..3 {
            kinds.add_sample(&Arc::new(OperationKind::of(&operation("a", &[]))), sample);
        }
        assert!(
            kinds
                .statistics(&OperationKind::of(&operation("a", &[])))
                .durations
                .is_some()
        );
        assert_eq!(
            kinds.statistics(&OperationKind::of(&operation("b", &[]))),
            HistoryStatistics::NONE
        );
    }

    #[test]
    fn enough_operations_of_any_kind_show_the_durations_of_the_project() {
        let mut kinds = OperationKinds::default();
        let new = OperationKind::of(&operation("new", &[]));
        for n in 0..MIN_PROJECT_SAMPLES {
            assert_eq!(kinds.statistics(&new), HistoryStatistics::NONE);
            let kind = Arc::new(OperationKind::of(&operation(&n.to_string(), &[])));
            let sample = HistorySample {
                duration: std::time::Duration::from_mins(5),
                records: None,
            };
            kinds.add_sample(&kind, sample);
        }
        let statistics = kinds.statistics(&new);
        assert!(statistics.durations.is_none() && statistics.project_durations.is_some());
    }

    #[test]
    fn kinds_that_no_operation_has_are_forgotten() {
        let mut kinds = OperationKinds::default();
        let in_use: Vec<Arc<OperationKind>> = (0..50)
            .map(|n| shared(&mut kinds, &operation(&format!("shared {n}"), &[])))
            .collect();
        for n in 0..10_000 {
            let _ = shared(&mut kinds, &operation(&n.to_string(), &[]));
        }
        assert!(kinds.known.len() <= 2 * in_use.len() + MIN_KINDS);
        assert!(Arc::ptr_eq(
            &in_use[0],
            &shared(&mut kinds, &operation("shared 0", &[]))
        ));
    }
}
