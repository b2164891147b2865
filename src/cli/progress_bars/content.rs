//! The content of one bar.

use std::time::Duration;

use crate::board::WatchView;
use crate::clock;
use crate::core::phase::Phase;

/// What a bar shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressBar {
    /// What people call the operation: labels and objects.
    pub title: String,
    /// A short ID. It may be empty.
    pub id: String,
    /// The phase.
    pub phase: Phase,
    /// Records processed.
    pub processed: Option<u64>,
    /// Estimated total of records.
    pub total: Option<u64>,
    /// Percent, if there is an estimate.
    pub percent: Option<f64>,
    /// Records per second.
    pub per_second: Option<f64>,
    /// The estimated time to the end.
    pub left: Option<Duration>,
    /// The failure of the last poll.
    pub problem: Option<String>,
    /// Whether the figures are old, because no poll of the project succeeds.
    pub is_stale: bool,
}

impl ProgressBar {
    /// The bar of an operation that was not polled yet.
    #[must_use]
    pub fn pending(title: String, id: String) -> Self {
        Self {
            title,
            id,
            phase: Phase::Pending,
            processed: None,
            total: None,
            percent: None,
            per_second: None,
            left: None,
            problem: None,
            is_stale: false,
        }
    }

    /// The bar of a watch.
    #[must_use]
    pub fn of(view: &WatchView, title: String, id: String) -> Self {
        let now = clock::wall();
        let watch = &view.watch;
        // As of the last poll, so that the estimated end comes nearer between polls.
        let data = view.data(watch.last_poll().unwrap_or(now));
        let progress = data.progress.as_ref();
        Self {
            phase: watch.phase(),
            processed: progress.map(|progress| progress.records_processed),
            total: progress.and_then(|progress| progress.records_estimated_total),
            percent: progress.and_then(|progress| progress.percent),
            per_second: progress.and_then(|progress| progress.records_per_second),
            left: progress
                .and_then(|progress| progress.estimated_end_time)
                .map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default()),
            problem: watch.last_error().map(str::to_owned),
            ..Self::pending(title, id)
        }
    }

    /// Whether more records are processed than were estimated.
    pub(super) fn exceeds_estimate(&self) -> bool {
        self.processed
            .zip(self.total)
            .is_some_and(|(processed, total)| processed > total)
    }
}
