//! The installations that are known, their objects, and which of these is asked for next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::failures::Failures;
use super::installation::{Awaited, Installation, Object, StoredInstallation, Urgency, Urgent, label_value};
use super::listed::ListedInstallation;
use super::operations::Operations;
use super::queue::Queue;
use super::request::{BackfillPath, ObjectKey};
use super::rule::Selected;
use super::steady;
use crate::core::project_health::Moment;

/// What the request for an object showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ObjectAnswer {
    /// An operation that was not known.
    News,
    /// Nothing that was not known.
    NoNews,
    /// It failed for this reason.
    Failed(Arc<str>),
}

/// An installation of a list that was taken in.
pub(super) struct Updated {
    pub id: Arc<str>,
    pub is_new: bool,
    /// Whether it was in another group before.
    pub has_other_group: bool,
}

/// The installations of a project.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    installations: BTreeMap<Arc<str>, Installation>,
    /// Installations by the value of [`GROUP_LABEL`](super::GROUP_LABEL).
    groups: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// The objects that are not in flight.
    queue: Queue,
    pub operations: Operations,
    pub failures: Failures,
    /// Installations that changed or were deleted since they were recorded.
    unrecorded: BTreeSet<Arc<str>>,
    /// Whether one of them has other objects than recorded, which a group may wait for.
    have_objects_changed: bool,
    objects: usize,
    /// Objects that were never asked for.
    unasked: usize,
}

impl Catalog {
    /// Takes in an installation that was recorded before.
    pub fn restore(&mut self, id: Arc<str>, stored: StoredInstallation, now: Moment) {
        let (installation, objects) = Installation::restore(stored, now);
        self.join_group(&installation.group, &id);
        self.installations.insert(Arc::clone(&id), installation);
        for (object, state) in objects {
            let key = key_of(&id, object);
            if let Some(operation) = &state.operation {
                self.operations.name(operation, &key);
            }
            self.insert_object(&key, state);
        }
    }

    /// Takes in an installation of the list of `round`, with the objects that are asked for.
    pub fn update(
        &mut self,
        listed: ListedInstallation,
        selected: BTreeMap<Arc<str>, Selected>,
        round: u64,
        now: Moment,
    ) -> Updated {
        let group: Arc<str> = listed.group().into();
        let integration: Arc<str> = listed.integration.into();
        let id: Arc<str> = listed.id.into();
        let is_new = !self.installations.contains_key(&id);
        let installation = self.installations.entry(Arc::clone(&id)).or_insert_with(|| {
            self.unrecorded.insert(Arc::clone(&id));
            self.have_objects_changed = true;
            Installation::new(Arc::clone(&integration), Arc::clone(&group), now.wall)
        });
        installation.round = round;
        installation.integration = integration;
        let unlisted = |name: &&Arc<str>| !selected.contains_key(*name);
        let unlisted: Vec<_> = installation.objects.keys().filter(unlisted).cloned().collect();
        let before = std::mem::replace(&mut installation.group, Arc::clone(&group));
        let has_other_group = before != group;
        if is_new || has_other_group {
            self.leave_group(&before, &id);
            self.join_group(&group, &id);
        }
        for object in unlisted {
            self.remove_object(&key_of(&id, object));
        }
        let urgency = if is_new { Urgency::New } else { Urgency::Changed };
        for (object, selected) in selected {
            self.update_object(&key_of(&id, object), selected, urgency, steady(now));
        }
        Updated {
            id,
            is_new,
            has_other_group,
        }
    }

    /// The operations that the objects of an installation name.
    pub fn operations_of(&self, installation: &Arc<str>) -> impl Iterator<Item = (Arc<str>, ObjectKey)> {
        let objects = self.installations.get(installation).into_iter();
        let objects = objects.flat_map(|installation| &installation.objects);
        objects.filter_map(|(name, object)| {
            let operation = Arc::clone(object.operation.as_ref()?);
            Some((operation, key_of(installation, Arc::clone(name))))
        })
    }

    fn update_object(&mut self, key: &ObjectKey, selected: Selected, urgency: Urgency, now: SignedDuration) {
        let Selected { rule, fingerprint } = selected;
        let urgent = Urgent::new(urgency, now);
        let Some(object) = self.object_mut(key) else {
            self.unrecorded.insert(Arc::clone(&key.installation));
            self.have_objects_changed = true;
            self.insert_object(key, Object::new(rule, fingerprint, now, urgent));
            return;
        };
        object.rule = rule;
        if object.fingerprint != fingerprint {
            (object.fingerprint, object.changed) = (fingerprint, now);
            self.have_objects_changed = true;
            self.change(key, |object| object.hurry(urgent));
        }
    }

