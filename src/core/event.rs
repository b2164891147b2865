//! Events: their types, IDs and bodies.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};
use sha2::{Digest, Sha256};

use super::installation::Installation;
use super::operation_log::OperationLogLine;
use super::text;
use super::watch_list::{Labels, WatchKey};

mod body;
mod group;

pub use group::{CompletedRound, GroupData, GroupMember, GroupOperation, GroupOutcome, MissingObject};

/// Maximum bytes of a body.
pub const MAX_BODY: usize = 20_000;
/// Maximum bytes of `result`.
pub const MAX_RESULT: usize = 4 * 1024;
/// Maximum bytes of `logs`.
pub const MAX_LOGS: usize = 8 * 1024;
/// Maximum bytes of one line of `logs`.
pub const MAX_LOG_LINE: usize = 1024;
/// Maximum bytes of all labels of a watch.
pub const MAX_LABELS: usize = 4 * 1024;
/// Maximum bytes of the status of an installation or a connection.
const MAX_STATUS: usize = 64;

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// The type of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventType { $($(#[$doc])* $variant,)* }

        impl EventType {
            /// Every type.
            pub const ALL: &'static [EventType] = &[$(EventType::$variant,)*];

            /// The type's name, as in the body's `type`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

event_types! {
    /// First seen running.
    Started => "operation.started",
    /// A step of progress.
    Progress => "operation.progress",
    /// The count did not rise for `stalled_after`, or none was shown for `silent_after`.
    Stalled => "operation.stalled",
    /// The count rose again.
    Resumed => "operation.resumed",
    /// It has not finished by its deadline.
    Overdue => "operation.overdue",
    /// The platform retried the operation.
    Retried => "operation.retried",
    /// Ended in `success`.
    Succeeded => "operation.succeeded",
    /// Ended in `failure`.
    Failed => "operation.failed",
    /// Ended with a status that the contract does not name.
    Ended => "operation.ended",
    /// The API no longer knows the operation.
    Gone => "operation.gone",
    /// Watched for `give_up_after`.
    Expired => "operation.expired",
    /// This operation alone cannot be polled.
    Unreachable => "operation.unreachable",
    /// It can be polled again.
    Reachable => "operation.reachable",
    /// All operations of a group are finished.
    GroupCompleted => "group.completed",
    /// No poll of the project succeeds.
    ApiUnreachable => "api.unreachable",
    /// Polls of the project succeed again.
    ApiReachable => "api.reachable",
    /// The project's API key is refused.
    CredentialsRejected => "api.credentials_rejected",
    /// The project's API key is accepted again.
    CredentialsAccepted => "api.credentials_accepted",
}

impl EventType {
    /// The type with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|event_type| event_type.as_str() == name)
    }

    /// Whether the watch is finished with this event.
    #[must_use]
    pub fn is_ending(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Ended | Self::Gone | Self::Expired
        )
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The ID of an event: `evt_` and 16 bytes in hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(String);

impl EventId {
    /// Derives the ID of an event about `operation`, or without one about the API or a group of `project`. `occurrence`
    /// distinguishes events of one type.
    ///
    /// The hashed text is the four values separated by line feeds. Only `occurrence`, which is last, may contain one.
    #[must_use]
    pub fn derive(project: &str, operation: Option<&str>, event_type: EventType, occurrence: &str) -> Self {
        let preimage = format!(
            "{project}\n{}\n{event_type}\n{occurrence}",
            operation.unwrap_or_default()
        );
        let hash = Sha256::digest(preimage.as_bytes());
        let mut id = String::with_capacity(36);
        id.push_str("evt_");
        for byte in &hash[..16] {
            id.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            id.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        Self(id)
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same event always has the same ID.
    pub id: EventId,
    /// The type.
    pub event_type: EventType,
    /// When it was observed.
    pub time: Timestamp,
    /// The data.
    pub data: EventData,
}

/// The data of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EventData {
    /// One operation.
    Operation(Box<OperationData>),
    /// One round of a group.
    Group(Box<GroupData>),
    /// One project's API.
    Api(ApiData),
}

impl EventData {
    /// The name of the project.
    #[must_use]
    pub fn project(&self) -> &str {
        match self {
            Self::Operation(data) => &data.project,
            Self::Group(data) => &data.project,
            Self::Api(data) => &data.project,
        }
    }

    /// The operation, if the event is about one.
    #[must_use]
    pub fn operation(&self) -> Option<&OperationData> {
        match self {
            Self::Operation(data) => Some(data),
            Self::Group(_) | Self::Api(_) => None,
        }
    }

    /// What the event is about within its project: an operation ID, `/LABEL=VALUE` of a group, or nothing for the API.
    ///
    /// No operation ID has a slash, so a group never equals an operation.
    #[must_use]
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Operation(data) => Some(Cow::Borrowed(&data.operation_id)),
            Self::Group(data) => Some(Cow::Owned(format!("/{}={}", data.label, data.group))),
            Self::Api(_) => None,
        }
    }
}

/// The data of an operation; unknown members are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationData {
    /// The configured project's name.
    pub project: String,
    /// The Ampersand project ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The operation ID.
    pub operation_id: String,
    /// The installation that the operation runs for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<String>,
    /// The integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration_id: Option<String>,
    /// The objects that are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// The API's status, verbatim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The API's status before this observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_status: Option<String>,
    /// The phase after this event.
    pub phase: &'static str,
    /// The number of this event among those of the operation, from 1.
    pub sequence: u64,
    /// The progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressData>,
    /// The labels from the watch list.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pub labels: Labels,
    /// When the operation was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// When the operation should be finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Time of the last answer for this operation.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_to_millis")]
    pub observed_time: Option<Timestamp>,
    /// Retries by the platform, in `operation.retried`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryData>,
    /// Start of a stall or an outage.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_to_millis")]
    pub since: Option<Timestamp>,
    /// The last error of an unreachable or gone operation, or the reason of a stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The result, in ending events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Seconds from `createTime`, or else from the first observation, to the observed end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// The last errors and warnings of a failed operation, or the last log lines of a stalled one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<OperationLogLine>,
    /// Health status of the installation of a stalled operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_status: Option<String>,
    /// Status of its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_status: Option<String>,
}

