//! The outbox: deliveries, their order and their results.
//!
//! The first waiting delivery of each endpoint and subject is its head. Only heads are sent. The mark is stored in the row,
//! so that reading a backlog of a million costs no more than one of ten.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::checksum_of;
use super::statement::{Sql, statements};
use super::{aside, time};
use crate::store::damage::{BadRow, DamagedRow, DamagedTable, Effect};
use crate::store::delivery::{Delivery, DeliveryId, DueDeliveries, Settlement};
use crate::store::request::StoreReadError;

const WAITING: i64 = 0;
const DELIVERED: i64 = 1;

macro_rules! select_heads {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT d.id, d.checksum IS ",
            checksum_of!(delivery, "d."),
            ", e.row, e.checksum IS ",
            checksum_of!(event, "e."),
            ", e.id, e.type, d.subject, e.body, d.attempts, d.recorded, d.first_attempt, d.replay
             FROM deliveries d INDEXED BY ",
            $index,
            " LEFT JOIN events e NOT INDEXED ON e.row = d.event
             WHERE d.head = 1 AND d.endpoint = (SELECT id FROM endpoints WHERE name = ?1) AND ",
            $condition,
            " LIMIT ?3"
        )
    };
}

statements! {
    LAST_ID = "SELECT max(coalesce((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'deliveries'), 0),
         coalesce((SELECT max(id) FROM deliveries), 0))";
    IS_BUSY = "SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_subject
         WHERE endpoint = ?1 AND subject = ?2 AND state = 0)";
    INSERT = "INSERT INTO deliveries (id, endpoint, event, subject, progress, replay, recorded, head, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
             row_checksum(?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, 0, 0, NULL, NULL, NULL, NULL))";
    FIRST_WAITING = concat!(
        "SELECT id, checksum IS ", checksum_of!(delivery, ""), ", head FROM deliveries INDEXED BY deliveries_subject
         WHERE endpoint = ?1 AND subject = ?2 AND state = 0 ORDER BY id LIMIT 1"
    );
    SET_HEAD = concat!(
        "UPDATE deliveries SET head = 1, checksum = ",
        checksum_of!(delivery => "state", "1", "due", "attempts", "first_attempt", "last_attempt", "settled", "error"),
        " WHERE id = ?1"
    );
    /// Skips damaged rows. Their next reader moves them aside.
    SUPERSEDE = concat!(
        "UPDATE deliveries INDEXED BY deliveries_subject SET state = 3, head = 0, settled = ?3, checksum = ",
        checksum_of!(delivery => "3", "0", "due", "attempts", "first_attempt", "last_attempt", "?3", "error"),
        " WHERE endpoint = ?1 AND subject = ?2 AND state = 0 AND progress = 1 AND replay = 0 AND checksum IS ",
        checksum_of!(delivery, "")
    );
    OLDEST = concat!(
        "SELECT id, checksum IS ", checksum_of!(delivery, ""), ", subject FROM deliveries INDEXED BY deliveries_age
         WHERE endpoint = ?1 AND state = 0 AND progress = ?2 ORDER BY id LIMIT ?3"
    );
    DROP_PROGRESS = concat!(
        "UPDATE deliveries SET state = 3, head = 0, settled = ?2, checksum = ",
        checksum_of!(delivery => "3", "0", "due", "attempts", "first_attempt", "last_attempt", "?2", "error"),
        " WHERE id = ?1"
    );
    OVERFLOW = concat!(
        "UPDATE deliveries SET state = 2, head = 0, settled = ?2, error = 'the backlog was full', checksum = ",
        checksum_of!(delivery => "2", "0", "due", "attempts", "first_attempt", "last_attempt", "?2",
            "'the backlog was full'"),
        " WHERE id = ?1"
    );
    FIND = concat!(
        "SELECT endpoint, checksum IS ", checksum_of!(delivery, ""), ", subject, state FROM deliveries WHERE id = ?1"
    );
    DELIVER = concat!(
        "UPDATE deliveries SET state = 1, head = 0, settled = ?2, attempts = attempts + 1, error = NULL,
             first_attempt = coalesce(first_attempt, ?2), checksum = ",
        checksum_of!(delivery => "1", "0", "due", "attempts + 1", "coalesce(first_attempt, ?2)", "last_attempt", "?2",
            "NULL"),
        " WHERE id = ?1"
    );
    RETRY = concat!(
        "UPDATE deliveries SET due = ?3, attempts = attempts + ?4, error = ?5, last_attempt = ?2,
             first_attempt = coalesce(first_attempt, ?2), checksum = ",
        checksum_of!(delivery => "state", "head", "?3", "attempts + ?4", "coalesce(first_attempt, ?2)", "?2", "settled",
            "?5"),
        " WHERE id = ?1"
    );
    MAKE_DEAD_LETTER = concat!(
        "UPDATE deliveries SET state = 2, head = 0, settled = ?2, attempts = attempts + 1, error = ?3, last_attempt = ?2,
             first_attempt = coalesce(first_attempt, ?2), checksum = ",
        checksum_of!(delivery => "2", "0", "due", "attempts + 1", "coalesce(first_attempt, ?2)", "?2", "?2", "?3"),
        " WHERE id = ?1"
    );
    NOTE_SUCCESS = "UPDATE endpoints SET last_success = ?2 WHERE id = ?1";
    NOTE_ERROR = "UPDATE endpoints SET last_error = ?3, last_error_time = ?2 WHERE id = ?1";
    NEVER_TRIED = select_heads!("deliveries_head", "d.due = 0 ORDER BY d.id");
    DUE_AGAIN = select_heads!("deliveries_head", "d.due BETWEEN 1 AND ?2 ORDER BY d.due, d.id");
    /// The clock was set back since these attempts, so their due time means nothing.
    TRIED_IN_THE_FUTURE = select_heads!(
        "deliveries_tried", "d.due > ?2 AND d.last_attempt > ?2 ORDER BY d.last_attempt, d.id"
    );
    SUBJECT_OF = "SELECT subject FROM deliveries WHERE id = ?1";
    NEXT_DUE = "SELECT min(due) FROM deliveries INDEXED BY deliveries_head
         WHERE head = 1 AND endpoint = (SELECT id FROM endpoints WHERE name = ?1) AND due > ?2";
    ALL_DAMAGED scans "the check of the state reads every row" =
        concat!("SELECT id FROM deliveries WHERE checksum IS NOT ", checksum_of!(delivery, ""));
}

