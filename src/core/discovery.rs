//! Discovery finds the backfills of a project's installations: which request is next, and what an answer means.
//!
//! A round lists the installations, then asks for the newest backfill of each object. An operation that was not known is
//! found. An old one, and one without a known time, is polled once first: it is found only if it runs.
//!
//! Times are steady: since the start of the project task, negative before it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use jiff::{SignedDuration, Timestamp};

use super::deadline::Deadline;
use super::glob::Globs;
use super::project_health::Moment;
use super::watch_list::Labels;

mod capacity;
mod installation;
mod listed;
mod queue;
mod reply;

use capacity::Capacity;
pub use installation::{Awaited, StoredInstallation, StoredObject, Urgency};
use installation::{Installation, Object, Place, Urgent};
pub use listed::{
    InstallationList, ListedInstallation, ListedObject, NamedOperation, Unusable, integrations,
};
use queue::Queue;
pub use reply::DiscoveryReply;

/// The label with the customer: its `groupRef`, otherwise the ID of its installation.
pub const GROUP_LABEL: &str = "group";
/// The labels that discovery sets.
pub const OWN_LABELS: [&str; 4] = [GROUP_LABEL, "object", "installation", "integration"];

/// An object stays urgent for this long, unless an operation is found earlier.
const URGENT_FOR: SignedDuration = SignedDuration::from_hours(1);
/// All other objects are asked for at most this often.
const REVISIT: SignedDuration = SignedDuration::from_hours(1);
/// A list of more bytes is requested at most every [`LARGE_LIST_EVERY`].
const LARGE_LIST: usize = 1024 * 1024;
const LARGE_LIST_EVERY: Duration = Duration::from_mins(5);
/// So many rounds in a row must agree before a list of less than half the installations counts.
const AGREEING_ROUNDS: u8 = 3;
/// So many rounds in a row must fail before that is reported.
const FAILED_ROUNDS: u32 = 3;
/// This many installations of a list are taken in at a time: more would delay polls.
const CHUNK: usize = 250;
/// The names of integrations are requested again after this time.
const NAMES_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Rounds start up to this share of `every` early.
const JITTER: f64 = 0.1;

/// A `[[discover]]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveryRule {
    /// Names or IDs of integrations.
    pub integrations: Globs,
    /// Groups, by `groupRef`.
    pub groups: Globs,
    /// Names of objects.
    pub objects: Globs,
    /// The time between the starts of two rounds.
    pub every: Duration,
    /// Finished operations that are older than this when their installation is first seen are not reported.
    pub lookback: Duration,
    /// By when what is found should be finished.
    pub deadline: Option<Deadline>,
    /// Labels of what is found, in addition to discovery's own.
    pub labels: Labels,
}

impl DiscoveryRule {
    /// The default of `every`.
    pub const EVERY: Duration = Duration::from_mins(1);
    /// The default of `lookback`.
    pub const LOOKBACK: Duration = Duration::from_hours(24);

    /// An empty table: everything is found.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            integrations: Globs::all(),
            groups: Globs::all(),
            objects: Globs::all(),
            every: Self::EVERY,
            lookback: Self::LOOKBACK,
            deadline: None,
            labels: Labels::new(),
        }
    }
}

/// A request that discovery makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiscoveryRequest {
    /// The installations of the project.
    Installations,
    /// The integrations of the project, for their names.
    Integrations,
    /// The newest backfill of an object.
    Backfill(BackfillPath),
    /// An operation that is old or has no known time: does it run?
    Operation(Arc<str>),
}

/// Where the newest backfill of an object is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackfillPath {
    /// The ID of the integration.
    pub integration: Arc<str>,
    /// The installation and the object.
    pub key: ObjectKey,
}

/// An object of an installation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The ID of the installation.
    pub installation: Arc<str>,
    /// The name of the object.
    pub object: Arc<str>,
}

