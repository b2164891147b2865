//! The deliveries of one operation that its endpoints have not received.

use rusqlite::{Connection, Row, params};

use super::checksum::checksum_of;
use super::endpoints::text;
use super::statement::statements;
use super::time;
use crate::core::watch_list::WatchKey;
use crate::store::damage::{BadRow, DamagedTable};
use crate::store::delivery::{DeliveryState, OperationDeliveries, OperationDelivery};

/// The most events that one read examines, so that a long log of one operation does not delay other reads.
const MAX_EXAMINED: usize = 1_000;

const DEAD_LETTER: i64 = 2;

statements! {
    EVENTS = "SELECT row, project FROM events INDEXED BY events_operation WHERE row > ?1 AND operation = ?2
         ORDER BY row LIMIT ?3";
    // The deliveries of a removed endpoint are kept for some days.
    OF_EVENT = concat!(
        "SELECT d.id, d.checksum IS ", checksum_of!(delivery, "d."), ", e.row, e.checksum IS ", checksum_of!(event, "e."),
        ", e.id, e.type, e.body, p.name, p.removed IS NOT NULL, d.state, d.attempts, d.due, d.last_attempt, d.error
         FROM deliveries d INDEXED BY deliveries_event
             JOIN events e NOT INDEXED ON e.row = d.event
             JOIN endpoints p ON p.id = d.endpoint
         WHERE d.event = ?1 AND d.state IN (0, 2) ORDER BY d.id"
    );
}

/// The waiting deliveries and dead letters of an operation, of the events after row `after`, oldest event first. Damaged
/// ones are skipped and added to `bad`.
pub(super) fn of_operation(
    conn: &Connection,
    key: &WatchKey,
    after: i64,
    bad: &mut Vec<BadRow>,
) -> Result<OperationDeliveries, rusqlite::Error> {
    let events: Vec<(i64, bool)> = EVENTS
        .prepare(conn)?
        .query_map(params![after, key.operation, MAX_EXAMINED as i64], |row| {
            let project = row.get_ref(1)?.as_str();
            Ok((row.get(0)?, project.is_ok_and(|project| *project == *key.project)))
        })?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for (event, _) in events.iter().filter(|(_, is_of_project)| *is_of_project) {
        let mut statement = OF_EVENT.prepare(conn)?;
        let mut rows = statement.query([event])?;
        while let Some(row) = rows.next()? {
            match delivery(row)? {
                Ok(delivery) => found.push(delivery),
                Err(row) => bad.push(row),
            }
        }
    }
    let is_cut = events.len() == MAX_EXAMINED;
    Ok(OperationDeliveries {
        found,
        next: events.last().filter(|_| is_cut).map(|(row, _)| *row),
    })
}

/// The delivery of a row, or the damaged row.
fn delivery(row: &Row<'_>) -> Result<Result<OperationDelivery, BadRow>, rusqlite::Error> {
    if !row.get::<_, bool>(1)? {
        return Ok(Err(BadRow {
            table: DamagedTable::Deliveries,
            row: row.get(0)?,
        }));
    }
    let (true, Ok(event_type)) = (row.get(3)?, row.get(5)) else {
        return Ok(Err(BadRow {
            table: DamagedTable::Events,
            row: row.get(2)?,
        }));
    };
    let body: serde_json::Value = serde_json::from_str(row.get_ref(6)?.as_str()?).unwrap_or_default();
    // 0 means at once.
    let due = Some(row.get(11)?).filter(|due| *due > 0).map(time);
    let state = match row.get::<_, i64>(9)? == DEAD_LETTER {
        true => DeliveryState::DeadLetter,
        false => DeliveryState::Waiting { next_attempt: due },
    };
    Ok(Ok(OperationDelivery {
        endpoint: text(row, 7)?.unwrap_or_default(),
        is_endpoint_removed: row.get(8)?,
        event_id: row.get(4)?,
        event_type,
        sequence: body["data"]["sequence"].as_u64().unwrap_or_default(),
        state,
        attempts: row.get(10)?,
        last_attempt: row.get::<_, Option<i64>>(12)?.map(time),
        last_error: row.get(13)?,
    }))
}
