//! The stored states of watches and projects.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::{checksum_of, intact};
use super::statement::statements;
use super::{aside, groups, is_damage, rebuild, time};
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::store::change::{LoadedWatches, StateRow, WatchRecord};
use crate::store::damage::{BadRow, DamagedRow, DamagedTable, DamagedWatch, Effect};
use crate::store::request::StoreReadError;

statements! {
    PUT_WATCH = concat!(
        "INSERT INTO watches (project, operation, state, saved, checksum)
         VALUES (?1, ?2, ?3, ?4, row_checksum(?1, ?2, ?3, ?4, NULL))
         ON CONFLICT (project, operation) DO UPDATE SET state = excluded.state, saved = excluded.saved, checksum = ",
        "row_checksum(excluded.project, excluded.operation, excluded.state, excluded.saved, watches.unlisted)"
    );
    /// A damaged row never counts as newer.
    PUT_UNLESS_NEWER = concat!(
        "INSERT INTO watches (project, operation, state, saved, checksum)
         VALUES (?1, ?2, ?3, ?4, row_checksum(?1, ?2, ?3, ?4, NULL))
         ON CONFLICT (project, operation) DO UPDATE SET state = excluded.state, saved = excluded.saved, checksum = ",
        "row_checksum(excluded.project, excluded.operation, excluded.state, excluded.saved, watches.unlisted)
         WHERE CASE WHEN watches.checksum IS ", checksum_of!(watch, "watches."),
        " THEN (watches.state ->> 'generation', watches.state ->> 'sequence', watches.state ->> 'polls')
             > (excluded.state ->> 'generation', excluded.state ->> 'sequence', excluded.state ->> 'polls')
          END IS NOT TRUE"
    );
    PUT_PROJECT = "INSERT INTO projects (name, state, saved, checksum) VALUES (?1, ?2, ?3, row_checksum(?1, ?2, ?3))
         ON CONFLICT (name) DO UPDATE SET state = excluded.state, saved = excluded.saved, checksum = excluded.checksum";
    FIND = concat!(
        "SELECT row, checksum IS ", checksum_of!(watch), ", state, saved, unlisted
         FROM watches INDEXED BY watches_key WHERE project = ?1 AND operation = ?2"
    );
    KEY_OF = concat!(
        "SELECT CAST(project AS BLOB), CAST(operation AS BLOB), checksum IS ", checksum_of!(watch), ", state
         FROM watches WHERE row = ?1"
    );
    RECENTLY_UNLISTED = concat!(
        "SELECT row, checksum IS ", checksum_of!(watch), ", state FROM watches INDEXED BY watches_unlisted
         WHERE unlisted IS NOT NULL ORDER BY unlisted DESC LIMIT ?1"
    );
    FIND_PROJECT = concat!(
        "SELECT row, checksum IS ", checksum_of!(project), ", state FROM projects WHERE name = ?1"
    );
    ALL_DAMAGED_WATCHES scans "the check of the state reads every row" =
        concat!("SELECT row FROM watches WHERE checksum IS NOT ", checksum_of!(watch));
    ALL_DAMAGED_PROJECTS scans "the check of the state reads every row" =
        concat!("SELECT row FROM projects WHERE checksum IS NOT ", checksum_of!(project));
}

/// The statements that find damaged rows.
pub(super) const DAMAGED: [(DamagedTable, super::statement::Sql); 2] = [
    (DamagedTable::Watches, ALL_DAMAGED_WATCHES),
    (DamagedTable::Projects, ALL_DAMAGED_PROJECTS),
];

pub(super) fn put(conn: &Connection, row: &StateRow, at: i64) -> Result<(), rusqlite::Error> {
    match row {
        StateRow::Watch { key, state } => {
            PUT_WATCH
                .prepare(conn)?
                .execute(params![key.project, key.operation, state, at])?
        }
        StateRow::Project { name, state } => PUT_PROJECT.prepare(conn)?.execute(params![name, state, at])?,
        StateRow::Group { project, id, state } => return groups::put(conn, project, *id, state, at),
    };
    Ok(())
}

/// As [`put`], for a checkpoint. A newer row is kept: a change may overtake a checkpoint.
pub(super) fn put_unless_newer(conn: &Connection, row: &StateRow, at: i64) -> Result<(), rusqlite::Error> {
    let StateRow::Watch { key, state } = row else {
        return put(conn, row, at);
    };
    PUT_UNLESS_NEWER
        .prepare(conn)?
        .execute(params![key.project, key.operation, state, at])?;
    Ok(())
}

/// The first two columns as text, unless they are damaged.
pub(super) fn texts<'r>(row: &'r Row<'_>) -> Result<Option<(&'r str, &'r str)>, rusqlite::Error> {
    let (one, other) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str());
    Ok(one.ok().zip(other.ok()))
}

/// The stored state of one watch.
enum Stored {
    Watch(Box<WatchRecord>),
    /// Its row, if that can be found.
    Damaged(Option<i64>),
    Nothing,
}

fn find(conn: &Connection, key: &WatchKey) -> Result<Stored, rusqlite::Error> {
    let found = FIND
        .prepare(conn)?
        .query_row(params![key.project, key.operation], |row| {
            let number = row.get(0)?;
            Ok(
                match intact(row)?.and_then(|watch| record(row, watch).transpose()) {
                    Some(record) => Stored::Watch(Box::new(record?)),
                    None => Stored::Damaged(Some(number)),
                },
            )
        })
        .optional();
    match found {
        Ok(stored) => Ok(stored.unwrap_or(Stored::Nothing)),
        // An index names a row that does not exist.
        Err(error) if is_damage(&error) => Ok(Stored::Damaged(None)),
        Err(error) => Err(error),
    }
}