/// What a request of discovery was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum DiscoveryAnswer {
    /// The installations.
    Installations(InstallationList),
    /// ID and name of each integration.
    Integrations(Vec<(String, String)>),
    /// The newest backfill of the object, if it has one.
    Backfill(Option<NamedOperation>),
    /// The state of the operation.
    Operation(OperationState),
    /// The request failed.
    Failed,
}

/// The state of an operation that is polled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// It runs.
    Running,
    /// It is finished.
    Finished,
    /// The API does not know it.
    Missing,
}

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

/// How the list of installations differs from the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstallationChange {
    /// Installations that are new.
    pub added: usize,
    /// Installations that were deleted.
    pub removed: usize,
}

/// An operation that is to be polled once.
#[derive(Debug, Clone, PartialEq)]
struct Unverified {
    key: ObjectKey,
    /// Whether its time is known, and old.
    is_old: bool,
}

/// A list that is being taken in.
#[derive(Debug)]
struct Incoming {
    rest: vec::IntoIter<ListedInstallation>,
    /// Whether installations that are not listed were deleted.
    removes: bool,
    change: InstallationChange,
}

/// The discovery of one project.
#[derive(Debug)]
pub struct Discovery {
    rules: Arc<[DiscoveryRule]>,
    /// Names of integrations by ID; `None` when the API lists no such integration.
    names: BTreeMap<String, Option<String>>,
    /// When the names were requested last.
    named_at: Option<SignedDuration>,
    installations: BTreeMap<Arc<str>, Installation>,
    /// Installations by the value of [`GROUP_LABEL`].
    groups: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Which object named an operation last.
    named: HashMap<Arc<str>, ObjectKey>,
    queue: Queue,
    unverified: HashMap<Arc<str>, Unverified>,
    to_verify: VecDeque<Arc<str>>,
    /// Operations whose poll failed; the next round repeats it.
    failed: Vec<Arc<str>>,
    /// Installations that changed since they were recorded.
    unrecorded: BTreeSet<Arc<str>>,
    /// Installations that were deleted and are still recorded.
    deleted: BTreeSet<Arc<str>>,
    /// The number of the round; 0 before the first.
    round: u64,
    round_started: SignedDuration,
    next_round: SignedDuration,
    is_listing: bool,
    is_list_large: bool,
    /// A list that waits for the names of its integrations.
    unnamed: Option<InstallationList>,
    is_naming: bool,
    incoming: Option<Incoming>,
    shrunk_rounds: u8,
    has_list: bool,
    /// Lists in a row that failed.
    failed_lists: u32,
    /// Rounds in a row in which every request for a backfill failed.
    failed_rounds: u32,
    requests: u32,
    failures: u32,
    /// Which rules matched an installation of the last list.
    matched: Vec<bool>,
    objects: usize,
    /// Objects that were never asked for.
    unasked: usize,
    capacity: Capacity,
}

impl Discovery {
    /// A discovery that knows nothing. Its first round starts at once.
    #[must_use]
    pub fn new(rules: Arc<[DiscoveryRule]>) -> Self {
        Self {
            matched: vec![true; rules.len()],
            rules,
            names: BTreeMap::new(),
            named_at: None,
            installations: BTreeMap::new(),
            groups: BTreeMap::new(),
            named: HashMap::new(),
            queue: Queue::default(),
            unverified: HashMap::new(),
            to_verify: VecDeque::new(),
            failed: Vec::new(),
            unrecorded: BTreeSet::new(),
            deleted: BTreeSet::new(),
            round: 0,
            round_started: SignedDuration::MIN,
            next_round: SignedDuration::MIN,
            is_listing: false,
            is_list_large: false,
            unnamed: None,
            is_naming: false,
            incoming: None,
            shrunk_rounds: 0,
            has_list: false,
            failed_lists: 0,
            failed_rounds: 0,
            requests: 0,
            failures: 0,
            objects: 0,
            unasked: 0,
            capacity: Capacity::default(),
        }
    }

