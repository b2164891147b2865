//! Why the API of a project is reported unreachable.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The class of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageClass {
    /// Requests get no usable answer.
    Failing,
    /// The API asks for pauses all the time.
    Throttled,
    /// The API does not know the project.
    ProjectMissing,
    /// The API refuses every watched operation.
    AllRefused,
}

impl OutageClass {
    /// The reason as the event has it.
    pub(super) fn event_reason(self, reason: &str) -> String {
        match self {
            Self::ProjectMissing => format!(
                "the API does not know the project: {reason}; check the project's name, and that the API key belongs to it"
            ),
            Self::Failing | Self::Throttled | Self::AllRefused => reason.to_owned(),
        }
    }
}

/// The reason of a reported outage. It is that of the event, or a newer one of the same class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageReason {
    /// The class.
    pub class: OutageClass,
    /// The reason in one line.
    pub reason: Arc<str>,
}

impl OutageReason {
    /// A reason of this class.
    #[must_use]
    pub fn new(class: OutageClass, reason: impl Into<Arc<str>>) -> Self {
        Self {
            class,
            reason: reason.into(),
        }
    }
}
