//! Puts watches into groups, and records each round of a group that is complete.

use std::time::Duration;

use super::groups::GroupName;
use super::messages::JobResult;
use super::project_task::{ProjectTask, STORE_RETRY};
use super::watches::{GroupNumber, Slot, WatchNumber};
use crate::ampersand::Fetch;
use crate::core::discovery::GROUP_LABEL;
use crate::core::event::{CompletedRound, Event, GroupData, GroupMember, MissingObject};
use crate::core::group::{GroupId, GroupRecord, Membership};
use crate::core::watch::Watch;
use crate::error::chain;
use crate::store::{CommitError, StateChange, Subject};

/// The completed groups that may be recorded at once. More would delay other changes.
const RECORDINGS: usize = 64;
/// The watches that join a group in a row, after the label of groups changed. More would delay polls.
const PART: WatchNumber = 1_000;
/// How often a group that waits for operations is examined.
const AWAITED_CHECK: Duration = Duration::from_secs(10);

/// What a group waits for besides its watches: objects for which no operation was found.
#[derive(Debug, Default)]
pub(super) struct AwaitedOperations {
    /// An operation of these may still be found.
    pub awaited: Vec<MissingObject>,
    /// None was found in time.
    pub missing: Vec<MissingObject>,
}

impl<F: Fetch> ProjectTask<F> {
    /// Starts to group the watches of a project. What had ended before is not reported.
    pub(super) async fn start_groups(&mut self) {
        if self.health.groups_since().is_some() {
            return;
        }
        let recorder = &self.services.recorder;
        self.health.start_groups(recorder.now());
        let change = StateChange {
            subject: Subject::Project(self.name.clone(), Box::new(self.health.clone())),
            events: Vec::new(),
        };
        if let Err(error) = recorder.record(&change).await {
            // It is recorded with the next change of the project, or after a restart.
            tracing::debug!(
                project = &*self.name,
                error = chain(&error),
                "start of groups not recorded"
            );
        }
    }

    /// Puts a watch into the group that its label names, unless it is there.
    pub(super) fn group_watch(&mut self, number: WatchNumber) {
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let watched = &slot.watched;
        let name = GroupName::of(watched.demand.terms(), self.groups.by());
        let before = watched.group.and_then(|group| self.groups.get(group));
        if before.map(|entry| &entry.name) == name.as_ref() {
            return;
        }
        self.leave_group(number);
        let now = self.now();
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let watched = &mut slot.watched;
        let (phase, before) = (watched.watch.phase(), watched.watch.membership());
        let joined = name.and_then(|name| self.groups.join(name, number, phase, before, now));
        let Some((group, membership)) = joined else {
            return;
        };
        watched.group = Some(group);
        // A watch without a round needs no memory of that.
        let membership = (membership.round > 0).then_some(membership);
        let is_past = before.is_some_and(|before| !self.groups.is_open(group, before));
        if membership.is_some() || !is_past {
            watched.is_unrecorded |= watched.watch.set_membership(membership);
        }
    }

    /// Takes a watch out of its group.
    pub(super) fn leave_group(&mut self, number: WatchNumber) {
        if let Some(slot) = self.watches.get_mut(number)
            && let Some(group) = slot.watched.group.take()
        {
            let watch = &slot.watched.watch;
            self.groups
                .leave(group, number, watch.phase(), watch.membership());
        }
    }

    /// Replaces the state of a watch, which must not be leaving.
    pub(super) fn replace_watch(&mut self, number: WatchNumber, mut watch: Watch, mut is_unrecorded: bool) {
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let watched = &slot.watched;
        let membership = watched.watch.membership();
        // Its label may have changed while its events were recorded.
        is_unrecorded |= watch.set_membership(membership);
        let phases = (watched.watch.phase(), watch.phase());
        if let Some(group) = watched.group
            && phases.0 != phases.1
        {
            self.groups.change_phase(group, phases, membership);
        }
        self.watches.replace_watch(number, watch, is_unrecorded);
    }

    /// Applies new settings to the groups.
    pub(super) fn apply_group_settings(&mut self) {
        let settings = &self.settings.groups;
        self.groups.set_settle(settings.settle);
        if self.groups.by() != &settings.by {
            self.groups.restart(settings.by.clone());
        }
    }

    /// Starts to record complete groups. Returns when to try again.
    pub(super) fn complete_groups(&mut self, now: Duration) -> Option<Duration> {
        for number in self.groups.take_unassigned(PART, self.watches.numbers()) {
            if self
                .watches
                .get(number)
                .is_some_and(|slot| !slot.poller.is_leaving())
            {
                self.group_watch(number);
            }
        }
        if self.groups.has_unassigned() {
            return Some(now);
        }
        // Before, members may be missing.
        self.reconciliation.applied?;
        if !self.reconciliation.is_settled() || self.is_recording_found() || !self.knows_installations() {
            return None;
        }
        for _ in 0..RECORDINGS {
            if self.recording_groups == RECORDINGS {
                return None;
            }
            let Some(number) = self.groups.pop_due(now) else {
                break;
            };
            self.complete_group(number, now);
        }
        self.groups.next_due()
    }

