//! The schema and its upgrades.

use std::collections::HashSet;

use rusqlite::Connection;

use super::checksum;

/// The application ID of the file: "BfWt".
pub(super) const APPLICATION_ID: i32 = 0x4266_5774;

/// The upgrade from each version to the next. The first one creates version 1.
pub(super) const STEPS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

/// The first version with row checksums.
pub(super) const WITH_CHECKSUMS: i64 = 3;

/// The first version with source entries, installations and groups.
pub(super) const WITH_SOURCES: i64 = 4;

/// The version that this program writes.
pub(super) fn latest() -> i64 {
    STEPS.len() as i64
}

/// The kind of a database file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DatabaseKind {
    /// It is empty.
    Empty,
    /// It is a state of this version.
    State(i64),
    /// It is another program's database.
    Foreign,
}

pub(super) fn kind(conn: &Connection) -> Result<DatabaseKind, rusqlite::Error> {
    let version = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION_ID, version) if version > 0 => DatabaseKind::State(version),
        (0, 0) if objects == 0 => DatabaseKind::Empty,
        _ => DatabaseKind::Foreign,
    })
}

/// Applies all upgrades from version `from`, in one transaction.
pub(super) fn migrate(conn: &Connection, from: i64, steps: &[&str]) -> Result<(), rusqlite::Error> {
    let missing: Vec<&str> = steps
        .iter()
        .zip(1_i64..)
        .filter(|(_, version)| *version > from)
        .map(|(step, _)| *step)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let latest = steps.len();
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE;\n{}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {latest};\nCOMMIT;",
        missing.join("\n")
    ))
}

/// The first table, index or trigger of that version that is missing or different.
pub(super) fn difference(conn: &Connection, version: i64) -> Result<Option<String>, rusqlite::Error> {
    let model = Connection::open_in_memory()?;
    checksum::install(&model)?;
    let steps = usize::try_from(version).unwrap_or(0).min(STEPS.len());
    migrate(&model, 0, &STEPS[..steps])?;
    let found: HashSet<Object> = objects(conn)?.into_iter().collect();
    Ok(objects(&model)?
        .into_iter()
        .find(|object| !found.contains(object))
        .map(|(name, _)| String::from_utf8_lossy(&name).into_owned()))
}

/// Name and definition. They are bytes, because a damaged one may not be text.
type Object = (Vec<u8>, Vec<u8>);

fn objects(conn: &Connection) -> Result<Vec<Object>, rusqlite::Error> {
    conn.prepare(
        "SELECT CAST(type || ' ' || name AS BLOB), CAST(tbl_name || ' ' || sql AS BLOB) FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
    )?
    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[&str] = &["CREATE TABLE a (x);", "ALTER TABLE a ADD COLUMN y;"];

    #[test]
    fn steps_already_taken_are_not_taken_again() {
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(kind(&conn).unwrap(), DatabaseKind::Empty);
        migrate(&conn, 0, &TWO[..1]).unwrap();
        assert_eq!(kind(&conn).unwrap(), DatabaseKind::State(1));
        migrate(&conn, 1, TWO).unwrap();
        assert_eq!(kind(&conn).unwrap(), DatabaseKind::State(2));
        conn.execute_batch("INSERT INTO a (x, y) VALUES (1, 2)").unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn, 0, &TWO[..1]).unwrap();
        let steps = [
            TWO[0],
            "CREATE TABLE b (x);",
            "CREATE TABLE c (x); CREATE TABLE a (x);",
        ];
        migrate(&conn, 1, &steps).unwrap_err();
        conn.execute_batch("ROLLBACK").unwrap();
        assert_eq!(kind(&conn).unwrap(), DatabaseKind::State(1));
        assert!(conn.prepare("SELECT * FROM b").is_err());
    }

    #[test]
    fn other_databases_are_not_taken_for_ours() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(kind(&conn).unwrap(), DatabaseKind::Foreign);
    }
}
