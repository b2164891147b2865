//! Puts deliveries into the outbox again.

use rusqlite::{Connection, params};

use super::checksum::checksum_of;
use super::endpoints::{self, EndpointRow};
use super::outbox;
use super::statement::{Sql, statements};
use crate::core::event::EventType;

/// Selects the events that are delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaySelection {
    /// The event of this ID.
    Event(String),
    /// All events of the operation of this ID, in their order.
    Operation(String),
    /// All dead letters.
    DeadLetters,
}

/// The rows that one transaction examines. The daemon waits for at most these.
const SLICE: i64 = 500;

/// The result of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayCount {
    /// Deliveries put into the outbox.
    pub marked: u64,
    /// Deliveries that were skipped because the backlog of their endpoint is full.
    pub left_out: u64,
}

/// The progress of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct ReplayProgress {
    pub(in crate::store) replayed: ReplayCount,
    /// Where the next slice starts; `None` at the end.
    pub(in crate::store) next: Option<i64>,
}

macro_rules! select_events {
    ($from:literal) => {
        concat!(
            "SELECT row, checksum IS ",
            checksum_of!(event, ""),
            ", type, project, operation FROM events ",
            $from,
            " ORDER BY row LIMIT ?3"
        )
    };
}

statements! {
    EVENT = select_events!("WHERE row > ?1 AND id = ?2");
    EVENTS_OF = select_events!("INDEXED BY events_operation WHERE row > ?1 AND operation = ?2");
    WAITS = "SELECT EXISTS
         (SELECT 1 FROM deliveries INDEXED BY deliveries_event WHERE event = ?1 AND endpoint = ?2 AND state = 0)";
    // A dead letter that is delivered again is deleted.
    DELETE_DEAD_LETTER = "DELETE FROM deliveries INDEXED BY deliveries_event
         WHERE event = ?1 AND endpoint = ?2 AND state = 2";
    DEAD = concat!(
        "SELECT id, checksum IS ", checksum_of!(delivery, ""), ", event, subject, progress FROM deliveries
         INDEXED BY deliveries_dead WHERE state = 2 AND endpoint = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4"
    );
    DROP = "DELETE FROM deliveries WHERE id = ?1";
}

/// Puts the next slice after `after` (0 to start) into the outbox, for `endpoint` or for all that receive its type.
///
/// It skips events that wait already, and events for a full backlog. It also skips deliveries after `until`
/// ([`last_delivery`]): without that, a replay could continue forever while its deliveries become dead letters again.
pub(in crate::store) fn replay_slice(
    conn: &mut Connection,
    replay: &ReplaySelection,
    endpoint: Option<&str>,
    after: i64,
    until: i64,
    at: i64,
) -> Result<ReplayProgress, rusqlite::Error> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let progress = match replay {
        ReplaySelection::Event(id) => events_again(&tx, &EVENT, id, endpoint, after, at)?,
        ReplaySelection::Operation(id) => events_again(&tx, &EVENTS_OF, id, endpoint, after, at)?,
        ReplaySelection::DeadLetters => dead_letters_again(&tx, endpoint, after, until, at)?,
    };
    tx.commit()?;
    Ok(progress)
}

fn events_again(
    conn: &Connection,
    select: &Sql,
    id: &str,
    endpoint: Option<&str>,
    after: i64,
    at: i64,
) -> Result<ReplayProgress, rusqlite::Error> {
    let rows: Vec<(i64, Option<ReplayedEvent>)> = select
        .prepare(conn)?
        .query_map(params![after, id, SLICE], |row| {
            // The daemon moves damaged rows aside.
            let (true, Ok(event_type)) = (row.get(1)?, row.get(2)) else {
                return Ok((row.get(0)?, None));
            };
            let (project, operation): (String, Option<String>) = (row.get(3)?, row.get(4)?);
            let subject = format!("{project}/{}", operation.unwrap_or_default());
            let event = Some(ReplayedEvent { event_type, subject });
            Ok((row.get(0)?, event))
        })?
        .collect::<Result<_, _>>()?;
    let mut endpoints = endpoints::load(conn)?;
    let mut replayed = ReplayCount::default();
    let mut next_delivery = outbox::next_id(conn)?;
    for (row, event) in &rows {
        let Some(event) = event else {
            continue;
        };
        for target in &mut endpoints {
            if endpoint.is_some_and(|name| !target.is(name)) || !target.receives(event.event_type) {
                continue;
            }
            let waits: bool = WAITS
                .prepare(conn)?
                .query_row(params![row, target.id], |row| row.get(0))?;
            if waits || !take_capacity(target, &mut replayed) {
                continue;
            }
            DELETE_DEAD_LETTER
                .prepare(conn)?
                .execute(params![row, target.id])?;
            outbox::enqueue(
                conn,
                &outbox::NewDelivery {
                    id: next_delivery,
                    endpoint: target.id,
                    event: *row,
                    subject: &event.subject,
                    progress: event.event_type == EventType::Progress,
                    replay: true,
                    at,
                },
            )?;
            next_delivery += 1;
        }
    }
    Ok(ReplayProgress {
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
) -> Result<ReplayProgress, rusqlite::Error> {
    let mut endpoints = endpoints::load(conn)?;
    let mut rows = Vec::new();
    for target in &endpoints {
        if target.is_removed() || endpoint.is_some_and(|name| !target.is(name)) {
            continue;
        }
        let mut statement = DEAD.prepare(conn)?;
        let found = statement.query_map(params![target.id, after, until, SLICE], |row| {
            let dead = if row.get(1)? {
                Some(DeadLetter {
                    endpoint: target.id,
                    event: row.get(2)?,
                    subject: row.get(3)?,
                    progress: row.get(4)?,
                })
            } else {
                None
            };
            Ok((row.get::<_, i64>(0)?, dead))
        })?;
        for row in found {
            rows.push(row?);
        }
    }
    // All endpoints together, in the order in which they were recorded.
    rows.sort_unstable_by_key(|(id, _)| *id);
    rows.truncate(SLICE as usize);
    let mut replayed = ReplayCount::default();
    let mut next_delivery = outbox::next_id(conn)?;
    for (id, dead) in &rows {
        let Some(dead) = dead else {
            continue;
        };
        let target = endpoints.iter_mut().find(|target| target.id == dead.endpoint);
        if !target.is_some_and(|target| take_capacity(target, &mut replayed)) {
            continue;
        }
        DROP.prepare(conn)?.execute([id])?;
        outbox::enqueue(
            conn,
            &outbox::NewDelivery {
                id: next_delivery,
                endpoint: dead.endpoint,
                event: dead.event,
                subject: &dead.subject,
                progress: dead.progress,
                replay: true,
                at,
            },
        )?;
        next_delivery += 1;
    }
    Ok(ReplayProgress {
        replayed,
        next: rows.last().map(|(id, _)| *id),
    })
}

/// Counts one more delivery, if the backlog can take it without making older ones dead letters.
fn take_capacity(target: &mut EndpointRow, replayed: &mut ReplayCount) -> bool {
    if target.capacity <= 0 {
        replayed.left_out += 1;
        return false;
    }
    target.capacity -= 1;
    replayed.marked += 1;
    true
}

/// The ID of the last delivery that was put into the outbox.
pub(in crate::store) fn last_delivery(conn: &Connection) -> Result<i64, rusqlite::Error> {
    Ok(outbox::next_id(conn)? - 1)
}

struct ReplayedEvent {
    event_type: EventType,
    subject: String,
}

struct DeadLetter {
    endpoint: i64,
    event: i64,
    subject: String,
    progress: bool,
}
