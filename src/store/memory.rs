//! A store without file and thread, for `watch` and for tests.
//!
//! It is the SQLite engine on a database in memory, asked on the spot: so it cannot differ from the real one in what
//! it answers, and paused time does not run away while a test waits for a thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::request::{Read, WriteRequest};
use super::sqlite;
use super::status::Status;
use super::writer::Writer;

#[derive(Debug)]
pub(super) struct Memory {
    writer: Mutex<Writer>,
}

impl Memory {
    pub(super) fn new(status: Arc<Status>) -> Self {
        let database = sqlite::open_memory().expect("a database in memory needs memory alone");
        Self {
            writer: Mutex::new(Writer::new(database, status)),
        }
    }

    pub(super) fn write(&self, request: WriteRequest) {
        self.writer().write(vec![request]);
    }

    pub(super) fn read(&self, read: Read) {
        self.writer().answer(read);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
