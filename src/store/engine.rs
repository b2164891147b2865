//! What does a store's work.

use std::fmt;
use std::pin::Pin;

use tokio::sync::watch;

use super::request::{CommitError, ReadError, ReadRequest, WriteRequest};
use super::status::StateHealth;

/// Ends when a request was taken in, or says why it was not.
pub type Accepted<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// What does a store's work: SQLite on disk, or in memory; or one of these behind a disk that is slow, full or torn out
/// at a bad moment.
pub trait Engine: fmt::Debug + Send + Sync {
    /// Takes in something to write. Whoever asked is answered when it is on disk; if it is neither refused here nor
    /// answered, the state counts as closed.
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError>;

    /// Takes in a question.
    fn read(&self, request: ReadRequest) -> Accepted<'_, ReadError>;

    /// Changes when events were recorded, or another process put something into the outbox.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Whether the last attempt to write succeeded.
    fn is_writable(&self) -> bool;

    /// How the state is.
    fn health(&self) -> StateHealth {
        StateHealth::default()
    }
}
