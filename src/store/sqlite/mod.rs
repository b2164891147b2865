//! The SQLite engine. All SQL of the crate is here.

mod access;
mod aside;
mod check;
mod checksum;
mod copy;
mod deliveries;
mod endpoints;
mod events;
mod groups;
mod installations;
mod listed;
mod open;
mod open_error;
mod outbox;
mod pages;
mod prune;
mod rebuild;
mod repair;
mod replay;
mod schema;
mod sources;
mod state;
mod statement;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode};

pub(super) use access::refused;
pub(super) use endpoints::names as endpoint_names;
pub(super) use events::page;
pub(super) use open::{Opened, open, open_beside, open_memory};
pub use open_error::OpenError;
pub(super) use open_error::{Cancel, FILE};
pub use replay::{ReplayCount, ReplaySelection};
pub(super) use replay::{last_delivery, replay_slice};

use super::damage::{BadRow, DamagedRow};
use super::request::{Read, StoreReadError, Write, WriteResult};
use crate::core::event::EventType;
use crate::error::chain;
use endpoints::EndpointRow;
use statement::statements;

statements! {
    BEGIN = "BEGIN IMMEDIATE";
    BEGIN_ONE = "SAVEPOINT one";
    UNDO_ONE = "ROLLBACK TO one";
    END_ONE = "RELEASE one";
    COMMIT = "COMMIT";
    DATA_VERSION = "PRAGMA data_version";
    PROBE = "UPDATE state SET probed = probed + 1";
}

/// One connection to a state.
#[derive(Debug)]
pub(super) struct Database {
    conn: Connection,
    /// The ID of this start of the daemon in cursors.
    start: String,
    /// Whether the first row of this start is recorded.
    start_is_noted: bool,
}

/// The result of a group of writes.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// For each write its result, or why it was refused.
    pub(super) results: Vec<Result<WriteResult, rusqlite::Error>>,
    /// The number of events that are new in the log.
    pub(super) new_events: u64,
    /// New dead letters of full backlogs, by endpoint.
    pub(super) overflow: Vec<(String, u64)>,
    /// Damaged rows that were moved aside.
    pub(super) damaged: Vec<DamagedRow>,
}

/// An open transaction.
struct Tx<'c> {
    conn: &'c Connection,
    endpoints: Vec<EndpointRow>,
    /// The numbers of the next rows of the log and the outbox.
    next_event: i64,
    next_delivery: i64,
    new_events: u64,
    damaged: Vec<DamagedRow>,
}

impl<'c> Tx<'c> {
    fn new(conn: &'c Connection) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            conn,
            endpoints: endpoints::load(conn)?,
            next_event: events::next_row(conn)?,
            next_delivery: outbox::next_id(conn)?,
            new_events: 0,
            damaged: Vec::new(),
        })
    }
}

impl Database {
    /// Writes all of `writes` in one transaction, which is on disk when this returns. An invalid write is skipped.
    ///
    /// # Errors
    /// When nothing was written.
    pub(super) fn write(&mut self, writes: &[Write]) -> Result<Group, rusqlite::Error> {
        let starts = !self.start_is_noted && writes.iter().any(Write::has_events);
        let result = self.transact(writes, starts);
        match &result {
            Ok(_) => self.start_is_noted |= starts,
            Err(_) if !self.conn.is_autocommit() => {
                // If this fails, the next `BEGIN` fails too and reports it.
                let _ = self.conn.execute_batch("ROLLBACK");
            }
            Err(_) => {}
        }
        result
    }