    /// Takes in an installation that was recorded before.
    pub fn restore(&mut self, id: Arc<str>, stored: StoredInstallation, now: Moment) {
        let (installation, objects) = Installation::restore(stored, now);
        self.join_group(&installation.group, &id);
        self.installations.insert(Arc::clone(&id), installation);
        for (object, state) in objects {
            let key = ObjectKey {
                installation: Arc::clone(&id),
                object,
            };
            if let Some(operation) = &state.operation {
                self.named.insert(Arc::clone(operation), key.clone());
            }
            self.insert_object(key, state);
        }
    }

    /// Other rules apply. The next round starts at once.
    pub fn set_rules(&mut self, rules: Arc<[DiscoveryRule]>) {
        self.matched = vec![true; rules.len()];
        self.rules = rules;
        self.next_round = SignedDuration::MIN;
        self.has_list = false;
    }

    /// The next request, if one is due. `random_fraction` is from 0 to 1.
    pub fn next_request(&mut self, now: Moment, random_fraction: f64) -> Option<DiscoveryRequest> {
        let steady = steady(now);
        if steady >= self.next_round && !self.is_listing && self.unnamed.is_none() && self.incoming.is_none()
        {
            self.start_round(steady, random_fraction);
            return Some(DiscoveryRequest::Installations);
        }
        if self.unnamed.is_some() && !self.is_naming {
            self.is_naming = true;
            return Some(DiscoveryRequest::Integrations);
        }
        if let Some(operation) = self.to_verify.pop_front() {
            return Some(DiscoveryRequest::Operation(operation));
        }
        if !self.has_list {
            // The rules of restored objects are unknown until the first list.
            return None;
        }
        let key = self.take_urgent(steady).or_else(|| self.take_other(steady));
        let Some(key) = key else {
            self.capacity.set_idle();
            return None;
        };
        let integration = Arc::clone(&self.installations.get(&key.installation)?.integration);
        Some(DiscoveryRequest::Backfill(BackfillPath { integration, key }))
    }

    /// The list of installations as a probe of the credentials, ahead of the next round. `None` while a list is expected.
    pub fn probe(&mut self, now: Moment, random_fraction: f64) -> Option<DiscoveryRequest> {
        if self.is_listing || self.unnamed.is_some() || self.incoming.is_some() {
            return None;
        }
        self.start_round(steady(now), random_fraction);
        Some(DiscoveryRequest::Installations)
    }

    /// When [`next_request`](Self::next_request) is to be called again, as far as no answer is awaited.
    #[must_use]
    pub fn next_due(&self, now: Moment) -> SignedDuration {
        let others = self
            .queue
            .next_other()
            .filter(|_| self.has_list)
            .map(|(asked, _)| asked.saturating_add(REVISIT));
        let is_waiting = self.is_listing || self.is_naming;
        let round = (!is_waiting).then_some(self.next_round);
        let due = others.into_iter().chain(round).min();
        due.unwrap_or(SignedDuration::MAX).max(steady(now))
    }

    /// Whether a part of a list waits for [`take_in`](Self::take_in).
    #[must_use]
    pub fn has_incoming(&self) -> bool {
        self.incoming.is_some()
    }

    /// Takes in the next part of a list; how the list differs from the one before once it is complete.
    pub fn take_in(&mut self, now: Moment) -> Option<InstallationChange> {
        let mut incoming = self.incoming.take()?;
        for listed in incoming.rest.by_ref().take(CHUNK) {
            incoming.change.added += usize::from(self.update(listed, now));
        }
        if incoming.rest.len() > 0 {
            self.incoming = Some(incoming);
            return None;
        }
        if incoming.removes {
            let is_gone = |installation: &Installation| installation.round != self.round;
            let gone: Vec<_> = self
                .installations
                .iter()
                .filter(|(_, installation)| is_gone(installation))
                .map(|(id, _)| Arc::clone(id))
                .collect();
            incoming.change.removed = gone.len();
            for id in gone {
                self.remove_installation(&id);
            }
        }
        self.has_list = true;
        Some(incoming.change)
    }

