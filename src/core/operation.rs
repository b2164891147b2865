//! The operation as the API describes it.

mod metadata;
mod unusable;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::metadata::{Metadata, Progress, Retry};
pub use self::unusable::{Member, UnusableMembers};

use super::json::{self, Json};
use super::start_time;

/// An operation, as `GET …/operations/{id}` returns it.
///
/// Only `id` and `status` are required. Any other member that is missing, `null` or unusable is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The operation ID.
    pub id: String,
    /// The Ampersand project ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The integration ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration_id: Option<String>,
    /// The config ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_id: Option<String>,
    /// The installation (customer instance) that the operation runs for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<String>,
    /// What kind of action runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_type: Option<ActionType>,
    /// The status.
    pub status: Status,
    /// The result, such as `[contact] No new data found`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// When the operation was created: `createTime`, or the time in the ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// Objects, retries and progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Members that were present but unusable.
    #[serde(skip)]
    pub unusable: UnusableMembers,
}

/// Why an answer is not an operation.
#[derive(Debug, Error)]
pub enum OperationParseError {
    /// It is not a JSON object.
    #[error("the body is not a JSON object: {0}")]
    NotAnObject(serde_json::Error),
    /// A required member is missing.
    #[error("the member `{0}` is missing")]
    Missing(&'static str),
    /// A required member is not a string.
    #[error("the member `{0}` is not a string")]
    NotAString(&'static str),
    /// A required member occurs twice.
    #[error("the member `{0}` occurs twice")]
    Twice(&'static str),
}

impl Operation {
    /// An operation with only the required members.
    #[must_use]
    pub fn new(id: impl Into<String>, status: Status) -> Self {
        Self {
            id: id.into(),
            project_id: None,
            integration_id: None,
            config_id: None,
            installation_id: None,
            action_type: None,
            status,
            result: None,
            create_time: None,
            metadata: None,
            unusable: UnusableMembers::default(),
        }
    }

    /// Parses an operation. `now` is used to check times.
    ///
    /// # Errors
    /// When there is not exactly one `id` and one `status`, both strings.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, OperationParseError> {
        let (mut id, mut status) = (RequiredMember::new("id"), RequiredMember::new("status"));
        let mut found = Self::new(String::new(), Status::InProgress);
        let mut reader = MemberReader::default();
        json::members(text, |name, value| match name {
            "id" => id.take(value),
            "status" => status.take(value),
            "projectId" => reader.take(&mut found.project_id, Member::ProjectId, value, Json::string),
            "integrationId" => reader.take(
                &mut found.integration_id,
                Member::IntegrationId,
                value,
                Json::string,
            ),
            "configId" => reader.take(&mut found.config_id, Member::ConfigId, value, Json::string),
            "installationId" => reader.take(
                &mut found.installation_id,
                Member::InstallationId,
                value,
                Json::string,
            ),
            "actionType" => reader.take(&mut found.action_type, Member::ActionType, value, |value| {
                value.string().map(ActionType::from)
            }),
            "result" => reader.take(&mut found.result, Member::Result, value, Json::string),
            "createTime" => reader.take(&mut found.create_time, Member::CreateTime, value, |value| {
                value.time().and_then(|time| start_time::plausible(time, now))
            }),
            "metadata" => {
                found.metadata = reader.object(Member::Metadata, value, Metadata::take);
            }
            _ => {}
        })
        .map_err(OperationParseError::NotAnObject)?;
        found.id = id.get()?;
        found.status = Status::from(status.get()?);
        if found.create_time.is_none() {
            found.create_time = start_time::of_id(&found.id, now);
        }
        found.unusable = reader.unusable;
        Ok(found)
    }

    /// Calls `each` with every text from the API.
    pub fn for_each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        // Destructured in full, so that no new member is forgotten.
        let Self {
            id,
            project_id,
            integration_id,
            config_id,
            installation_id,
            action_type,
            status,
            result,
            create_time: _,
            metadata,
            unusable: _,
        } = self;
        each(id);
        let texts = [project_id, integration_id, config_id, installation_id, result];
        texts.into_iter().flatten().for_each(&mut *each);
        if let Some(ActionType::Other(text)) = action_type {
            each(text);
        }
        if let Status::Other(text) = status {
            each(text);
        }
        let Some(Metadata {
            objects,
            retry: _,
            progress,
        }) = metadata
        else {
            return;
        };
        objects.iter_mut().flatten().for_each(&mut *each);
        if let Some(Progress {
            installation_id,
            object_name,
            operation_id,
            records_processed: _,
            records_estimated_total: _,
        }) = progress
        {
            let texts = [installation_id, object_name, operation_id];
            texts.into_iter().flatten().for_each(&mut *each);
        }
    }
}

struct RequiredMember {
    name: &'static str,
    found: Option<Result<String, OperationParseError>>,
}

impl RequiredMember {
    fn new(name: &'static str) -> Self {
        Self { name, found: None }
    }

    fn take(&mut self, value: Json<'_>) {
        self.found = Some(match self.found {
            None => value.string().ok_or(OperationParseError::NotAString(self.name)),
            Some(_) => Err(OperationParseError::Twice(self.name)),
        });
    }

    fn get(self) -> Result<String, OperationParseError> {
        self.found.unwrap_or(Err(OperationParseError::Missing(self.name)))
    }
}

/// Reads members, and records unusable ones.
#[derive(Default)]
struct MemberReader {
    unusable: UnusableMembers,
}

impl MemberReader {
    fn take<'a, T>(
        &mut self,
        place: &mut Option<T>,
        member: Member,
        value: Json<'a>,
        read: impl FnOnce(Json<'a>) -> Option<T>,
    ) {
        *place = if value.is_null() { None } else { read(value) };
        if place.is_none() && !value.is_null() {
            self.unusable.insert(member);
        }
    }

    /// Reads an object whose members are used one by one.
    fn object<T: Default>(
        &mut self,
        member: Member,
        value: Json<'_>,
        take: fn(&mut T, &mut Self, &str, Json<'_>),
    ) -> Option<T> {
        if value.is_null() {
            return None;
        }
        let mut object = T::default();
        let is_object = value.members(|name, value| take(&mut object, self, name, value));
        if !is_object || value.is_too_deep() {
            self.unusable.insert(member);
        }
        is_object.then_some(object)
    }
}

/// The action of an operation.
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

    /// A status that adds something to the phase of its operation: any that the contract does not name.
    #[must_use]
    pub fn beyond_phase(status: &str) -> Option<&str> {
        let is_of_contract = [Self::InProgress, Self::Success, Self::Failure]
            .iter()
            .any(|known| known.as_str() == status);
        (!is_of_contract && !status.trim().is_empty()).then_some(status)
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

#[cfg(test)]
mod tests;
