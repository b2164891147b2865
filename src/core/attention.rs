//! The attention list: everything that is wrong now, and what to do. Every view shows this list.

mod concern_list;
mod drop_log;
mod endpoint;
mod operation;
mod project;
mod restart_log;
mod secret;
mod sources;
mod state;

use jiff::Timestamp;
use serde::Serialize;

pub use concern_list::{ConcernList, ConcernView, MAX_NAMED};
pub use drop_log::DropLog;
pub use endpoint::ConcernedEndpoint;
pub use operation::{Concern, ConcernedOperation};
pub use project::{
    GateOverload, ProjectAttention, api_unreachable, credentials_rejected, gate_saturated, paused_by_api,
};
pub use restart_log::RestartLog;
pub use secret::{SecretChange, SecretUse, UnreadableSecret, UnreadableSecrets};
pub use sources::{
    discovery_failure, discovery_matches_nothing, discovery_over_capacity, watch_list_rejected_lines,
    watch_list_shrunk, watch_list_unreadable,
};
pub use state::{settings_rejected, state_damaged, state_not_writable, state_removed};

/// Maximum bytes of a reason from the API, from a receiver or of a panic.
const MAX_REASON: usize = 300;

/// Severity of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A project, an endpoint or the state does not work.
    Error,
    /// One thing needs an operator.
    Warning,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $severity:ident;)*) => {
        /// Kinds of entries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub enum AttentionKind { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl AttentionKind {
            /// Every kind.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The severity of its entries.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }
        }
    };
}

kinds! {
    /// No poll of a project succeeds.
    ApiUnreachable => "api_unreachable", Error;
    /// The API rejects the key of a project.
    CredentialsRejected => "credentials_rejected", Error;
    /// Polls of one operation fail while others succeed.
    OperationUnreachable => "operation_unreachable", Warning;
    /// The count of an operation does not rise.
    OperationStalled => "operation_stalled", Warning;
    /// An operation has not finished by its deadline.
    OperationOverdue => "operation_overdue", Warning;
    /// An operation finished without success.
    OperationFailed => "operation_failed", Warning;
    /// Polls are late, because requests wait at the gate.
    GateSaturated => "gate_saturated", Warning;
    /// The API asks for a pause.
    PausedByApi => "paused_by_api", Warning;
    /// A poller panicked.
    PollerRestarted => "poller_restarted", Error;
    /// An endpoint failed five times in a row.
    EndpointFailing => "endpoint_failing", Error;
    /// An endpoint answered 410 Gone.
    EndpointDisabled => "endpoint_disabled", Error;
    /// The secret of an endpoint cannot be read.
    EndpointWithoutSecret => "endpoint_without_secret", Error;
    /// Events are dead letters of an endpoint.
    DeadLetters => "dead_letters", Error;
    /// The watch list cannot be used.
    WatchListUnreadable => "watch_list_unreadable", Error;
    /// Lines of the watch list are skipped.
    WatchListRejectedLines => "watch_list_rejected_lines", Warning;
    /// The watch list lost nearly all of its entries.
    WatchListShrunk => "watch_list_shrunk", Warning;
    /// Discovery failed three times in a row, so that no backfill is found.
    DiscoveryFailing => "discovery_failing", Error;
    /// Discovery cannot read some objects.
    DiscoveryIncomplete => "discovery_incomplete", Warning;
    /// Discovery cannot ask for all objects in time.
    DiscoveryOverCapacity => "discovery_over_capacity", Warning;
    /// A rule of discovery matches no installation.
    DiscoveryMatchesNothing => "discovery_matches_nothing", Warning;
    /// A reload found errors in the settings, or an API key or the HTTP tokens cannot be read.
    SettingsRejected => "settings_rejected", Error;
    /// The state cannot be written.
    StateNotWritable => "state_not_writable", Error;
    /// The state was removed or replaced while it is in use.
    StateRemoved => "state_removed", Error;
    /// Rows of the state were damaged.
    StateDamaged => "state_damaged", Error;
    /// Log lines were dropped.
    LogDropped => "log_dropped", Warning;
}

impl AttentionKind {
    /// Whether an outage of the API or a rejected key of its project explains its entries. Then they are not listed.
    #[must_use]
    pub fn is_explained_by_outage(self) -> bool {
        matches!(
            self,
            Self::OperationUnreachable
                | Self::OperationStalled
                | Self::GateSaturated
                | Self::PausedByApi
                | Self::DiscoveryFailing
                | Self::DiscoveryIncomplete
        )
    }
}

/// One entry of the attention list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attention {
    /// Its kind.
    pub kind: AttentionKind,
    /// Its severity.
    pub severity: Severity,
    /// The project, if it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The operation, endpoint or file, if it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it began.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::event::maybe_to_millis"
    )]
    pub since: Option<Timestamp>,
    /// What is wrong, in one sentence or two.
    pub message: String,
    /// What to do.
    pub action: String,
    /// How many entries it replaces.
    #[serde(skip_serializing_if = "is_one")]
    pub count: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

impl Attention {
    /// An entry without project, subject and time.
    #[must_use]
    pub fn new(kind: AttentionKind, message: String, action: &str) -> Self {
        Self {
            kind,
            severity: kind.severity(),
            project: None,
            subject: None,
            since: None,
            message,
            action: action.to_owned(),
            count: 1,
        }
    }

    /// Sets the project.
    #[must_use]
    pub fn of_project(mut self, project: &str) -> Self {
        self.project = Some(project.to_owned());
        self
    }

    /// Sets the operation, endpoint or file.
    #[must_use]
    pub fn of_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets how many entries it replaces.
    #[must_use]
    pub fn of_count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Sets when it began.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }
}

/// Errors first, then the newest first.
pub fn sort(entries: &mut [Attention]) {
    entries.sort_by(|one, other| {
        let newest_first = other.since.cmp(&one.since);
        let by_name = (one.kind.as_str(), &one.project, &one.subject);
        one.severity
            .cmp(&other.severity)
            .then(newest_first)
            .then(by_name.cmp(&(other.kind.as_str(), &other.project, &other.subject)))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_and_then_the_newest() {
        let at = |text: &str| Some(text.parse().unwrap());
        let entry = |kind, since| Attention::new(kind, String::new(), "").since(since);
        let mut entries = vec![
            entry(AttentionKind::WatchListShrunk, at("2026-11-23T12:00:00Z")),
            entry(AttentionKind::DeadLetters, at("2026-11-23T10:00:00Z")),
            entry(AttentionKind::StateRemoved, at("2026-11-23T11:00:00Z")),
            entry(AttentionKind::StateDamaged, None),
        ];
        sort(&mut entries);
        let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
        assert_eq!(
            kinds,
            [
                "state_removed",
                "dead_letters",
                "state_damaged",
                "watch_list_shrunk"
            ]
        );
    }

    #[test]
    fn an_entry_is_written_with_the_names_of_the_contract() {
        let entry = credentials_rejected(
            "p",
            "2026-11-23T12:00:00Z".parse().unwrap(),
            Some("401 Unauthorized"),
        );
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!(json["kind"], "credentials_rejected");
        assert_eq!(
            (&json["severity"], &json["project"]),
            (&"error".into(), &"p".into())
        );
        assert!(json.get("subject").is_none() && json["message"].as_str().unwrap().contains("401"));
    }
}