    fn transact(&self, writes: &[Write], starts: bool) -> Result<Group, rusqlite::Error> {
        let conn = &self.conn;
        BEGIN.prepare(conn)?.execute([])?;
        let mut tx = Tx::new(conn)?;
        if starts {
            tx.begin_start(&self.start)?;
        }
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            BEGIN_ONE.prepare(conn)?.execute([])?;
            let damaged = tx.damaged.len();
            let result = match tx.apply(write) {
                Err(error) if is_own_fault(&error) && !conn.is_autocommit() => {
                    UNDO_ONE.prepare(conn)?.execute([])?;
                    tx.damaged.truncate(damaged);
                    Err(error)
                }
                other => Ok(other?),
            };
            END_ONE.prepare(conn)?.execute([])?;
            if matches!(write, Write::Endpoints { .. }) {
                tx.endpoints = endpoints::load(conn)?;
            }
            results.push(result);
        }
        // Writes without a date add no deliveries.
        let overflow = match writes.iter().filter_map(Write::at).max() {
            Some(at) => endpoints::trim(conn, at.as_millisecond(), &mut tx.damaged)?,
            None => Vec::new(),
        };
        COMMIT.prepare(conn)?.execute([])?;
        Ok(Group {
            results,
            new_events: tx.new_events,
            overflow,
            damaged: tx.damaged,
        })
    }

    /// Answers a read. Returns damaged rows, which the writer must move aside.
    pub(super) fn answer(&self, read: Read) -> Vec<BadRow> {
        let conn = &self.conn;
        let mut bad = Vec::new();
        match read {
            Read::Load { keys, reply } => drop(reply.send(state::load(conn, &keys))),
            Read::RecentlyUnlisted { limit, reply } => {
                drop(
                    reply.send(state::recently_unlisted(conn, limit, &mut bad).map_err(StoreReadError::from)),
                );
            }
            Read::Project { name, reply } => {
                drop(reply.send(state::load_project(conn, &name, &mut bad)));
            }
            Read::Listed {
                projects,
                keys,
                reply,
            } => drop(reply.send(listed::without(conn, &projects, &keys).map_err(StoreReadError::from))),
            Read::SourceEntries {
                project,
                after,
                reply,
            } => {
                let page = sources::load(conn, &project, after, &mut bad);
                drop(reply.send(page.map_err(StoreReadError::from)));
            }
            Read::Installations {
                project,
                after,
                reply,
            } => {
                let page = installations::load(conn, &project, after, &mut bad);
                drop(reply.send(page.map_err(StoreReadError::from)));
            }
            Read::Groups {
                project,
                after,
                reply,
            } => {
                let page = groups::load(conn, &project, after, &mut bad);
                drop(reply.send(page.map_err(StoreReadError::from)));
            }
            Read::Entries { keys, reply } => {
                drop(reply.send(listed::entries(conn, keys).map_err(StoreReadError::from)));
            }
            Read::Events {
                after,
                limit,
                filter,
                reply,
            } => drop(reply.send(events::page(conn, after.as_ref(), limit, &filter, &mut bad))),
            Read::End { reply } => drop(reply.send(events::end(conn).map_err(StoreReadError::from))),
            Read::Due {
                endpoint,
                now,
                limit,
                in_flight,
                reply,
            } => drop(reply.send(outbox::due(conn, &endpoint, now, limit, &in_flight, &mut bad))),
            Read::OperationDeliveries { key, after, reply } => {
                let deliveries = deliveries::of_operation(conn, &key, after, &mut bad);
                drop(reply.send(deliveries.map_err(StoreReadError::from)));
            }
            Read::Stats { reply } => {
                drop(reply.send(endpoints::stats(conn).map_err(StoreReadError::from)));
            }
        }
        bad
    }

    /// A number that changes when another connection wrote to the state.
    pub(super) fn data_version(&self) -> Result<i64, rusqlite::Error> {
        DATA_VERSION.prepare(&self.conn)?.query_row([], |row| row.get(0))
    }

    /// Tries a small write.
    pub(super) fn probe(&self) -> Result<(), rusqlite::Error> {
        PROBE.prepare(&self.conn)?.execute([])?;
        Ok(())
    }

    /// Closes the file, so that the next start need not check it.
    pub(super) fn close(self) -> Result<(), rusqlite::Error> {
        self.conn.flush_prepared_statement_cache();
        self.conn.close().map_err(|(_, error)| error)
    }

    /// Closes without touching the files, which were replaced.
    pub(super) fn abandon(self) -> Result<(), rusqlite::Error> {
        open::set_checkpoint_on_close(&self.conn, false)?;
        self.close()
    }
}

