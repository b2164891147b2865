//! Deletes old rows in small steps.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::state;
use super::statement::{Sql, statements};

/// The rows of each kind that one slice deletes: some milliseconds between two groups of writes.
const SLICE: i64 = 500;

/// The retention of finished deliveries, and of waiting deliveries of removed endpoints.
const SETTLED: Duration = Duration::from_hours(7 * 24);

/// The retention of dropped deliveries. They show that their subject is busy while they are in flight: for some seconds.
const DROPPED: Duration = Duration::from_hours(1);

/// The size of the log in events, besides those that wait to be delivered: about a gigabyte, and as many as the default
/// backlog of an endpoint.
const MAX_EVENTS: i64 = 1_000_000;

/// The most events beyond that which one slice examines. Waiting ones are kept.
const MAX_EXAMINED: i64 = 20_000;

statements! {
    DROP_SETTLED = "DELETE FROM deliveries WHERE id IN
         (SELECT id FROM deliveries INDEXED BY deliveries_settled WHERE state = ?1 AND settled < ?2 LIMIT ?3)";
    REMOVED_ENDPOINTS = "SELECT id FROM endpoints WHERE removed < ?1";
    DROP_WAITING = "DELETE FROM deliveries WHERE id IN
         (SELECT id FROM deliveries INDEXED BY deliveries_age WHERE state = 0 AND endpoint = ?1 LIMIT ?2)";
    DROP_DEAD = "DELETE FROM deliveries WHERE id IN
         (SELECT id FROM deliveries INDEXED BY deliveries_dead WHERE state = 2 AND endpoint = ?1 LIMIT ?2)";
    // This deletes the remaining deliveries of the endpoint.
    DROP_ENDPOINT scans "deletes the remaining deliveries, once for each webhook that was removed" = "DELETE FROM endpoints WHERE id = ?1";
    OLD_WATCHES = "SELECT project, operation FROM watches w INDEXED BY watches_unlisted WHERE unlisted < ?1
         AND NOT EXISTS (SELECT 1 FROM events e INDEXED BY events_operation
                         CROSS JOIN deliveries d INDEXED BY deliveries_event
                         WHERE e.operation = w.operation AND e.project = w.project AND d.event = e.row AND d.state = 0)
         AND NOT EXISTS (SELECT 1 FROM source_entries entry INDEXED BY source_entries_key
                         WHERE entry.project = w.project AND entry.operation = w.operation AND entry.withdrawn IS NULL)
         LIMIT ?2";
    DROP_WATCH = "DELETE FROM watches WHERE project = ?1 AND operation = ?2";
    DROP_WITHDRAWN = "DELETE FROM source_entries INDEXED BY source_entries_key
         WHERE project = ?1 AND operation = ?2 AND withdrawn IS NOT NULL";
    OLD_WITHDRAWN = "DELETE FROM source_entries WHERE row IN
         (SELECT row FROM source_entries INDEXED BY source_entries_withdrawn WHERE withdrawn < ?1 LIMIT ?2)";
    EVENTS_OF = "SELECT row FROM events INDEXED BY events_operation WHERE operation = ?1 AND project = ?2 ORDER BY row LIMIT ?3";
    OLD_API_EVENTS = "SELECT row FROM events e INDEXED BY events_operation WHERE operation IS NULL AND recorded < ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_event WHERE event = e.row AND state = 0)
         ORDER BY row LIMIT ?2";
    // Their subjects begin with a slash: see `EventData::subject`.
    OLD_GROUP_EVENTS scans "reads the events of groups, one for each completed group" =
        "SELECT row FROM events e INDEXED BY events_operation WHERE operation >= '/' AND operation < '0' AND recorded < ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_event WHERE event = e.row AND state = 0)
         LIMIT ?2";
    OVERFLOW scans "reads the oldest rows of the log, a bounded number of them" =
        "SELECT row FROM
             (SELECT row FROM events NOT INDEXED
              WHERE row <= (SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'events') - ?1
              ORDER BY row LIMIT ?3) e
         WHERE NOT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_event WHERE event = e.row AND state = 0) LIMIT ?2";
    DROP_EVENT = "DELETE FROM events WHERE row = ?1";
    NOTE_PRUNED = "UPDATE state SET pruned_through = max(pruned_through, ?1),
         checksum = row_checksum(id, max(pruned_through, ?1))";
    DROP_DAMAGED = "DELETE FROM damaged_rows WHERE id IN
         (SELECT id FROM damaged_rows INDEXED BY damaged_rows_found WHERE found < ?1 LIMIT ?2)";
    /// No row of such a start is left, so its cursors are refused.
    OLD_STARTS = "SELECT first_row FROM starts s WHERE
             (SELECT min(first_row) FROM starts n WHERE n.first_row > s.first_row) <= (SELECT pruned_through FROM state)
         ORDER BY first_row LIMIT ?1";
    DROP_START scans "searches the rows of one start, of which none is left" = "DELETE FROM starts WHERE first_row = ?1 AND NOT EXISTS
         (SELECT 1 FROM events WHERE row >= ?1
              AND row < (SELECT min(first_row) FROM starts WHERE first_row > ?1))";
}

