//! Endpoints: which there are, what they want, how they fare.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::{outbox, time};
use crate::core::event::EventType;
use crate::store::delivery::{Endpoint, EndpointStats};

/// How much of a backlog that is too long is cut off in one transaction: more than a group of changes can add, and
/// little enough not to hold up the next one.
const TRIM: u64 = 4096;

#[derive(Debug)]
pub(super) struct EndpointRow {
    pub(super) id: i64,
    name: String,
    types: String,
    removed: bool,
    /// How many more deliveries its backlog takes.
    pub(super) room: i64,
}

impl EndpointRow {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn wants(&self, event_type: EventType) -> bool {
        !self.removed && self.types.split(' ').any(|name| name == event_type.as_str())
    }
}

pub(super) fn load(conn: &Connection) -> Result<Vec<EndpointRow>, rusqlite::Error> {
    conn.prepare_cached("SELECT id, name, types, removed IS NOT NULL, max_backlog - backlog FROM endpoints")?
        .query_map([], |row| {
            Ok(EndpointRow {
                id: row.get(0)?,
                name: row.get(1)?,
                types: row.get(2)?,
                removed: row.get(3)?,
                room: row.get(4)?,
            })
        })?
        .collect()
}

/// Makes the endpoints be these. A new one gets what is recorded from now on; one that went keeps what waits.
pub(super) fn sync(conn: &Connection, endpoints: &[Endpoint], at: i64) -> Result<(), rusqlite::Error> {
    conn.prepare_cached("UPDATE endpoints SET removed = ?1 WHERE removed IS NULL")?
        .execute([at])?;
    let mut statement = conn.prepare_cached(
        "INSERT INTO endpoints (name, types, max_backlog) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET types = excluded.types, max_backlog = excluded.max_backlog, removed = NULL",
    )?;
    for endpoint in endpoints {
        let types: Vec<&str> = endpoint
            .events
            .iter()
            .map(|event_type| event_type.as_str())
            .collect();
        let max_backlog = i64::try_from(endpoint.max_backlog).unwrap_or(i64::MAX);
        statement.execute(params![endpoint.name, types.join(" "), max_backlog])?;
    }
    Ok(())
}

/// Cuts backlogs that are too long, and tells how many deliveries each endpoint lost to that.
pub(super) fn trim(conn: &Connection, at: i64) -> Result<Vec<(String, u64)>, rusqlite::Error> {
    let full: Vec<(i64, String, i64)> = conn
        .prepare_cached("SELECT id, name, backlog - max_backlog FROM endpoints WHERE backlog > max_backlog")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut lost = Vec::new();
    for (id, name, excess) in full {
        let dead = outbox::trim(conn, id, unsigned(excess).min(TRIM), at)?;
        if dead > 0 {
            lost.push((name, dead));
        }
    }
    Ok(lost)
}

pub(super) fn stats(conn: &Connection) -> Result<Vec<EndpointStats>, rusqlite::Error> {
    // The oldest is either the oldest progress or the oldest of the others: two looks at an index.
    conn.prepare_cached(
        "SELECT name, backlog, dead_letters, last_success, last_error, last_error_time,
             (SELECT min(recorded) FROM
                 (SELECT * FROM (SELECT recorded FROM deliveries INDEXED BY deliveries_age
                     WHERE endpoint = e.id AND state = 0 AND progress = 0 ORDER BY id LIMIT 1)
                  UNION ALL
                  SELECT * FROM (SELECT recorded FROM deliveries INDEXED BY deliveries_age
                     WHERE endpoint = e.id AND state = 0 AND progress = 1 ORDER BY id LIMIT 1)))
         FROM endpoints e WHERE removed IS NULL ORDER BY name",
    )?
    .query_map([], |row| {
        Ok(EndpointStats {
            name: Arc::from(row.get::<_, String>(0)?),
            backlog: unsigned(row.get(1)?),
            dead_letters: unsigned(row.get(2)?),
            last_success: row.get::<_, Option<i64>>(3)?.map(time),
            last_error: row.get(4)?,
            last_error_time: row.get::<_, Option<i64>>(5)?.map(time),
            oldest_pending: row.get::<_, Option<i64>>(6)?.map(time),
        })
    })?
    .collect()
}

/// The names of the configured endpoints.
pub(in crate::store) fn names(conn: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    conn.prepare_cached("SELECT name FROM endpoints WHERE removed IS NULL ORDER BY name")?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
