//! The JSON of one operation.

use serde::Serialize;

use crate::board::WatchView;
use crate::clock;
use crate::core::event::{OperationData, millis};

/// An operation as in events, with the state of its poller.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationView {
    #[serde(flatten)]
    data: OperationData,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_poll_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_poll_time: Option<String>,
    polls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl OperationView {
    /// The operation as of its last poll.
    pub(super) fn of(view: &WatchView) -> Self {
        let WatchView { key, labels, watch } = view;
        // An estimated end must not move because a client reads it.
        let seen = watch.last_poll().unwrap_or_else(clock::wall);
        Self {
            data: watch.data(key, labels, seen),
            last_poll_time: watch.last_poll().map(millis),
            last_answer_time: watch.last_answer().map(millis),
            next_poll_time: watch.next_poll().map(millis),
            polls: watch.polls(),
            last_error: watch.last_error().map(str::to_owned),
        }
    }
}
