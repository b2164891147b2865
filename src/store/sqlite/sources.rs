//! What the HTTP API and discovery ask for.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::checksum_of;
use super::statement::statements;
use super::{aside, pages, rebuild};
use crate::core::past_event::labels_of;
use crate::core::source::{Source, Terms};
use crate::core::watch_list::WatchKey;
use crate::store::change::to_json;
use crate::store::damage::{BadRow, DamagedRow, DamagedTable, Effect};
use crate::store::source_entry::{Page, SourceEntry, SourceRow, Withdrawal};

statements! {
    PUT = "INSERT INTO source_entries (project, operation, source, terms, since, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, row_checksum(?1, ?2, ?3, ?4, ?5, NULL))
         ON CONFLICT (project, operation, source) DO UPDATE SET terms = excluded.terms, since = excluded.since,
             withdrawn = NULL, checksum = excluded.checksum";
    FIND = concat!(
        "SELECT row, checksum IS ", checksum_of!(source_entry), ", since, withdrawn IS NULL
         FROM source_entries INDEXED BY source_entries_key WHERE project = ?1 AND operation = ?2 AND source = ?3"
    );
    WITHDRAW = "UPDATE source_entries SET withdrawn = ?2,
             checksum = row_checksum(project, operation, source, terms, since, ?2)
         WHERE row = ?1";
    DROP = "DELETE FROM source_entries WHERE row = ?1";
    PAGE = concat!(
        "SELECT row, checksum IS ", checksum_of!(source_entry), ", operation, source, terms
         FROM source_entries INDEXED BY source_entries_project
         WHERE project = ?1 AND row > ?2 AND withdrawn IS NULL ORDER BY row LIMIT ?3"
    );
    BY_ROW = concat!(
        "SELECT checksum IS ", checksum_of!(source_entry), ", withdrawn IS NULL, CAST(project AS BLOB),
             CAST(operation AS BLOB), CAST(source AS BLOB), terms
         FROM source_entries WHERE row = ?1"
    );
    ALL_DAMAGED scans "the check of the state reads every row" =
        concat!("SELECT row FROM source_entries WHERE checksum IS NOT ", checksum_of!(source_entry));
}

/// The statement that finds damaged rows.
pub(super) const DAMAGED: (DamagedTable, super::statement::Sql) = (DamagedTable::SourceEntries, ALL_DAMAGED);

/// A stored entry.
enum Stored {
    Asking { row: i64, since: i64 },
    Withdrawn,
    Damaged(i64),
    Nothing,
}

fn find(conn: &Connection, key: &WatchKey, source: Source) -> Result<Stored, rusqlite::Error> {
    let found = FIND
        .prepare(conn)?
        .query_row(params![key.project, key.operation, source.as_str()], |row| {
            let number = row.get(0)?;
            Ok(if !row.get(1)? {
                Stored::Damaged(number)
            } else if row.get(3)? {
                Stored::Asking {
                    row: number,
                    since: row.get(2)?,
                }
            } else {
                Stored::Withdrawn
            })
        })
        .optional()?;
    Ok(found.unwrap_or(Stored::Nothing))
}