    /// Removes the installations that the list of `round` did not have. Returns how many.
    pub fn remove_unlisted(&mut self, round: u64) -> usize {
        let installations = self.installations.iter();
        let gone: Vec<_> = installations
            .filter(|(_, installation)| installation.round != round)
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in &gone {
            if let Some(installation) = self.installations.remove(id) {
                self.leave_group(&installation.group, id);
                for (name, object) in installation.objects {
                    self.object_removed(&key_of(id, name), &object, installation.first_seen);
                }
            }
            self.unrecorded.insert(Arc::clone(id));
            self.have_objects_changed = true;
        }
        gone.len()
    }

    /// The next object to ask for: an urgent one that was not asked for in this round, or one that was not for an hour.
    pub fn next_object(&mut self, round: u64, now: SignedDuration) -> Option<BackfillPath> {
        let key = self.take_urgent(round, now).or_else(|| self.take_other(now))?;
        let integration = Arc::clone(&self.installations.get(&key.installation)?.integration);
        Some(BackfillPath { integration, key })
    }

    fn take_urgent(&mut self, round: u64, now: SignedDuration) -> Option<ObjectKey> {
        loop {
            let key = self.queue.next_urgent(round)?.clone();
            if self.requeue(&key, |object| object.start_urgent(now))? {
                return Some(key);
            }
        }
    }

    fn take_other(&mut self, now: SignedDuration) -> Option<ObjectKey> {
        let (due, key) = self.queue.next_other()?;
        if due > now {
            return None;
        }
        let key = key.clone();
        self.requeue(&key, Object::start)?;
        Some(key)
    }

    /// When an object that is not urgent is asked for next.
    pub fn next_revisit(&self) -> Option<SignedDuration> {
        self.queue.next_other().map(|(due, _)| due)
    }

    /// The request for an object has ended. It stays urgent without news.
    pub fn asked(&mut self, key: &ObjectKey, answer: &ObjectAnswer, round: u64, now: Moment) {
        let do_lists_fail = self.failures.do_lists_fail();
        let changed = self.change(key, |object| {
            object.failures = match answer {
                // The cause is not the object.
                ObjectAnswer::Failed(_) if do_lists_fail => object.failures.max(1),
                ObjectAnswer::Failed(_) => object.failures.saturating_add(1),
                ObjectAnswer::News | ObjectAnswer::NoNews => 0,
            };
            let is_first = object.returned(*answer != ObjectAnswer::News, round, steady(now));
            (is_first, object.failures)
        });
        let Some((is_first, failures)) = changed else {
            return;
        };
        self.unasked -= usize::from(is_first);
        match answer {
            ObjectAnswer::Failed(reason) => self.failures.object_failed(key, failures, reason, now.wall),
            ObjectAnswer::News | ObjectAnswer::NoNews => self.failures.forget_object(key),
        }
    }

    /// The object may have a newer backfill soon.
    pub fn hurry(&mut self, key: &ObjectKey, now: SignedDuration) {
        let urgent = Urgent::new(Urgency::Changed, now);
        self.change(key, |object| object.hurry(urgent));
    }

    /// The object names this operation, which is known from now on.
    pub fn name_operation(&mut self, operation: &Arc<str>, key: &ObjectKey) {
        let Some(object) = self.object_mut(key) else {
            return;
        };
        if let Some(before) = object.operation.replace(Arc::clone(operation)) {
            self.operations.unname(&before, key);
        }
        self.operations.name(operation, key);
        self.unrecorded.insert(Arc::clone(&key.installation));
    }

    /// The operation that an object names has to be polled before it counts.
    pub fn add_unverified(&mut self, operation: Arc<str>, key: ObjectKey) {
        if let Some(object) = self.object_mut(&key) {
            object.unverified = Some(Arc::clone(&operation));
            self.operations.add_unverified(operation, key);
        }
    }

    /// The operation was polled. Returns the object that named it.
    pub fn take_unverified(&mut self, operation: &str) -> Option<ObjectKey> {
        let key = self.operations.remove_unverified(operation)?;
        if let Some(object) = self.object_mut(&key) {
            object.unverified = None;
        }
        Some(key)
    }

