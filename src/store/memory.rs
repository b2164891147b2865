//! An engine without files and threads, for `watch`, `demo` and tests.
//!
//! It is the SQLite engine with a database in memory, so its answers equal those of the engine on disk. Requests are
//! answered at once, so paused time does not advance while a test waits. Stores that share an engine share its data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::engine::{Accepted, Engine};
use super::request::{CommitError, ReadRequest, StoreReadError, WriteRequest};
use super::sqlite;
use super::status::{StateHealth, StoreStatus};
use super::writer::Writer;

/// A state in memory.
#[derive(Debug)]
pub struct MemoryEngine {
    writer: Mutex<Writer>,
    status: Arc<StoreStatus>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        let database = sqlite::open_memory().expect("a database in memory needs memory alone");
        let status = Arc::<StoreStatus>::default();
        Self {
            writer: Mutex::new(Writer::new(database, Arc::clone(&status))),
            status,
        }
    }
}

impl MemoryEngine {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError> {
        self.writer().write(vec![request]);
        Box::pin(std::future::ready(Ok(())))
    }

    fn read(&self, request: ReadRequest) -> Accepted<'_, StoreReadError> {
        self.writer().answer(request.0, Timestamp::UNIX_EPOCH);
        Box::pin(std::future::ready(Ok(())))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.status.changed()
    }

    fn is_writable(&self) -> bool {
        self.status.is_writable()
    }

    fn health(&self) -> StateHealth {
        self.status.health()
    }
}