impl Tx<'_> {
    fn apply(&mut self, write: &Write) -> Result<WriteResult, rusqlite::Error> {
        let conn = self.conn;
        let mut result = WriteResult::default();
        let damaged = &mut self.damaged;
        match write {
            Write::Change(record) => {
                state::put(conn, &record.state, record.at)?;
                for event in &record.events {
                    self.record(event, record.at)?;
                }
            }
            Write::Checkpoint { states, at } => {
                for row in states {
                    state::put_unless_newer(conn, row, at.as_millisecond())?;
                }
            }
            Write::Listed { keys } => listed::set_unlisted(conn, keys, None)?,
            Write::Unlisted { keys, at } => {
                listed::set_unlisted(conn, keys, Some(at.as_millisecond()))?;
            }
            Write::OnlyListed { keys, at } => listed::unlist_others(conn, keys, at.as_millisecond())?,
            Write::PutSourceEntries { entries, at } => {
                result.entries = sources::put(conn, entries, at.as_millisecond(), damaged)?;
            }
            Write::WithdrawSourceEntry { key, source, at } => {
                result.withdrawal = sources::withdraw(conn, key, *source, at.as_millisecond(), damaged)?;
            }
            Write::ExpireSourceEntries {
                entries,
                older_than,
                at,
            } => {
                result.entries = sources::expire(conn, entries, *older_than, at.as_millisecond(), damaged)?;
            }
            Write::Discovered {
                project,
                installations,
                found,
                at,
            } => {
                installations::put(conn, project, installations, at.as_millisecond())?;
                result.entries = sources::put(conn, found, at.as_millisecond(), damaged)?;
            }
            Write::Endpoints { endpoints, at } => {
                endpoints::sync(conn, endpoints, at.as_millisecond(), damaged)?;
            }
            Write::Settle { settled, at } => {
                for (id, settled) in settled {
                    outbox::settle(conn, *id, settled, at.as_millisecond(), damaged)?;
                }
            }
            Write::Rebuilt { keys, at } => {
                for key in keys {
                    state::store_rebuilt(conn, key, at.as_millisecond(), damaged)?;
                }
            }
            Write::Damaged { rows, at } => {
                for row in rows {
                    repair::move_aside(conn, *row, at.as_millisecond(), damaged)?;
                }
            }
            Write::Prune { at, retention } => result.pruned = prune::slice(conn, *at, *retention)?,
        }
        Ok(result)
    }
}

impl From<rusqlite::Error> for StoreReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(explain(&error))
    }
}

/// Whether the written data caused an error, not the disk.
fn is_own_fault(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
        ),
        _ => true,
    }
}

/// Whether an error means that the file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Whether an error means that the opening was cancelled.
fn is_interrupt(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// Explains an error, with what to do.
pub(super) fn explain(error: &rusqlite::Error) -> String {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            "the disk is full, or the database has reached its size limit; free some space"
        }
        Some(ErrorCode::ReadOnly) => {
            "it is read-only; make the state directory and its files writable for this user"
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "it cannot be opened; check the permissions of the state directory and its files, and the free space on its disk"
        }
        Some(ErrorCode::SystemIoFailure) => {
            "the system refuses to read or write it; check for a full quota, a limit on file sizes or a failing disk"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged; restore a backup, or move it and the files beside it away to start with an empty state"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program keeps it locked; stop the program that has it open"
        }
        _ => return chain(error),
    };
    // SQLite uses one text for many errors. The code identifies the error.
    match error.sqlite_error() {
        Some(failure) => format!("{advice} ({error}, SQLite error {})", failure.extended_code),
        None => format!("{advice} ({error})"),
    }
}

impl FromSql for EventType {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for EventType {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(if milliseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
