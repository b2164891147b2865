//! The configured endpoints, their event types and figures.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::checksum_of;
use super::statement::statements;
use super::{aside, outbox, time};
use crate::core::event::EventType;
use crate::store::damage::{DamagedRow, Effect};
use crate::store::delivery::{EndpointStats, OldestDelivery, OldestEvent, OutboxEndpoint};

/// The most deliveries that one transaction cuts from a full backlog: more than a group of writes adds, and few enough not to
/// delay the next group.
const TRIM: u64 = 4096;

statements! {
    ALL = "SELECT id, name, types, removed IS NOT NULL, max_backlog - backlog FROM endpoints";
    DAMAGED = concat!("SELECT id, CAST(name AS BLOB) FROM endpoints WHERE checksum IS NOT ", checksum_of!(endpoint));
    /// Restores a name of the settings that matches the checksum.
    RESTORE_NAME = "UPDATE OR IGNORE endpoints SET name = ?2 WHERE id = ?1 AND checksum IS row_checksum(?1, ?2)";
    SEAL = "UPDATE endpoints SET checksum = row_checksum(id, name) WHERE id = ?1";
    REMOVE_ALL = "UPDATE endpoints SET removed = ?1 WHERE removed IS NULL";
    PUT = "INSERT INTO endpoints (name, types, max_backlog) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET types = excluded.types, max_backlog = excluded.max_backlog, removed = NULL";
    SEAL_NEW = "UPDATE endpoints SET checksum = row_checksum(id, name) WHERE checksum IS NULL";
    FULL = "SELECT id, CAST(name AS BLOB), backlog - max_backlog FROM endpoints WHERE backlog > max_backlog";
    // The index is searched twice: for the oldest progress event, and for the oldest other event.
    STATS = "SELECT name, backlog, dead_letters, last_success, last_error, last_error_time,
             (SELECT min(id) FROM
                 (SELECT * FROM (SELECT id FROM deliveries INDEXED BY deliveries_age
                     WHERE endpoint = p.id AND state = 0 AND progress = 0 ORDER BY id LIMIT 1)
                  UNION ALL
                  SELECT * FROM (SELECT id FROM deliveries INDEXED BY deliveries_age
                     WHERE endpoint = p.id AND state = 0 AND progress = 1 ORDER BY id LIMIT 1))),
             (SELECT settled FROM deliveries INDEXED BY deliveries_dead WHERE endpoint = p.id AND state = 2 ORDER BY id LIMIT 1)
         FROM endpoints p WHERE removed IS NULL ORDER BY name";
    OLDEST = concat!(
        "SELECT d.recorded, d.attempts, d.due, e.checksum IS ", checksum_of!(event, "e."), ", e.id, e.type, e.project, e.operation
         FROM deliveries d LEFT JOIN events e NOT INDEXED ON e.row = d.event WHERE d.id = ?1"
    );
    NAMES = "SELECT name FROM endpoints WHERE removed IS NULL ORDER BY name";
    /// Computes the counters from the deliveries.
    COUNT scans "counts waiting deliveries and dead letters, once at a start" =
        "UPDATE endpoints SET
             backlog = (SELECT count(*) FROM deliveries INDEXED BY deliveries_age WHERE endpoint = endpoints.id AND state = 0),
             dead_letters =
                 (SELECT count(*) FROM deliveries INDEXED BY deliveries_dead WHERE endpoint = endpoints.id AND state = 2)
         WHERE backlog IS NOT
                 (SELECT count(*) FROM deliveries INDEXED BY deliveries_age WHERE endpoint = endpoints.id AND state = 0)
             OR dead_letters IS NOT
                 (SELECT count(*) FROM deliveries INDEXED BY deliveries_dead WHERE endpoint = endpoints.id AND state = 2)";
}

/// A row of the table of endpoints.
#[derive(Debug)]
pub(super) struct EndpointRow {
    pub(super) id: i64,
    name: String,
    types: String,
    removed: bool,
    /// The number of deliveries that its backlog can still take.
    pub(super) capacity: i64,
}

impl EndpointRow {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed
    }

    pub(super) fn receives(&self, event_type: EventType) -> bool {
        !self.removed && self.types.split(' ').any(|name| name == event_type.as_str())
    }
}

pub(super) fn load(conn: &Connection) -> Result<Vec<EndpointRow>, rusqlite::Error> {
    ALL.prepare(conn)?
        .query_map([], |row| {
            Ok(EndpointRow {
                id: row.get(0)?,
                name: text(row, 1)?.unwrap_or_default(),
                types: text(row, 2)?.unwrap_or_default(),
                removed: row.get(3)?,
                capacity: number(row, 4)?.unwrap_or(0),
            })
        })?
        .collect()
}

