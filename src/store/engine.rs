//! The interface between the store's handle and the storage.

use std::fmt;
use std::pin::Pin;

use tokio::sync::watch;

use super::request::{CommitError, ReadRequest, StoreReadError, WriteRequest};
use super::status::StateHealth;

/// Completes when the engine accepted a request.
pub type Accepted<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// A storage engine: SQLite on disk or in memory. Tests add engines that simulate slow, full and failing disks.
pub trait Engine: fmt::Debug + Send + Sync {
    /// Accepts a write. The caller is answered when it is on disk. A request that is accepted and never answered counts as
    /// [`CommitError::Closed`].
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError>;

    /// Accepts a read.
    fn read(&self, request: ReadRequest) -> Accepted<'_, StoreReadError>;

    /// Changes when events were recorded, or another process changed the outbox.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Whether the last write succeeded.
    fn is_writable(&self) -> bool;

    /// Whether the state is writable, present and undamaged.
    fn health(&self) -> StateHealth {
        StateHealth::default()
    }
}
