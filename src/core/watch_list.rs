//! Lines of a watch list, and the difference of two lists.

use std::fmt;
use std::sync::Arc;

/// What a watch is known by: project and operation ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey {
    /// The name of the configured project.
    pub project: Arc<str>,
    /// The operation ID.
    pub operation: Arc<str>,
}

impl fmt::Display for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.operation)
    }
}

/// The labels of a watch, in the order of the line; they travel with every event.
pub type Labels = Vec<(String, String)>;
