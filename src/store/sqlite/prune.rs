//! Forgetting what was kept long enough, a little at a time.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

/// Rows that one slice removes of each kind: some milliseconds of work between two groups of writes.
const SLICE: i64 = 500;

/// Records of what was delivered, and what waits for an endpoint that is no longer configured, are kept this long.
const SETTLED: Duration = Duration::from_hours(7 * 24);

/// Dropped deliveries only tell that their subject is busy while they are under way, which is a matter of seconds.
const DROPPED: Duration = Duration::from_hours(1);

/// The log holds about this many events, besides those that still wait to be delivered: with bodies of a kilobyte
/// about a gigabyte, and as many as the default backlog of an endpoint.
const MAX_EVENTS: i64 = 1_000_000;

/// Of the events beyond that, so many are looked at in one slice: those that still wait stay.
const LOOK: i64 = 20_000;

/// Removes one slice of what is over its time; returns how many rows, 0 when nothing is left to do.
pub(super) fn slice(conn: &Connection, now: Timestamp, retention: Duration) -> Result<u64, rusqlite::Error> {
    let before = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
    let mut removed = 0;
    for (state, age) in [(1, SETTLED), (3, DROPPED)] {
        removed += conn
            .prepare_cached(
                "DELETE FROM deliveries WHERE id IN
                     (SELECT id FROM deliveries INDEXED BY deliveries_settled
                      WHERE state = ?1 AND settled < ?2 LIMIT ?3)",
            )?
            .execute(params![state, before(age), SLICE])?;
    }
    removed += drop_removed_endpoints(conn, before(SETTLED))?;
    removed += forget_watches(conn, before(retention))?;
    removed += drop_events(
        conn,
        "SELECT row FROM events e WHERE operation IS NULL AND recorded < ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = e.row AND state = 0)
         ORDER BY row LIMIT ?2",
        params![before(retention), SLICE],
    )?;
    removed += drop_events(
        conn,
        "SELECT row FROM
             (SELECT row FROM events
              WHERE row <= (SELECT seq FROM sqlite_sequence WHERE name = 'events') - ?1 ORDER BY row LIMIT ?3) e
         WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE event = e.row AND state = 0) LIMIT ?2",
        params![MAX_EVENTS, SLICE, LOOK],
    )?;
    Ok(removed as u64)
}

fn drop_removed_endpoints(conn: &Connection, before: i64) -> Result<usize, rusqlite::Error> {
    let gone: Vec<i64> = conn
        .prepare_cached("SELECT id FROM endpoints WHERE removed < ?1")?
        .query_map([before], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut removed = 0;
    for endpoint in gone {
        let mut rows = 0;
        for index in [
            "deliveries_age WHERE state = 0",
            "deliveries_dead WHERE state = 2",
        ] {
            rows += conn
                .prepare_cached(&format!(
                    "DELETE FROM deliveries WHERE id IN
                         (SELECT id FROM deliveries INDEXED BY {index} AND endpoint = ?1 LIMIT ?2)"
                ))?
                .execute(params![endpoint, SLICE])?;
        }
        if rows == 0 {
            // What was delivered to it went before, or goes with it.
            rows = conn
                .prepare_cached("DELETE FROM endpoints WHERE id = ?1")?
                .execute([endpoint])?;
        }
        removed += rows;
    }
    Ok(removed)
}

/// Forgets watches that left the list before `before`, with their events, unless some of these still wait.
fn forget_watches(conn: &Connection, before: i64) -> Result<usize, rusqlite::Error> {
    let old: Vec<(String, String)> = conn
        .prepare_cached(
            "SELECT project, operation FROM watches w INDEXED BY watches_unlisted WHERE unlisted < ?1
                 AND NOT EXISTS (SELECT 1 FROM events e JOIN deliveries d ON d.event = e.row AND d.state = 0
                                 WHERE e.operation = w.operation AND e.project = w.project)
             LIMIT ?2",
        )?
        .query_map(params![before, SLICE], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut removed = 0;
    for (project, operation) in old {
        if removed >= SLICE as usize {
            break;
        }
        let rows = drop_events(
            conn,
            "SELECT row FROM events WHERE operation = ?1 AND project = ?2 ORDER BY row LIMIT ?3",
            params![operation, project, SLICE],
        )?;
        removed += rows;
        if rows < SLICE as usize {
            removed += conn
                .prepare_cached("DELETE FROM watches WHERE project = ?1 AND operation = ?2")?
                .execute(params![project, operation])?;
        }
    }
    Ok(removed)
}

/// Removes the events that `select` finds, with what is left of their deliveries, and notes how far the log is no
/// longer whole.
fn drop_events(
    conn: &Connection,
    select: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<usize, rusqlite::Error> {
    let rows: Vec<i64> = conn
        .prepare_cached(select)?
        .query_map(params, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut delete = conn.prepare_cached("DELETE FROM events WHERE row = ?1")?;
    for row in &rows {
        delete.execute([row])?;
    }
    if let Some(last) = rows.iter().max() {
        conn.prepare_cached("UPDATE state SET pruned_through = max(pruned_through, ?1)")?
            .execute([last])?;
    }
    Ok(rows.len())
}
