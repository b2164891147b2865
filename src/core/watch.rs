//! One watch's state machine.

use std::time::Duration;

/// The settings of what is told and when (`[poll]`).
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// How long the count may stand still before the watch is stalled.
    pub stalled_after: Duration,
    /// How long all polls must fail before the operation or the API is told unreachable.
    pub unreachable_after: Duration,
    /// How long an operation must stay unknown to the API before it is gone.
    pub not_found_grace: Duration,
    /// How long to watch at all; `None` for as long as it takes.
    pub give_up_after: Option<Duration>,
    /// Statuses that count as running.
    pub active_statuses: Vec<String>,
    /// Percentage points between two progress events, above 0, at most 100.
    pub progress_step: f64,
    /// Time between two progress events of an operation without an estimate.
    pub progress_interval: Duration,
}
