//! What a handle asks of an engine. A second engine answers the same.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::change::{Record, StateRow, WatchRecord};
use super::delivery::{DeliveryId, Due, Endpoint, EndpointStats, Settled};
use super::event_log::{Cursor, EventFilter, EventPage, EventsError};
use crate::core::project::Project;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;

/// Something to write: wholly, or not at all.
#[derive(Debug)]
pub(super) enum Write {
    Change(Box<Record>),
    Checkpoint {
        states: Vec<StateRow>,
        at: Timestamp,
    },
    Listed {
        keys: Vec<WatchKey>,
    },
    Unlisted {
        keys: Vec<WatchKey>,
        at: Timestamp,
    },
    OnlyListed {
        keys: Vec<WatchKey>,
        at: Timestamp,
    },
    Endpoints {
        endpoints: Vec<Endpoint>,
        at: Timestamp,
    },
    Settle {
        settled: Vec<(DeliveryId, Settled)>,
        at: Timestamp,
    },
    Prune {
        at: Timestamp,
        retention: Duration,
    },
}

/// Why something was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The state cannot be written now; it may be later.
    #[error("the state cannot be written: {0}")]
    Unwritable(String),
    /// This very record cannot be written, others can.
    #[error("the state refuses this record: {0}")]
    Refused(String),
    /// The store is closed.
    #[error("the state is closed")]
    Closed,
}

impl CommitError {
    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unwritable(_) => true,
            Self::Refused(_) | Self::Closed => false,
        }
    }
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    Failed(String),
    /// What is recorded of this watch or project makes no sense.
    #[error("what the state holds of `{0}` cannot be understood; was it written by another version?")]
    Unintelligible(String),
    /// The store is closed.
    #[error("the state is closed")]
    Closed,
}

impl Write {
    /// When it was asked for, as far as that is written down with it.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Change(record) => Timestamp::from_millisecond(record.at).ok(),
            Self::Checkpoint { at, .. }
            | Self::Unlisted { at, .. }
            | Self::OnlyListed { at, .. }
            | Self::Endpoints { at, .. }
            | Self::Settle { at, .. }
            | Self::Prune { at, .. } => Some(*at),
            Self::Listed { .. } => None,
        }
    }
}

/// Something to write, and whom to tell when it is on disk (or how many rows a slice of pruning removed).
#[derive(Debug)]
pub struct WriteRequest {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<u64, CommitError>>,
}

/// Where the answer to a question goes.
pub(super) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// A question, and whom to answer.
#[derive(Debug)]
pub struct ReadRequest(pub(super) Read);

/// A question.
#[derive(Debug)]
pub(super) enum Read {
    Load {
        keys: Vec<WatchKey>,
        reply: Reply<HashMap<WatchKey, WatchRecord>, ReadError>,
    },
    Left {
        limit: u32,
        reply: Reply<Vec<Watch>, ReadError>,
    },
    Project {
        name: String,
        reply: Reply<Option<Project>, ReadError>,
    },
    Events {
        after: Option<Cursor>,
        limit: usize,
        filter: EventFilter,
        reply: Reply<EventPage, EventsError>,
    },
    End {
        reply: Reply<Cursor, ReadError>,
    },
    Due {
        endpoint: std::sync::Arc<str>,
        now: Timestamp,
        limit: usize,
        in_flight: Vec<DeliveryId>,
        reply: Reply<Due, ReadError>,
    },
    Stats {
        reply: Reply<Vec<EndpointStats>, ReadError>,
    },
}
