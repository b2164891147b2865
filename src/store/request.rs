//! The requests of the store's handle to its engine.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::change::{ChangeRows, LoadedWatches, PreviouslyListed, StateRow};
use super::damage::BadRow;
use super::delivery::{
    DeliveryId, DueDeliveries, EndpointStats, OperationDeliveries, OutboxEndpoint, Settlement,
};
use super::event_log::{Cursor, EventLogFilter, EventPage, EventsError};
use super::source_entry::{Page, SourceEntry, SourceRow, Withdrawal};
use crate::core::discovery::StoredInstallation;
use crate::core::group::{GroupId, GroupRecord};
use crate::core::project_health::ProjectHealth;
use crate::core::source::Source;
use crate::core::watch::Watch;
use crate::core::watch_list::{Entry, WatchKey};

/// A write: it is done completely, or not at all.
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
    PutSourceEntries {
        entries: Vec<SourceRow>,
        at: Timestamp,
    },
    WithdrawSourceEntry {
        key: WatchKey,
        source: Source,
        at: Timestamp,
    },
    ExpireSourceEntries {
        entries: Vec<(WatchKey, Source)>,
        older_than: Timestamp,
        at: Timestamp,
    },
    /// Installations of a project, or `None` for those that do not exist any more, and what discovery found.
    Discovered {
        project: Arc<str>,
        installations: Vec<(Arc<str>, Option<String>)>,
        found: Vec<SourceRow>,
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
    /// Stores watches that were rebuilt when they were loaded, and moves damaged rows aside.
    Rebuilt {
        keys: Vec<WatchKey>,
        at: Timestamp,
    },
    /// Moves damaged rows aside.
    Damaged {
        rows: Vec<BadRow>,
        at: Timestamp,
    },
    Prune {
        at: Timestamp,
        retention: Duration,
    },
}

/// Why a write failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The state cannot be written now. A retry may succeed.
    #[error("the state cannot be written: {0}")]
    Unwritable(String),
    /// The files of the state were removed or replaced. Writes would be lost.
    #[error("the state cannot be written, because it was removed or replaced while it is in use: {0}")]
    Removed(String),
    /// The record itself is invalid. Other writes succeed.
    #[error("the state refuses this record: {0}")]
    Refused(String),
    /// The store is closed.
    #[error("the state is closed")]
    Closed,
}

impl CommitError {
    /// Whether a retry may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unwritable(_) | Self::Removed(_) => true,
            Self::Refused(_) | Self::Closed => false,
        }
    }
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreReadError {
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

    /// The time that it records, if any.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Change(record) => Timestamp::from_millisecond(record.at).ok(),
            Self::Checkpoint { at, .. }
            | Self::Unlisted { at, .. }
            | Self::OnlyListed { at, .. }
            | Self::PutSourceEntries { at, .. }
            | Self::WithdrawSourceEntry { at, .. }
            | Self::ExpireSourceEntries { at, .. }
            | Self::Discovered { at, .. }
            | Self::Endpoints { at, .. }
            | Self::Settle { at, .. }
            | Self::Rebuilt { at, .. }
            | Self::Damaged { at, .. }
            | Self::Prune { at, .. } => Some(*at),
            Self::Listed { .. } => None,
        }
    }
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WriteResult {
    /// The rows that pruning deleted.
    pub(super) pruned: u64,
    /// For each source entry, whether it is new, or whether it is gone.
    pub(super) entries: Vec<bool>,
    pub(super) withdrawal: Withdrawal,
}

/// A write with the channel for its result.
#[derive(Debug)]
pub struct WriteRequest {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<WriteResult, CommitError>>,
}

/// The channel for the result of a read.
pub(super) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// A read with the channel for its result.
#[derive(Debug)]
pub struct ReadRequest(pub(super) Read);

/// A read.
#[derive(Debug)]
pub(super) enum Read {
    Load {
        keys: Vec<WatchKey>,
        reply: Reply<LoadedWatches, StoreReadError>,
    },
    RecentlyUnlisted {
        limit: u32,
        reply: Reply<Vec<Watch>, StoreReadError>,
    },
    Project {
        name: String,
        reply: Reply<Option<ProjectHealth>, StoreReadError>,
    },
    /// The watches of these projects that are listed: their number, and those not among the keys.
    Listed {
        projects: Vec<Arc<str>>,
        keys: Vec<WatchKey>,
        reply: Reply<PreviouslyListed, StoreReadError>,
    },
    /// A page of what the HTTP API and discovery ask of a project, after a row.
    SourceEntries {
        project: Arc<str>,
        after: i64,
        reply: Reply<Page<SourceEntry>, StoreReadError>,
    },
    Installations {
        project: Arc<str>,
        after: i64,
        reply: Reply<Page<(Arc<str>, StoredInstallation)>, StoreReadError>,
    },
    Groups {
        project: Arc<str>,
        after: i64,
        reply: Reply<Page<(GroupId, GroupRecord)>, StoreReadError>,
    },
    /// Watches with the labels of their last events.
    Entries {
        keys: Vec<WatchKey>,
        reply: Reply<Vec<Entry>, StoreReadError>,
    },
    Events {
        after: Option<Cursor>,
        limit: usize,
        filter: EventLogFilter,
        reply: Reply<EventPage, EventsError>,
    },
    End {
        reply: Reply<Cursor, StoreReadError>,
    },
    Due {
        endpoint: Arc<str>,
        now: Timestamp,
        limit: usize,
        in_flight: Vec<DeliveryId>,
        reply: Reply<DueDeliveries, StoreReadError>,
    },
    /// The deliveries of an operation, of the events after a row.
    OperationDeliveries {
        key: WatchKey,
        after: i64,
        reply: Reply<OperationDeliveries, StoreReadError>,
    },
    Stats {
        reply: Reply<Vec<EndpointStats>, StoreReadError>,
    },
}
