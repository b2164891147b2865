//! The event log: each event is recorded once, and read in pages.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::checksum_of;
use super::statement::statements;
use super::{Tx, outbox, time};
use crate::core::event::EventType;
use crate::store::change::EventRow;
use crate::store::damage::{BadRow, DamagedTable};
use crate::store::event_log::{Cursor, EventLogFilter, EventPage, EventsError, StoredEvent};
use crate::store::request::StoreReadError;

/// The most rows that are examined for one page, so that a filter without matches does not block the thread for long.
const MAX_EXAMINED: usize = 10_000;

statements! {
    /// The sequence may be lost, so the highest row counts too.
    LAST_ROW = "SELECT max(coalesce((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'events'), 0),
         coalesce((SELECT max(row) FROM events), 0), coalesce((SELECT pruned_through FROM state), 0),
         coalesce((SELECT max(first_row) - 1 FROM starts), 0))";
    INSERT = "INSERT INTO events (row, id, type, project, operation, time, recorded, body, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, row_checksum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8))
         ON CONFLICT (id) DO NOTHING";
    BEGIN_START = "INSERT OR REPLACE INTO starts (first_row, id, checksum) VALUES (?1, ?2, row_checksum(?1, ?2))";
    START_OF = "SELECT id FROM starts WHERE first_row <= ?1 ORDER BY first_row DESC LIMIT 1";
    START_AFTER = "SELECT min(first_row) FROM starts WHERE first_row > ?1";
    STATE = "SELECT id, pruned_through FROM state";
    PAGE scans "reads the log in its order, from a row on" = concat!(
        "SELECT row, checksum IS ", checksum_of!(event, ""), ", id, type, time, body
         FROM events NOT INDEXED WHERE row > ?1 ORDER BY row"
    );
    PAGE_OF_OPERATION = concat!(
        "SELECT row, checksum IS ", checksum_of!(event, ""), ", id, type, time, body
         FROM events INDEXED BY events_operation WHERE row > ?1 AND operation = ?2
             AND (?3 IS NULL OR project = ?3) ORDER BY row"
    );
    ALL_DAMAGED scans "the check of the state reads every row" =
        concat!("SELECT row FROM events WHERE checksum IS NOT ", checksum_of!(event, ""));
}

/// The statement that finds damaged rows.
pub(super) const DAMAGED: (DamagedTable, super::statement::Sql) = (DamagedTable::Events, ALL_DAMAGED);

impl Tx<'_> {
    /// Records that the following rows of the log belong to this start of the daemon.
    pub(super) fn begin_start(&mut self, start: &str) -> Result<(), rusqlite::Error> {
        BEGIN_START
            .prepare(self.conn)?
            .execute(params![self.next_event, start])?;
        Ok(())
    }

    /// Puts an event into the log and its deliveries into the outbox, unless the log has it. That happens after a commit whose
    /// answer was lost.
    pub(super) fn record(&mut self, event: &EventRow, at: i64) -> Result<(), rusqlite::Error> {
        let conn = self.conn;
        let row = self.next_event;
        let inserted = INSERT.prepare(conn)?.execute(params![
            row,
            event.id,
            event.event_type,
            event.project,
            event.operation,
            event.time,
            at,
            event.body
        ])?;
        if inserted == 0 {
            return Ok(());
        }
        self.next_event += 1;
        self.new_events += 1;
        let subject = event.subject();
        let is_progress = event.event_type == EventType::Progress;
        let supersedes = is_progress || event.event_type.is_ending();
        for endpoint in &self.endpoints {
            if supersedes {
                outbox::supersede(conn, endpoint.id, &subject, at, &mut self.damaged)?;
            }
            if endpoint.receives(event.event_type) {
                outbox::enqueue(
                    conn,
                    &outbox::NewDelivery {
                        id: self.next_delivery,
                        endpoint: endpoint.id,
                        event: row,
                        subject: &subject,
                        progress: is_progress,
                        replay: false,
                        at,
                    },
                )?;
                self.next_delivery += 1;
            }
        }
        Ok(())
    }
}

/// The number of the next row. It was never used before.
pub(super) fn next_row(conn: &Connection) -> Result<i64, rusqlite::Error> {
    let last: i64 = LAST_ROW.prepare(conn)?.query_row([], |row| row.get(0))?;
    Ok(last.saturating_add(1))
}

/// The current end of the log.
pub(super) fn end(conn: &Connection) -> Result<Cursor, rusqlite::Error> {
    let bounds = Bounds::of(conn)?;
    let starts = Starts::at(conn, bounds.last)?;
    Ok(bounds.cursor(&starts, bounds.last))
}

struct Bounds {
    store: String,
    /// The last row that was removed. Some earlier rows may still exist.
    pruned_through: i64,
    /// The last row that was ever written.
    last: i64,
}