    /// A request was answered; the operation that was found, if it was not known. It counts as known from now on: when it
    /// cannot be recorded, call [`forget`](Self::forget).
    pub fn answered(
        &mut self,
        request: &DiscoveryRequest,
        answer: DiscoveryAnswer,
        now: Moment,
    ) -> Option<FoundOperation> {
        match (request, answer) {
            (DiscoveryRequest::Installations, DiscoveryAnswer::Installations(list)) => {
                self.listed(list, steady(now));
            }
            (DiscoveryRequest::Installations, _) => {
                self.is_listing = false;
                self.failed_lists = self.failed_lists.saturating_add(1);
            }
            (DiscoveryRequest::Integrations, answer) => {
                self.is_naming = false;
                let list = self.unnamed.take();
                if let DiscoveryAnswer::Integrations(names) = answer {
                    self.named_at = Some(steady(now));
                    let listed = list.iter().flat_map(|list| &list.installations);
                    self.names = listed
                        .map(|installation| (installation.integration.clone(), None))
                        .chain(names.into_iter().map(|(id, name)| (id, Some(name))))
                        .collect();
                }
                // Without names, IDs are matched alone.
                if let Some(list) = list {
                    self.compare(list);
                }
            }
            (DiscoveryRequest::Backfill(path), answer) => {
                self.requests += 1;
                self.capacity.answered(steady(now));
                return self.backfill_answered(&path.key, answer, now);
            }
            (DiscoveryRequest::Operation(operation), answer) => {
                return self.verified(operation, answer);
            }
        }
        None
    }

    /// What was found could not be recorded: it is asked for again.
    pub fn forget(&mut self, found: &FoundOperation, now: Moment) {
        self.named.remove(&found.operation);
        if let Some(object) = self.object_mut(&found.key) {
            object.operation = None;
        }
        self.hurry(&found.key, Urgency::New, now);
    }

    /// A watched operation has finished: its object may have a newer backfill soon.
    pub fn operation_finished(&mut self, operation: &str, now: Moment) {
        if let Some(key) = self.named.get(operation).cloned() {
            self.hurry(&key, Urgency::Changed, now);
        }
    }

    /// The installation as it is recorded; `None` when it was deleted.
    #[must_use]
    pub fn stored(&self, installation: &str, now: Moment) -> Option<StoredInstallation> {
        Some(self.installations.get(installation)?.store(now))
    }

