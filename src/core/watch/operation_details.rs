//! Data of an operation that later events repeat.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::event::MAX_RESULT;
use super::super::operation::{Operation, Status};
use super::super::operation_kind::OperationKind;
use super::super::text;

/// Maximum bytes of a stored ID or status.
const MAX_NAME: usize = 256;

/// Truncated copies: the API's answer may have 1 MiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationDetails {
    #[serde(flatten)]
    pub kind: Arc<OperationKind>,
    /// Empty if unknown.
    pub installation_id: Box<str>,
    pub status: Status,
    pub create_time: Option<Timestamp>,
    pub result: Option<Box<str>>,
}

impl OperationDetails {
    /// The details of `operation`.
    pub fn of(operation: &Operation) -> Self {
        Self {
            kind: Arc::new(OperationKind::of(operation)),
            installation_id: text::cut(operation.installation_id.as_deref().unwrap_or_default(), MAX_NAME)
                .into(),
            status: match &operation.status {
                Status::Other(text) => Status::Other(text::cut(text, MAX_NAME)),
                known => known.clone(),
            },
            create_time: operation.create_time,
            result: operation
                .result
                .as_deref()
                .map(|result| text::cut(result, MAX_RESULT).into()),
        }
    }

    /// Whether these are the details of `operation`.
    pub fn is_of(&self, operation: &Operation) -> bool {
        let result = match (self.result.as_deref(), operation.result.as_deref()) {
            (Some(kept), Some(result)) => text::is_cut_of(kept, result, MAX_RESULT),
            (kept, result) => kept == result,
        };
        result
            && text::is_cut_of(self.status.as_str(), operation.status.as_str(), MAX_NAME)
            && text::is_cut_of(
                &self.installation_id,
                operation.installation_id.as_deref().unwrap_or_default(),
                MAX_NAME,
            )
            && self.create_time == operation.create_time
            && self.kind.is_of(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation() -> Operation {
        serde_json::from_str(
            r#"{"id":"o","projectId":"p","integrationId":"g","configId":"c","installationId":"i","actionType":"read",
                "status":"in_progress","result":"r","createTime":"2026-11-23T11:48:35Z","metadata":{"objects":["contact"]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn each_change_is_noticed_and_nothing_else() {
        let details = OperationDetails::of(&operation());
        assert!(details.is_of(&operation()));
        let changes: [fn(&mut Operation); 8] = [
            |operation| operation.project_id = None,
            |operation| operation.integration_id = Some("x".into()),
            |operation| operation.installation_id = None,
            |operation| operation.status = Status::Success,
            |operation| operation.result = None,
            |operation| operation.create_time = None,
            |operation| operation.metadata = None,
            |operation| operation.installation_id = Some("long".repeat(100)),
        ];
        for change in changes {
            let mut operation = operation();
            change(&mut operation);
            assert!(!details.is_of(&operation), "{operation:?}");
            let details = OperationDetails::of(&operation);
            assert!(details.is_of(&operation), "{operation:?}");
        }
    }

    #[test]
    fn they_are_stored_as_one_flat_object() {
        let details = OperationDetails::of(&operation());
        let stored = r#"{"project_id":"p","integration_id":"g","objects":["contact"],"installation_id":"i","status":"in_progress","create_time":"2026-11-23T11:48:35Z","result":"r"}"#;
        assert_eq!(serde_json::to_string(&details).unwrap(), stored);
        assert_eq!(serde_json::from_str::<OperationDetails>(stored).unwrap(), details);
    }
}
