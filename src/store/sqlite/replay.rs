//! Putting into the outbox again what was there before.

use rusqlite::{Connection, params};

use super::endpoints::{self, EndpointRow};
use super::{events, outbox};
use crate::core::event::EventType;

/// What is to be delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The event of this ID.
    Event(String),
    /// All events of the operation of this ID, in their order.
    Operation(String),
    /// Whatever was given up.
    DeadLetters,
}

/// Rows that one transaction looks at: the daemon waits no longer than for these.
const SLICE: i64 = 500;

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Deliveries put into the outbox.
    pub marked: u64,
    /// Deliveries left out because their endpoint's backlog is full.
    pub left_out: u64,
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Progress {
    pub(in crate::store) replayed: Replayed,
    /// Where to go on; `None` when all was looked at.
    pub(in crate::store) next: Option<i64>,
}

/// Puts the next slice after `after` (0 to begin) into the outbox, for `endpoint` or for all that want it.
///
/// What waits anyway is not put there twice, what finds the backlog full is left out, and what has died since
/// `until` ([`last_delivery`]) as well: else dead letters might die again as fast as they are replayed.
pub(in crate::store) fn replay_slice(
    conn: &mut Connection,
    replay: &Replay,
    endpoint: Option<&str>,
    after: i64,
    until: i64,
    at: i64,
) -> Result<Progress, rusqlite::Error> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let progress = match replay {
        Replay::Event(id) => events_again(&tx, "id = ?2", id, endpoint, after, at)?,
        Replay::Operation(id) => events_again(&tx, "operation = ?2", id, endpoint, after, at)?,
        Replay::DeadLetters => dead_letters_again(&tx, endpoint, after, until, at)?,
    };
    tx.commit()?;
    Ok(progress)
}

fn events_again(
    conn: &Connection,
    which: &str,
    id: &str,
    endpoint: Option<&str>,
    after: i64,
    at: i64,
) -> Result<Progress, rusqlite::Error> {
    let rows: Vec<(i64, String, String, Option<String>)> = conn
        .prepare_cached(&format!(
            "SELECT row, type, project, operation FROM events WHERE row > ?1 AND {which} ORDER BY row LIMIT ?3"
        ))?
        .query_map(params![after, id, SLICE], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut endpoints = endpoints::load(conn)?;
    let mut replayed = Replayed::default();
    for (event, name, project, operation) in &rows {
        let Ok(event_type) = events::event_type(name) else {
            continue;
        };
        for target in &mut endpoints {
            if endpoint.is_some_and(|name| !target.is(name)) || !target.wants(event_type) {
                continue;
            }
            let waits: bool = conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM deliveries WHERE event = ?1 AND endpoint = ?2 AND state = 0)",
                )?
                .query_row(params![event, target.id], |row| row.get(0))?;
            if waits || !take_room(target, &mut replayed) {
                continue;
            }
            // It is delivered again, so it is no dead letter any more.
            conn.prepare_cached("DELETE FROM deliveries WHERE event = ?1 AND endpoint = ?2 AND state = 2")?
                .execute(params![event, target.id])?;
            outbox::enqueue(
                conn,
                &outbox::NewDelivery {
                    endpoint: target.id,
                    event: *event,
                    subject: &format!("{project}/{}", operation.as_deref().unwrap_or_default()),
                    progress: event_type == EventType::Progress,
                    replay: true,
                    at,
                },
            )?;
        }
    }
    Ok(Progress {
        replayed,
        next: rows.last().map(|row| row.0),
    })
}

fn dead_letters_again(
    conn: &Connection,
    endpoint: Option<&str>,
    after: i64,
    until: i64,
    at: i64,
) -> Result<Progress, rusqlite::Error> {
    let rows: Vec<Dead> = conn
        .prepare_cached(
            "SELECT d.id, d.endpoint, d.event, d.subject, d.progress FROM deliveries d
             JOIN endpoints e ON e.id = d.endpoint
             WHERE d.state = 2 AND d.id > ?1 AND d.id <= ?4 AND e.removed IS NULL AND (?2 IS NULL OR e.name = ?2)
             ORDER BY d.id LIMIT ?3",
        )?
        .query_map(
            params![after, endpoint, SLICE, until],
            |row| {
                Ok(Dead {
                    id: row.get(0)?,
                    endpoint: row.get(1)?,
                    event: row.get(2)?,
                    subject: row.get(3)?,
                    progress: row.get(4)?,
                })
            },
        )?
        .collect::<Result<_, _>>()?;
    let mut endpoints = endpoints::load(conn)?;
    let mut replayed = Replayed::default();
    for dead in &rows {
        let target = endpoints.iter_mut().find(|target| target.id == dead.endpoint);
        if !target.is_some_and(|target| take_room(target, &mut replayed)) {
            continue;
        }
        conn.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?
            .execute([dead.id])?;
        outbox::enqueue(
            conn,
            &outbox::NewDelivery {
                endpoint: dead.endpoint,
                event: dead.event,
                subject: &dead.subject,
                progress: dead.progress,
                replay: true,
                at,
            },
        )?;
    }
    Ok(Progress {
        replayed,
        next: rows.last().map(|dead| dead.id),
    })
}

/// Counts one more delivery: without room it would turn older ones into dead letters.
fn take_room(target: &mut EndpointRow, replayed: &mut Replayed) -> bool {
    if target.room <= 0 {
        replayed.left_out += 1;
        return false;
    }
    target.room -= 1;
    replayed.marked += 1;
    true
}

/// The last delivery that was ever put into the outbox.
pub(in crate::store) fn last_delivery(conn: &Connection) -> Result<i64, rusqlite::Error> {
    conn.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'deliveries'",
        [],
        |row| row.get(0),
    )
}

struct Dead {
    id: i64,
    endpoint: i64,
    event: i64,
    subject: String,
    progress: bool,
}