    /// Whether it is known for which objects groups wait.
    fn knows_installations(&self) -> bool {
        let discovery = self.discovery.as_ref();
        discovery.is_none_or(|discovery| discovery.rounds.knows_installations())
    }

    fn complete_group(&mut self, number: GroupNumber, now: Duration) {
        let Some(round) = self.groups.first_round(number) else {
            return;
        };
        let Some(entry) = self.groups.get(number) else {
            return;
        };
        let awaited = self.awaited_operations(entry.name.as_str());
        if !awaited.awaited.is_empty() {
            return self.groups.postpone(number, now.saturating_add(AWAITED_CHECK));
        }
        let id = entry.group.id();
        let membership = Membership { group: id, round };
        let since = self.health.groups_since();
        let is_old = |slot: &Slot| since.is_some_and(|since| slot.watched.watch.was_finished_before(since));
        if self.members(number, membership).all(|(_, slot)| is_old(slot)) {
            return self.dissolve_round(number, membership);
        }
        let of = CompletedRound {
            project: &self.name,
            label: self.groups.by(),
            group: entry.name.as_str(),
            round,
        };
        let members = self.members(number, membership).map(|(_, slot)| member(slot));
        let missing = awaited.missing.iter();
        let missing = missing.map(|missing| (&*missing.installation, &*missing.object));
        let data = GroupData::new(of, members, missing);
        let Some(record) = self.groups.start_recording(number, data.outcome) else {
            return;
        };
        let recorder = self.services.recorder.clone();
        let change = StateChange {
            subject: Subject::Group(self.name.clone(), id, record),
            events: vec![Event::group_completed(recorder.now(), data)],
        };
        self.recording_groups += 1;
        let recording = async move {
            let result = recorder.record(&change).await;
            JobResult::Group {
                number,
                id,
                record,
                result,
            }
        };
        self.jobs.spawn_on(recording, &self.services.background);
    }

    /// The watches of a group with this membership.
    pub(super) fn members(
        &self,
        number: GroupNumber,
        membership: Membership,
    ) -> impl Iterator<Item = (WatchNumber, &Slot)> {
        let members = self.groups.members(number);
        let slots = members.filter_map(|number| Some((number, self.watches.get(number)?)));
        slots.filter(move |(_, slot)| slot.watched.watch.membership() == Some(membership))
    }

    /// Removes all watches of a round from it: they had ended before watches were grouped.
    fn dissolve_round(&mut self, number: GroupNumber, membership: Membership) {
        let members: Vec<WatchNumber> = self
            .members(number, membership)
            .map(|(number, _)| number)
            .collect();
        for number in members {
            if let Some(slot) = self.watches.get_mut(number) {
                slot.watched.is_unrecorded |= slot.watched.watch.set_membership(None);
            }
        }
        self.groups.dissolve_round(number);
    }

    pub(super) fn group_recorded(
        &mut self,
        number: GroupNumber,
        id: GroupId,
        record: GroupRecord,
        result: Result<(), CommitError>,
    ) {
        self.recording_groups -= 1;
        match result {
            Ok(()) => self.groups.recorded(number, id, record),
            Err(error) => {
                tracing::debug!(
                    project = &*self.name,
                    error = chain(&error),
                    "completed group not recorded; retrying"
                );
                let retry = self.now().saturating_add(STORE_RETRY);
                self.groups.not_recorded(number, id, retry);
            }
        }
    }

    /// The objects of a group for which no operation was found.
    pub(super) fn awaited_operations(&self, group: &str) -> AwaitedOperations {
        let mut operations = AwaitedOperations::default();
        let is_by_customer = **self.groups.by() == *GROUP_LABEL;
        let Some(discovery) = self.discovery.as_ref().filter(|_| is_by_customer) else {
            return operations;
        };
        for awaited in discovery.rounds.awaited(group, self.moment()) {
            let object = MissingObject {
                installation: awaited.installation.to_owned(),
                object: awaited.object.to_owned(),
            };
            if awaited.is_missing {
                operations.missing.push(object);
            } else {
                operations.awaited.push(object);
            }
        }
        operations
    }
}

/// A watch as the event of its group shows it.
fn member(slot: &Slot) -> GroupMember<'_> {
    let watched = &slot.watched;
    GroupMember {
        operation: &watched.id,
        objects: watched.watch.objects(),
        phase: watched.watch.phase(),
        started: watched.watch.start(),
        finished: watched.watch.end(),
        labels: &watched.demand.terms().labels,
    }
}
