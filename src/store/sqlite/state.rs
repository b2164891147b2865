//! Watches and projects: their states, and when they left the list.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::time;
use crate::core::project::Project;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::store::change::{StateRow, WatchRecord};
use crate::store::request::ReadError;

pub(super) fn put(conn: &Connection, row: &StateRow, at: i64) -> Result<(), rusqlite::Error> {
    match row {
        StateRow::Watch { key, state } => conn
            .prepare_cached(
                "INSERT INTO watches (project, operation, state, saved) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET state = excluded.state, saved = excluded.saved",
            )?
            .execute(params![key.project, key.operation, state, at])?,
        StateRow::Project { name, state } => conn
            .prepare_cached(
                "INSERT INTO projects (name, state, saved) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET state = excluded.state, saved = excluded.saved",
            )?
            .execute(params![name, state, at])?,
    };
    Ok(())
}

/// As [`put`], for a watch that no event tells of, unless what is there is newer: it was taken before a change that
/// overtook it on its way here.
pub(super) fn put_unless_newer(conn: &Connection, row: &StateRow, at: i64) -> Result<(), rusqlite::Error> {
    let StateRow::Watch { key, state } = row else {
        return put(conn, row, at);
    };
    conn.prepare_cached(
        "INSERT INTO watches (project, operation, state, saved) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET state = excluded.state, saved = excluded.saved
         WHERE (watches.state ->> 'generation', watches.state ->> 'sequence', watches.state ->> 'polls')
             <= (excluded.state ->> 'generation', excluded.state ->> 'sequence', excluded.state ->> 'polls')",
    )?
    .execute(params![key.project, key.operation, state, at])?;
    Ok(())
}

pub(super) fn set_unlisted(
    conn: &Connection,
    keys: &[WatchKey],
    at: Option<i64>,
) -> Result<(), rusqlite::Error> {
    let mut statement =
        conn.prepare_cached("UPDATE watches SET unlisted = ?3 WHERE project = ?1 AND operation = ?2")?;
    for key in keys {
        statement.execute(params![key.project, key.operation, at])?;
    }
    Ok(())
}

/// Whatever is not among `listed` left the list `at`, unless it had left before.
pub(super) fn unlist_others(conn: &Connection, listed: &[WatchKey], at: i64) -> Result<(), rusqlite::Error> {
    let listed: HashSet<(&str, &str)> = listed
        .iter()
        .map(|key| (&*key.project, &*key.operation))
        .collect();
    let mut here: Vec<(String, String)> = conn
        .prepare_cached("SELECT project, operation FROM watches WHERE unlisted IS NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    here.retain(|(project, operation)| !listed.contains(&(project, operation)));
    let mut statement =
        conn.prepare_cached("UPDATE watches SET unlisted = ?3 WHERE project = ?1 AND operation = ?2")?;
    for (project, operation) in here {
        statement.execute(params![project, operation, at])?;
    }
    Ok(())
}

pub(super) fn load(
    conn: &Connection,
    keys: &[WatchKey],
) -> Result<HashMap<WatchKey, WatchRecord>, ReadError> {
    let mut statement = conn
        .prepare_cached("SELECT state, saved, unlisted FROM watches WHERE project = ?1 AND operation = ?2")?;
    let mut found = HashMap::with_capacity(keys.len());
    for key in keys {
        let row = statement
            .query_row(params![key.project, key.operation], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get::<_, Option<i64>>(2)?,
                ))
            })
            .optional()?;
        if let Some((state, saved, unlisted)) = row {
            let record = WatchRecord {
                watch: serde_json::from_str(&state)
                    .map_err(|_| ReadError::Unintelligible(key.to_string()))?,
                saved: time(saved),
                unlisted: unlisted.map(time),
            };
            found.insert(key.clone(), record);
        }
    }
    Ok(found)
}

/// The watches that left the list last, the last one first. What cannot be understood is left out.
pub(super) fn left(conn: &Connection, limit: u32) -> Result<Vec<Watch>, rusqlite::Error> {
    conn.prepare_cached(
        "SELECT state FROM watches INDEXED BY watches_unlisted WHERE unlisted IS NOT NULL
         ORDER BY unlisted DESC LIMIT ?1",
    )?
    .query_map([limit], |row| row.get::<_, String>(0))?
    .filter_map(|state| state.map(|state| serde_json::from_str(&state).ok()).transpose())
    .collect()
}

pub(super) fn load_project(conn: &Connection, name: &str) -> Result<Option<Project>, ReadError> {
    let state: Option<String> = conn
        .prepare_cached("SELECT state FROM projects WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    state
        .map(|state| serde_json::from_str(&state))
        .transpose()
        .map_err(|_| ReadError::Unintelligible(name.to_owned()))
}
