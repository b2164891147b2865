//! Checks a state at start: damaged rows are moved aside or rebuilt, or the state is refused.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::statement::{Sql, statements};
use super::{endpoints, events, groups, installations, outbox, repair, schema, sources, state};
use crate::clock;
use crate::core::text::one_line;
use crate::store::damage::{BadRow, DamagedRow, Effect};

statements! {
    INTEGRITY scans "the check of the state reads every page" = "PRAGMA integrity_check(1)";
    STATE_IS_INTACT = "SELECT checksum IS row_checksum(id, pruned_through) FROM state WHERE one = 1";
    NEW_STATE = "INSERT OR REPLACE INTO state (one, id) VALUES (1, lower(hex(randomblob(8))))";
    SEAL_STATE = "UPDATE state SET checksum = row_checksum(id, pruned_through)";
    DROP_DAMAGED_STARTS = "DELETE FROM starts WHERE checksum IS NOT row_checksum(first_row, id)";
    /// Sequences that are no numbers, or too close to the limit.
    REPAIR_SEQUENCES = "UPDATE sqlite_sequence SET seq = 0
         WHERE typeof(seq) <> 'integer' OR seq NOT BETWEEN 0 AND 4611686018427387904";
}

/// Checks the whole file, and adds damaged rows to `damaged`. A file that cannot be repaired is not changed.
///
/// # Errors
/// [`CheckResult::Unsound`] with the finding, or an error of SQLite.
pub(super) fn check(
    conn: &Connection,
    file: &Path,
    version: i64,
    damaged: &mut Vec<DamagedRow>,
) -> Result<(), CheckResult> {
    tracing::info!(file = %file.display(), "checking the state");
    let begin = clock::instant();
    let finding = integrity(conn)?;
    if version < schema::WITH_CHECKSUMS {
        // Older rows have no checksum that shows damage.
        finding.map_or(Ok(()), |finding| Err(CheckResult::Unsound(finding)))?;
    } else if finding.is_some() || !find(conn, version)?.is_empty() {
        repair(conn, finding, version, damaged)?;
    }
    tracing::info!(
        seconds = begin.elapsed().as_secs_f64(),
        damaged_rows = damaged.len(),
        "the state is checked"
    );
    Ok(())
}

/// Why a state is refused.
#[derive(Debug)]
pub(super) enum CheckResult {
    Unsound(String),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for CheckResult {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// The first finding of SQLite's integrity check, if any.
fn integrity(conn: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let verdict: String = INTEGRITY.prepare(conn)?.query_row([], |row| {
        Ok(String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned())
    })?;
    Ok((verdict != "ok").then(|| one_line(&verdict, 256)))
}

/// All rows that do not match their checksums: deliveries, then events, then watches, which are rebuilt from events.
pub(super) fn find(conn: &Connection, version: i64) -> Result<Vec<BadRow>, rusqlite::Error> {
    let [watches, projects] = state::DAMAGED;
    let mut found = Vec::new();
    let mut all = vec![outbox::DAMAGED, events::DAMAGED, watches, projects];
    if version >= schema::WITH_SOURCES {
        all.extend([sources::DAMAGED, installations::DAMAGED, groups::DAMAGED]);
    }
    for (table, select) in all {
        let select: Sql = select;
        let mut statement = select.prepare(conn)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        for row in rows {
            found.push(BadRow { table, row: row? });
        }
    }
    Ok(found)
}

/// Rebuilds the indexes and moves damaged rows aside, in one transaction.
fn repair(
    conn: &Connection,
    finding: Option<String>,
    version: i64,
    damaged: &mut Vec<DamagedRow>,
) -> Result<(), CheckResult> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let repaired = (|| {
        let mut moved = Vec::new();
        if finding.is_some() {
            conn.execute_batch("REINDEX")?;
        }
        for row in find(conn, version)? {
            repair::move_aside(conn, row, clock::wall().as_millisecond(), &mut moved)?;
        }
        if let Some(finding) = integrity(conn)? {
            return Err(CheckResult::Unsound(finding));
        }
        conn.execute_batch("COMMIT")?;
        Ok(moved)
    })();
    match repaired {
        Ok(moved) => {
            if let Some(finding) = finding {
                tracing::error!(
                    finding,
                    "the indexes of the state were damaged; they were rebuilt"
                );
            }
            damaged.extend(moved);
            Ok(())
        }
        Err(verdict) => {
            if !conn.is_autocommit() {
                // Closing the connection would roll back too.
                let _ = conn.execute_batch("ROLLBACK");
            }
            Err(match (verdict, finding) {
                (CheckResult::Failed(error), Some(finding)) if !super::is_interrupt(&error) => {
                    CheckResult::Unsound(finding)
                }
                (verdict, _) => verdict,
            })
        }
    }
}

/// Repairs the small tables that everything else depends on. It runs at each start.
pub(super) fn tidy(conn: &Connection, damaged: &mut Vec<DamagedRow>) -> Result<(), rusqlite::Error> {
    // With statistics, query plans would depend on former contents of the tables.
    conn.execute_batch("DROP TABLE IF EXISTS sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4;")?;
    let is_intact: Option<bool> = STATE_IS_INTACT
        .prepare(conn)?
        .query_row([], |row| row.get(0))
        .optional()?;
    if is_intact != Some(true) {
        NEW_STATE.prepare(conn)?.execute([])?;
        SEAL_STATE.prepare(conn)?.execute([])?;
        damaged.push(DamagedRow {
            kind: "state",
            id: "the identity of the event log; cursors into it are refused".to_owned(),
            effect: Effect::Lost,
        });
    }
    for _ in 0..DROP_DAMAGED_STARTS.prepare(conn)?.execute([])? {
        damaged.push(DamagedRow {
            kind: "start",
            id: "a start of the daemon; cursors of that time are refused".to_owned(),
            effect: Effect::Lost,
        });
    }
    REPAIR_SEQUENCES.prepare(conn)?.execute([])?;
    endpoints::count(conn)
}