/// The statement that finds damaged rows.
pub(super) const DAMAGED: (DamagedTable, Sql) = (DamagedTable::Deliveries, ALL_DAMAGED);

/// A row to add to the outbox. `at` is in milliseconds since the Unix epoch.
pub(super) struct NewDelivery<'a> {
    pub(super) id: i64,
    pub(super) endpoint: i64,
    pub(super) event: i64,
    pub(super) subject: &'a str,
    pub(super) progress: bool,
    pub(super) replay: bool,
    pub(super) at: i64,
}

/// The ID of the next delivery. It was never used before.
pub(super) fn next_id(conn: &Connection) -> Result<i64, rusqlite::Error> {
    let last: i64 = LAST_ID.prepare(conn)?.query_row([], |row| row.get(0))?;
    Ok(last.saturating_add(1))
}

pub(super) fn enqueue(conn: &Connection, new: &NewDelivery<'_>) -> Result<(), rusqlite::Error> {
    let is_busy: bool = IS_BUSY
        .prepare(conn)?
        .query_row(params![new.endpoint, new.subject], |row| row.get(0))?;
    INSERT.prepare(conn)?.execute(params![
        new.id,
        new.endpoint,
        new.event,
        new.subject,
        new.progress,
        new.replay,
        new.at,
        !is_busy
    ])?;
    Ok(())
}

