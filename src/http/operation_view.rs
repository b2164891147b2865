//! The JSON of one operation.

use serde::Serialize;

use crate::board::WatchView;
use crate::clock;
use crate::core::event::{OperationData, millis};
use crate::core::source::Source;

/// An operation as in events, with the state of its poller.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationView {
    #[serde(flatten)]
    data: OperationData,
    /// The source with the highest precedence.
    source: &'static str,
    sources: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_poll_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_poll_time: Option<String>,
    polls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stall: Option<StallJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_time: Option<String>,
}

/// Why the operation is stalled.
#[derive(Debug, Serialize)]
struct StallJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    reason: &'static str,
}

impl OperationView {
    /// The operation as of its last poll.
    pub(super) fn of(view: &WatchView) -> Self {
        let watch = &view.watch;
        // An estimated end must not move because a client reads it.
        let seen = watch.last_poll().unwrap_or_else(clock::wall);
        let mut data = view.data(seen);
        data.duration_seconds = watch.total_seconds();
        Self {
            data,
            source: view.demand.source().as_str(),
            sources: view.demand.sources().map(Source::as_str).collect(),
            last_poll_time: watch.last_poll().map(millis),
            last_answer_time: watch.last_answer().map(millis),
            next_poll_time: watch.next_poll().map(millis),
            polls: watch.polls(),
            last_error: watch.last_error().map(str::to_owned),
            stall: watch.stall().map(|stall| StallJson {
                since: stall.since.map(millis),
                reason: stall.reason,
            }),
            finish_time: watch.end().map(millis),
        }
    }
}
