//! The outcome of one request of discovery, before any decision.

use super::request::{DiscoveryAnswer, DiscoveryRequest, OperationState};
use crate::core::answer::Answer;
use crate::core::operation::Status;
use crate::core::project_health::DiscoveryEvidence;

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
    /// The outcome of a request that was answered.
    pub const ANSWERED: &'static str = "answered";

    /// The meaning for a request that was already repeated.
    pub fn of_repeated(self) -> Self {
        match self {
            Self::Other(answer) => Self::Other(answer.of_repeated()),
            answered @ Self::Answered(_) => answered,
        }
    }

    /// Whether the API did not process the request.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Other(Answer::Unprocessed(_)))
    }

    /// Its name in `discovery_requests_total{outcome}` and logs: `answered`, or an outcome of [`Answer`].
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Answered(_) => Self::ANSWERED,
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

    /// What it shows about the project.
    pub fn evidence(&self, request: &DiscoveryRequest) -> DiscoveryEvidence {
        // The names of integrations only add to a list that was answered.
        let is_list = *request == DiscoveryRequest::Installations;
        let answer = match self {
            // Its 404 may be that of the project.
            Self::Answered(DiscoveryAnswer::Backfill(None)) => return DiscoveryEvidence::KeyAccepted,
            Self::Answered(_) => return DiscoveryEvidence::Answered,
            Self::Other(answer) => answer.clone(),
        };
        match answer {
            Answer::Operation(_) => DiscoveryEvidence::Answered,
            Answer::NotFound(reason) if is_list => DiscoveryEvidence::ProjectMissing(reason),
            Answer::Forbidden(reason) if is_list => DiscoveryEvidence::ListForbidden(reason),
            Answer::Unauthorized(reason) if is_list => DiscoveryEvidence::Unauthorized(reason),
            Answer::Throttled { wait, reason } => DiscoveryEvidence::Throttled { wait, reason },
            Answer::Unprocessed(failure) | Answer::Failed(failure) => DiscoveryEvidence::Failed(failure),
            Answer::NotFound(_) | Answer::Refused(_) | Answer::Forbidden(_) | Answer::Unauthorized(_) => {
                DiscoveryEvidence::Nothing
            }
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
            Self::Other(Answer::Unauthorized(reason)) => DiscoveryAnswer::Unauthorized(reason.into()),
            Self::Other(answer) => DiscoveryAnswer::Failed(answer.reason().unwrap_or_default().into()),
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
        let failed = DiscoveryAnswer::Failed("404".into());
        assert_eq!(missing.into_answer(&LIST, &active), failed);
    }

    #[test]
    fn only_a_list_shows_that_a_project_is_missing() {
        let reason = || "why".to_owned();
        let missing = DiscoveryReply::Other(Answer::NotFound(reason()));
        assert_eq!(
            missing.evidence(&LIST),
            DiscoveryEvidence::ProjectMissing(reason())
        );
        assert_eq!(missing.evidence(&backfill()), DiscoveryEvidence::Nothing);
        let list = DiscoveryReply::Answered(DiscoveryAnswer::Installations(InstallationList::default()));
        assert_eq!(list.evidence(&LIST), DiscoveryEvidence::Answered);
        let none = DiscoveryReply::Answered(DiscoveryAnswer::Backfill(None));
        assert_eq!(none.evidence(&backfill()), DiscoveryEvidence::KeyAccepted);
        let forbidden = DiscoveryReply::Other(Answer::Forbidden(reason()));
        assert_eq!(
            forbidden.evidence(&LIST),
            DiscoveryEvidence::ListForbidden(reason())
        );
        assert_eq!(forbidden.evidence(&backfill()), DiscoveryEvidence::Nothing);
        assert_eq!(forbidden.failure(), Some("why"));
    }

    #[test]
    fn names_and_objects_decide_nothing_about_the_project() {
        let unauthorized = DiscoveryReply::Other(Answer::Unauthorized("401".to_owned()));
        let evidence = DiscoveryEvidence::Unauthorized("401".to_owned());
        assert_eq!(unauthorized.evidence(&LIST), evidence);
        for answer in [Answer::NotFound, Answer::Forbidden, Answer::Unauthorized] {
            let reply = DiscoveryReply::Other(answer("why".to_owned()));
            for request in [DiscoveryRequest::Integrations, backfill()] {
                assert_eq!(reply.evidence(&request), DiscoveryEvidence::Nothing, "{reply:?}");
            }
        }
        let answer = unauthorized.into_answer(&backfill(), &[]);
        assert_eq!(answer, DiscoveryAnswer::Unauthorized("401".into()));
    }

    #[test]
    fn a_repeated_request_that_was_not_processed_failed() {
        let failure = Failure {
            class: FailureClass::Interrupted,
            reason: "reset".to_owned(),
        };
        let reply = DiscoveryReply::Other(Answer::Unprocessed(failure.clone()));
        assert_eq!(reply.evidence(&LIST), DiscoveryEvidence::Failed(failure.clone()));
        assert_eq!(
            reply.of_repeated(),
            DiscoveryReply::Other(Answer::Failed(failure))
        );
    }
}
