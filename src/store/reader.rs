//! Access to the state for commands that run beside the daemon, or without one.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::event_log::{Cursor, EventLogFilter, EventPage, EventsError};
use super::sqlite::{self, OpenError, ReplayCount, ReplaySelection};

/// The pause between two slices of a replay, so that a running daemon can write.
const PAUSE: Duration = Duration::from_millis(20);

/// A state directory that a daemon may be writing to. The methods block.
#[derive(Debug)]
pub struct StateReader {
    dir: PathBuf,
    conn: Connection,
    /// The identity of the open file.
    identity: Option<(u64, u64)>,
}

/// Why a replay was not put into the outbox completely.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The state cannot be opened for writing.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be written.
    #[error("replay stopped after {marked} deliveries: {reason}")]
    Write {
        /// The deliveries that were put into the outbox before.
        marked: u64,
        /// The reason.
        reason: String,
    },
}

impl StateReader {
    /// Opens the state in `dir` for reading. A daemon may use it at the same time.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        // First, so that a replacement before the opening is noticed later.
        let identity = identity(dir);
        Ok(Self {
            dir: dir.to_owned(),
            conn: sqlite::open_beside(dir, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            identity,
        })
    }

    /// Whether the directory still has the file that is open.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.identity.is_some() && identity(&self.dir) == self.identity
    }

    /// Up to `limit` events after `after`, or from the oldest one.
    pub fn events_after(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        filter: &EventLogFilter,
    ) -> Result<EventPage, EventsError> {
        let mut bad = Vec::new();
        let page = sqlite::page(&self.conn, after, limit, filter, &mut bad)?;
        for row in bad {
            tracing::warn!(row = row.row, "damaged event skipped");
        }
        Ok(page)
    }

    /// Puts the selected deliveries into the outbox again, for `endpoint` or for all endpoints that receive the type. A
    /// running daemon sends them within a second, otherwise the next one does.
    pub fn request_replay(
        &self,
        replay: &ReplaySelection,
        endpoint: Option<&str>,
        now: Timestamp,
    ) -> Result<ReplayCount, ReplayError> {
        let mut conn = sqlite::open_beside(&self.dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut replayed = ReplayCount::default();
        let failed = |marked| {
            move |error| ReplayError::Write {
                marked,
                reason: sqlite::explain(&error),
            }
        };
        let until = sqlite::last_delivery(&conn).map_err(failed(0))?;
        let mut after = 0;
        loop {
            let at = now.as_millisecond();
            let progress = sqlite::replay_slice(&mut conn, replay, endpoint, after, until, at)
                .map_err(failed(replayed.marked))?;
            replayed.marked += progress.replayed.marked;
            replayed.left_out += progress.replayed.left_out;
            match progress.next {
                Some(next) => after = next,
                None => return Ok(replayed),
            }
            thread::sleep(PAUSE);
        }
    }

    /// The names of the configured endpoints.
    pub fn endpoints(&self) -> Result<Vec<String>, super::StoreReadError> {
        Ok(sqlite::endpoint_names(&self.conn)?)
    }
}

/// The identity of the database in `dir`.
fn identity(dir: &Path) -> Option<(u64, u64)> {
    let metadata = dir.join(sqlite::FILE).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}
