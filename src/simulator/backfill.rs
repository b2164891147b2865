//! Simulated backfills of objects, and what the API shows of the newest one.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::operation::{SimulatedOperation, later};
use super::operations::RunningOperation;

/// A backfill of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedBackfill {
    /// When it starts.
    pub start: BackfillStart,
    /// How it runs. An empty ID becomes a UUIDv7; project, integration, installation and object are filled in.
    pub read: SimulatedOperation,
}

/// When a backfill starts, from the moment at which it is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillStart {
    /// This time later.
    After(Duration),
    /// This time ago: its `createTime` is in the past, and it has run since then.
    Ago(Duration),
}

impl SimulatedBackfill {
    /// A backfill that starts at once.
    #[must_use]
    pub fn new(read: SimulatedOperation) -> Self {
        Self::after(Duration::ZERO, read)
    }

    /// A backfill that starts after `wait`.
    #[must_use]
    pub fn after(wait: Duration, read: SimulatedOperation) -> Self {
        Self {
            start: BackfillStart::After(wait),
            read,
        }
    }

    /// A backfill that started `age` ago.
    #[must_use]
    pub fn ago(age: Duration, read: SimulatedOperation) -> Self {
        Self {
            start: BackfillStart::Ago(age),
            read,
        }
    }
}

/// A backfill that has started.
#[derive(Debug, Clone, PartialEq)]
pub struct StartedBackfill {
    /// The operation, with its ID, project, integration, installation and object.
    pub operation: SimulatedOperation,
    /// The `groupRef` of its installation.
    pub group: Option<String>,
    /// When the API first showed it.
    pub shown: Instant,
    /// Its `createTime`.
    pub create_time: Timestamp,
}

/// The newest backfill of an object, as `GET …/backfill-progress` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackfillProgress {
    installation_id: String,
    object_name: String,
    operation_id: String,
    records_processed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_estimated_total: Option<u64>,
    create_time: Timestamp,
    update_time: Timestamp,
}

impl BackfillProgress {
    /// The progress of this operation now.
    pub(super) fn of(run: &RunningOperation) -> Self {
        let (elapsed, created) = run.age();
        let plan = &run.operation;
        let progress = plan.progress(elapsed);
        Self {
            installation_id: plan.installation_id.clone(),
            object_name: plan.object().to_owned(),
            operation_id: plan.id.clone(),
            records_processed: progress.records_processed.unwrap_or_default(),
            records_estimated_total: progress.records_estimated_total,
            create_time: created,
            update_time: later(created, elapsed.min(plan.duration)),
        }
    }
}