/// Moves a delivery aside, so that the next one of its subject is sent.
pub(super) fn move_delivery_aside(
    conn: &Connection,
    id: i64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let Some((event, subjects)) = aside::keep_delivery(conn, id, at)? else {
        return Ok(());
    };
    moved.push(DamagedRow {
        kind: "delivery",
        id: event,
        effect: Effect::Lost,
    });
    // Its endpoint may be the damaged column.
    for endpoint in aside::endpoints(conn)? {
        for subject in &subjects {
            promote(conn, endpoint, subject, at, moved)?;
        }
    }
    Ok(())
}

/// Marks the first waiting delivery of a subject as its head.
pub(super) fn promote(
    conn: &Connection,
    endpoint: i64,
    subject: &str,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let first: Option<(i64, bool, bool)> = FIRST_WAITING
        .prepare(conn)?
        .query_row(params![endpoint, subject], |row| {
            let is_intact = row.get(1)?;
            Ok((row.get(0)?, is_intact, is_intact && row.get(2)?))
        })
        .optional()?;
    match first {
        // Moving it aside promotes the one after it.
        Some((id, false, _)) => move_delivery_aside(conn, id, at, moved),
        Some((id, true, false)) => SET_HEAD.prepare(conn)?.execute([id]).map(drop),
        Some((_, true, true)) | None => Ok(()),
    }
}

/// Drops waiting progress events, because a newer event is recorded. Replayed ones are kept.
///
/// A delivery in flight is dropped too. Its row is kept for a while, so that [`due`] still sees that its subject is busy.
pub(super) fn supersede(
    conn: &Connection,
    endpoint: i64,
    subject: &str,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let dropped = SUPERSEDE.prepare(conn)?.execute(params![endpoint, subject, at])?;
    if dropped > 0 {
        promote(conn, endpoint, subject, at, moved)?;
    }
    Ok(())
}

