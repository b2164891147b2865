//! The engine that keeps everything in one SQLite file. All SQL of the crate is in here.

mod endpoints;
mod events;
mod open;
mod outbox;
mod prune;
mod replay;
mod schema;
mod state;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};

pub(super) use endpoints::names as endpoint_names;
pub(super) use events::page;
pub use open::OpenError;
pub(super) use open::{open, open_beside, open_memory, open_reader};
pub use replay::{Replay, Replayed};
pub(super) use replay::{last_delivery, replay_slice};

use super::request::{Read, ReadError, Write};
use crate::error::chain;
use endpoints::EndpointRow;

/// One connection to a state.
#[derive(Debug)]
pub(super) struct Database {
    conn: Connection,
}

/// What became of a group of writes.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// For each write the rows that a slice of pruning removed (0 for all others), or why it alone was refused.
    pub(super) results: Vec<Result<u64, rusqlite::Error>>,
    /// Events that were not in the log before.
    pub(super) new_events: u64,
    /// Deliveries given up because an endpoint's backlog was full, by endpoint.
    pub(super) overflow: Vec<(String, u64)>,
}

/// A transaction under way.
struct Tx<'c> {
    conn: &'c Connection,
    endpoints: Vec<EndpointRow>,
    new_events: u64,
}

impl Database {
    /// Writes all of `writes` in one transaction, which is on disk when this returns. A write that cannot be written
    /// for its own fault is left out, and the others hold.
    ///
    /// # Errors
    /// Nothing at all was written.
    pub(super) fn write(&mut self, writes: &[Write]) -> Result<Group, rusqlite::Error> {
        let result = self.transact(writes);
        if result.is_err() && !self.conn.is_autocommit() {
            // If this fails too, the next `BEGIN` does, and says so.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        result
    }

    fn transact(&self, writes: &[Write]) -> Result<Group, rusqlite::Error> {
        let conn = &self.conn;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut tx = Tx {
            conn,
            endpoints: endpoints::load(conn)?,
            new_events: 0,
        };
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            conn.prepare_cached("SAVEPOINT one")?.execute([])?;
            let result = match tx.apply(write) {
                Err(error) if is_own_fault(&error) && !conn.is_autocommit() => {
                    conn.prepare_cached("ROLLBACK TO one")?.execute([])?;
                    Err(error)
                }
                other => Ok(other?),
            };
            conn.prepare_cached("RELEASE one")?.execute([])?;
            if matches!(write, Write::Endpoints { .. }) {
                tx.endpoints = endpoints::load(conn)?;
            }
            results.push(result);
        }
        // Nothing that has no date fills a backlog.
        let overflow = match writes.iter().filter_map(Write::at).max() {
            Some(at) => endpoints::trim(conn, at.as_millisecond())?,
            None => Vec::new(),
        };
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(Group {
            results,
            new_events: tx.new_events,
            overflow,
        })
    }

    /// Answers a question; whoever asked may have gone.
    pub(super) fn answer(&self, read: Read) {
        let conn = &self.conn;
        match read {
            Read::Load { keys, reply } => drop(reply.send(state::load(conn, &keys))),
            Read::Left { limit, reply } => {
                drop(reply.send(state::left(conn, limit).map_err(ReadError::from)))
            }
            Read::Project { name, reply } => drop(reply.send(state::load_project(conn, &name))),
            Read::Events {
                after,
                limit,
                filter,
                reply,
            } => drop(reply.send(events::page(conn, after.as_ref(), limit, &filter))),
            Read::End { reply } => drop(reply.send(events::end(conn).map_err(ReadError::from))),
            Read::Due {
                endpoint,
                now,
                limit,
                in_flight,
                reply,
            } => drop(reply.send(outbox::due(conn, &endpoint, now, limit, &in_flight))),
            Read::Stats { reply } => {
                drop(reply.send(endpoints::stats(conn).map_err(ReadError::from)));
            }
        }
    }

    /// A number that changes when somebody else wrote to the state.
    pub(super) fn data_version(&self) -> Result<i64, rusqlite::Error> {
        self.conn
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))
    }

    /// Writes a little, to learn whether that works.
    pub(super) fn probe(&self) -> Result<(), rusqlite::Error> {
        self.conn
            .prepare_cached("UPDATE state SET probed = probed + 1")?
            .execute([])?;
        Ok(())
    }

    /// Leaves the file in good order for the next start.
    pub(super) fn close(self) -> Result<(), rusqlite::Error> {
        self.conn.flush_prepared_statement_cache();
        // Statistics for the query planner are nice to have.
        let _ = self.conn.execute_batch("PRAGMA optimize");
        self.conn.close().map_err(|(_, error)| error)
    }
}

impl Tx<'_> {
    fn apply(&mut self, write: &Write) -> Result<u64, rusqlite::Error> {
        match write {
            Write::Change(record) => {
                state::put(self.conn, &record.state, record.at)?;
                for event in &record.events {
                    self.record(event, record.at)?;
                }
            }
            Write::Checkpoint { states, at } => {
                for row in states {
                    state::put_unless_newer(self.conn, row, at.as_millisecond())?;
                }
            }
            Write::Listed { keys } => state::set_unlisted(self.conn, keys, None)?,
            Write::Unlisted { keys, at } => {
                state::set_unlisted(self.conn, keys, Some(at.as_millisecond()))?;
            }
            Write::OnlyListed { keys, at } => state::unlist_others(self.conn, keys, at.as_millisecond())?,
            Write::Endpoints { endpoints, at } => endpoints::sync(self.conn, endpoints, at.as_millisecond())?,
            Write::Settle { settled, at } => {
                for (id, settled) in settled {
                    outbox::settle(self.conn, *id, settled, at.as_millisecond())?;
                }
            }
            Write::Prune { at, retention } => return prune::slice(self.conn, *at, *retention),
        }
        Ok(0)
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(explain(&error))
    }
}

/// Whether an error is the fault of what was to be written, not of the disk it was to be written to.
fn is_own_fault(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
        ),
        _ => true,
    }
}

/// Whether an error says that the file itself is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// What an error means for somebody who has to do something about it.
pub(super) fn explain(error: &rusqlite::Error) -> String {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            "the disk is full, or the database has reached its size limit; make room"
        }
        Some(ErrorCode::ReadOnly) => {
            "it is read-only; make the state directory and its files writable for this user"
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "it cannot be opened; look at the permissions of the state directory and its files, and at the room on its disk"
        }
        Some(ErrorCode::SystemIoFailure) => {
            "the system refuses to read or write it; look for a full quota, a limit on file sizes or a failing disk"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged; restore a backup, or move it and the files beside it aside to begin anew"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program keeps it locked; end what else has it open"
        }
        _ => return chain(error),
    };
    // SQLite has the same words for many errors; the code names the one that it was.
    match error.sqlite_error() {
        Some(failure) => format!("{advice} ({error}, SQLite error {})", failure.extended_code),
        None => format!("{advice} ({error})"),
    }
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(if milliseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
