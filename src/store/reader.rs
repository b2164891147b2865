//! The state as commands see it that run beside the daemon, or without one.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::event_log::{Cursor, EventLogFilter, EventPage, EventsError};
use super::sqlite::{self, OpenError, ReplayCount, ReplaySelection};

/// Between two slices of a replay, so that a running daemon gets its turn to write.
const PAUSE: Duration = Duration::from_millis(20);

/// A state directory that somebody else may be writing to. Its methods block.
#[derive(Debug)]
pub struct StateReader {
    dir: PathBuf,
    conn: Connection,
    /// The file that is open.
    identity: Option<(u64, u64)>,
}

/// Why a replay was not put into the outbox, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The state cannot be opened for writing.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be written.
    #[error("cannot mark deliveries in the state, {marked} were: {reason}")]
    Write {
        /// Deliveries that were marked before.
        marked: u64,
        /// The reason.
        reason: String,
    },
}

impl StateReader {
    /// Opens the state in `dir`, whether a daemon runs on it or not. Changes nothing.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        // Before it is opened: a replacement in between is noticed at the next look.
        let identity = identity(dir);
        Ok(Self {
            dir: dir.to_owned(),
            conn: sqlite::open_beside(dir, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            identity,
        })
    }

    /// Whether the state in the directory is still the one that is open.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.identity.is_some() && identity(&self.dir) == self.identity
    }

    /// Up to `limit` events of the log after `after`, or from the oldest on.
    pub fn events_after(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        filter: &EventLogFilter,
    ) -> Result<EventPage, EventsError> {
        let mut bad = Vec::new();
        let page = sqlite::page(&self.conn, after, limit, filter, &mut bad)?;
        for row in bad {
            tracing::warn!(row = row.row, "an event of the log is damaged and left out");
        }
        Ok(page)
    }

    /// Puts into the outbox again what `replay` selects, for `endpoint` or for all endpoints that want it. A running daemon notices within a second, another one when it starts.
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
    pub fn endpoints(&self) -> Result<Vec<String>, super::ReadError> {
        Ok(sqlite::endpoint_names(&self.conn)?)
    }
}

/// What distinguishes the database of `dir` from others.
fn identity(dir: &Path) -> Option<(u64, u64)> {
    let metadata = dir.join(sqlite::FILE).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}
