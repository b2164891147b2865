//! The outcome of one request of discovery, before any decision.

use super::{DiscoveryAnswer, DiscoveryRequest, OperationState};
use crate::core::answer::{Answer, ProjectAnswer};
use crate::core::operation::Status;

/// The outcome of one request of discovery.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum DiscoveryReply {
    /// A list, or the backfill of an object. 404 with problem details means that an object has no backfill.
    Answered(DiscoveryAnswer),
    /// Anything else, with the classes of a poll. It contains an operation only if one was requested.
    Other(Answer),
}

impl DiscoveryReply {
    /// The meaning for a request that was already repeated.
    pub fn of_repeated(self) -> Self {
        match self {
            Self::Other(answer) => Self::Other(answer.of_repeated()),
            answered @ Self::Answered(_) => answered,
        }
    }

    /// Its name in `discovery_requests_total{outcome}` and logs: `answered`, or an outcome of [`Answer`].
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Other(answer) => answer.outcome(),
        }
    }

    /// Why the request was not answered.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Answered(_) => None,
            Self::Other(answer) => answer.reason(),
        }
    }

    /// What it shows about the existence of the project. Only a list is refused with 404 because of its project.
    pub fn project(&self, request: &DiscoveryRequest) -> ProjectAnswer {
        let is_list = matches!(
            request,
            DiscoveryRequest::Installations | DiscoveryRequest::Integrations
        );
        let answer = match self {
            // Its 404 may be that of the project.
            Self::Answered(DiscoveryAnswer::Backfill(None)) => {
                return ProjectAnswer::Unknown("the object has no backfill".to_owned());
            }
            Self::Answered(_) => return ProjectAnswer::Exists,
            Self::Other(answer) => answer,
        };
        match answer {
            Answer::Operation(_) | Answer::Forbidden(_) => ProjectAnswer::Exists,
            Answer::NotFound(reason) if is_list => ProjectAnswer::Missing(reason.clone()),
            Answer::Throttled { wait, reason } => ProjectAnswer::Throttled {
                wait: *wait,
                reason: reason.clone(),
            },
            Answer::Unprocessed(failure) => ProjectAnswer::Unprocessed(failure.clone()),
            Answer::NotFound(reason) | Answer::Refused(reason) | Answer::Unauthorized(reason) => {
                ProjectAnswer::Unknown(reason.clone())
            }
            Answer::Failed(failure) => ProjectAnswer::Unknown(failure.reason.clone()),
        }
    }

    /// What it means for discovery. `active_statuses` are those that count as running, besides `in_progress`.
    #[must_use]
    pub fn into_answer(self, request: &DiscoveryRequest, active_statuses: &[String]) -> DiscoveryAnswer {
        match self {
            Self::Answered(answer) => answer,
            Self::Other(Answer::Operation(operation)) => {
                DiscoveryAnswer::Operation(OperationState::of(&operation.status, active_statuses))
            }
            Self::Other(Answer::NotFound(_)) if matches!(request, DiscoveryRequest::Operation(_)) => {
                DiscoveryAnswer::Operation(OperationState::Missing)
            }
            Self::Other(_) => DiscoveryAnswer::Failed,
        }
    }
}

impl OperationState {
    fn of(status: &Status, active_statuses: &[String]) -> Self {
        match status {
            Status::InProgress => Self::Running,
            Status::Other(other) if active_statuses.contains(other) => Self::Running,
            Status::Success | Status::Failure | Status::Other(_) => Self::Finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::answer::{Failure, FailureClass};
    use crate::core::discovery::{BackfillPath, InstallationList, ObjectKey};
    use crate::core::operation::Operation;

    const LIST: DiscoveryRequest = DiscoveryRequest::Installations;

    fn backfill() -> DiscoveryRequest {
        DiscoveryRequest::Backfill(BackfillPath {
            integration: Arc::from("g"),
            key: ObjectKey {
                installation: Arc::from("i"),
                object: Arc::from("contact"),
            },
        })
    }

    fn operation(status: &str) -> DiscoveryReply {
        let body = format!(r#"{{"id":"op","status":"{status}"}}"#);
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        DiscoveryReply::Other(Answer::Operation(Box::new(Operation::parse(&body, now).unwrap())))
    }

    #[test]
    fn the_state_of_an_operation_follows_from_its_status() {
        let request = DiscoveryRequest::Operation(Arc::from("op"));
        let active = ["queued".to_owned()];
        for (status, state) in [
            ("in_progress", OperationState::Running),
            ("queued", OperationState::Running),
            ("success", OperationState::Finished),
            ("failure", OperationState::Finished),
            ("cancelled", OperationState::Finished),
        ] {
            let answer = operation(status).into_answer(&request, &active);
            assert_eq!(answer, DiscoveryAnswer::Operation(state), "{status}");
        }
        let missing = DiscoveryReply::Other(Answer::NotFound("404".to_owned()));
        assert_eq!(
            missing.clone().into_answer(&request, &active),
            DiscoveryAnswer::Operation(OperationState::Missing)
        );
        assert_eq!(missing.into_answer(&LIST, &active), DiscoveryAnswer::Failed);
    }

    #[test]
    fn only_a_list_shows_that_a_project_is_missing() {
        let reason = || "why".to_owned();
        let missing = DiscoveryReply::Other(Answer::NotFound(reason()));
        assert_eq!(missing.project(&LIST), ProjectAnswer::Missing(reason()));
        assert_eq!(missing.project(&backfill()), ProjectAnswer::Unknown(reason()));
        let list = DiscoveryReply::Answered(DiscoveryAnswer::Installations(InstallationList::default()));
        assert_eq!(list.project(&LIST), ProjectAnswer::Exists);
        let none = DiscoveryReply::Answered(DiscoveryAnswer::Backfill(None));
        assert!(matches!(none.project(&backfill()), ProjectAnswer::Unknown(_)));
        let forbidden = DiscoveryReply::Other(Answer::Forbidden(reason()));
        assert_eq!(forbidden.project(&LIST), ProjectAnswer::Exists);
        assert_eq!(forbidden.failure(), Some("why"));
    }

    #[test]
    fn a_repeated_request_that_was_not_processed_failed() {
        let failure = Failure {
            class: FailureClass::Interrupted,
            reason: "reset".to_owned(),
        };
        let reply = DiscoveryReply::Other(Answer::Unprocessed(failure.clone()));
        assert_eq!(reply.project(&LIST), ProjectAnswer::Unprocessed(failure.clone()));
        assert_eq!(
            reply.of_repeated(),
            DiscoveryReply::Other(Answer::Failed(failure))
        );
    }
}
