//! The completed rounds of groups.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::{checksum_of, intact};
use super::statement::statements;
use super::{aside, pages, rebuild};
use crate::core::group::{GroupId, GroupRecord};
use crate::store::change::to_json;
use crate::store::damage::{BadRow, DamagedRow, DamagedTable, Effect};
use crate::store::source_entry::Page;

statements! {
    PUT = "INSERT INTO groups (project, group_id, state, saved, checksum)
         VALUES (?1, ?2, ?3, ?4, row_checksum(?1, ?2, ?3, ?4))
         ON CONFLICT (project, group_id) DO UPDATE SET state = excluded.state, saved = excluded.saved,
             checksum = excluded.checksum";
    PAGE = concat!(
        "SELECT row, checksum IS ", checksum_of!(group), ", state, group_id
         FROM groups INDEXED BY groups_project WHERE project = ?1 AND row > ?2 ORDER BY row LIMIT ?3"
    );
    BY_ROW = concat!(
        "SELECT row, checksum IS ", checksum_of!(group), ", state, CAST(project AS BLOB), group_id
         FROM groups WHERE row = ?1"
    );
    ALL_DAMAGED scans "the check of the state reads every row" =
        concat!("SELECT row FROM groups WHERE checksum IS NOT ", checksum_of!(group));
}

/// The statement that finds damaged rows.
pub(super) const DAMAGED: (DamagedTable, super::statement::Sql) = (DamagedTable::Groups, ALL_DAMAGED);

pub(super) fn put(
    conn: &Connection,
    project: &str,
    group: GroupId,
    state: &str,
    at: i64,
) -> Result<(), rusqlite::Error> {
    PUT.prepare(conn)?
        .execute(params![project, group.to_bits().cast_signed(), state, at])?;
    Ok(())
}

/// The groups of a project, after row `after`.
pub(super) fn load(
    conn: &Connection,
    project: &str,
    after: i64,
    bad: &mut Vec<BadRow>,
) -> Result<Page<(GroupId, GroupRecord)>, rusqlite::Error> {
    let select = (DamagedTable::Groups, PAGE);
    let parse = |row: &Row<'_>| {
        let record = intact(row)?;
        Ok(id(row, 3)?.zip(record))
    };
    let rebuild = |conn: &Connection, row| {
        let rebuilt = damaged(conn, row)?.flatten();
        let of_project = rebuilt.filter(|rebuilt| rebuilt.project == project);
        Ok(of_project.map(|rebuilt| (rebuilt.id, rebuilt.record)))
    };
    pages::read_rebuilding(conn, select, (project, after), bad, parse, rebuild)
}

fn id(row: &Row<'_>, column: usize) -> Result<Option<GroupId>, rusqlite::Error> {
    let bits = row.get_ref(column)?.as_i64().ok();
    Ok(bits.map(|bits| GroupId::from_bits(bits.cast_unsigned())))
}

/// A group that is rebuilt from its events.
struct Rebuilt {
    project: String,
    id: GroupId,
    record: GroupRecord,
}

/// The row of this number, if it is damaged: rebuilt if it has events.
fn damaged(conn: &Connection, row: i64) -> Result<Option<Option<Rebuilt>>, rusqlite::Error> {
    let found = BY_ROW
        .prepare(conn)?
        .query_row([row], |row| {
            let record: Option<GroupRecord> = intact(row)?;
            let project: Option<Vec<u8>> = row.get(3)?;
            Ok((record.is_some(), project.unwrap_or_default(), id(row, 4)?))
        })
        .optional()?;
    let Some((false, project, id)) = found else {
        return Ok(None);
    };
    let Some((project, id)) = String::from_utf8(project).ok().zip(id) else {
        return Ok(Some(None));
    };
    let record = rebuild::group(conn, &project, id)?;
    Ok(Some(record.map(|record| Rebuilt { project, id, record })))
}

/// Moves a damaged row aside. If the group has events, it is rebuilt.
pub(super) fn move_aside(
    conn: &Connection,
    row: i64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let Some(rebuilt) = damaged(conn, row)? else {
        return Ok(());
    };
    let Some(id) = aside::keep_group(conn, row, at)? else {
        return Ok(());
    };
    moved.push(DamagedRow {
        kind: "group",
        id,
        effect: if rebuilt.is_some() {
            Effect::Rebuilt
        } else {
            Effect::New
        },
    });
    if let Some(Rebuilt { project, id, record }) = rebuilt {
        put(conn, &project, id, &to_json(&record), at)?;
    }
    Ok(())
}
