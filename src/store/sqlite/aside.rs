//! Moves damaged rows to the table `damaged_rows`.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::checksum::checksum_of;
use super::is_damage;
use super::statement::statements;
use crate::core::text::one_line;

/// The most characters of a damaged name that are shown.
const MAX_NAME: usize = 200;

macro_rules! keep {
    ($table:literal, $subject:literal, $first:literal $($column:literal)*) => {
        concat!(
            "INSERT INTO damaged_rows (found, source, row, subject, content) SELECT ?2, '", $table, "', ?1, ",
            $subject, ", quote(", $first, ")", $(" || ', ' || quote(", $column, ")",)*
            " FROM ", $table, " WHERE rowid = ?1"
        )
    };
}

statements! {
    KEEP_WATCH = keep!("watches", "NULL", "project" "operation" "state" "saved" "unlisted" "checksum");
    KEEP_PROJECT = keep!("projects", "NULL", "name" "state" "saved" "checksum");
    KEEP_SOURCE_ENTRY = keep!("source_entries", "NULL",
        "project" "operation" "source" "terms" "since" "withdrawn" "checksum");
    KEEP_INSTALLATION = keep!("installations", "NULL", "project" "installation" "state" "saved" "checksum");
    KEEP_GROUP = keep!("groups", "NULL", "project" "group_id" "state" "saved" "checksum");
    KEEP_EVENT = keep!("events", "project || '/' || coalesce(operation, '')",
        "id" "type" "project" "operation" "time" "recorded" "body" "checksum");
    KEEP_DELIVERY = keep!("deliveries", "NULL", "endpoint" "event" "subject" "state" "head" "progress" "replay" "recorded"
        "due" "attempts" "first_attempt" "last_attempt" "settled" "error" "checksum");
    DROP_WATCH = "DELETE FROM watches WHERE row = ?1";
    DROP_PROJECT = "DELETE FROM projects WHERE row = ?1";
    DROP_SOURCE_ENTRY = "DELETE FROM source_entries WHERE row = ?1";
    DROP_INSTALLATION = "DELETE FROM installations WHERE row = ?1";
    DROP_GROUP = "DELETE FROM groups WHERE row = ?1";
    DROP_EVENT = "DELETE FROM events WHERE row = ?1";
    DROP_DELIVERY = "DELETE FROM deliveries WHERE id = ?1";
    NAME_OF_PROJECT = "SELECT CAST(name AS BLOB) FROM projects WHERE row = ?1";
    NAME_OF_INSTALLATION = "SELECT CAST(project || '/' || installation AS BLOB) FROM installations WHERE row = ?1";
    NAME_OF_GROUP = "SELECT CAST(project || '/' || printf('%016x', group_id) AS BLOB) FROM groups WHERE row = ?1";
    NAME_OF_EVENT = "SELECT CAST(id AS BLOB) FROM events WHERE row = ?1";
    NAME_OF_DELIVERY = "SELECT CAST(coalesce((SELECT id FROM events WHERE row = d.event), d.subject) AS BLOB)
         FROM deliveries d WHERE id = ?1";
    DELIVERIES_OF = "SELECT id FROM deliveries INDEXED BY deliveries_event WHERE event = ?1 AND state = 0";
    /// The subjects that a delivery may belong to.
    SUBJECT_OF_DELIVERY = "SELECT CAST(d.subject AS BLOB),
             CAST((SELECT project || '/' || coalesce(operation, '') FROM events WHERE row = d.event) AS BLOB)
         FROM deliveries d WHERE id = ?1";
    ENDPOINTS = "SELECT id FROM endpoints";
    DELIVERY_IS_INTACT = concat!(
        "SELECT checksum IS ", checksum_of!(delivery, ""), " AND EXISTS (SELECT 1 FROM events WHERE row = event)
         FROM deliveries WHERE id = ?1"
    );
}

pub(super) fn keep_watch(conn: &Connection, row: i64, at: i64) -> Result<(), rusqlite::Error> {
    KEEP_WATCH.prepare(conn)?.execute(params![row, at])?;
    drop_row(conn, &DROP_WATCH, "REINDEX watches", row)
}

/// Moves a project aside; its name. `None` if there is no such row.
pub(super) fn keep_project(conn: &Connection, row: i64, at: i64) -> Result<Option<String>, rusqlite::Error> {
    let Some(name) = name(conn, &NAME_OF_PROJECT, row)? else {
        return Ok(None);
    };
    KEEP_PROJECT.prepare(conn)?.execute(params![row, at])?;
    drop_row(conn, &DROP_PROJECT, "REINDEX projects", row)?;
    Ok(Some(name))
}

