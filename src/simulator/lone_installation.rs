//! Installations that exist because an operation without a customer belongs to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::customer_state::InstallationPlace;
use super::customers::Customers;
use super::installation::{
    InstallationStatus, SimulatedAuthentication, SimulatedInstallation, SimulatedObject,
};
use super::installation_answer::InstallationAnswer;
use super::operations::{OperationOrigin, Operations, RunningOperation};

/// An installation with the operations that belong to it, in the order of addition.
#[derive(Debug)]
pub(super) struct LoneInstallation {
    plan: SimulatedInstallation,
    runs: Vec<Arc<RunningOperation>>,
}

/// The installations of a project.
pub(super) fn of_project(
    operations: &Operations,
    customers: &Customers,
    project_id: &str,
) -> Vec<LoneInstallation> {
    let runs = operations.page(0, usize::MAX, |run| {
        run.origin == OperationOrigin::Alone && run.operation.project_id == project_id
    });
    let mut found: BTreeMap<(String, String), Vec<Arc<RunningOperation>>> = BTreeMap::new();
    for run in runs {
        let (integration, installation) = (&run.operation.integration_id, &run.operation.installation_id);
        let key = (integration.clone(), installation.clone());
        found.entry(key).or_default().push(run);
    }
    found.retain(|(_, installation), _| !customers.has_known(installation));
    found.into_values().filter_map(LoneInstallation::new).collect()
}

/// The installation at this place.
pub(super) fn at(
    operations: &Operations,
    customers: &Customers,
    place: InstallationPlace<'_>,
) -> Option<LoneInstallation> {
    if customers.has_known(place.installation) {
        return None;
    }
    let runs = operations.page(0, usize::MAX, |run| {
        let operation = &run.operation;
        operation.project_id == place.project_id
            && operation.integration_id == place.integration
            && operation.installation_id == place.installation
    });
    LoneInstallation::new(runs)
}

impl LoneInstallation {
    fn new(runs: Vec<Arc<RunningOperation>>) -> Option<Self> {
        let first = &runs.first()?.operation;
        let mut objects: Vec<SimulatedObject> = Vec::new();
        for run in &runs {
            if objects.iter().all(|object| object.name != run.operation.object()) {
                objects.push(SimulatedObject::new(run.operation.object()));
            }
        }
        let plan = SimulatedInstallation {
            id: first.installation_id.clone(),
            project: first.project_id.clone(),
            integration_id: first.integration_id.clone(),
            group: None,
            authentication: SimulatedAuthentication::ApiKey,
            ..SimulatedInstallation::new("", objects)
        };
        Some(Self { plan, runs })
    }

    /// The installation as the API answers it.
    pub(super) fn answer(&self) -> InstallationAnswer<'_> {
        let status = if self.runs.iter().any(|run| run.is_stalled()) {
            InstallationStatus::BadCredentials
        } else {
            InstallationStatus::Working
        };
        let created = self
            .runs
            .first()
            .map_or(Timestamp::UNIX_EPOCH, |run| run.created());
        InstallationAnswer::new(&self.plan, status, created, None)
    }

    /// The newest operation that reads the object. One that waits for its first request does not exist yet.
    pub(super) fn newest(&self, object: &str) -> Option<Arc<RunningOperation>> {
        let reading = self.runs.iter();
        let reading = reading.filter(|run| run.has_started() && run.operation.object() == object);
        reading.max_by_key(|run| run.created()).cloned()
    }
}
