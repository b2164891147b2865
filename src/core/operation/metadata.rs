//! Objects, retries and progress of an operation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Member, MemberReader};
use crate::core::json::Json;

/// Further details of an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Names of the objects that are read or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<String>>,
    /// Retries by the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Progress of a read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Retries by the platform.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// Time of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Timestamp>,
    /// Time of the platform's last notification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_notified: Option<Timestamp>,
}

/// Progress of a read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Estimated total, from the start of the read. Only some providers have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_estimated_total: Option<u64>,
}

impl Metadata {
    pub(super) fn take(&mut self, reader: &mut MemberReader, name: &str, value: Json<'_>) {
        match name {
            "objects" => reader.take(&mut self.objects, Member::Objects, value, Json::strings),
            "retry" => self.retry = reader.object(Member::Retry, value, Retry::take),
            "progress" => self.progress = reader.object(Member::Progress, value, Progress::take),
            _ => {}
        }
    }
}

impl Retry {
    fn take(&mut self, reader: &mut MemberReader, name: &str, value: Json<'_>) {
        match name {
            "attempts" => reader.take(&mut self.attempts, Member::Attempts, value, Json::count),
            "lastAttempt" => reader.take(&mut self.last_attempt, Member::LastAttempt, value, Json::time),
            "lastNotified" => reader.take(&mut self.last_notified, Member::LastNotified, value, Json::time),
            _ => {}
        }
    }
}

impl Progress {
    fn take(&mut self, reader: &mut MemberReader, name: &str, value: Json<'_>) {
        match name {
            "installationId" => reader.take(
                &mut self.installation_id,
                Member::InstallationId,
                value,
                Json::string,
            ),
            "objectName" => reader.take(&mut self.object_name, Member::ObjectName, value, Json::string),
            "operationId" => reader.take(&mut self.operation_id, Member::OperationId, value, Json::string),
            "recordsProcessed" => reader.take(
                &mut self.records_processed,
                Member::RecordsProcessed,
                value,
                Json::count,
            ),
            "recordsEstimatedTotal" => reader.take(
                &mut self.records_estimated_total,
                Member::RecordsEstimatedTotal,
                value,
                Json::count,
            ),
            _ => {}
        }
    }
}