pub(super) fn keep_source_entry(conn: &Connection, row: i64, at: i64) -> Result<(), rusqlite::Error> {
    KEEP_SOURCE_ENTRY.prepare(conn)?.execute(params![row, at])?;
    drop_row(conn, &DROP_SOURCE_ENTRY, "REINDEX source_entries", row)
}

/// Moves an installation aside; its project and ID. `None` if there is no such row.
pub(super) fn keep_installation(
    conn: &Connection,
    row: i64,
    at: i64,
) -> Result<Option<String>, rusqlite::Error> {
    let Some(name) = name(conn, &NAME_OF_INSTALLATION, row)? else {
        return Ok(None);
    };
    KEEP_INSTALLATION.prepare(conn)?.execute(params![row, at])?;
    drop_row(conn, &DROP_INSTALLATION, "REINDEX installations", row)?;
    Ok(Some(name))
}

/// Moves a group aside; its project and its ID. `None` if there is no such row.
pub(super) fn keep_group(conn: &Connection, row: i64, at: i64) -> Result<Option<String>, rusqlite::Error> {
    let Some(name) = name(conn, &NAME_OF_GROUP, row)? else {
        return Ok(None);
    };
    KEEP_GROUP.prepare(conn)?.execute(params![row, at])?;
    drop_row(conn, &DROP_GROUP, "REINDEX groups", row)?;
    Ok(Some(name))
}

/// The ID of an event. `None` if there is no such row.
pub(super) fn event_id(conn: &Connection, row: i64) -> Result<Option<String>, rusqlite::Error> {
    name(conn, &NAME_OF_EVENT, row)
}

/// Moves an event aside. Its waiting deliveries have to be moved before.
pub(super) fn keep_event(conn: &Connection, row: i64, at: i64) -> Result<(), rusqlite::Error> {
    KEEP_EVENT.prepare(conn)?.execute(params![row, at])?;
    drop_row(conn, &DROP_EVENT, "REINDEX events", row)
}

/// The deliveries that wait with an event.
pub(super) fn waiting_deliveries(conn: &Connection, event: i64) -> Result<Vec<i64>, rusqlite::Error> {
    DELIVERIES_OF
        .prepare(conn)?
        .query_map([event], |row| row.get(0))?
        .collect()
}

/// Whether a delivery is as it was written. `None` if there is no such row.
pub(super) fn is_delivery_intact(conn: &Connection, id: i64) -> Result<Option<bool>, rusqlite::Error> {
    DELIVERY_IS_INTACT
        .prepare(conn)?
        .query_row([id], |row| row.get(0))
        .optional()
}

/// Moves a delivery aside; the ID of its event, and the subjects that it may belong to. `None` if there is no such row.
pub(super) fn keep_delivery(
    conn: &Connection,
    id: i64,
    at: i64,
) -> Result<Option<(String, Vec<String>)>, rusqlite::Error> {
    let Some(event) = name(conn, &NAME_OF_DELIVERY, id)? else {
        return Ok(None);
    };
    let subjects = SUBJECT_OF_DELIVERY.prepare(conn)?.query_row([id], |row| {
        let texts = [row.get::<_, Option<Vec<u8>>>(0)?, row.get(1)?];
        Ok(texts
            .into_iter()
            .flatten()
            .filter_map(|text| String::from_utf8(text).ok())
            .collect())
    })?;
    KEEP_DELIVERY.prepare(conn)?.execute(params![id, at])?;
    drop_row(conn, &DROP_DELIVERY, "REINDEX deliveries", id)?;
    Ok(Some((event, subjects)))
}

/// The IDs of all endpoints.
pub(super) fn endpoints(conn: &Connection) -> Result<Vec<i64>, rusqlite::Error> {
    ENDPOINTS
        .prepare(conn)?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Deletes a row. If its indexed columns are damaged, SQLite does not find its index entries: then the table is reindexed.
fn drop_row(
    conn: &Connection,
    delete: &super::statement::Sql,
    reindex: &str,
    row: i64,
) -> Result<(), rusqlite::Error> {
    match delete.prepare(conn)?.execute([row]) {
        Err(error) if is_damage(&error) => {
            conn.execute_batch(reindex)?;
            delete.prepare(conn)?.execute([row])
        }
        other => other,
    }
    .map(drop)
}

/// The name of a row, as far as it can be read. `None` if there is no such row.
fn name(
    conn: &Connection,
    select: &super::statement::Sql,
    row: i64,
) -> Result<Option<String>, rusqlite::Error> {
    let name: Option<Option<Vec<u8>>> = select
        .prepare(conn)?
        .query_row([row], |row| row.get(0))
        .optional()?;
    Ok(name.map(|name| shown(&name.unwrap_or_default())))
}

pub(super) fn shown(name: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(name), MAX_NAME)
}
