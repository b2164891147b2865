//! The parts of a project task: what it knows between two messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

use super::watches::WatchNumber;
use crate::core::history::HistorySample;
use crate::core::key_verdict::KeyVerdict;
use crate::core::operation_kind::OperationKind;
use crate::core::source::Demand;

/// The watches that are being added or removed.
#[derive(Debug, Default)]
pub(super) struct Reconciliation {
    /// The generation of the list that is being applied.
    pub desired: Option<u64>,
    /// The generation of the list that was applied last.
    pub applied: Option<u64>,
    pub added_total: usize,
    /// New watches that are not loaded yet.
    pub pending: BTreeMap<Arc<str>, Demand>,
    /// New watches that are being loaded. `None` if they were removed since.
    pub loading: BTreeMap<Arc<str>, Option<Demand>>,
    /// When loading is retried after a failure.
    pub retry: Option<Duration>,
    /// Dropped when all watches are loaded.
    pub guards: Vec<Arc<DropGuard>>,
    /// The number of watches that were put back before they had left.
    pub returning: usize,
    /// Removed watches whose last state is not recorded yet.
    pub departing: Vec<WatchNumber>,
    /// The history of finished operations that are listed. Used once, after the first list.
    pub samples: Vec<FinishedSample>,
    pub has_used_samples: bool,
}

impl Reconciliation {
    /// Whether every watch that is asked for is loaded.
    pub fn is_settled(&self) -> bool {
        self.loading.is_empty() && self.pending.is_empty() && self.returning == 0
    }
}

/// The time at which an operation finished, with what predicts others of its kind.
pub(super) type FinishedSample = (Option<Timestamp>, Arc<OperationKind>, HistorySample);

/// The progress of the current round of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pub next: WatchNumber,
    /// When the next part is due. `None` before the first.
    pub due: Option<Duration>,
}

/// The changes since the last query for them.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    pub changed: VecDeque<WatchNumber>,
    pub removed: VecDeque<Arc<str>>,
}

/// The callers that wait for a check of the key. One request answers all of them.
#[derive(Debug, Default)]
pub(super) struct KeyChecks {
    pub callers: Vec<oneshot::Sender<KeyVerdict>>,
    pub is_repeated: bool,
}
