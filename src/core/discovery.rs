//! Discovery finds the backfills of a project's installations: which request is next, and what an answer means.
//!
//! A round lists the installations, then asks for the newest backfill of each object. An operation that was not known is
//! found. An old one, and one without a known time, is polled once first: it is found only if it runs.
//!
//! Times are steady: since the start of the project task, negative before it.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::project_health::Moment;

mod answers;
mod capacity;
mod catalog;
mod failures;
mod installation;
mod listed;
mod names;
mod operations;
mod queue;
mod reply;
mod request;
mod rounds;
mod rule;

use answers::describe;
pub use answers::{FoundOperation, OWN_LABELS};
use capacity::Capacity;
use catalog::Catalog;
pub use failures::{DiscoveryFailure, UnreadableObjects};
pub use installation::{Awaited, StoredInstallation, StoredObject, Urgency};
pub use listed::{
    InstallationList, ListedInstallation, ListedObject, NamedOperation, Unusable, integrations,
};
use names::IntegrationNames;
pub use reply::DiscoveryReply;
pub use request::{BackfillPath, DiscoveryAnswer, DiscoveryRequest, ObjectKey, OperationState};
pub use rounds::InstallationChange;
use rounds::Rounds;
pub use rule::DiscoveryRule;
use rule::Rules;

/// The label with the customer: its `groupRef`, otherwise the ID of its installation.
pub const GROUP_LABEL: &str = "group";

/// This many installations of a list are taken in at a time: more would delay polls.
const CHUNK: usize = 250;

/// What a part of a list shows.
#[derive(Debug, Default, PartialEq)]
pub struct TakenIn {
    /// How the list differs from the one before, once it is complete.
    pub change: Option<InstallationChange>,
    /// Operations that were known and may have other labels or another deadline now.
    pub known: Vec<FoundOperation>,
}

/// The discovery of one project.
#[derive(Debug)]
pub struct Discovery {
    rules: Rules,
    names: IntegrationNames,
    rounds: Rounds,
    catalog: Catalog,
    capacity: Capacity,
    /// Whether the terms of all known operations are those of these rules.
    are_terms_current: bool,
}

impl Discovery {
    /// A discovery that knows nothing. Its first round starts at once.
    #[must_use]
    pub fn new(rules: Arc<[DiscoveryRule]>) -> Self {
        Self {
            rules: Rules::new(rules),
            names: IntegrationNames::default(),
            rounds: Rounds::default(),
            catalog: Catalog::default(),
            capacity: Capacity::default(),
            are_terms_current: false,
        }
    }

    /// Takes in an installation that was recorded before.
    pub fn restore(&mut self, id: Arc<str>, stored: StoredInstallation, now: Moment) {
        self.catalog.restore(id, stored, now);
    }

    /// These rules apply. If they are others, the next round starts at once.
    pub fn set_rules(&mut self, rules: &Arc<[DiscoveryRule]>) {
        if self.rules.all() != &**rules {
            self.rules = Rules::new(Arc::clone(rules));
            self.rounds.restart();
            self.are_terms_current = false;
        }
    }

    /// The next request, if one is due. `random_fraction` is from 0 to 1.
    pub fn next_request(&mut self, now: Moment, random_fraction: f64) -> Option<DiscoveryRequest> {
        let steady = steady(now);
        if self.rounds.next_start().is_some_and(|start| start <= steady) {
            return self.probe(now, random_fraction);
        }
        if self.rounds.request_names() {
            return Some(DiscoveryRequest::Integrations);
        }
        if self.rounds.is_key_doubted() {
            return None;
        }
        if let Some(operation) = self.catalog.operations.next_to_verify() {
            return Some(DiscoveryRequest::Operation(operation));
        }
        if !self.rounds.has_list() {
            // The rules of restored objects are unknown until the first list.
            return None;
        }
        let object = self.catalog.next_object(self.rounds.number(), steady);
        if object.is_none() {
            self.capacity.set_idle();
        }
        object.map(DiscoveryRequest::Backfill)
    }

    /// Starts a round. Its list is also a probe of the credentials. `None` while a list is expected.
    pub fn probe(&mut self, now: Moment, random_fraction: f64) -> Option<DiscoveryRequest> {
        self.rounds.next_start()?;
        self.rounds
            .start(self.rules.every(), steady(now), random_fraction);
        self.catalog.operations.start_round();
        Some(DiscoveryRequest::Installations)
    }

    /// When [`next_request`](Self::next_request) is to be called again, as far as no answer is awaited.
    #[must_use]
    pub fn next_due(&self, now: Moment) -> SignedDuration {
        let are_others_due = self.rounds.has_list() && !self.rounds.is_key_doubted();
        let others = self.catalog.next_revisit().filter(|_| are_others_due);
        let due = others.into_iter().chain(self.rounds.next_start()).min();
        due.unwrap_or(SignedDuration::MAX).max(steady(now))
    }

    /// Whether a part of a list waits for [`take_in`](Self::take_in).
    #[must_use]
    pub fn has_incoming(&self) -> bool {
        self.rounds.has_incoming()
    }

