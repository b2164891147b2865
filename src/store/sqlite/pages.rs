//! Reads a table in pages, in the order of its row numbers: a damaged key does not end the reading.

use rusqlite::{Connection, Row, params};

use super::statement::Sql;
use crate::store::CHUNK;
use crate::store::damage::{BadRow, DamagedTable};
use crate::store::source_entry::Page;

/// The rows of a project after row `after`. `select` has their numbers in the first column. Those that `parse` cannot read
/// are added to `bad`.
pub(super) fn read<T>(
    conn: &Connection,
    (table, select): (DamagedTable, Sql),
    (project, after): (&str, i64),
    bad: &mut Vec<BadRow>,
    mut parse: impl FnMut(&Row<'_>) -> Result<Option<T>, rusqlite::Error>,
) -> Result<Page<T>, rusqlite::Error> {
    let mut statement = select.prepare(conn)?;
    let mut rows = statement.query(params![project, after, CHUNK as i64])?;
    let mut found = Vec::new();
    let mut count = 0;
    let mut last = after;
    while let Some(row) = rows.next()? {
        count += 1;
        last = row.get(0)?;
        match parse(row)? {
            Some(value) => found.push(value),
            None => bad.push(BadRow { table, row: last }),
        }
    }
    Ok(Page {
        rows: found,
        next: (count == CHUNK).then_some(last),
    })
}

/// As [`read`]. Instead of the rows that `parse` cannot read, the page has what `rebuild` makes of them: the writer does the
/// same when it moves them aside.
pub(super) fn read_rebuilding<T>(
    conn: &Connection,
    select: (DamagedTable, Sql),
    at: (&str, i64),
    bad: &mut Vec<BadRow>,
    parse: impl FnMut(&Row<'_>) -> Result<Option<T>, rusqlite::Error>,
    rebuild: impl Fn(&Connection, i64) -> Result<Option<T>, rusqlite::Error>,
) -> Result<Page<T>, rusqlite::Error> {
    // A snapshot, because the writer may be moving these rows aside.
    let conn = &*conn.unchecked_transaction()?;
    let before = bad.len();
    let mut page = read(conn, select, at, bad, parse)?;
    for row in &bad[before..] {
        page.rows.extend(rebuild(conn, row.row)?);
    }
    Ok(page)
}
