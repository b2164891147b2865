//! What a handle asks of an engine. A second engine answers the same.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::change::{ChangeRows, LoadedWatches, PreviouslyListed, StateRow};
use super::damage::BadRow;
use super::delivery::{DeliveryId, DueDeliveries, EndpointStats, OutboxEndpoint, Settlement};
use super::event_log::{Cursor, EventLogFilter, EventPage, EventsError};
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::{Entry, WatchKey};

/// Something to write: wholly, or not at all.
#[derive(Debug)]
pub(super) enum Write {
    Change(Box<ChangeRows>),
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
        endpoints: Vec<OutboxEndpoint>,
        at: Timestamp,
    },
    Settle {
        settled: Vec<(DeliveryId, Settlement)>,
        at: Timestamp,
    },
    /// Stores watches that were rebuilt when they were loaded, and moves what was damaged aside.
    Rebuilt {
        keys: Vec<WatchKey>,
        at: Timestamp,
    },
    /// Moves rows aside that turned out damaged.
    Damaged {
        rows: Vec<BadRow>,
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
    /// The files of the state were removed or replaced: what is written now would be lost.
    #[error("the state cannot be written, because it was removed or replaced while it is in use: {0}")]
    Removed(String),
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
            Self::Unwritable(_) | Self::Removed(_) => true,
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
    /// The store is closed.
    #[error("the state is closed")]
    Closed,
}

impl Write {
    /// Whether it adds to the event log.
    pub(super) fn has_events(&self) -> bool {
        matches!(self, Self::Change(record) if !record.events.is_empty())
    }

    /// When it was asked for, as far as that is written down with it.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Change(record) => Timestamp::from_millisecond(record.at).ok(),
            Self::Checkpoint { at, .. }
            | Self::Unlisted { at, .. }
            | Self::OnlyListed { at, .. }
            | Self::Endpoints { at, .. }
            | Self::Settle { at, .. }
            | Self::Rebuilt { at, .. }
            | Self::Damaged { at, .. }
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
        reply: Reply<LoadedWatches, ReadError>,
    },
    Left {
        limit: u32,
        reply: Reply<Vec<Watch>, ReadError>,
    },
    Project {
        name: String,
        reply: Reply<Option<ProjectHealth>, ReadError>,
    },
    /// How many watches of these projects are listed, and which of them are not among the keys.
    Listed {
        projects: Vec<std::sync::Arc<str>>,
        keys: Vec<WatchKey>,
        reply: Reply<PreviouslyListed, ReadError>,
    },
    /// Watches with the labels of their last events.
    Entries {
        keys: Vec<WatchKey>,
        reply: Reply<Vec<Entry>, ReadError>,
    },
    Events {
        after: Option<Cursor>,
        limit: usize,
        filter: EventLogFilter,
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
        reply: Reply<DueDeliveries, ReadError>,
    },
    Stats {
        reply: Reply<Vec<EndpointStats>, ReadError>,
    },
}
