//! The installations that discovery knows.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::checksum::{checksum_of, intact};
use super::statement::statements;
use super::{aside, pages};
use crate::core::discovery::StoredInstallation;
use crate::store::damage::{BadRow, DamagedRow, DamagedTable, Effect};
use crate::store::source_entry::Page;

statements! {
    PUT = "INSERT INTO installations (project, installation, state, saved, checksum)
         VALUES (?1, ?2, ?3, ?4, row_checksum(?1, ?2, ?3, ?4))
         ON CONFLICT (project, installation) DO UPDATE SET state = excluded.state, saved = excluded.saved,
             checksum = excluded.checksum";
    DROP = "DELETE FROM installations WHERE project = ?1 AND installation = ?2";
    PAGE = concat!(
        "SELECT row, checksum IS ", checksum_of!(installation), ", state, installation
         FROM installations INDEXED BY installations_project WHERE project = ?1 AND row > ?2 ORDER BY row LIMIT ?3"
    );
    BY_ROW = concat!(
        "SELECT row, checksum IS ", checksum_of!(installation), ", state FROM installations WHERE row = ?1"
    );
    ALL_DAMAGED scans "the check of the state reads every row" =
        concat!("SELECT row FROM installations WHERE checksum IS NOT ", checksum_of!(installation));
}

/// The statement that finds damaged rows.
pub(super) const DAMAGED: (DamagedTable, super::statement::Sql) = (DamagedTable::Installations, ALL_DAMAGED);

/// Stores these installations. Those without a state are deleted.
pub(super) fn put(
    conn: &Connection,
    project: &str,
    installations: &[(Arc<str>, Option<String>)],
    at: i64,
) -> Result<(), rusqlite::Error> {
    for (installation, state) in installations {
        match state {
            Some(state) => PUT
                .prepare(conn)?
                .execute(params![project, installation, state, at])?,
            None => DROP.prepare(conn)?.execute(params![project, installation])?,
        };
    }
    Ok(())
}

/// The installations of a project, after row `after`.
pub(super) fn load(
    conn: &Connection,
    project: &str,
    after: i64,
    bad: &mut Vec<BadRow>,
) -> Result<Page<(Arc<str>, StoredInstallation)>, rusqlite::Error> {
    let select = (DamagedTable::Installations, PAGE);
    pages::read(conn, select, (project, after), bad, |row| {
        let installation = intact(row)?;
        Ok(row.get_ref(3)?.as_str().ok().map(Arc::from).zip(installation))
    })
}

/// Moves a row aside, if it is damaged.
pub(super) fn move_aside(
    conn: &Connection,
    row: i64,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let found: Option<Option<StoredInstallation>> =
        BY_ROW.prepare(conn)?.query_row([row], intact).optional()?;
    if let Some(None) = found
        && let Some(id) = aside::keep_installation(conn, row, at)?
    {
        moved.push(DamagedRow {
            kind: "installation",
            id,
            effect: Effect::New,
        });
    }
    Ok(())
}