impl Bounds {
    fn of(conn: &Connection) -> Result<Self, rusqlite::Error> {
        let (store, pruned_through) = STATE
            .prepare(conn)?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self {
            store,
            pruned_through,
            last: next_row(conn)? - 1,
        })
    }

    fn cursor(&self, starts: &Starts, row: i64) -> Cursor {
        Cursor {
            store: self.store.clone(),
            start: starts.id.clone(),
            row,
            pruned_through: self.pruned_through,
        }
    }
}

/// The start of the daemon that wrote a row, and the first row of the next start.
struct Starts {
    id: Option<String>,
    next: i64,
}

impl Starts {
    fn at(conn: &Connection, row: i64) -> Result<Self, rusqlite::Error> {
        let id: Option<Option<String>> = START_OF
            .prepare(conn)?
            .query_row([row], |row| row.get(0))
            .optional()?;
        let next: Option<i64> = START_AFTER.prepare(conn)?.query_row([row], |row| row.get(0))?;
        Ok(Self {
            id: id.flatten(),
            next: next.unwrap_or(i64::MAX),
        })
    }

    /// Moves forward to the start that wrote `row`.
    fn advance(&mut self, conn: &Connection, row: i64) -> Result<(), rusqlite::Error> {
        if row >= self.next {
            *self = Self::at(conn, row)?;
        }
        Ok(())
    }
}

/// Up to `limit` events after `after`, or from the oldest one. Damaged ones are skipped and added to `bad`.
pub(in crate::store) fn page(
    conn: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    filter: &EventLogFilter,
    bad: &mut Vec<BadRow>,
) -> Result<EventPage, EventsError> {
    // A snapshot, because another connection writes.
    let snapshot = conn.unchecked_transaction().map_err(StoreReadError::from)?;
    let bounds = Bounds::of(&snapshot).map_err(StoreReadError::from)?;
    let from = after.map_or(0, |cursor| cursor.row);
    let starts = Starts::at(&snapshot, from).map_err(StoreReadError::from)?;
    if let Some(cursor) = after {
        if cursor.store != bounds.store || cursor.row > bounds.last {
            return Err(EventsError::Foreign);
        }
        if cursor.row.max(cursor.pruned_through) < bounds.pruned_through {
            return Err(EventsError::Expired);
        }
        if cursor.start != starts.id {
            return Err(EventsError::Foreign);
        }
    }
    let page = Scan {
        conn: &snapshot,
        bounds: &bounds,
        starts,
        bad,
    }
    .run(from, limit, filter)?;
    snapshot.finish().map_err(StoreReadError::from)?;
    Ok(page)
}

struct Scan<'a> {
    conn: &'a Connection,
    bounds: &'a Bounds,
    starts: Starts,
    bad: &'a mut Vec<BadRow>,
}

impl Scan<'_> {
    fn run(mut self, from: i64, limit: usize, filter: &EventLogFilter) -> Result<EventPage, StoreReadError> {
        let mut statement = match filter.operation {
            None => PAGE.prepare(self.conn)?,
            Some(_) => PAGE_OF_OPERATION.prepare(self.conn)?,
        };
        let mut rows = match &filter.operation {
            None => statement.query(params![from])?,
            Some(operation) => statement.query(params![from, operation, filter.project])?,
        };
        let mut events = Vec::new();
        let mut next = from;
        let mut examined = 0;
        let more = loop {
            let Some(row) = rows.next()? else {
                break false;
            };
            if events.len() == limit || examined == MAX_EXAMINED {
                break true;
            }
            examined += 1;
            next = row.get(0)?;
            self.starts.advance(self.conn, next)?;
            match self.event(row, next, filter)? {
                Seen::Event(event) => events.push(event),
                Seen::Other => {}
                Seen::Damaged => self.bad.push(BadRow {
                    table: DamagedTable::Events,
                    row: next,
                }),
            }
        };
        if !more {
            // Without this, a cursor of a filter without matches would fall behind the pruned rows.
            next = next.max(self.bounds.last);
            self.starts.advance(self.conn, next)?;
        }
        Ok(EventPage {
            events,
            next: self.bounds.cursor(&self.starts, next),
            more,
        })
    }

    fn event(&self, row: &Row<'_>, number: i64, filter: &EventLogFilter) -> Result<Seen, StoreReadError> {
        if !row.get::<_, bool>(1)? {
            return Ok(Seen::Damaged);
        }
        let Ok(event_type) = row.get(3) else {
            return Ok(Seen::Damaged);
        };
        if filter
            .types
            .as_ref()
            .is_some_and(|types| !types.contains(&event_type))
        {
            return Ok(Seen::Other);
        }
        let event = StoredEvent {
            cursor: self.bounds.cursor(&self.starts, number),
            id: row.get(2)?,
            event_type,
            timestamp: time(row.get(4)?),
            body: row.get(5)?,
        };
        Ok(if event.is_intact() {
            Seen::Event(event)
        } else {
            Seen::Damaged
        })
    }
}

/// A row of the log.
enum Seen {
    Event(StoredEvent),
    /// An event that the filter excludes.
    Other,
    Damaged,
}
