//! The settings that decide which events a watch has.

use std::time::Duration;

/// Settings for events (`[poll]`).
#[derive(Debug, Clone, PartialEq)]
pub struct WatchSettings {
    /// How long the count may stay unchanged before the watch is stalled.
    pub stalled_after: Duration,
    /// How long an operation may be watched without a count before it is stalled; `None` for no limit.
    pub silent_after: Option<Duration>,
    /// How long all polls must fail before the operation or the API is reported unreachable.
    pub unreachable_after: Duration,
    /// How long an operation must stay unknown to the API before it is gone.
    pub not_found_grace: Duration,
    /// How long to watch; `None` for no limit.
    pub give_up_after: Option<Duration>,
    /// Statuses that count as running, besides `in_progress`.
    pub active_statuses: Vec<String>,
    /// Percentage points between two progress events, above 0, at most 100.
    pub progress_step: f64,
    /// Time between two progress events of an operation without an estimate.
    pub progress_interval: Duration,
}