/// As [`find`]. A damaged entry is moved aside. If it is rebuilt, this returns the new one.
fn find_sound(
    conn: &Connection,
    key: &WatchKey,
    source: Source,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<Stored, rusqlite::Error> {
    match find(conn, key, source)? {
        Stored::Damaged(row) => {
            move_aside(conn, row, at, moved)?;
            Ok(match find(conn, key, source)? {
                Stored::Nothing => Stored::Damaged(row),
                rebuilt => rebuilt,
            })
        }
        other => Ok(other),
    }
}

/// Stores these entries. Returns for each whether its source did not ask for it before.
pub(super) fn put(
    conn: &Connection,
    entries: &[SourceRow],
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<Vec<bool>, rusqlite::Error> {
    let mut are_new = Vec::with_capacity(entries.len());
    for SourceRow { key, source, terms } in entries {
        let stored = find_sound(conn, key, *source, at, moved)?;
        put_one(conn, key, *source, terms, at)?;
        are_new.push(!matches!(stored, Stored::Asking { .. }));
    }
    Ok(are_new)
}

fn put_one(
    conn: &Connection,
    key: &WatchKey,
    source: Source,
    terms: &str,
    at: i64,
) -> Result<(), rusqlite::Error> {
    PUT.prepare(conn)?
        .execute(params![key.project, key.operation, source.as_str(), terms, at])?;
    Ok(())
}

pub(super) fn withdraw(
    conn: &Connection,
    key: &WatchKey,
    source: Source,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<Withdrawal, rusqlite::Error> {
    Ok(match find_sound(conn, key, source, at, moved)? {
        Stored::Asking { row, .. } => {
            WITHDRAW.prepare(conn)?.execute([row, at])?;
            Withdrawal::Withdrawn
        }
        Stored::Damaged(_) => Withdrawal::Withdrawn,
        Stored::Withdrawn => Withdrawal::AlreadyWithdrawn,
        Stored::Nothing => Withdrawal::NeverAdded,
    })
}

/// Deletes the entries that were not put after `older_than`. Returns for each whether its source does not ask for it any more.
pub(super) fn expire(
    conn: &Connection,
    entries: &[(WatchKey, Source)],
    older_than: Timestamp,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<Vec<bool>, rusqlite::Error> {
    let mut are_gone = Vec::with_capacity(entries.len());
    for (key, source) in entries {
        let is_gone = match find_sound(conn, key, *source, at, moved)? {
            Stored::Asking { since, .. } if since > older_than.as_millisecond() => false,
            Stored::Asking { row, .. } => {
                DROP.prepare(conn)?.execute([row])?;
                true
            }
            Stored::Withdrawn | Stored::Damaged(_) | Stored::Nothing => true,
        };
        are_gone.push(is_gone);
    }
    Ok(are_gone)
}

/// What sources ask of a project, after row `after`.
pub(super) fn load(
    conn: &Connection,
    project: &Arc<str>,
    after: i64,
    bad: &mut Vec<BadRow>,
) -> Result<Page<SourceEntry>, rusqlite::Error> {
    let select = (DamagedTable::SourceEntries, PAGE);
    let parse = |row: &Row<'_>| Ok(if row.get(1)? { entry(row, project)? } else { None });
    let rebuild = |conn: &Connection, row| {
        let rebuilt = damaged(conn, row)?.and_then(|damaged| damaged.rebuilt);
        Ok(rebuilt.filter(|entry| entry.key.project == *project))
    };
    pages::read_rebuilding(conn, select, (project, after), bad, parse, rebuild)
}

fn entry(row: &Row<'_>, project: &Arc<str>) -> Result<Option<SourceEntry>, rusqlite::Error> {
    let [operation, source, terms] = [2, 3, 4].map(|column| row.get_ref(column));
    let (Ok(operation), Ok(source), Ok(terms)) = (operation?.as_str(), source?.as_str(), terms?.as_str())
    else {
        return Ok(None);
    };
    let terms: Option<Terms> = serde_json::from_str(terms).ok();
    Ok(parse(source).zip(terms).map(|(source, terms)| SourceEntry {
        key: WatchKey::of(project, &operation.into()),
        source,
        terms: Arc::new(terms),
    }))
}

fn parse(source: &str) -> Option<Source> {
    Source::ALL.into_iter().find(|one| one.as_str() == source)
}

/// A damaged row.
struct Damaged {
    /// What it describes, as far as that can be read.
    id: String,
    /// What its source probably asks for.
    rebuilt: Option<SourceEntry>,
}

/// The row of this number, if it is damaged.
fn damaged(conn: &Connection, row: i64) -> Result<Option<Damaged>, rusqlite::Error> {
    let found = BY_ROW
        .prepare(conn)?
        .query_row([row], |row| {
            let terms = row.get_ref(5)?.as_str().ok();
            let is_readable = terms.is_some_and(|terms| serde_json::from_str::<Terms>(terms).is_ok());
            let names: [Option<Vec<u8>>; 3] = [row.get(2)?, row.get(3)?, row.get(4)?];
            let names = names.map(Option::unwrap_or_default);
            let is_asking: bool = row.get(1)?;
            let is_good = row.get(0)?
                && is_readable
                && std::str::from_utf8(&names[2]).is_ok_and(|name| parse(name).is_some());
            Ok((!is_good).then_some((names, is_asking)))
        })
        .optional()?
        .flatten();
    let Some((names, is_asking)) = found else {
        return Ok(None);
    };
    let [project, operation, source] = &names;
    let id = format!(
        "{}/{} ({})",
        aside::shown(project),
        aside::shown(operation),
        aside::shown(source)
    );
    let rebuilt = if is_asking {
        rebuild_entry(conn, row, names)?
    } else {
        None
    };
    Ok(Some(Damaged { id, rebuilt }))
}

/// An entry with the labels of the last event of its watch, in place of a row.
fn rebuild_entry(
    conn: &Connection,
    row: i64,
    names: [Vec<u8>; 3],
) -> Result<Option<SourceEntry>, rusqlite::Error> {
    let [Ok(project), Ok(operation), Ok(source)] = names.map(String::from_utf8) else {
        return Ok(None);
    };
    let Some(source) = parse(&source) else {
        return Ok(None);
    };
    let key = WatchKey {
        project: project.into(),
        operation: operation.into(),
    };
    match find(conn, &key, source)? {
        Stored::Damaged(found) if found == row => {}
        Stored::Nothing => {}
        // The damaged key is that of another entry.
        _ => return Ok(None),
    }
    let body = rebuild::last_body(conn, &key)?;
    Ok(body.map(|body| SourceEntry {
        key,
        source,
        terms: Arc::new(Terms {
            labels: labels_of(&body),
            deadline: None,
        }),
    }))
}

/// Moves a damaged row aside. If its watch has events, it is rebuilt from the last one.
pub(super) fn move_aside(
    conn: &Connection,
    row: i64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let Some(Damaged { id, rebuilt }) = damaged(conn, row)? else {
        return Ok(());
    };
    aside::keep_source_entry(conn, row, at)?;
    moved.push(DamagedRow {
        kind: "source entry",
        id,
        effect: if rebuilt.is_some() {
            Effect::Rebuilt
        } else {
            Effect::Lost
        },
    });
    if let Some(SourceEntry { key, source, terms }) = rebuilt {
        put_one(conn, &key, source, &to_json(&*terms), at)?;
    }
    Ok(())
}
