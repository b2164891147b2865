//! The requests of discovery, and their answers.

use std::sync::Arc;

use super::listed::{InstallationList, NamedOperation};

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
    /// The API refused the key. The next list of installations decides whether it is rejected.
    Unauthorized(Arc<str>),
    /// The request failed for this reason.
    Failed(Arc<str>),
}

impl DiscoveryAnswer {
    /// Why the request failed; otherwise what an answer to another request is called.
    pub(super) fn failure(&self) -> Arc<str> {
        match self {
            Self::Unauthorized(reason) | Self::Failed(reason) => Arc::clone(reason),
            _ => "the answer does not fit the request".into(),
        }
    }
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
