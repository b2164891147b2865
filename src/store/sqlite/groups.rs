//! The completed rounds of groups.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::checksum::{checksum_of, intact};
use super::statement::statements;
use super::{aside, pages};
use crate::core::group::{GroupId, GroupRecord};
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
        "SELECT row, checksum IS ", checksum_of!(group), ", state FROM groups WHERE row = ?1"
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
    pages::read(conn, select, (project, after), bad, |row| {
        let record = intact(row)?;
        let group = row.get_ref(3)?.as_i64().ok();
        Ok(group
            .map(|bits| GroupId::from_bits(bits.cast_unsigned()))
            .zip(record))
    })
}

/// Moves a row aside, if it is damaged.
pub(super) fn move_aside(
    conn: &Connection,
    row: i64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let found: Option<Option<GroupRecord>> = BY_ROW.prepare(conn)?.query_row([row], intact).optional()?;
    if let Some(None) = found
        && let Some(id) = aside::keep_group(conn, row, at)?
    {
        moved.push(DamagedRow {
            kind: "group",
            id,
            effect: Effect::New,
        });
    }
    Ok(())
}
