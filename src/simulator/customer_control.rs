//! Control of the simulated customers.

use std::time::Duration;

use super::Simulator;
use super::backfill::{SimulatedBackfill, StartedBackfill};
use super::customer_change::{CustomerChange, OperationsAfterDelete, UnknownInstallation};
use super::installation::{SimulatedInstallation, SimulatedIntegration, SimulatedObject};

impl Simulator {
    /// Adds an integration to the project with this ID or name. Replaces one with the same ID.
    pub fn add_integration(&self, project: &str, integration: SimulatedIntegration) {
        let project_id = self.project_id(project);
        self.api.customers.add_integration(project_id, integration);
    }

    /// Adds an installation, with the backfills of its objects. Returns its ID.
    pub fn install(&self, mut installation: SimulatedInstallation) -> String {
        installation.project = self.project_id(&installation.project);
        self.api.customers.install(installation, &self.api.operations)
    }

    /// Adds an object to an installation, or replaces the configuration of the one with this name. Returns the operation
    /// ID of its backfill, if it has one.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn add_object(
        &self,
        installation: &str,
        object: SimulatedObject,
    ) -> Result<Option<String>, UnknownInstallation> {
        let operations = &self.api.operations;
        self.api.customers.add_object(installation, object, operations)
    }

    /// Backfills an object, perhaps again. Returns the operation ID, also for a backfill that starts later.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn backfill(
        &self,
        installation: &str,
        object: &str,
        backfill: SimulatedBackfill,
    ) -> Result<String, UnknownInstallation> {
        let operations = &self.api.operations;
        let customers = &self.api.customers;
        customers.backfill(installation, object, backfill, operations)
    }

    /// Deletes an installation.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn delete_installation(
        &self,
        installation: &str,
        operations: OperationsAfterDelete,
    ) -> Result<(), UnknownInstallation> {
        let installation = installation.to_owned();
        self.change(CustomerChange::Delete {
            installation,
            operations,
        })
    }

    /// Makes a change now.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn change(&self, change: CustomerChange) -> Result<(), UnknownInstallation> {
        let change = self.placed_change(change);
        self.api.customers.change(change, &self.api.operations)
    }

    /// Makes changes later, each after its time from now. A change of an installation that is deleted by then is dropped.
    pub fn schedule(&self, changes: impl IntoIterator<Item = (Duration, CustomerChange)>) {
        for (wait, change) in changes {
            self.api.customers.schedule(wait, self.placed_change(change));
        }
    }

    /// The IDs of the installations that were added and not deleted, in the order of addition.
    #[must_use]
    pub fn installations(&self) -> Vec<String> {
        self.api.customers.advance(&self.api.operations);
        self.api.customers.installation_ids()
    }

    /// The backfills of installations that have started, in the order of their start.
    #[must_use]
    pub fn backfills(&self) -> Vec<StartedBackfill> {
        self.api.customers.advance(&self.api.operations);
        self.api.customers.started()
    }

    fn placed_change(&self, mut change: CustomerChange) -> CustomerChange {
        if let CustomerChange::Install(installation) = &mut change {
            installation.project = self.project_id(&installation.project);
        }
        change
    }
}
