//! What an answer about an object or an operation means.

use std::sync::Arc;

use jiff::Timestamp;

use super::catalog::{Catalog, ObjectAnswer};
use super::installation::label_value;
use super::listed::NamedOperation;
use super::names::IntegrationNames;
use super::request::{ObjectKey, OperationState};
use super::rule::Rules;
use super::{Discovery, GROUP_LABEL};
use crate::core::deadline::Deadline;
use crate::core::project_health::Moment;
use crate::core::watch_list::Labels;

/// The labels that discovery sets.
pub const OWN_LABELS: [&str; 4] = [GROUP_LABEL, "object", "installation", "integration"];

/// An operation that was not known.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundOperation {
    /// Its ID.
    pub operation: Arc<str>,
    /// The object that it reads.
    pub key: ObjectKey,
    /// Its labels.
    pub labels: Labels,
    /// By when it should be finished.
    pub deadline: Option<Deadline>,
}

impl Discovery {
    /// The request for an object failed.
    pub(super) fn object_failed(&mut self, key: &ObjectKey, reason: Arc<str>, now: Moment) {
        let answer = ObjectAnswer::Failed(reason);
        self.catalog.asked(key, &answer, self.rounds.number(), now);
    }

    /// An object has this newest backfill. Returns it if it was not known, and does not have to be polled first.
    pub(super) fn object_answered(
        &mut self,
        key: &ObjectKey,
        named: Option<NamedOperation>,
        now: Moment,
    ) -> Option<FoundOperation> {
        let object = self.catalog.get(key);
        let known = object.and_then(|(_, object)| object.operation.as_deref());
        let named = named.filter(|named| object.is_some() && known != Some(&named.id));
        let answer = match named {
            Some(_) => ObjectAnswer::News,
            None => ObjectAnswer::NoNews,
        };
        self.catalog.asked(key, &answer, self.rounds.number(), now);
        let NamedOperation { id, create_time } = named?;
        let operation: Arc<str> = id.into();
        if self.catalog.operations.is_unverified(&operation) {
            return None;
        }
        if self.catalog.operations.object_of(&operation).is_some() {
            // Another object named it first.
            self.catalog.name_operation(&operation, key);
            return None;
        }
        let (installation, object) = self.catalog.get(key)?;
        let lookback = self.rules.get(object.rule)?.lookback;
        let oldest = installation.first_seen.checked_sub(lookback);
        if create_time.is_some_and(|created| created >= oldest.unwrap_or(Timestamp::MIN)) {
            return self.found(operation, key.clone());
        }
        self.catalog.add_unverified(operation, key.clone());
        None
    }

    /// An operation that had to be polled has this state. Returns it if it runs.
    pub(super) fn operation_answered(
        &mut self,
        operation: &Arc<str>,
        state: OperationState,
    ) -> Option<FoundOperation> {
        let key = self.catalog.take_unverified(operation)?;
        match state {
            OperationState::Running => return self.found(Arc::clone(operation), key),
            OperationState::Finished => self.catalog.name_operation(operation, &key),
            // One such answer proves nothing. It is polled again when its object was asked for again.
            OperationState::Missing => {}
        }
        None
    }

    fn found(&mut self, operation: Arc<str>, key: ObjectKey) -> Option<FoundOperation> {
        let found = describe(&self.catalog, &self.rules, &self.names, operation, key)?;
        self.catalog.name_operation(&found.operation, &found.key);
        Some(found)
    }
}

/// An operation with the labels and the deadline that the rules give it.
pub(super) fn describe(
    catalog: &Catalog,
    rules: &Rules,
    names: &IntegrationNames,
    operation: Arc<str>,
    key: ObjectKey,
) -> Option<FoundOperation> {
    let (installation, object) = catalog.get(&key)?;
    let rule = rules.get(object.rule)?;
    let integration = names.get(&installation.integration);
    let own = [
        &*installation.group,
        &*key.object,
        &*key.installation,
        integration.unwrap_or(&installation.integration),
    ];
    let labels = OWN_LABELS.into_iter().zip(own);
    let labels = labels
        .map(|(name, value)| (name.to_owned(), label_value(value)))
        .chain(rule.labels.iter().cloned())
        .collect();
    Some(FoundOperation {
        operation,
        key,
        labels,
        deadline: rule.deadline,
    })
}
