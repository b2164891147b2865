//! What the API says of an operation: the typed model of the contract's `Operation`.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// An operation as `GET …/operations/{id}` answers it.
///
/// Members that the contract requires must be there, or parsing fails. Members that may be absent are `None`
/// also when they are null or not what the contract says: a malformed extra must not blind the watch to the
/// status. Unknown members are ignored. Source: the Ampersand public API specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The operation ID.
    pub id: String,
    /// The Ampersand project ID.
    pub project_id: String,
    /// The integration ID.
    pub integration_id: String,
    /// The config ID.
    pub config_id: String,
    /// The installation (customer instance) that the operation runs for.
    pub installation_id: String,
    /// What kind of action runs.
    pub action_type: ActionType,
    /// Where the operation stands.
    pub status: Status,
    /// What the operation accomplished, in a sentence such as `[contact] No new data found`.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub result: Option<String>,
    /// When the operation was created.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub create_time: Option<Timestamp>,
    /// Objects, retries and progress.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub metadata: Option<Metadata>,
}

/// The kind of action that an operation runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ActionType {
    /// `read`: a backfill or a scheduled read.
    Read,
    /// `write`.
    Write,
    /// `subscribe`.
    Subscribe,
    /// An action that the contract does not name.
    Other(String),
}

impl From<String> for ActionType {
    fn from(text: String) -> Self {
        match text.as_str() {
            "read" => Self::Read,
            "write" => Self::Write,
            "subscribe" => Self::Subscribe,
            _ => Self::Other(text),
        }
    }
}

impl From<ActionType> for String {
    fn from(action: ActionType) -> Self {
        match action {
            ActionType::Read => "read".to_owned(),
            ActionType::Write => "write".to_owned(),
            ActionType::Subscribe => "subscribe".to_owned(),
            ActionType::Other(text) => text,
        }
    }
}

/// The status of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// `in_progress`.
    InProgress,
    /// `success`.
    Success,
    /// `failure`.
    Failure,
    /// A status that the contract does not name, verbatim.
    Other(String),
}

impl Status {
    /// The status as the API writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::InProgress => "in_progress",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for Status {
    fn from(text: String) -> Self {
        match text.as_str() {
            "in_progress" => Self::InProgress,
            "success" => Self::Success,
            "failure" => Self::Failure,
            _ => Self::Other(text),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        match status {
            Status::Other(text) => text,
            known => known.as_str().to_owned(),
        }
    }
}

/// Further details of an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Members", rename_all = "camelCase")]
pub struct Metadata {
    /// Names of the objects that are read or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<String>>,
    /// How often the platform retried the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How far a read has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The platform's own retries of an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many attempts were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// When the last attempt was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Timestamp>,
    /// When the platform last notified of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_notified: Option<Timestamp>,
}

/// How far a read has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The installation that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<String>,
    /// The object that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_name: Option<String>,
    /// The operation that reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// Records processed so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_processed: Option<u64>,
    /// Records expected in total: an estimate made at the start, which only some providers give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_estimated_total: Option<u64>,
}

/// The members of a JSON object, of which those that are not what the contract says are as good as absent.
type Members = serde_json::Map<String, Value>;

fn take<T: DeserializeOwned>(members: &mut Members, name: &str) -> Option<T> {
    serde_json::from_value(members.remove(name)?).ok()
}

fn take_object<T: From<Members>>(members: &mut Members, name: &str) -> Option<T> {
    match members.remove(name)? {
        Value::Object(inner) => Some(inner.into()),
        _ => None,
    }
}

impl From<Members> for Metadata {
    fn from(mut members: Members) -> Self {
        Self {
            objects: take(&mut members, "objects"),
            retry: take_object(&mut members, "retry"),
            progress: take_object(&mut members, "progress"),
        }
    }
}

impl From<Members> for Retry {
    fn from(mut members: Members) -> Self {
        Self {
            attempts: take(&mut members, "attempts"),
            last_attempt: take(&mut members, "lastAttempt"),
            last_notified: take(&mut members, "lastNotified"),
        }
    }
}

impl From<Members> for Progress {
    fn from(mut members: Members) -> Self {
        Self {
            installation_id: take(&mut members, "installationId"),
            object_name: take(&mut members, "objectName"),
            operation_id: take(&mut members, "operationId"),
            records_processed: take(&mut members, "recordsProcessed"),
            records_estimated_total: take(&mut members, "recordsEstimatedTotal"),
        }
    }
}

/// `Some` of what parses, `None` of anything else (see [`Operation`]).
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Operation, serde_json::Error> {
        serde_json::from_str(json)
    }

    const REQUIRED: &str = r#""id":"op","projectId":"p","integrationId":"i","configId":"c","installationId":"n","actionType":"read""#;

    #[test]
    fn every_member_of_the_contract_is_kept() {
        let json = r#"{"id":"op","projectId":"p","integrationId":"i","configId":"c","installationId":"n","actionType":"read","status":"in_progress","result":"r","createTime":"2023-07-13T21:34:44.816354Z","metadata":{"objects":["contact"],"retry":{"attempts":2,"lastAttempt":"2023-07-13T21:34:44Z","lastNotified":"2023-07-13T21:34:45Z"},"progress":{"installationId":"n","objectName":"contact","operationId":"op","recordsProcessed":1250,"recordsEstimatedTotal":5000}}}"#;
        let operation = parse(json).unwrap();
        assert_eq!(serde_json::to_string(&operation).unwrap(), json);
    }

    #[test]
    fn a_missing_required_member_is_an_error() {
        assert!(parse(r#"{"status":"success"}"#).is_err());
        assert!(parse(&format!("{{{REQUIRED}}}")).is_err());
        assert!(parse(&format!(r#"{{{REQUIRED},"status":null}}"#)).is_err());
    }

    #[test]
    fn malformed_extras_do_not_hide_the_status() {
        for extra in [
            r#""metadata":null"#,
            r#""metadata":7"#,
            r#""metadata":{"progress":{"recordsProcessed":-1,"recordsEstimatedTotal":"many"}}"#,
            r#""metadata":{"objects":[1,2],"retry":[]}"#,
            r#""createTime":"yesterday""#,
            r#""result":{}"#,
            r#""brandNew":[[[]]]"#,
        ] {
            let operation = parse(&format!(r#"{{{REQUIRED},"status":"success",{extra}}}"#)).unwrap();
            assert_eq!(operation.status, Status::Success, "{extra}");
            assert_eq!(operation.result, None);
        }
    }

    #[test]
    fn unknown_words_are_kept_verbatim() {
        let operation = parse(&format!(r#"{{{REQUIRED},"status":"Cancelled by user"}}"#)).unwrap();
        assert_eq!(operation.status, Status::Other("Cancelled by user".into()));
        assert_eq!(
            ActionType::from("purge".to_owned()),
            ActionType::Other("purge".into())
        );
    }
}
