//! The outbox: what waits for which endpoint, in which order, and what became of it.
//!
//! Of each endpoint and subject, the first delivery that waits is the head, and only heads are sent. The mark is kept
//! with the row, so that a backlog of a million costs no more to look at than one of ten.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{events, time};
use crate::store::delivery::{Delivery, DeliveryId, Due, Settled};
use crate::store::request::ReadError;

const WAITING: i64 = 0;
const DELIVERED: i64 = 1;

pub(super) struct NewDelivery<'a> {
    pub(super) endpoint: i64,
    pub(super) event: i64,
    pub(super) subject: &'a str,
    pub(super) progress: bool,
    pub(super) replay: bool,
    pub(super) at: i64,
}

pub(super) fn enqueue(conn: &Connection, new: &NewDelivery<'_>) -> Result<(), rusqlite::Error> {
    conn.prepare_cached(
        "INSERT INTO deliveries (endpoint, event, subject, progress, replay, recorded, head)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6,
             NOT EXISTS (SELECT 1 FROM deliveries WHERE endpoint = ?1 AND subject = ?3 AND state = 0))",
    )?
    .execute(params![
        new.endpoint,
        new.event,
        new.subject,
        new.progress,
        new.replay,
        new.at
    ])?;
    Ok(())
}

/// Makes the first that waits of a subject its head.
fn promote(conn: &Connection, endpoint: i64, subject: &str) -> Result<(), rusqlite::Error> {
    conn.prepare_cached(
        "UPDATE deliveries SET head = 1 WHERE head = 0 AND id =
             (SELECT id FROM deliveries INDEXED BY deliveries_subject
              WHERE endpoint = ?1 AND subject = ?2 AND state = 0 ORDER BY id LIMIT 1)",
    )?
    .execute(params![endpoint, subject])?;
    Ok(())
}

/// Drops progress that waits: something newer is told. What somebody asked to be replayed stays.
///
/// One that is under way right now is dropped as well. Its row stays for a while, so that [`due`] still sees that the
/// subject is busy.
pub(super) fn supersede(
    conn: &Connection,
    endpoint: i64,
    subject: &str,
    at: i64,
) -> Result<(), rusqlite::Error> {
    let dropped = conn
        .prepare_cached(
            "UPDATE deliveries INDEXED BY deliveries_subject SET state = 3, head = 0, settled = ?3
             WHERE endpoint = ?1 AND subject = ?2 AND state = 0 AND progress = 1 AND replay = 0",
        )?
        .execute(params![endpoint, subject, at])?;
    if dropped > 0 {
        promote(conn, endpoint, subject)?;
    }
    Ok(())
}

/// Takes `excess` deliveries out of a backlog: progress is dropped first, then the oldest turn to dead letters, whose
/// number is returned.
pub(super) fn trim(conn: &Connection, endpoint: i64, excess: u64, at: i64) -> Result<u64, rusqlite::Error> {
    let dropped = cut(
        conn,
        endpoint,
        excess,
        "UPDATE deliveries SET state = 3, head = 0, settled = ?2 WHERE id = ?1",
        1,
        at,
    )?;
    cut(
        conn,
        endpoint,
        excess - dropped,
        "UPDATE deliveries SET state = 2, head = 0, settled = ?2, error = 'the backlog was full' WHERE id = ?1",
        0,
        at,
    )
}