/// Removes `excess` deliveries from a backlog: progress events are dropped first, then the oldest become dead letters.
/// Returns the number of dead letters.
pub(super) fn trim(
    conn: &Connection,
    endpoint: i64,
    excess: u64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<u64, rusqlite::Error> {
    let dropped = cut(conn, endpoint, excess, true, at, moved)?;
    cut(conn, endpoint, excess - dropped, false, at, moved)
}

fn cut(
    conn: &Connection,
    endpoint: i64,
    count: u64,
    progress: bool,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<u64, rusqlite::Error> {
    let update = if progress { DROP_PROGRESS } else { OVERFLOW };
    let oldest: Vec<(i64, Option<String>)> = OLDEST
        .prepare(conn)?
        .query_map(params![endpoint, progress, limit(count)], |row| {
            let subject = if row.get(1)? { Some(row.get(2)?) } else { None };
            Ok((row.get(0)?, subject))
        })?
        .collect::<Result<_, _>>()?;
    for (id, subject) in &oldest {
        match subject {
            Some(subject) => {
                update.prepare(conn)?.execute(params![id, at])?;
                promote(conn, endpoint, subject, at, moved)?;
            }
            None => move_delivery_aside(conn, *id, at, moved)?,
        }
    }
    Ok(oldest.len() as u64)
}

/// Records the result of an attempt. A delivery that was dropped or became a dead letter since can still be delivered.
pub(super) fn settle(
    conn: &Connection,
    id: DeliveryId,
    settled: &Settlement,
    now: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let row: Option<Option<(i64, String, i64)>> = FIND
        .prepare(conn)?
        .query_row([id.0], |row| {
            if !row.get::<_, bool>(1)? {
                return Ok(None);
            }
            Ok(Some((row.get(0)?, row.get(2)?, row.get(3)?)))
        })
        .optional()?;
    let (endpoint, subject, state) = match row {
        None => return Ok(()),
        Some(None) => return move_delivery_aside(conn, id.0, now, moved),
        Some(Some(row)) => row,
    };
    match settled {
        Settlement::Delivered if state != DELIVERED => {
            DELIVER.prepare(conn)?.execute(params![id.0, now])?;
        }
        Settlement::Retry { at, error, counts } if state == WAITING => {
            RETRY
                .prepare(conn)?
                // 0 means at once.
                .execute(params![id.0, now, at.as_millisecond().max(1), counts, error])?;
        }
        Settlement::Dead { error } if state == WAITING => {
            MAKE_DEAD_LETTER
                .prepare(conn)?
                .execute(params![id.0, now, error])?;
        }
        Settlement::Delivered | Settlement::Retry { .. } | Settlement::Dead { .. } => {}
    }
    if state == WAITING {
        promote(conn, endpoint, &subject, now, moved)?;
    }
    match settled {
        Settlement::Delivered => NOTE_SUCCESS.prepare(conn)?.execute(params![endpoint, now])?,
        Settlement::Retry { error, .. } | Settlement::Dead { error } => {
            NOTE_ERROR.prepare(conn)?.execute(params![endpoint, now, error])?
        }
    };
    Ok(())
}

/// The deliveries that can be sent to `endpoint`: heads of subjects that have none in flight. Damaged ones are skipped and
/// added to `bad`.
pub(super) fn due(
    conn: &Connection,
    endpoint: &Arc<str>,
    now: Timestamp,
    limit: usize,
    in_flight: &[DeliveryId],
    bad: &mut Vec<BadRow>,
) -> Result<DueDeliveries, StoreReadError> {
    let mut busy = HashSet::with_capacity(in_flight.len());
    for id in in_flight {
        // This includes dropped ones, whose subject has another head by now.
        let subject: Option<Option<String>> = SUBJECT_OF
            .prepare(conn)?
            .query_row([id.0], |row| Ok(row.get_ref(0)?.as_str().ok().map(str::to_owned)))
            .optional()?;
        busy.extend(subject.flatten());
    }
    let now = now.as_millisecond();
    let fetch = self::limit(limit.saturating_add(in_flight.len()) as u64);
    let mut ready = Vec::new();
    // The oldest of all three are sent first.
    for which in [NEVER_TRIED, DUE_AGAIN, TRIED_IN_THE_FUTURE] {
        let mut statement = which.prepare(conn)?;
        let mut rows = statement.query(params![endpoint, now, fetch])?;
        while let Some(row) = rows.next()? {
            match delivery(row, endpoint)? {
                Ok(delivery) if busy.contains(&delivery.subject) => {}
                Ok(delivery) => ready.push(delivery),
                Err(row) => bad.push(row),
            }
        }
    }
    ready.sort_unstable_by_key(|delivery| delivery.id);
    ready.truncate(limit);
    let next_due: Option<i64> = NEXT_DUE
        .prepare(conn)?
        .query_row(params![endpoint, now.max(0)], |row| row.get(0))?;
    Ok(DueDeliveries {
        ready,
        next_due: next_due.map(time),
    })
}

/// The delivery of a row, or the damaged row.
fn delivery(row: &Row<'_>, endpoint: &Arc<str>) -> Result<Result<Delivery, BadRow>, rusqlite::Error> {
    let id = row.get(0)?;
    let of_itself = BadRow {
        table: DamagedTable::Deliveries,
        row: id,
    };
    if !row.get::<_, bool>(1)? {
        return Ok(Err(of_itself));
    }
    let Some(event) = row.get(2)? else {
        // Its event does not exist.
        return Ok(Err(of_itself));
    };
    let (true, Ok(event_type)) = (row.get(3)?, row.get(5)) else {
        return Ok(Err(BadRow {
            table: DamagedTable::Events,
            row: event,
        }));
    };
    Ok(Ok(Delivery {
        id: DeliveryId(id),
        endpoint: endpoint.clone(),
        event_id: row.get(4)?,
        event_type,
        subject: row.get(6)?,
        body: row.get(7)?,
        attempts: row.get(8)?,
        recorded: time(row.get(9)?),
        first_attempt: row.get::<_, Option<i64>>(10)?.map(time),
        replay: row.get(11)?,
    }))
}

pub(super) fn limit(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
