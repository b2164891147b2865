//! Putting into the outbox again what was there before.

use rusqlite::{Connection, params};

use super::checksum::checksum_of;
use super::endpoints::{self, EndpointRow};
use super::outbox;
use super::statement::{Sql, statements};
use crate::core::event::EventType;

/// What is to be delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaySelection {
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
pub struct ReplayCount {
    /// Deliveries put into the outbox.
    pub marked: u64,
    /// Deliveries left out because their endpoint's backlog is full.
    pub left_out: u64,
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Progress {
    pub(in crate::store) replayed: ReplayCount,
    /// Where to go on; `None` when all was looked at.
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
    // It is delivered again, so it is no dead letter any more.
    BURY = "DELETE FROM deliveries INDEXED BY deliveries_event WHERE event = ?1 AND endpoint = ?2 AND state = 2";
    DEAD = concat!(
        "SELECT id, checksum IS ", checksum_of!(delivery, ""), ", event, subject, progress FROM deliveries
         INDEXED BY deliveries_dead WHERE state = 2 AND endpoint = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4"
    );
    DROP = "DELETE FROM deliveries WHERE id = ?1";
}

/// Puts the next slice after `after` (0 to begin) into the outbox, for `endpoint` or for all that want it.
///
/// What waits anyway is not put there twice, what finds the backlog full is left out, and what has died since
/// `until` ([`last_delivery`]) as well: else dead letters might die again as fast as they are replayed.
pub(in crate::store) fn replay_slice(
    conn: &mut Connection,
    replay: &ReplaySelection,
    endpoint: Option<&str>,
    after: i64,
    until: i64,
    at: i64,
) -> Result<Progress, rusqlite::Error> {
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
) -> Result<Progress, rusqlite::Error> {
    let rows: Vec<(i64, Option<Event>)> = select
        .prepare(conn)?
        .query_map(params![after, id, SLICE], |row| {
            // A damaged one is left to the daemon, which moves it aside.
            let event = if row.get(1)? {
                EventType::parse(&row.get::<_, String>(2)?)
                    .map(|event_type| {
                        let operation: Option<String> = row.get(4)?;
                        Ok::<_, rusqlite::Error>(Event {
                            event_type,
                            subject: format!(
                                "{}/{}",
                                row.get::<_, String>(3)?,
                                operation.unwrap_or_default()
                            ),
                        })
                    })
                    .transpose()?
            } else {
                None
            };
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
            if endpoint.is_some_and(|name| !target.is(name)) || !target.wants(event.event_type) {
                continue;
            }
            let waits: bool = WAITS
                .prepare(conn)?
                .query_row(params![row, target.id], |row| row.get(0))?;
            if waits || !take_room(target, &mut replayed) {
                continue;
            }
            BURY.prepare(conn)?.execute(params![row, target.id])?;
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
    let mut endpoints = endpoints::load(conn)?;
    let mut rows = Vec::new();
    for target in &endpoints {
        if target.is_removed() || endpoint.is_some_and(|name| !target.is(name)) {
            continue;
        }
        let mut statement = DEAD.prepare(conn)?;
        let found = statement.query_map(params![target.id, after, until, SLICE], |row| {
            let dead = if row.get(1)? {
                Some(Dead {
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
    // Over all endpoints they go in the order in which they were recorded.
    rows.sort_unstable_by_key(|(id, _)| *id);
    rows.truncate(SLICE as usize);
    let mut replayed = ReplayCount::default();
    let mut next_delivery = outbox::next_id(conn)?;
    for (id, dead) in &rows {
        let Some(dead) = dead else {
            continue;
        };
        let target = endpoints.iter_mut().find(|target| target.id == dead.endpoint);
        if !target.is_some_and(|target| take_room(target, &mut replayed)) {
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
    Ok(Progress {
        replayed,
        next: rows.last().map(|(id, _)| *id),
    })
}

/// Counts one more delivery: without room it would turn older ones into dead letters.
fn take_room(target: &mut EndpointRow, replayed: &mut ReplayCount) -> bool {
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
    Ok(outbox::next_id(conn)? - 1)
}

struct Event {
    event_type: EventType,
    subject: String,
}

struct Dead {
    endpoint: i64,
    event: i64,
    subject: String,
    progress: bool,
}
