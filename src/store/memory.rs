//! An engine without file and thread, for `watch`, `demo` and tests.
//!
//! It is the SQLite engine on a database in memory, asked on the spot: so it cannot differ from the real one in what
//! it answers, and paused time does not run away while a test waits for a thread. Stores opened on it one after the
//! other find what those before committed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::engine::{Accepted, Engine};
use super::request::{CommitError, ReadError, ReadRequest, WriteRequest};
use super::sqlite;
use super::status::{StateHealth, Status};
use super::writer::Writer;

/// A state in memory.
#[derive(Debug)]
pub struct MemoryEngine {
    writer: Mutex<Writer>,
    status: Arc<Status>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        let database = sqlite::open_memory().expect("a database in memory needs memory alone");
        let status = Arc::<Status>::default();
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

    fn read(&self, request: ReadRequest) -> Accepted<'_, ReadError> {
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