    /// Takes in the next part of a list. `are_terms_compared`: whether the caller can compare the terms of known
    /// operations now.
    pub fn take_in(&mut self, now: Moment, are_terms_compared: bool) -> TakenIn {
        let mut taken = TakenIn::default();
        let round = self.rounds.number();
        let Some(incoming) = self.rounds.incoming() else {
            return taken;
        };
        incoming.are_terms_compared &= are_terms_compared && self.names.are_known();
        for listed in incoming.rest.by_ref().take(CHUNK) {
            let objects = self.rules.select(&listed, self.names.get(&listed.integration));
            let updated = self.catalog.update(listed, objects, round, now);
            incoming.change.added += usize::from(updated.is_new);
            self.are_terms_current &= !updated.has_other_group;
            if !self.are_terms_current && incoming.are_terms_compared {
                let operations = self.catalog.operations_of(&updated.id);
                let known = operations.filter_map(|(operation, key)| {
                    describe(&self.catalog, &self.rules, &self.names, operation, key)
                });
                taken.known.extend(known);
            }
        }
        if incoming.rest.len() > 0 {
            return taken;
        }
        let mut change = incoming.change;
        if incoming.removes {
            change.removed = self.catalog.remove_unlisted(round);
        }
        self.are_terms_current |= incoming.are_terms_compared;
        self.rules.finish_list(incoming.removes);
        self.rounds.finish_list();
        taken.change = Some(change);
        taken
    }

    /// A request was answered; the operation that was found, if it was not known. It counts as known from now on.
    pub fn answered(
        &mut self,
        request: &DiscoveryRequest,
        answer: DiscoveryAnswer,
        now: Moment,
    ) -> Option<FoundOperation> {
        if *request != DiscoveryRequest::Installations && matches!(answer, DiscoveryAnswer::Unauthorized(_)) {
            self.rounds.doubt_key();
        }
        match (request, answer) {
            (DiscoveryRequest::Installations, DiscoveryAnswer::Installations(list)) => {
                self.catalog.failures.list_answered();
                self.rounds.list_answered(list.bytes);
                if self.names.cover(&list, steady(now)) {
                    self.start_list(list);
                } else {
                    self.rounds.await_names(list);
                }
            }
            (DiscoveryRequest::Installations, answer) => {
                self.catalog.failures.list_failed(&answer.failure(), now.wall);
                self.rounds.list_failed();
            }
            (DiscoveryRequest::Integrations, answer) => {
                let list = self.rounds.take_unnamed()?;
                // Without names, IDs are matched alone.
                if let DiscoveryAnswer::Integrations(names) = answer {
                    self.names.replace(&list, names, steady(now));
                }
                self.start_list(list);
            }
            (DiscoveryRequest::Backfill(path), answer) => {
                self.capacity.answered(steady(now));
                if let DiscoveryAnswer::Backfill(named) = answer {
                    return self.object_answered(&path.key, named, now);
                }
                self.object_failed(&path.key, answer.failure(), now);
            }
            (DiscoveryRequest::Operation(operation), DiscoveryAnswer::Operation(state)) => {
                return self.operation_answered(operation, state);
            }
            (DiscoveryRequest::Operation(operation), _) => {
                self.catalog.operations.poll_failed(Arc::clone(operation));
            }
        }
        None
    }

    fn start_list(&mut self, list: InstallationList) {
        let (known, _) = self.catalog.counts();
        self.rounds.start_list(list, known);
    }

    /// A watched operation has finished: its object may have a newer backfill soon.
    pub fn operation_finished(&mut self, operation: &str, now: Moment) {
        if let Some(key) = self.catalog.operations.object_of(operation).cloned() {
            self.catalog.hurry(&key, steady(now));
        }
    }

    /// The installations that changed since they were recorded, at most `limit`. Those that were deleted are `None`.
    pub fn take_unrecorded(
        &mut self,
        limit: usize,
        now: Moment,
    ) -> Vec<(Arc<str>, Option<StoredInstallation>)> {
        self.catalog.take_unrecorded(limit, now)
    }

    /// These could not be recorded.
    pub fn put_back_unrecorded(&mut self, installations: Vec<Arc<str>>) {
        self.catalog.put_back_unrecorded(installations);
    }

    /// Whether an installation changed that is not recorded.
    #[must_use]
    pub fn has_unrecorded(&self) -> bool {
        self.catalog.has_unrecorded()
    }

    /// Whether there are other objects than recorded. A group may wait for them.
    #[must_use]
    pub fn has_unrecorded_objects(&self) -> bool {
        self.catalog.has_unrecorded_objects()
    }

    /// Whether it is known which installations there are, as far as lists are answered.
    #[must_use]
    pub fn knows_installations(&self) -> bool {
        self.rounds.has_list() || self.catalog.failures.are_lists_reported()
    }

    /// Whether every object was asked for at least once, and every operation in doubt was polled.
    #[must_use]
    pub fn has_completed_pass(&self) -> bool {
        self.rounds.has_list() && !self.rounds.has_incoming() && self.catalog.is_complete()
    }

    /// What cannot be read, after three failures in a row.
    #[must_use]
    pub fn failure(&self) -> Option<DiscoveryFailure> {
        let (_, objects) = self.catalog.counts();
        self.catalog.failures.reported(objects)
    }

    /// Rules that match no installation although there are some, by position.
    pub fn unmatched_rules(&self) -> impl Iterator<Item = usize> {
        let (installations, _) = self.catalog.counts();
        let is_known = self.rounds.has_list() && installations > 0;
        self.rules.unmatched().filter(move |_| is_known)
    }

    /// How long a pass through all objects takes, when that is too long.
    #[must_use]
    pub fn over_capacity(&self) -> Option<Duration> {
        let (_, objects) = self.catalog.counts();
        self.capacity.exceeded(objects)
    }

    /// How many installations and objects are known.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.catalog.counts()
    }

    /// The objects of a group for which no operation was found.
    pub fn awaited<'a>(&'a self, group: &str, now: Moment) -> impl Iterator<Item = Awaited<'a>> {
        self.catalog.awaited(group, now)
    }
}

fn steady(now: Moment) -> SignedDuration {
    signed(now.steady)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
