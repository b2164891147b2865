//! What customers do.

use thiserror::Error;

use super::backfill::SimulatedBackfill;
use super::installation::{InstallationStatus, SimulatedInstallation, SimulatedObject};

/// Something that a customer does.
#[derive(Debug, Clone, PartialEq)]
pub enum CustomerChange {
    /// Installs the integration. An installation with the same ID is replaced.
    Install(SimulatedInstallation),
    /// Adds an object to an installation, or replaces the configuration of the object with this name.
    AddObject {
        /// The installation ID.
        installation: String,
        /// The object.
        object: SimulatedObject,
    },
    /// Removes an object from the configuration of an installation. Its backfills continue.
    RemoveObject {
        /// The installation ID.
        installation: String,
        /// The object's name.
        object: String,
    },
    /// Backfills an object, perhaps again.
    Backfill {
        /// The installation ID.
        installation: String,
        /// The object's name.
        object: String,
        /// The backfill.
        backfill: SimulatedBackfill,
    },
    /// Changes the state of an installation.
    SetStatus {
        /// The installation ID.
        installation: String,
        /// The new state.
        status: InstallationStatus,
    },
    /// Deletes an installation.
    Delete {
        /// The installation ID.
        installation: String,
        /// What happens to its operations.
        operations: OperationsAfterDelete,
    },
}

/// What happens to the operations of an installation that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationsAfterDelete {
    /// They run to their end.
    Continue,
    /// The API answers 404.
    Removed,
}

/// There is no such installation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the simulator has no installation {0}")]
pub struct UnknownInstallation(pub String);