/// Deletes one slice of old rows. Returns their number; 0 when nothing is left to do.
pub(super) fn slice(conn: &Connection, now: Timestamp, retention: Duration) -> Result<u64, rusqlite::Error> {
    let before = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
    let mut removed = 0;
    for (state, age) in [(1, SETTLED), (3, DROPPED)] {
        removed += DROP_SETTLED
            .prepare(conn)?
            .execute(params![state, before(age), SLICE])?;
    }
    removed += drop_removed_endpoints(conn, before(SETTLED))?;
    removed += forget_watches(conn, before(retention))?;
    removed += OLD_WITHDRAWN
        .prepare(conn)?
        .execute(params![before(retention), SLICE])?;
    for old in [&OLD_API_EVENTS, &OLD_GROUP_EVENTS] {
        removed += drop_events(conn, old, params![before(retention), SLICE])?;
    }
    removed += drop_events(conn, &OVERFLOW, params![MAX_EVENTS, SLICE, MAX_EXAMINED])?;
    removed += DROP_DAMAGED
        .prepare(conn)?
        .execute(params![before(retention), SLICE])?;
    drop_starts(conn)?;
    Ok(removed as u64)
}

fn drop_removed_endpoints(conn: &Connection, before: i64) -> Result<usize, rusqlite::Error> {
    let gone: Vec<i64> = REMOVED_ENDPOINTS
        .prepare(conn)?
        .query_map([before], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut removed = 0;
    for endpoint in gone {
        let mut rows = 0;
        for drop in [DROP_WAITING, DROP_DEAD] {
            rows += drop.prepare(conn)?.execute(params![endpoint, SLICE])?;
        }
        if rows == 0 {
            rows = DROP_ENDPOINT.prepare(conn)?.execute([endpoint])?;
        }
        removed += rows;
    }
    Ok(removed)
}

/// Deletes watches that left the list before `before`, with their events, unless one of these waits to be delivered.
fn forget_watches(conn: &Connection, before: i64) -> Result<usize, rusqlite::Error> {
    let mut old: Vec<(String, String)> = Vec::new();
    let mut statement = OLD_WATCHES.prepare(conn)?;
    let mut rows = statement.query(params![before, SLICE])?;
    while let Some(row) = rows.next()? {
        old.extend(state::texts(row)?.map(|(project, operation)| (project.to_owned(), operation.to_owned())));
    }
    let mut removed = 0;
    for (project, operation) in old {
        if removed >= SLICE as usize {
            break;
        }
        let rows = drop_events(conn, &EVENTS_OF, params![operation, project, SLICE])?;
        removed += rows;
        if rows < SLICE as usize {
            for drop in [DROP_WATCH, DROP_WITHDRAWN] {
                removed += drop.prepare(conn)?.execute(params![project, operation])?;
            }
        }
    }
    Ok(removed)
}

/// Deletes the events that `select` finds with their deliveries, and records up to where the log is incomplete.
fn drop_events(
    conn: &Connection,
    select: &Sql,
    params: &[&dyn rusqlite::ToSql],
) -> Result<usize, rusqlite::Error> {
    let rows: Vec<i64> = select
        .prepare(conn)?
        .query_map(params, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut delete = DROP_EVENT.prepare(conn)?;
    for row in &rows {
        delete.execute([row])?;
    }
    if let Some(last) = rows.iter().max() {
        NOTE_PRUNED.prepare(conn)?.execute([last])?;
    }
    Ok(rows.len())
}

fn drop_starts(conn: &Connection) -> Result<(), rusqlite::Error> {
    let old: Vec<i64> = OLD_STARTS
        .prepare(conn)?
        .query_map([SLICE], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for start in old {
        DROP_START.prepare(conn)?.execute([start])?;
    }
    Ok(())
}