/// Replaces the endpoints. A removed one keeps its waiting deliveries.
pub(super) fn sync(
    conn: &Connection,
    endpoints: &[OutboxEndpoint],
    at: i64,
    damaged: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    repair(conn, endpoints, damaged)?;
    REMOVE_ALL.prepare(conn)?.execute([at])?;
    let mut statement = PUT.prepare(conn)?;
    for endpoint in endpoints {
        let types: Vec<&str> = endpoint
            .events
            .iter()
            .map(|event_type| event_type.as_str())
            .collect();
        let max_backlog = i64::try_from(endpoint.max_backlog).unwrap_or(i64::MAX);
        statement.execute(params![endpoint.name, types.join(" "), max_backlog])?;
    }
    SEAL_NEW.prepare(conn)?.execute([])?;
    Ok(())
}

/// Restores the name of a damaged endpoint, so that its deliveries are sent. One whose name is not in the settings counts as
/// removed.
fn repair(
    conn: &Connection,
    endpoints: &[OutboxEndpoint],
    damaged: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let rows: Vec<(i64, Vec<u8>)> = DAMAGED
        .prepare(conn)?
        .query_map([], |row| {
            Ok((row.get(0)?, row.get::<_, Option<_>>(1)?.unwrap_or_default()))
        })?
        .collect::<Result<_, _>>()?;
    for (id, name) in rows {
        let mut restored = None;
        for endpoint in endpoints {
            if RESTORE_NAME.prepare(conn)?.execute(params![id, endpoint.name])? > 0 {
                restored = Some(endpoint.name.to_string());
            }
        }
        SEAL.prepare(conn)?.execute([id])?;
        damaged.push(DamagedRow {
            kind: "webhook",
            id: restored.unwrap_or_else(|| aside::shown(&name)),
            effect: Effect::Repaired,
        });
    }
    Ok(())
}

/// Cuts backlogs that are too long. Returns the number of new dead letters of each endpoint.
pub(super) fn trim(
    conn: &Connection,
    at: i64,
    damaged: &mut Vec<DamagedRow>,
) -> Result<Vec<(String, u64)>, rusqlite::Error> {
    let full: Vec<(i64, Vec<u8>, i64)> = FULL
        .prepare(conn)?
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, number(row, 2)?.unwrap_or(0)))
        })?
        .collect::<Result<_, _>>()?;
    let mut lost = Vec::new();
    for (id, name, excess) in full {
        let dead = outbox::trim(conn, id, unsigned(excess).min(TRIM), at, damaged)?;
        if dead > 0 {
            lost.push((aside::shown(&name), dead));
        }
    }
    Ok(lost)
}

pub(super) fn stats(conn: &Connection) -> Result<Vec<EndpointStats>, rusqlite::Error> {
    let mut all: Vec<(EndpointStats, Option<i64>)> = STATS
        .prepare(conn)?
        .query_map([], |row| {
            let stats = EndpointStats {
                name: Arc::from(text(row, 0)?.unwrap_or_default()),
                backlog: unsigned(number(row, 1)?.unwrap_or(0)),
                dead_letters: unsigned(number(row, 2)?.unwrap_or(0)),
                last_success: number(row, 3)?.map(time),
                last_error: text(row, 4)?,
                last_error_time: number(row, 5)?.map(time),
                oldest: None,
                oldest_dead_letter: number(row, 7)?.map(time),
            };
            Ok((stats, number(row, 6)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut statement = OLDEST.prepare(conn)?;
    for (stats, id) in &mut all {
        if let Some(id) = id {
            stats.oldest = statement.query_row([*id], oldest).optional()?;
        }
    }
    Ok(all.into_iter().map(|(stats, _)| stats).collect())
}

/// A damaged delivery counts as the oldest until its next attempt moves it aside.
fn oldest(row: &Row<'_>) -> Result<OldestDelivery, rusqlite::Error> {
    let event = match (row.get(3)?, row.get(5)) {
        (Some(true), Ok(event_type)) => Some(OldestEvent {
            id: row.get(4)?,
            event_type,
            project: row.get(6)?,
            subject: row.get(7)?,
        }),
        _ => None,
    };
    Ok(OldestDelivery {
        recorded: time(number(row, 0)?.unwrap_or_default()),
        attempts: u32::try_from(number(row, 1)?.unwrap_or_default()).unwrap_or_default(),
        // 0 means at once.
        next_attempt: number(row, 2)?.filter(|due| *due > 0).map(time),
        event,
    })
}

/// The names of the configured endpoints.
pub(in crate::store) fn names(conn: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    NAMES
        .prepare(conn)?
        .query_map([], |row| Ok(text(row, 0)?.unwrap_or_default()))?
        .collect()
}

/// Computes the counters again.
pub(super) fn count(conn: &Connection) -> Result<(), rusqlite::Error> {
    COUNT.prepare(conn)?.execute([]).map(drop)
}

/// The text of a column that no checksum covers, if it is readable.
pub(super) fn text(row: &Row<'_>, column: usize) -> Result<Option<String>, rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

/// The number of a column that no checksum covers, if it is readable.
fn number(row: &Row<'_>, column: usize) -> Result<Option<i64>, rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
