//! Promises about discovery: what an installation names is found and watched once, and old backfills are not reported.

use std::collections::BTreeMap;
use std::time::Duration;

use backfill_watch::core::discovery::{DiscoveryAnswer, DiscoveryRequest};
use backfill_watch::core::source::Source;
use backfill_watch::core::watch_list::WatchKey;
use serde_json::Value;

use super::groups::AWAITED_FOR;
use super::{State, TICK, World, key_of};
use crate::api::{Kind, status_at};
use crate::extras::{BEGIN, InstallationScript, ObjectScript, terms_of_discovery};
use crate::random::Random;
use crate::scenario::{ApiFault, Ending, OperationScript, PROJECTS, Scenario, seconds};

/// Discovery records installations so often when nothing was found.
const CHECKPOINT: Duration = Duration::from_mins(1);

/// What discovery was answered.
#[derive(Debug)]
pub(super) struct Discovered {
    random: Random,
    /// When an answer first named the operation.
    named: BTreeMap<WatchKey, Duration>,
    /// When a list first had the installation.
    first: BTreeMap<usize, Duration>,
    /// The same, without what may be forgotten.
    known: BTreeMap<usize, Duration>,
}

impl Discovered {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0x0d15_c0de),
            named: BTreeMap::new(),
            first: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }
}

/// The newest backfill of an object, by the number of its operation.
pub fn newest(scenario: &Scenario, object: &ObjectScript, now: Duration) -> Option<usize> {
    let begun = object.operations.iter().rev();
    let mut begun = begun.filter(|index| scenario.operations[**index].begin <= now);
    begun.next().copied()
}

fn is_surely_new(operation: &OperationScript) -> bool {
    operation.created.is_some_and(|created| created >= BEGIN)
}

fn runs(operation: &OperationScript, now: Duration) -> bool {
    matches!(status_at(operation, now), Some("in_progress" | "queued"))
}

impl World {
    pub fn discovery_draws(&self, project: usize) -> (Option<ApiFault>, Duration) {
        let mut state = self.state();
        let now = state.now();
        let mut found = None;
        for period in &self.scenario.api {
            let applies = period.of == project && period.from <= now && now < period.to;
            let concerns_one = matches!(
                period.what,
                ApiFault::NotFoundOne(_) | ApiFault::RefusedOne(_) | ApiFault::ForbiddenOne(_)
            );
            if applies && !concerns_one && state.discovered.random.percent(period.percent) {
                found = found.or(Some(period.what));
            }
        }
        let most = if found == Some(ApiFault::Slow) { 9_900 } else { 400 };
        let latency = state.discovered.random.between(1, most);
        (found, Duration::from_millis(latency))
    }

    /// A request begins. Returns whether it is a probe.
    pub fn discovery_begins(&self, project: usize, request: &DiscoveryRequest) -> bool {
        let mut state = self.state();
        let now = state.now();
        state.note(format!("discovery {} {request:?}", PROJECTS[project]));
        let checked = state.check_request("discovery", project, now);
        let is_probe = state.begin_request(project, now);
        drop(state);
        if let Err(why) = checked {
            self.violate(why);
        }
        is_probe
    }

    pub fn discovery_ends(&self, project: usize, is_probe: bool, kind: Option<Kind>, is_list: bool) {
        let mut state = self.state();
        if state.dead {
            return;
        }
        state.end_request(project, is_probe, kind.as_ref());
        if is_list && kind.is_some() {
            state.projects[project].is_missing = kind == Some(Kind::NotFound);
        }
    }

    /// The true answer to a request, which is sent now.
    pub fn discovery_answered(&self, project: usize, request: &DiscoveryRequest, answer: &DiscoveryAnswer) {
        let mut state = self.state();
        let now = state.now();
        state.note(format!("discovery answer {answer:?}"));
        match (request, answer) {
            (_, DiscoveryAnswer::Installations(_)) => {
                for (index, installation) in self.scenario.extras.installations.iter().enumerate() {
                    if installation.project == project && installation.lives(now) {
                        state.discovered.first.entry(index).or_insert(now);
                        state.discovered.known.entry(index).or_insert(now);
                    }
                }
            }
            (_, DiscoveryAnswer::Backfill(Some(named))) => {
                let key = WatchKey {
                    project: PROJECTS[project].into(),
                    operation: named.id.as_str().into(),
                };
                state.discovered.named.entry(key).or_insert(now);
            }
            _ => {}
        }
        let of = &mut state.projects[project];
        if !matches!(answer, DiscoveryAnswer::Backfill(None)) {
            of.answered.push(now);
        }
        if matches!(answer, DiscoveryAnswer::Installations(_)) {
            of.is_missing = false;
        }
    }

