//! The schema, in numbered steps.

use rusqlite::Connection;

/// Marks the file as ours; "BfWt".
pub(super) const APPLICATION_ID: i32 = 0x4266_5774;

/// What leads from each version to the next; the first from nothing to version 1.
pub(super) const STEPS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// The version that this program writes.
pub(super) fn latest() -> i64 {
    STEPS.len() as i64
}

/// What a file says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is in it.
    Empty,
    /// A state of this version.
    State(i64),
    /// Somebody else's database.
    Foreign,
}

pub(super) fn kind(conn: &Connection) -> Result<Kind, rusqlite::Error> {
    let version = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION_ID, version) if version > 0 => Kind::State(version),
        (0, 0) if objects == 0 => Kind::Empty,
        _ => Kind::Foreign,
    })
}

/// Takes the steps from version `from` on, each in a transaction of its own.
pub(super) fn migrate(conn: &Connection, from: i64, steps: &[&str]) -> Result<(), rusqlite::Error> {
    for (step, version) in steps.iter().zip(1_i64..) {
        if version <= from {
            continue;
        }
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE;\n{step}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {version};\nCOMMIT;"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[&str] = &["CREATE TABLE a (x);", "ALTER TABLE a ADD COLUMN y;"];

    #[test]
    fn steps_already_taken_are_not_taken_again() {
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(kind(&conn).unwrap(), Kind::Empty);
        migrate(&conn, 0, &TWO[..1]).unwrap();
        assert_eq!(kind(&conn).unwrap(), Kind::State(1));
        migrate(&conn, 1, TWO).unwrap();
        assert_eq!(kind(&conn).unwrap(), Kind::State(2));
        conn.execute_batch("INSERT INTO a (x, y) VALUES (1, 2)").unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before() {
        let conn = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x);", "CREATE TABLE b (x); CREATE TABLE a (x);"];
        migrate(&conn, 0, &steps).unwrap_err();
        conn.execute_batch("ROLLBACK").unwrap();
        assert_eq!(kind(&conn).unwrap(), Kind::State(1));
    }

    #[test]
    fn other_databases_are_not_taken_for_ours() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(kind(&conn).unwrap(), Kind::Foreign);
    }
}