    /// The installations that changed or were deleted since they were recorded, at most `limit`, as they are stored.
    pub fn take_unrecorded(
        &mut self,
        limit: usize,
        now: Moment,
    ) -> Vec<(Arc<str>, Option<StoredInstallation>)> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(id) = self.unrecorded.pop_first()
        {
            let installation = self.installations.get(&id);
            let stored = installation.map(|installation| installation.store(now));
            taken.push((id, stored));
        }
        self.have_objects_changed &= self.has_unrecorded();
        taken
    }

    pub fn put_back_unrecorded(&mut self, installations: Vec<Arc<str>>) {
        self.unrecorded.extend(installations);
    }

    /// Whether what is unrecorded includes objects, not only when they were asked for.
    pub fn has_unrecorded_objects(&self) -> bool {
        self.have_objects_changed
    }

    pub fn has_unrecorded(&self) -> bool {
        !self.unrecorded.is_empty()
    }

    /// Whether every object was asked for at least once, and every operation in doubt was polled.
    pub fn is_complete(&self) -> bool {
        self.unasked == 0 && !self.operations.has_unverified()
    }

    /// How many installations and objects are known.
    pub fn counts(&self) -> (usize, usize) {
        (self.installations.len(), self.objects)
    }

    /// The objects of a group for which no operation was found.
    pub fn awaited<'a>(&'a self, group: &str, now: Moment) -> impl Iterator<Item = Awaited<'a>> {
        let installations = self.groups.get(group).into_iter().flatten();
        let installations = installations.filter_map(|id| self.installations.get_key_value(id));
        installations.flat_map(move |(id, installation)| installation.awaited(id, steady(now)))
    }

    pub fn get(&self, key: &ObjectKey) -> Option<(&Installation, &Object)> {
        let installation = self.installations.get(&key.installation)?;
        Some((installation, installation.objects.get(&key.object)?))
    }

    fn object_mut(&mut self, key: &ObjectKey) -> Option<&mut Object> {
        let installation = self.installations.get_mut(&key.installation)?;
        installation.objects.get_mut(&key.object)
    }

    fn insert_object(&mut self, key: &ObjectKey, object: Object) {
        if let Some(installation) = self.installations.get_mut(&key.installation) {
            self.objects += 1;
            self.unasked += usize::from(object.asked.is_none());
            self.queue.insert(key, &object, installation.first_seen);
            installation.objects.insert(Arc::clone(&key.object), object);
        }
    }

    fn remove_object(&mut self, key: &ObjectKey) {
        if let Some(installation) = self.installations.get_mut(&key.installation)
            && let Some(object) = installation.objects.remove(&key.object)
        {
            let first_seen = installation.first_seen;
            self.object_removed(key, &object, first_seen);
            self.unrecorded.insert(Arc::clone(&key.installation));
            self.have_objects_changed = true;
        }
    }

    fn object_removed(&mut self, key: &ObjectKey, object: &Object, first_seen: Timestamp) {
        self.objects -= 1;
        self.unasked -= usize::from(object.asked.is_none());
        self.queue.remove(key, object, first_seen);
        self.failures.forget_object(key);
        if let Some(operation) = &object.operation {
            self.operations.unname(operation, key);
        }
        if let Some(operation) = &object.unverified {
            self.operations.remove_unverified(operation);
        }
    }

    /// Changes an object that is to be recorded, and its place in the queue.
    fn change<T>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Object) -> T) -> Option<T> {
        let changed = self.requeue(key, change)?;
        self.unrecorded.insert(Arc::clone(&key.installation));
        Some(changed)
    }

    /// Changes an object and its place in the queue.
    fn requeue<T>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Object) -> T) -> Option<T> {
        let installation = self.installations.get_mut(&key.installation)?;
        let object = installation.objects.get_mut(&key.object)?;
        self.queue.remove(key, object, installation.first_seen);
        let changed = change(object);
        self.queue.insert(key, object, installation.first_seen);
        Some(changed)
    }

    fn join_group(&mut self, group: &str, id: &Arc<str>) {
        let installations = self.groups.entry(label_value(group)).or_default();
        installations.insert(Arc::clone(id));
    }

    fn leave_group(&mut self, group: &str, id: &str) {
        let group = label_value(group);
        if let Some(installations) = self.groups.get_mut(&group) {
            installations.remove(id);
            if installations.is_empty() {
                self.groups.remove(&group);
            }
        }
    }
}

fn key_of(installation: &Arc<str>, object: Arc<str>) -> ObjectKey {
    ObjectKey {
        installation: Arc::clone(installation),
        object,
    }
}