    /// The installations that changed or were deleted since they were recorded, at most `limit`.
    pub fn take_unrecorded(&mut self, limit: usize) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(id) = self.unrecorded.pop_first().or_else(|| self.deleted.pop_first())
        {
            taken.push(id);
        }
        taken
    }

    /// These could not be recorded.
    pub fn put_back_unrecorded(&mut self, installations: Vec<Arc<str>>) {
        for id in installations {
            if self.installations.contains_key(&id) {
                self.unrecorded.insert(id);
            } else {
                self.deleted.insert(id);
            }
        }
    }

    /// Whether every object was asked for at least once, and every operation in doubt was polled.
    #[must_use]
    pub fn has_completed_pass(&self) -> bool {
        self.has_list && self.incoming.is_none() && self.unasked == 0 && self.unverified.is_empty()
    }

    /// Whether rounds fail, after three in a row.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failed_lists >= FAILED_ROUNDS || self.failed_rounds >= FAILED_ROUNDS
    }

    /// Whether the last list or all backfills of the last round failed.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.failed_lists > 0 || self.failed_rounds > 0
    }

    /// Rules that match no installation although there are some, by position.
    pub fn unmatched_rules(&self) -> impl Iterator<Item = usize> {
        let has_installations = self.has_list && !self.installations.is_empty();
        let rules = self.matched.iter().enumerate();
        rules.filter_map(move |(index, is_matched)| (has_installations && !is_matched).then_some(index))
    }

    /// How long a pass through all objects takes, when that is too long.
    #[must_use]
    pub fn over_capacity(&self) -> Option<Duration> {
        self.capacity.exceeded(self.objects)
    }

    /// Whether an operation was found, or an installation changed, that is not recorded.
    #[must_use]
    pub fn has_unrecorded(&self) -> bool {
        !self.unrecorded.is_empty() || !self.deleted.is_empty()
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<[DiscoveryRule]> {
        &self.rules
    }

    /// How many installations and objects are known.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.installations.len(), self.objects)
    }

    /// The objects of a group for which no operation was found.
    pub fn awaited<'a>(&'a self, group: &str, now: Moment) -> impl Iterator<Item = Awaited<'a>> {
        let installations = self.groups.get(group).into_iter().flatten();
        let installations = installations.filter_map(|id| self.installations.get_key_value(id));
        installations.flat_map(move |(id, installation)| installation.awaited(id, steady(now)))
    }

    fn start_round(&mut self, now: SignedDuration, random_fraction: f64) {
        self.round += 1;
        self.is_listing = true;
        if self.requests > 0 && self.failures == self.requests {
            self.failed_rounds = self.failed_rounds.saturating_add(1);
        }
        (self.requests, self.failures) = (0, 0);
        let every = self
            .rules
            .iter()
            .map(|rule| rule.every)
            .min()
            .unwrap_or(Duration::MAX);
        let every = every.mul_f64(1.0 - JITTER * random_fraction);
        let every = if self.is_list_large {
            every.max(LARGE_LIST_EVERY)
        } else {
            every
        };
        self.round_started = now;
        self.next_round = now.saturating_add(signed(every));
        self.to_verify.extend(self.failed.drain(..));
    }

    fn listed(&mut self, list: InstallationList, now: SignedDuration) {
        self.is_listing = false;
        self.is_list_large = list.bytes > LARGE_LIST;
        if self.is_list_large {
            let earliest = self.round_started.saturating_add(signed(LARGE_LIST_EVERY));
            self.next_round = self.next_round.max(earliest);
        }
        self.failed_lists = 0;
        let is_named = |listed: &ListedInstallation| self.names.contains_key(&listed.integration);
        let is_fresh = self
            .named_at
            .is_none_or(|named| now.saturating_sub(named) < NAMES_FOR);
        if is_fresh && list.installations.iter().all(is_named) {
            self.compare(list);
        } else {
            self.unnamed = Some(list);
        }
    }

    /// A much shorter list must be confirmed by the next ones before anything counts as deleted.
    fn compare(&mut self, list: InstallationList) {
        let is_shrunk = list.installations.len() < self.installations.len().div_ceil(2);
        self.shrunk_rounds = if is_shrunk { self.shrunk_rounds + 1 } else { 0 };
        let removes = !is_shrunk || self.shrunk_rounds >= AGREEING_ROUNDS;
        if removes {
            self.shrunk_rounds = 0;
        }
        self.matched.fill(false);
        self.incoming = Some(Incoming {
            rest: list.installations.into_iter(),
            removes,
            change: InstallationChange::default(),
        });
    }

    /// Takes in one installation of a list; whether it is new.
    fn update(&mut self, listed: ListedInstallation, now: Moment) -> bool {
        let id: Arc<str> = listed.id.into();
        let group: Arc<str> = match listed.group {
            Some(group) => group.into(),
            None => Arc::clone(&id),
        };
        let integration: Arc<str> = listed.integration.into();
        let is_new = !self.installations.contains_key(&id);
        if is_new {
            self.deleted.remove(&id);
        }
        let installation = self.installations.entry(Arc::clone(&id)).or_insert_with(|| {
            self.unrecorded.insert(Arc::clone(&id));
            Installation::new(Arc::clone(&integration), Arc::clone(&group), now.wall)
        });
        installation.round = self.round;
        let before = std::mem::replace(&mut installation.group, Arc::clone(&group));
        installation.integration = integration;
        if is_new || before != group {
            self.leave_group(&before, &id);
            self.join_group(&group, &id);
        }
        let mut objects: BTreeMap<Arc<str>, (u16, u64)> = BTreeMap::new();
        for object in listed.objects {
            if let Some(rule) = self.rule_of(&id, &object.name) {
                objects.insert(object.name.into(), (rule, object.fingerprint));
            }
        }
        self.note_matches(&id);
        self.update_objects(
            &id,
            objects,
            if is_new { Urgency::New } else { Urgency::Changed },
            now,
        );
        is_new
    }

    fn update_objects(
        &mut self,
        id: &Arc<str>,
        listed: BTreeMap<Arc<str>, (u16, u64)>,
        urgency: Urgency,
        now: Moment,
    ) {
        let known = self
            .installations
            .get(id)
            .map(|installation| &installation.objects);
        let is_unlisted = |name: &&Arc<str>| !listed.contains_key(*name);
        let removed: Vec<Arc<str>> = known
            .into_iter()
            .flat_map(|known| known.keys().filter(is_unlisted).cloned())
            .collect();
        let key = |object: Arc<str>| ObjectKey {
            installation: Arc::clone(id),
            object,
        };
        for object in removed {
            self.remove_object(&key(object));
        }
        for (object, (rule, fingerprint)) in listed {
            let key = key(object);
            match self.object_mut(&key) {
                Some(known) => {
                    known.rule = rule;
                    if known.fingerprint != fingerprint {
                        known.fingerprint = fingerprint;
                        known.changed = steady(now);
                        self.hurry(&key, urgency, now);
                    }
                }
                None => {
                    let until = steady(now).saturating_add(URGENT_FOR);
                    let state = Object::new(rule, fingerprint, steady(now), Urgent { urgency, until });
                    self.insert_object(key, state);
                }
            }
        }
    }

    /// The first rule that matches an object.
    fn rule_of(&self, installation: &str, object: &str) -> Option<u16> {
        let position = self
            .rules
            .iter()
            .position(|rule| self.matches_installation(rule, installation) && rule.objects.matches(object));
        position.and_then(|index| u16::try_from(index).ok())
    }

    fn matches_installation(&self, rule: &DiscoveryRule, id: &str) -> bool {
        self.installations.get(id).is_some_and(|installation| {
            let name = self
                .names
                .get(&*installation.integration)
                .and_then(Option::as_ref);
            rule.groups.matches(&installation.group)
                && (rule.integrations.matches(&installation.integration)
                    || name.is_some_and(|name| rule.integrations.matches(name)))
        })
    }

    fn note_matches(&mut self, id: &str) {
        for index in 0..self.rules.len() {
            if !self.matched[index] {
                self.matched[index] = self.matches_installation(&self.rules[index], id);
            }
        }
    }

    fn backfill_answered(
        &mut self,
        key: &ObjectKey,
        answer: DiscoveryAnswer,
        now: Moment,
    ) -> Option<FoundOperation> {
        let named = match answer {
            DiscoveryAnswer::Backfill(named) => {
                self.failed_rounds = 0;
                named
            }
            _ => {
                self.failures += 1;
                self.return_object(key, now);
                return None;
            }
        };
        let named = named.filter(|named| {
            let object = self.object(key);
            object.is_some_and(|object| object.operation.as_deref() != Some(&named.id))
        });
        let Some(named) = named else {
            self.return_object(key, now);
            return None;
        };
        if let Some(object) = self.object_mut(key)
            && let Place::InFlight { urgent } = &mut object.place
        {
            *urgent = None;
        }
        self.return_object(key, now);
        self.unrecorded.insert(Arc::clone(&key.installation));
        let operation: Arc<str> = named.id.into();
        if self.unverified.contains_key(&operation) {
            return None;
        }
        if self.named.contains_key(&operation) {
            // Another object named it first.
            self.remember(&operation, key);
            return None;
        }
        let installation = self.installations.get(&key.installation)?;
        let rule = installation.objects.get(&key.object)?.rule;
        let lookback = self.rules.get(usize::from(rule))?.lookback;
        let oldest = installation
            .first_seen
            .checked_sub(lookback)
            .unwrap_or(Timestamp::MIN);
        match named.create_time {
            Some(created) if created >= oldest => self.found(operation, key.clone()),
            created => {
                let unverified = Unverified {
                    key: key.clone(),
                    is_old: created.is_some(),
                };
                self.unverified.insert(Arc::clone(&operation), unverified);
                self.to_verify.push_back(Arc::clone(&operation));
                if let Some(object) = self.object_mut(key) {
                    object.unverified = Some(operation);
                }
                None
            }
        }
    }

    fn verified(&mut self, operation: &Arc<str>, answer: DiscoveryAnswer) -> Option<FoundOperation> {
        let DiscoveryAnswer::Operation(state) = answer else {
            self.failed.push(Arc::clone(operation));
            return None;
        };
        let Unverified { key, is_old } = self.unverified.remove(operation)?;
        if let Some(object) = self.object_mut(&key) {
            object.unverified = None;
        }
        match state {
            OperationState::Running => return self.found(Arc::clone(operation), key),
            OperationState::Missing if !is_old => {}
            OperationState::Finished | OperationState::Missing => self.remember(operation, &key),
        }
        None
    }

    /// The object names this operation; it is known from now on.
    fn remember(&mut self, operation: &Arc<str>, key: &ObjectKey) {
        let Some(object) = self.object_mut(key) else {
            return;
        };
        if let Some(before) = object.operation.replace(Arc::clone(operation)) {
            self.unname(&before, key);
        }
        self.named
            .entry(Arc::clone(operation))
            .or_insert_with(|| key.clone());
        self.unrecorded.insert(Arc::clone(&key.installation));
    }

    /// The object does not name this operation any more.
    fn unname(&mut self, operation: &str, key: &ObjectKey) {
        if self.named.get(operation) == Some(key) {
            self.named.remove(operation);
        }
    }

    fn found(&mut self, operation: Arc<str>, key: ObjectKey) -> Option<FoundOperation> {
        let installation = self.installations.get(&key.installation)?;
        let rule = self
            .rules
            .get(usize::from(installation.objects.get(&key.object)?.rule))?;
        let integration = self
            .names
            .get(&*installation.integration)
            .and_then(Option::as_deref)
            .unwrap_or(&installation.integration);
        let own = [
            &*installation.group,
            &*key.object,
            &*key.installation,
            integration,
        ];
        let labels = OWN_LABELS
            .into_iter()
            .zip(own)
            .map(|(name, value)| (name.to_owned(), installation::label_value(value)))
            .chain(rule.labels.iter().cloned())
            .collect();
        let deadline = rule.deadline;
        self.remember(&operation, &key);
        Some(FoundOperation {
            operation,
            key,
            labels,
            deadline,
        })
    }

    fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.installations
            .get(&key.installation)?
            .objects
            .get(&key.object)
    }

    fn object_mut(&mut self, key: &ObjectKey) -> Option<&mut Object> {
        self.installations
            .get_mut(&key.installation)?
            .objects
            .get_mut(&key.object)
    }

    fn insert_object(&mut self, key: ObjectKey, object: Object) {
        self.unasked += usize::from(object.asked.is_none());
        self.objects += 1;
        self.unrecorded.insert(Arc::clone(&key.installation));
        if let Some(installation) = self.installations.get_mut(&key.installation) {
            installation.objects.insert(Arc::clone(&key.object), object);
        }
        self.place(&key);
    }

    fn remove_object(&mut self, key: &ObjectKey) {
        self.displace(key);
        let Some(installation) = self.installations.get_mut(&key.installation) else {
            return;
        };
        if let Some(object) = installation.objects.remove(&key.object) {
            self.objects -= 1;
            self.unasked -= usize::from(object.asked.is_none());
            self.unrecorded.insert(Arc::clone(&key.installation));
            if let Some(operation) = object.operation {
                self.unname(&operation, key);
            }
            if let Some(operation) = object.unverified {
                self.unverified.remove(&operation);
                self.to_verify.retain(|waiting| *waiting != operation);
            }
        }
    }

    fn remove_installation(&mut self, id: &Arc<str>) {
        let objects = self
            .installations
            .get(id)
            .map(|installation| &installation.objects);
        let objects: Vec<Arc<str>> = objects.into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for object in objects {
            self.remove_object(&ObjectKey {
                installation: Arc::clone(id),
                object,
            });
        }
        if let Some(installation) = self.installations.remove(id) {
            self.leave_group(&installation.group, id);
        }
        self.unrecorded.remove(id);
        self.deleted.insert(Arc::clone(id));
    }

    fn join_group(&mut self, group: &Arc<str>, id: &Arc<str>) {
        self.groups
            .entry(installation::label_value(group))
            .or_default()
            .insert(Arc::clone(id));
    }

    fn leave_group(&mut self, group: &Arc<str>, id: &Arc<str>) {
        let group = installation::label_value(group);
        if let Some(installations) = self.groups.get_mut(&group) {
            installations.remove(id);
            if installations.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Makes an object urgent.
    fn hurry(&mut self, key: &ObjectKey, urgency: Urgency, now: Moment) {
        let until = steady(now).saturating_add(URGENT_FOR);
        self.displace(key);
        if let Some(object) = self.object_mut(key) {
            object.hurry(Urgent { urgency, until });
            self.unrecorded.insert(Arc::clone(&key.installation));
        }
        self.place(key);
    }

    /// The request for an object has ended.
    fn return_object(&mut self, key: &ObjectKey, now: Moment) {
        let round = self.round;
        let Some(object) = self.object_mut(key) else {
            return;
        };
        let is_first = object.asked.replace(steady(now)).is_none();
        object.returned(round, steady(now));
        self.unasked -= usize::from(is_first);
        self.unrecorded.insert(Arc::clone(&key.installation));
        self.place(key);
    }

    fn take_urgent(&mut self, now: SignedDuration) -> Option<ObjectKey> {
        loop {
            let key = self.queue.next_urgent(self.round)?.clone();
            self.displace(&key);
            let object = self.object_mut(&key)?;
            if object.urgent().is_some_and(|urgent| urgent.until > now) {
                object.start();
                return Some(key);
            }
            object.place = Place::Other;
            self.place(&key);
        }
    }

    fn take_other(&mut self, now: SignedDuration) -> Option<ObjectKey> {
        let (asked, key) = self.queue.next_other()?;
        if asked.saturating_add(REVISIT) > now {
            return None;
        }
        let key = key.clone();
        self.displace(&key);
        self.object_mut(&key)?.start();
        Some(key)
    }

    /// Puts an object into the queue.
    fn place(&mut self, key: &ObjectKey) {
        if let Some(installation) = self.installations.get(&key.installation)
            && let Some(object) = installation.objects.get(&key.object)
        {
            self.queue.insert(key, object, installation.first_seen);
        }
    }

    /// Takes an object out of the queue.
    fn displace(&mut self, key: &ObjectKey) {
        if let Some(installation) = self.installations.get(&key.installation)
            && let Some(object) = installation.objects.get(&key.object)
        {
            self.queue.remove(key, object, installation.first_seen);
        }
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