    /// Operations of living installations that discovery has to find, and has not.
    pub fn unfound(&self) -> Vec<String> {
        let state = self.state();
        let now = state.now();
        let objects = self.living(now).flat_map(|installation| &installation.objects);
        let newest = objects.filter_map(|object| newest(&self.scenario, object, now));
        let unfound = newest.filter_map(|index| {
            let operation = &self.scenario.operations[index];
            let key = key_of(operation);
            let is_wanted = is_surely_new(operation) || runs(operation, now);
            (is_wanted && !state.listed.contains(&key)).then(|| format!("{key} is not found"))
        });
        unfound.collect()
    }

    fn living(&self, now: Duration) -> impl Iterator<Item = &InstallationScript> {
        let installations = self.scenario.extras.installations.iter();
        installations.filter(move |installation| installation.lives(now))
    }
}

impl State {
    /// Notes that discovery asks for an operation, since the daemon watches what an answer named.
    pub(super) fn note_found(&mut self, scenario: &Scenario, key: &WatchKey) -> Result<(), String> {
        let is_noted = self
            .demands
            .get(key)
            .is_some_and(|demand| demand.of(Source::Discovery).is_some());
        if is_noted || !self.discovered.named.contains_key(key) {
            return Ok(());
        }
        let now = self.now();
        let index = scenario
            .operations
            .iter()
            .position(|operation| key_of(operation) == *key);
        let index = index.ok_or("no such operation")?;
        let (installation, terms) = terms_of_discovery(scenario, index).ok_or("it has no installation")?;
        self.demand(key, Source::Discovery, Some(&terms));
        let operation = &scenario.operations[index];
        let first = self.discovered.first.get(&installation).copied().unwrap_or(now);
        let has_run = operation.end > first || operation.ending == Ending::NeverEnds;
        if !is_surely_new(operation) && !has_run {
            return Err(format!("{key} is old, and was found"));
        }
        Ok(())
    }

    /// When an answer first named the operation.
    pub(super) fn named_at(&self, key: &WatchKey) -> Option<Duration> {
        self.discovered.named.get(key).copied()
    }

    /// The process ends: what was not recorded is forgotten.
    pub(super) fn forget_installations(&mut self, now: Duration) {
        let unrecorded = CHECKPOINT * 2 + self.lag;
        let is_full = self.full_last > Duration::ZERO && self.full_last + unrecorded > now;
        self.discovered
            .known
            .retain(|_, since| !is_full && *since + unrecorded < now);
    }

    /// A group waits for every object that may still get a backfill.
    pub(super) fn check_awaited(
        &self,
        scenario: &Scenario,
        project: &str,
        group: &str,
        data: &Value,
        asked: Duration,
    ) -> Result<(), String> {
        if self
            .since(asked.saturating_sub(seconds(600)))
            .any(|knobs| !knobs.discovers)
        {
            return Ok(());
        }
        let missing = data["missing"].as_array().cloned().unwrap_or_default();
        for (index, since) in &self.discovered.known {
            let installation = &scenario.extras.installations[*index];
            let name = installation.group.as_ref().unwrap_or(&installation.id);
            let is_known = *since + self.lag < asked && installation.lives(self.now());
            if name != group || PROJECTS[installation.project] != project || !is_known {
                continue;
            }
            for object in &installation.objects {
                let mut operations = object
                    .operations
                    .iter()
                    .map(|index| key_of(&scenario.operations[*index]));
                let is_named = operations.any(|key| self.discovered.named.contains_key(&key));
                let is_missing = missing.iter().any(|missing| {
                    missing["installation"] == installation.id && missing["object"] == object.name
                });
                if !is_named && !is_missing {
                    return Err(format!("{} of {} is awaited", object.name, installation.id));
                }
                let first = self.discovered.first.get(index).copied().unwrap_or_default();
                if is_missing && self.stepped.is_zero() && asked + TICK < first + AWAITED_FOR {
                    return Err(format!(
                        "{} of {} is missing too early",
                        object.name, installation.id
                    ));
                }
            }
        }
        Ok(())
    }
}
