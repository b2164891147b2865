//! The installations of the simulated API as they are now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::backfill::StartedBackfill;
use super::customer_change::{CustomerChange, UnknownInstallation};
use super::installation::{InstallationStatus, SimulatedInstallation, SimulatedIntegration};
use super::installation_answer::InstallationAnswer;
use super::moment::Moment;
use super::operations::RunningOperation;

/// All installations, and the changes that are due later.
#[derive(Debug, Default)]
pub(super) struct CustomerState {
    /// In the order of addition.
    installations: BTreeMap<u64, RunningInstallation>,
    numbers: HashMap<String, u64>,
    pub(super) deleted: HashSet<String>,
    /// Numbers of installations and of due changes.
    next_number: u64,
    pub(super) due: BTreeMap<(Instant, u64), (Moment, CustomerChange)>,
    pub(super) started: Vec<StartedBackfill>,
    /// With the ID of their project.
    pub(super) integrations: Vec<(String, SimulatedIntegration)>,
}

/// An installation that is not deleted.
#[derive(Debug)]
pub(super) struct RunningInstallation {
    pub(super) plan: SimulatedInstallation,
    pub(super) created: Timestamp,
    pub(super) updated: Option<Timestamp>,
    /// The newest backfill of each object.
    pub(super) newest: HashMap<String, Arc<RunningOperation>>,
    pub(super) operations: Vec<String>,
}

impl RunningInstallation {
    /// The installation as the API answers it now.
    pub(super) fn answer(&self) -> InstallationAnswer<'_> {
        let is_stalled = self.newest.values().any(|run| run.is_stalled());
        let status = if is_stalled {
            InstallationStatus::BadCredentials
        } else {
            self.plan.status
        };
        InstallationAnswer::new(&self.plan, status, self.created, self.updated)
    }
}

/// What there is to know about the newest backfill of an object.
#[derive(Debug)]
pub(super) enum NewestBackfill {
    /// There is no such installation.
    UnknownInstallation,
    /// There is no backfill of this object.
    None,
    /// The operation that reads it.
    Found(Arc<RunningOperation>),
}

/// The path of an installation.
#[derive(Debug, Clone, Copy)]
pub(super) struct InstallationPlace<'a> {
    pub(super) project_id: &'a str,
    pub(super) integration: &'a str,
    pub(super) installation: &'a str,
}

impl CustomerState {
    /// Adds a change that is due at this moment.
    pub(super) fn schedule(&mut self, at: Moment, change: CustomerChange) {
        self.next_number += 1;
        self.due.insert((at.instant, self.next_number), (at, change));
    }

    /// Adds an installation, or replaces the one with the same ID.
    pub(super) fn insert(&mut self, one: RunningInstallation) {
        let id = one.plan.id.clone();
        self.deleted.remove(&id);
        self.next_number += 1;
        let number = *self.numbers.entry(id).or_insert(self.next_number);
        self.installations.insert(number, one);
    }

    /// Removes an installation.
    pub(super) fn remove(&mut self, id: &str) -> Result<RunningInstallation, UnknownInstallation> {
        let number = self.numbers.remove(id);
        let removed = number.and_then(|number| self.installations.remove(&number));
        removed.ok_or_else(|| UnknownInstallation(id.to_owned()))
    }

    /// The installation with this ID.
    pub(super) fn get_mut(&mut self, id: &str) -> Result<&mut RunningInstallation, UnknownInstallation> {
        let number = self.numbers.get(id);
        let found = number.and_then(|number| self.installations.get_mut(number));
        found.ok_or_else(|| UnknownInstallation(id.to_owned()))
    }

    /// The installation at this place.
    pub(super) fn at(&self, place: InstallationPlace<'_>) -> Option<&RunningInstallation> {
        let one = self.installations.get(self.numbers.get(place.installation)?)?;
        let is_there = one.plan.project == place.project_id && one.plan.integration_id == place.integration;
        is_there.then_some(one)
    }

    /// The installations in the order of addition.
    pub(super) fn installations(&self) -> impl Iterator<Item = &RunningInstallation> {
        self.installations.values()
    }

    /// Whether there is or was such an installation.
    pub(super) fn has_known(&self, installation: &str) -> bool {
        self.numbers.contains_key(installation) || self.deleted.contains(installation)
    }

    /// The newest backfill of an object.
    pub(super) fn newest(&self, place: InstallationPlace<'_>, object: &str) -> NewestBackfill {
        match self.at(place) {
            None => NewestBackfill::UnknownInstallation,
            Some(one) => match one.newest.get(object) {
                None => NewestBackfill::None,
                Some(run) => NewestBackfill::Found(Arc::clone(run)),
            },
        }
    }
}