fn record(row: &Row<'_>, watch: Watch) -> Result<Option<WatchRecord>, rusqlite::Error> {
    Ok(Some(WatchRecord {
        watch,
        saved: time(row.get(3)?),
        unlisted: row.get::<_, Option<i64>>(4)?.map(time),
    }))
}

/// Loads these watches. A damaged one, and one that has events but no row, is rebuilt from its events.
pub(super) fn load(conn: &Connection, keys: &[WatchKey]) -> Result<LoadedWatches, StoreReadError> {
    let mut loaded = LoadedWatches::default();
    for key in keys {
        let (rebuilt, is_damaged) = match find(conn, key)? {
            Stored::Watch(record) => {
                loaded.watches.insert(key.clone(), *record);
                continue;
            }
            Stored::Damaged(_) => (rebuild::watch(conn, key)?, true),
            Stored::Nothing => (rebuild::watch(conn, key)?, false),
        };
        if is_damaged || rebuilt.is_some() {
            loaded.damaged.push(DamagedWatch {
                key: key.clone(),
                is_rebuilt: rebuilt.is_some(),
            });
        }
        loaded.watches.extend(rebuilt.map(|record| (key.clone(), record)));
    }
    Ok(loaded)
}

/// Stores the watches that [`load`] rebuilt, and moves damaged rows aside.
pub(super) fn store_rebuilt(
    conn: &Connection,
    key: &WatchKey,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    match find(conn, key)? {
        Stored::Watch(_) => return Ok(()),
        Stored::Damaged(None) => {
            conn.execute_batch("REINDEX watches")?;
            return store_rebuilt(conn, key, at, moved);
        }
        Stored::Damaged(Some(row)) => aside::keep_watch(conn, row, at)?,
        Stored::Nothing => {}
    }
    let rebuilt = rebuild::watch(conn, key)?;
    moved.push(DamagedRow {
        kind: "watch",
        id: key.to_string(),
        effect: if rebuilt.is_some() {
            Effect::Rebuilt
        } else {
            Effect::New
        },
    });
    if let Some(record) = rebuilt {
        put(
            conn,
            &StateRow::watch(key, &record.watch),
            record.saved.as_millisecond(),
        )?;
    }
    Ok(())
}

/// Moves a damaged row aside. If its key can be read, the watch is rebuilt.
pub(super) fn move_watch_aside(
    conn: &Connection,
    row: i64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let found: Option<(Vec<u8>, Vec<u8>, bool)> = KEY_OF
        .prepare(conn)?
        .query_row([row], |row| {
            let state: Option<Watch> = match row.get_ref(3)?.as_str() {
                Ok(state) => serde_json::from_str(state).ok(),
                Err(_) => None,
            };
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get::<_, bool>(2)? && state.is_some(),
            ))
        })
        .optional()?;
    let Some((project, operation, is_good)) = found else {
        return Ok(());
    };
    if is_good {
        return Ok(());
    }
    aside::keep_watch(conn, row, at)?;
    let key = String::from_utf8(project.clone())
        .ok()
        .zip(String::from_utf8(operation.clone()).ok())
        .map(|(project, operation)| WatchKey {
            project: project.into(),
            operation: operation.into(),
        });
    let rebuilt = match &key {
        Some(key) => rebuild::watch(conn, key)?,
        None => None,
    };
    moved.push(DamagedRow {
        kind: "watch",
        id: format!("{}/{}", aside::shown(&project), aside::shown(&operation)),
        effect: if rebuilt.is_some() {
            Effect::Rebuilt
        } else {
            Effect::New
        },
    });
    if let (Some(key), Some(record)) = (key, rebuilt) {
        put(
            conn,
            &StateRow::watch(&key, &record.watch),
            record.saved.as_millisecond(),
        )?;
    }
    Ok(())
}

/// The watches that left the list last, the latest first.
pub(super) fn recently_unlisted(
    conn: &Connection,
    limit: u32,
    bad: &mut Vec<BadRow>,
) -> Result<Vec<Watch>, rusqlite::Error> {
    let mut watches = Vec::new();
    let mut statement = RECENTLY_UNLISTED.prepare(conn)?;
    let mut rows = statement.query([limit])?;
    while let Some(row) = rows.next()? {
        match intact(row)? {
            Some(watch) => watches.push(watch),
            None => bad.push(BadRow {
                table: DamagedTable::Watches,
                row: row.get(0)?,
            }),
        }
    }
    Ok(watches)
}

/// Loads a project. A damaged one is rebuilt from its events.
pub(super) fn load_project(
    conn: &Connection,
    name: &str,
    bad: &mut Vec<BadRow>,
) -> Result<Option<ProjectHealth>, StoreReadError> {
    let found = FIND_PROJECT
        .prepare(conn)?
        .query_row([name], |row| Ok((row.get(0)?, intact(row)?)))
        .optional()?;
    match found {
        Some((_, Some(project))) => Ok(Some(project)),
        Some((row, None)) => {
            bad.push(BadRow {
                table: DamagedTable::Projects,
                row,
            });
            Ok(rebuild::project(conn, name)?)
        }
        None => Ok(rebuild::project(conn, name)?),
    }
}
