//! How the installations of the simulated API change over time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::backfill::{BackfillStart, SimulatedBackfill, StartedBackfill};
use super::customer_change::{CustomerChange, OperationsAfterDelete, UnknownInstallation};
use super::customer_state::{CustomerState, InstallationPlace, NewestBackfill, RunningInstallation};
use super::installation::{SimulatedInstallation, SimulatedIntegration, SimulatedObject};
use super::installation_answer::InstallationAnswer;
use super::lock;
use super::moment::Moment;
use super::operations::{OperationClock, Operations};
use super::seeded_random::SeededRandom;
use super::uuid;

/// All customers. The lock is taken before those of the operations.
#[derive(Debug)]
pub(super) struct Customers {
    state: Mutex<CustomerState>,
    random: SeededRandom,
}

impl Customers {
    /// Nobody yet. The seed determines all IDs.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::default(),
            random: SeededRandom::new(seed),
        }
    }

    /// Makes the changes that are due.
    pub(super) fn advance(&self, operations: &Operations) {
        drop(self.current(operations));
    }

    /// Makes a change now.
    pub(super) fn change(
        &self,
        change: CustomerChange,
        operations: &Operations,
    ) -> Result<(), UnknownInstallation> {
        let (mut state, now) = self.current(operations);
        self.apply(&mut state, change, now, operations)
    }

    /// Adds an installation now. Returns its ID.
    pub(super) fn install(&self, plan: SimulatedInstallation, operations: &Operations) -> String {
        let (mut state, now) = self.current(operations);
        self.add_installation(&mut state, plan, now, operations)
    }

    /// Adds an object now. Returns the operation ID of its backfill, if it has one.
    pub(super) fn add_object(
        &self,
        installation: &str,
        object: SimulatedObject,
        operations: &Operations,
    ) -> Result<Option<String>, UnknownInstallation> {
        let (mut state, now) = self.current(operations);
        self.put_object(&mut state, installation, object, now, operations)
    }

    /// Adds a backfill now. Returns its operation ID.
    pub(super) fn backfill(
        &self,
        installation: &str,
        object: &str,
        backfill: SimulatedBackfill,
        operations: &Operations,
    ) -> Result<String, UnknownInstallation> {
        let (mut state, now) = self.current(operations);
        self.add_backfill(&mut state, installation, object, backfill, now, operations)
    }

    /// Makes a change after `wait`.
    pub(super) fn schedule(&self, wait: Duration, change: CustomerChange) {
        lock(&self.state).schedule(Moment::now().after(wait), change);
    }

    /// Adds an integration, or replaces the one with the same ID.
    pub(super) fn add_integration(&self, project_id: String, integration: SimulatedIntegration) {
        let mut state = lock(&self.state);
        let is_other = |(project, other): &(String, SimulatedIntegration)| {
            *project != project_id || other.id != integration.id
        };
        state.integrations.retain(is_other);
        state.integrations.push((project_id, integration));
    }

    /// The integrations of a project, in the order of addition.
    pub(super) fn integrations(&self, project_id: &str) -> Vec<SimulatedIntegration> {
        let state = lock(&self.state);
        let own = state
            .integrations
            .iter()
            .filter(|(project, _)| project == project_id);
        own.map(|(_, integration)| integration.clone()).collect()
    }

    /// The backfills that have started, in the order of their start.
    pub(super) fn started(&self) -> Vec<StartedBackfill> {
        lock(&self.state).started.clone()
    }

    /// The IDs of the installations that are not deleted, in the order of addition.
    pub(super) fn installation_ids(&self) -> Vec<String> {
        let state = lock(&self.state);
        state.installations().map(|one| one.plan.id.clone()).collect()
    }

    /// Whether there is or was such an installation.
    pub(super) fn has_known(&self, installation: &str) -> bool {
        lock(&self.state).has_known(installation)
    }

    /// The installation as JSON.
    pub(super) fn installation(&self, place: InstallationPlace<'_>) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        serde_json::to_vec(&state.at(place)?.answer()).ok()
    }

    /// Calls `each` with each installation of a project and group, in the order of addition.
    pub(super) fn for_each(
        &self,
        project_id: &str,
        group: Option<&str>,
        mut each: impl FnMut(InstallationAnswer<'_>),
    ) {
        let state = lock(&self.state);
        for one in state.installations() {
            let reference = one.plan.group.as_ref().map(|group| group.reference.as_str());
            if one.plan.project == project_id && (group.is_none() || group == reference) {
                each(one.answer());
            }
        }
    }

    /// The newest backfill of an object.
    pub(super) fn newest(&self, place: InstallationPlace<'_>, object: &str) -> NewestBackfill {
        lock(&self.state).newest(place, object)
    }

    /// The state after the changes that are due, and the present.
    fn current(&self, operations: &Operations) -> (MutexGuard<'_, CustomerState>, Moment) {
        let mut state = lock(&self.state);
        let now = Moment::now();
        while let Some(entry) = state.due.first_entry()
            && entry.key().0 <= now.instant
        {
            let (at, change) = entry.remove();
            // The installation may have been deleted, and then nothing happens to it any more.
            let _ = self.apply(&mut state, change, at, operations);
        }
        (state, now)
    }

    fn apply(
        &self,
        state: &mut CustomerState,
        change: CustomerChange,
        at: Moment,
        operations: &Operations,
    ) -> Result<(), UnknownInstallation> {
        match change {
            CustomerChange::Install(plan) => {
                self.add_installation(state, plan, at, operations);
            }
            CustomerChange::AddObject { installation, object } => {
                self.put_object(state, &installation, object, at, operations)?;
            }
            CustomerChange::RemoveObject { installation, object } => {
                let one = state.get_mut(&installation)?;
                one.updated = Some(at.wall);
                one.plan.objects.retain(|other| other.name != object);
            }
            CustomerChange::Backfill {
                installation,
                object,
                backfill,
            } => {
                self.add_backfill(state, &installation, &object, backfill, at, operations)?;
            }
            CustomerChange::SetStatus { installation, status } => {
                state.get_mut(&installation)?.plan.status = status;
            }
            CustomerChange::Delete {
                installation,
                operations: after,
            } => {
                let one = state.remove(&installation)?;
                if after == OperationsAfterDelete::Removed {
                    one.operations.iter().for_each(|id| operations.remove(id));
                }
                state.deleted.insert(installation);
            }
        }
        Ok(())
    }

    /// Adds an installation and the backfills of its objects. Returns its ID.
    fn add_installation(
        &self,
        state: &mut CustomerState,
        mut plan: SimulatedInstallation,
        at: Moment,
        operations: &Operations,
    ) -> String {
        if plan.id.is_empty() {
            plan.id = uuid::random(&self.random);
        }
        let id = plan.id.clone();
        let objects = plan.objects.clone();
        state.insert(RunningInstallation {
            created: at.wall_before(plan.age),
            updated: None,
            newest: HashMap::new(),
            operations: Vec::new(),
            plan,
        });
        for object in objects {
            if let Some(backfill) = object.backfill {
                // Cannot fail: the installation was just added.
                let _ = self.add_backfill(state, &id, &object.name, backfill, at, operations);
            }
        }
        id
    }

    /// Adds or replaces an object, and adds its backfill. Returns the operation ID of the backfill.
    fn put_object(
        &self,
        state: &mut CustomerState,
        installation: &str,
        object: SimulatedObject,
        at: Moment,
        operations: &Operations,
    ) -> Result<Option<String>, UnknownInstallation> {
        let one = state.get_mut(installation)?;
        one.updated = Some(at.wall);
        let (name, backfill) = (object.name.clone(), object.backfill.clone());
        match one.plan.objects.iter_mut().find(|other| other.name == name) {
            Some(other) => *other = object,
            None => one.plan.objects.push(object),
        }
        let add = |backfill| self.add_backfill(state, installation, &name, backfill, at, operations);
        backfill.map(add).transpose()
    }

    /// Starts a backfill, now or later. Returns its operation ID.
    fn add_backfill(
        &self,
        state: &mut CustomerState,
        installation: &str,
        object: &str,
        mut backfill: SimulatedBackfill,
        at: Moment,
        operations: &Operations,
    ) -> Result<String, UnknownInstallation> {
        let one = state.get_mut(installation)?;
        let (wait, age) = match backfill.start {
            BackfillStart::After(wait) => (wait, Duration::ZERO),
            BackfillStart::Ago(age) => (Duration::ZERO, age),
        };
        let created = at.after(wait).wall_before(age);
        if backfill.read.id.is_empty() {
            backfill.read.id = uuid::of_time(created, &self.random);
        }
        let id = backfill.read.id.clone();
        if !wait.is_zero() {
            backfill.start = BackfillStart::After(Duration::ZERO);
            let (installation, object) = (installation.to_owned(), object.to_owned());
            let start = CustomerChange::Backfill {
                installation,
                object,
                backfill,
            };
            state.schedule(at.after(wait), start);
            return Ok(id);
        }
        let mut operation = backfill.read;
        operation.project_id.clone_from(&one.plan.project);
        operation.integration_id.clone_from(&one.plan.integration_id);
        operation.installation_id.clone_from(&one.plan.id);
        operation.objects = vec![object.to_owned()];
        let group = one.plan.group.as_ref().map(|group| group.reference.clone());
        let clock = OperationClock {
            shown: at.instant,
            age,
            created,
        };
        let run = operations.add_backfill(operation.clone(), clock);
        one.operations.push(id.clone());
        let newest = one.newest.get(object).map(|run| run.created());
        if newest.is_none_or(|newest| newest <= created) {
            one.newest.insert(object.to_owned(), run);
        }
        state.started.push(StartedBackfill {
            operation,
            group,
            shown: at.instant,
            create_time: created,
        });
        Ok(id)
    }
}
