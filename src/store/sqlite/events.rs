//! The event log: recorded once, read in pages.

use rusqlite::{Connection, params};

use super::{Tx, outbox, time};
use crate::core::event::EventType;
use crate::core::text::one_line;
use crate::store::change::EventRow;
use crate::store::event_log::{Cursor, EventFilter, EventPage, EventsError, StoredEvent};
use crate::store::request::ReadError;

/// No page looks at more rows than this, so that a filter which matches nothing holds up nobody for long.
const LOOK: usize = 10_000;

impl Tx<'_> {
    /// Puts an event into the log and its deliveries into the outbox, unless it is there already: the state may have
    /// been restored from a backup, and the same fact be seen again.
    pub(super) fn record(&mut self, event: &EventRow, at: i64) -> Result<(), rusqlite::Error> {
        let conn = self.conn;
        let inserted = conn
            .prepare_cached(
                "INSERT INTO events (id, type, project, operation, time, recorded, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                event.id,
                event.event_type.as_str(),
                event.project,
                event.operation,
                event.time,
                at,
                event.body
            ])?;
        if inserted == 0 {
            return Ok(());
        }
        let row = conn.last_insert_rowid();
        self.new_events += 1;
        let subject = event.subject();
        let is_progress = event.event_type == EventType::Progress;
        let supersedes = is_progress || event.event_type.is_ending();
        for endpoint in &self.endpoints {
            if supersedes {
                outbox::supersede(conn, endpoint.id, &subject, at)?;
            }
            if endpoint.wants(event.event_type) {
                outbox::enqueue(
                    conn,
                    &outbox::NewDelivery {
                        endpoint: endpoint.id,
                        event: row,
                        subject: &subject,
                        progress: is_progress,
                        replay: false,
                        at,
                    },
                )?;
            }
        }
        Ok(())
    }
}

/// Where the log ends now.
pub(super) fn end(conn: &Connection) -> Result<Cursor, rusqlite::Error> {
    let bounds = bounds(conn)?;
    Ok(Cursor {
        store: bounds.store,
        row: bounds.last,
        pruned_through: bounds.pruned_through,
    })
}

struct Bounds {
    store: String,
    /// The last row that was removed; some before it may still be there.
    pruned_through: i64,
    /// The last row that ever was.
    last: i64,
}

fn bounds(conn: &Connection) -> Result<Bounds, rusqlite::Error> {
    conn.prepare_cached(
        "SELECT id, pruned_through, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) FROM state",
    )?
    .query_row([], |row| {
        Ok(Bounds {
            store: row.get(0)?,
            pruned_through: row.get(1)?,
            last: row.get(2)?,
        })
    })
}

/// Up to `limit` events after `after`, or from the oldest on.
pub(in crate::store) fn page(
    conn: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    filter: &EventFilter,
) -> Result<EventPage, EventsError> {
    // One look at the log as it is now, while others write.
    let snapshot = conn.unchecked_transaction().map_err(ReadError::from)?;
    let bounds = bounds(&snapshot).map_err(ReadError::from)?;
    let from = match after {
        None => 0,
        Some(cursor) if cursor.store != bounds.store || cursor.row > bounds.last => {
            return Err(EventsError::Foreign);
        }
        Some(cursor) if cursor.row.max(cursor.pruned_through) < bounds.pruned_through => {
            return Err(EventsError::Expired);
        }
        Some(cursor) => cursor.row,
    };
    let page = scan(&snapshot, &bounds, from, limit, filter)?;
    snapshot.finish().map_err(ReadError::from)?;
    Ok(page)
}

fn scan(
    conn: &Connection,
    bounds: &Bounds,
    from: i64,
    limit: usize,
    filter: &EventFilter,
) -> Result<EventPage, ReadError> {
    let mut statement = conn.prepare_cached(match filter.operation {
        None => "SELECT row, id, type, time, body FROM events WHERE row > ?1 ORDER BY row",
        Some(_) => {
            "SELECT row, id, type, time, body FROM events WHERE row > ?1 AND operation = ?2 ORDER BY row"
        }
    })?;
    let mut rows = match &filter.operation {
        None => statement.query(params![from])?,
        Some(operation) => statement.query(params![from, operation])?,
    };
    let cursor = |row| Cursor {
        store: bounds.store.clone(),
        row,
        pruned_through: bounds.pruned_through,
    };
    let mut events = Vec::new();
    let mut next = from;
    let mut looked = 0;
    let more = loop {
        let Some(row) = rows.next()? else {
            break false;
        };
        if events.len() == limit || looked == LOOK {
            break true;
        }
        looked += 1;
        next = row.get(0)?;
        let event_type = event_type(&row.get::<_, String>(2)?)?;
        if filter
            .types
            .as_ref()
            .is_some_and(|types| !types.contains(&event_type))
        {
            continue;
        }
        let event = StoredEvent {
            cursor: cursor(next),
            id: row.get(1)?,
            event_type,
            timestamp: time(row.get(3)?),
            body: row.get(4)?,
        };
        if !event.is_intact() {
            return Err(ReadError::Unintelligible(format!("event {next}")));
        }
        events.push(event);
    };
    if !more {
        // Else a cursor that nothing matches for long would fall behind what is kept.
        next = next.max(bounds.last);
    }
    Ok(EventPage {
        events,
        next: cursor(next),
        more,
    })
}

pub(super) fn event_type(name: &str) -> Result<EventType, ReadError> {
    EventType::parse(name).ok_or_else(|| ReadError::Unintelligible(one_line(name, 100)))
}