/// Retries by the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryData {
    /// Attempts made.
    pub attempts: u64,
}

/// The progress of an operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressData {
    /// Records processed so far.
    pub records_processed: u64,
    /// Estimated total, from the start of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_estimated_total: Option<u64>,
    /// Processed of estimated total, with one decimal; 100 only after success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Smoothed over recent polls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_per_second: Option<f64>,
    /// When the estimated total is reached at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end_time: Option<Timestamp>,
    /// Whether more was processed than estimated.
    pub estimate_exceeded: bool,
}

/// The data of an event about a project's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiData {
    /// The configured project's name.
    pub project: String,
    /// Start of the outage or rejection.
    #[serde(serialize_with = "to_millis")]
    pub since: Timestamp,
    /// The reason.
    pub reason: String,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: EventType,
    #[serde(serialize_with = "to_millis")]
    timestamp: Timestamp,
    data: &'a EventData,
}

impl Event {
    /// An event about an operation.
    #[must_use]
    pub fn operation(
        key: &WatchKey,
        event_type: EventType,
        occurrence: &str,
        time: Timestamp,
        data: OperationData,
    ) -> Self {
        Self {
            id: EventId::derive(&key.project, Some(&key.operation), event_type, occurrence),
            event_type,
            time,
            data: EventData::Operation(Box::new(data)),
        }
    }

    /// The labels of a watch as its events contain them.
    #[must_use]
    pub fn labels(labels: &Labels) -> Labels {
        body::first_labels(labels)
    }

    /// An event about a project's API. `since` is part of its ID.
    #[must_use]
    pub fn api(event_type: EventType, time: Timestamp, data: ApiData) -> Self {
        Self {
            id: EventId::derive(&data.project, None, event_type, &millis(data.since)),
            event_type,
            time,
            data: EventData::Api(data),
        }
    }

    /// A group that has completed. Its label, value and round are part of the ID.
    #[must_use]
    pub fn group_completed(time: Timestamp, data: GroupData) -> Self {
        let occurrence = format!("round {} {}={}", data.round, data.label, data.group);
        Self {
            id: EventId::derive(&data.project, None, EventType::GroupCompleted, &occurrence),
            event_type: EventType::GroupCompleted,
            time,
            data: EventData::Group(Box::new(data)),
        }
    }

    /// Adds the newest log lines that fit into [`MAX_LOGS`].
    pub fn attach_logs(&mut self, lines: Vec<OperationLogLine>) {
        if let EventData::Operation(data) = &mut self.data {
            data.logs = body::newest_lines(lines);
        }
    }

    /// Adds the status of the installation.
    pub fn attach_installation(&mut self, installation: &Installation) {
        if let EventData::Operation(data) = &mut self.data {
            let short =
                |status: &Option<String>| status.as_deref().map(|status| text::cut(status, MAX_STATUS));
            data.health_status = short(&installation.health_status);
            data.connection_status = short(&installation.connection_status);
        }
    }

    /// The body as JSON of at most [`MAX_BODY`] bytes.
    #[must_use]
    pub fn body(&self) -> String {
        let body = self.render(&self.data);
        match &self.data {
            EventData::Operation(data) if body.len() > MAX_BODY => body::cut(data, body, |data| {
                self.render(&EventData::Operation(Box::new(data.clone())))
            }),
            EventData::Group(data) if body.len() > MAX_BODY => group::cut(data, body, |data| {
                self.render(&EventData::Group(Box::new(data.clone())))
            }),
            EventData::Operation(_) | EventData::Group(_) | EventData::Api(_) => body,
        }
    }

    fn render(&self, data: &EventData) -> String {
        let body = Body {
            event_type: self.event_type,
            timestamp: self.time,
            data,
        };
        serde_json::to_string(&body).expect("strings and numbers always serialize")
    }
}

/// A time in RFC 3339 with milliseconds.
#[must_use]
pub fn millis(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn to_millis<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

pub(super) fn maybe_to_millis<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to_millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

fn as_map<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(labels.len()))?;
    for (name, value) in labels {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_hash_that_the_readme_documents() {
        // printf 'my-project\n3efc0f0f\noperation.succeeded\ngeneration 0' | sha256sum | cut -c1-32
        let id = EventId::derive(
            "my-project",
            Some("3efc0f0f"),
            EventType::Succeeded,
            "generation 0",
        );
        assert_eq!(id.as_str(), "evt_0b1af0224dc8c273deea3ed7dc6228a4");
        // printf 'my-project\n\napi.unreachable\n2026-11-23T12:00:00.000Z' | sha256sum | cut -c1-32
        let since = "2026-11-23T12:00:00Z".parse().unwrap();
        let data = ApiData {
            project: "my-project".into(),
            since,
            reason: String::new(),
        };
        assert_eq!(
            Event::api(EventType::ApiUnreachable, since, data).id.as_str(),
            "evt_878b701d88fd277827f3a3fcefb75042"
        );
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        for event_type in EventType::ALL {
            assert_eq!(EventType::parse(event_type.as_str()), Some(*event_type));
        }
        assert_eq!(EventType::parse("operation.exploded"), None);
    }
}
