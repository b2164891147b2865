//! Row checksums. They detect bit rot and torn rows, but not an attacker.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Row};

/// Registers the SQL function `row_checksum(…)`: the CRC-32 of its arguments and their types.
pub(super) fn install(conn: &Connection) -> Result<(), Error> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        // No trigger uses it, so that other programs can write to the file.
        | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function("row_checksum", -1, flags, |cx| {
        let mut hasher = crc32fast::Hasher::new();
        for index in 0..cx.len() {
            add(&mut hasher, cx.get_raw(index));
        }
        Ok(i64::from(hasher.finalize()))
    })
}

/// The length comes first, so that the boundary between two columns is covered.
fn add(hasher: &mut crc32fast::Hasher, value: ValueRef<'_>) {
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_le_bytes()),
        ValueRef::Real(number) => (2, &number.to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    hasher.update(&[tag]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// The state in the third column, if its checksum is right (second column) and its JSON is valid.
pub(super) fn intact<T: serde::de::DeserializeOwned>(row: &Row<'_>) -> Result<Option<T>, Error> {
    if !row.get::<_, bool>(1)? {
        return Ok(None);
    }
    let state = row.get_ref(2)?.as_str();
    Ok(state.ok().and_then(|state| serde_json::from_str(state).ok()))
}

/// The columns that a row's checksum covers. `$of` is the table's alias with a dot, or empty.
macro_rules! checksum_of {
    (state) => {
        "row_checksum(id, pruned_through)"
    };
    (start) => {
        "row_checksum(first_row, id)"
    };
    (watch) => {
        checksum_of!(watch, "")
    };
    (watch, $of:literal) => {
        checksum_of!(@ $of, "project" "operation" "state" "saved" "unlisted")
    };
    (project) => {
        "row_checksum(name, state, saved)"
    };
    (source_entry) => {
        "row_checksum(project, operation, source, terms, since, withdrawn)"
    };
    (installation) => {
        "row_checksum(project, installation, state, saved)"
    };
    (group) => {
        "row_checksum(project, group_id, state, saved)"
    };
    (event, $of:literal) => {
        checksum_of!(@ $of, "row" "id" "type" "project" "operation" "time" "recorded" "body")
    };
    // Counters are computed from the deliveries, and the rest is set at each start.
    (endpoint) => {
        "row_checksum(id, name)"
    };
    (delivery, $of:literal) => {
        checksum_of!(@ $of, "id" "endpoint" "event" "subject" "progress" "replay" "recorded"
            "state" "head" "due" "attempts" "first_attempt" "last_attempt" "settled" "error")
    };
    // The delivery after an update.
    (delivery => $state:literal, $head:literal, $due:literal, $attempts:literal, $first_attempt:literal,
        $last_attempt:literal, $settled:literal, $error:literal) => {
        concat!(
            "row_checksum(id, endpoint, event, subject, progress, replay, recorded, ",
            $state, ", ", $head, ", ", $due, ", ", $attempts, ", ", $first_attempt, ", ", $last_attempt, ", ",
            $settled, ", ", $error, ")"
        )
    };
    (@ $of:literal, $first:literal $($column:literal)*) => {
        concat!("row_checksum(", $of, $first, $(", ", $of, $column,)* ")")
    };
}
pub(super) use checksum_of;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_lengths_and_order_count() {
        let conn = Connection::open_in_memory().unwrap();
        install(&conn).unwrap();
        let sum = |args: &str| -> i64 {
            let sql = format!("SELECT row_checksum({args})");
            conn.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        // The check value of CRC-32.
        let bytes = b"\x03\x09\x00\x00\x00\x00\x00\x00\x00123456789";
        assert_eq!(sum("'123456789'"), i64::from(crc32fast::hash(bytes)));
        let all = [
            "1, 2",
            "2, 1",
            "'1', 2",
            "NULL, 2",
            "12",
            "'ab', 'c'",
            "'a', 'bc'",
            "1, 2, NULL",
        ];
        for (index, one) in all.iter().enumerate() {
            for other in &all[..index] {
                assert_ne!(sum(one), sum(other), "{one} and {other}");
            }
        }
    }
}