fn cut(
    conn: &Connection,
    endpoint: i64,
    count: u64,
    update: &str,
    progress: i64,
    at: i64,
) -> Result<u64, rusqlite::Error> {
    let oldest: Vec<(i64, String)> = conn
        .prepare_cached(
            "SELECT id, subject FROM deliveries INDEXED BY deliveries_age
             WHERE endpoint = ?1 AND state = 0 AND progress = ?2 ORDER BY id LIMIT ?3",
        )?
        .query_map(params![endpoint, progress, limit(count)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    for (id, subject) in &oldest {
        conn.prepare_cached(update)?.execute(params![id, at])?;
        promote(conn, endpoint, subject)?;
    }
    Ok(oldest.len() as u64)
}

/// Notes what became of a delivery. One that was dropped or given up in the meantime can still turn out delivered.
pub(super) fn settle(
    conn: &Connection,
    id: DeliveryId,
    settled: &Settled,
    now: i64,
) -> Result<(), rusqlite::Error> {
    let row: Option<(i64, String, i64)> = conn
        .prepare_cached("SELECT endpoint, subject, state FROM deliveries WHERE id = ?1")?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((endpoint, subject, state)) = row else {
        return Ok(());
    };
    match settled {
        Settled::Delivered if state != DELIVERED => {
            conn.prepare_cached(
                "UPDATE deliveries SET state = 1, head = 0, settled = ?2, attempts = attempts + 1, error = NULL,
                     first_attempt = coalesce(first_attempt, ?2) WHERE id = ?1",
            )?
            .execute(params![id.0, now])?;
        }
        Settled::Retry { at, error, counts } if state == WAITING => {
            conn.prepare_cached(
                "UPDATE deliveries SET due = ?3, attempts = attempts + ?4, error = ?5, last_attempt = ?2,
                     first_attempt = coalesce(first_attempt, ?2) WHERE id = ?1",
            )?
            // 0 means at once.
            .execute(params![id.0, now, at.as_millisecond().max(1), counts, error])?;
        }
        Settled::Dead { error } if state == WAITING => {
            conn.prepare_cached(
                "UPDATE deliveries SET state = 2, head = 0, settled = ?2, attempts = attempts + 1, error = ?3,
                     first_attempt = coalesce(first_attempt, ?2) WHERE id = ?1",
            )?
            .execute(params![id.0, now, error])?;
        }
        Settled::Delivered | Settled::Retry { .. } | Settled::Dead { .. } => {}
    }
    if state == WAITING {
        promote(conn, endpoint, &subject)?;
    }
    match settled {
        Settled::Delivered => conn
            .prepare_cached("UPDATE endpoints SET last_success = ?2 WHERE id = ?1")?
            .execute(params![endpoint, now])?,
        Settled::Retry { error, .. } | Settled::Dead { error } => conn
            .prepare_cached("UPDATE endpoints SET last_error = ?3, last_error_time = ?2 WHERE id = ?1")?
            .execute(params![endpoint, now, error])?,
    };
    Ok(())
}

macro_rules! select_heads {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT d.id, e.id, e.type, d.subject, e.body, d.attempts, d.recorded, d.first_attempt, d.replay
             FROM deliveries d INDEXED BY ",
            $index,
            " JOIN events e ON e.row = d.event
             WHERE d.head = 1 AND d.endpoint = (SELECT id FROM endpoints WHERE name = ?1) AND ",
            $condition,
            " LIMIT ?3"
        )
    };
}
const NEVER_TRIED: &str = select_heads!("deliveries_head", "d.due = 0 ORDER BY d.id");
const DUE_AGAIN: &str = select_heads!("deliveries_head", "d.due BETWEEN 1 AND ?2 ORDER BY d.due, d.id");
/// Their due time is of a clock that was set back since, and says nothing.
const TRIED_IN_THE_FUTURE: &str = select_heads!(
    "deliveries_tried",
    "d.due > ?2 AND d.last_attempt > ?2 ORDER BY d.last_attempt, d.id"
);

/// What `endpoint` can be sent, given what is under way: heads alone, and none of a subject that is busy.
pub(super) fn due(
    conn: &Connection,
    endpoint: &Arc<str>,
    now: Timestamp,
    limit: usize,
    in_flight: &[DeliveryId],
) -> Result<Due, ReadError> {
    let mut busy = HashSet::with_capacity(in_flight.len());
    for id in in_flight {
        // Also those dropped meanwhile, whose subject has another head by now.
        let subject: Option<String> = conn
            .prepare_cached("SELECT subject FROM deliveries WHERE id = ?1")?
            .query_row([id.0], |row| row.get(0))
            .optional()?;
        busy.extend(subject);
    }
    let now = now.as_millisecond();
    let fetch = self::limit(limit.saturating_add(in_flight.len()) as u64);
    let mut ready = Vec::new();
    // Together the oldest of them go first.
    for which in [NEVER_TRIED, DUE_AGAIN, TRIED_IN_THE_FUTURE] {
        let mut statement = conn.prepare_cached(which)?;
        let mut rows = statement.query(params![endpoint, now, fetch])?;
        while let Some(row) = rows.next()? {
            let subject: String = row.get(3)?;
            if busy.contains(&subject) {
                continue;
            }
            ready.push(Delivery {
                id: DeliveryId(row.get(0)?),
                endpoint: endpoint.clone(),
                event_id: row.get(1)?,
                event_type: events::event_type(&row.get::<_, String>(2)?)?,
                subject,
                body: row.get(4)?,
                attempts: row.get(5)?,
                recorded: time(row.get(6)?),
                first_attempt: row.get::<_, Option<i64>>(7)?.map(time),
                replay: row.get(8)?,
            });
        }
    }
    ready.sort_unstable_by_key(|delivery| delivery.id);
    ready.truncate(limit);
    let next_due: Option<i64> = conn
        .prepare_cached(
            "SELECT min(due) FROM deliveries INDEXED BY deliveries_head
             WHERE head = 1 AND endpoint = (SELECT id FROM endpoints WHERE name = ?1) AND due > ?2",
        )?
        .query_row(params![endpoint, now.max(0)], |row| row.get(0))?;
    Ok(Due {
        ready,
        next_due: next_due.map(time),
    })
}

fn limit(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
