//! Every statement finds its rows by an index, whatever statistics say.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::super::statement::Sql;
use super::super::*;

/// Tables that grow with what is watched and reported. The others have a row for each project, webhook or start.
const GROW: [&str; 7] = [
    "watches",
    "source_entries",
    "installations",
    "groups",
    "events",
    "deliveries",
    "damaged_rows",
];

const MODULES: &[(&str, &[Sql])] = &[
    ("aside", aside::STATEMENTS),
    ("check", check::STATEMENTS),
    ("deliveries", deliveries::STATEMENTS),
    ("endpoints", endpoints::STATEMENTS),
    ("events", events::STATEMENTS),
    ("groups", groups::STATEMENTS),
    ("installations", installations::STATEMENTS),
    ("listed", listed::STATEMENTS),
    ("mod", STATEMENTS),
    ("outbox", outbox::STATEMENTS),
    ("prune", prune::STATEMENTS),
    ("rebuild", rebuild::STATEMENTS),
    ("replay", replay::STATEMENTS),
    ("sources", sources::STATEMENTS),
    ("state", state::STATEMENTS),
];

/// The steps of a statement's plan that read a whole table, or a whole range of its rows.
fn scans(conn: &Connection, sql: &Sql) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text)).unwrap();
    let steps: Vec<String> = explain
        .raw_query()
        .mapped(|row| row.get(3))
        .collect::<Result<_, _>>()
        .unwrap();
    steps
        .into_iter()
        .filter(|step| {
            let mut words = step.split(' ');
            let is_search = match words.next() {
                Some("SEARCH") => true,
                Some("SCAN") => false,
                _ => return false,
            };
            let aliases = [
                ("d", "deliveries"),
                ("e", "events"),
                ("entry", "source_entries"),
                ("w", "watches"),
            ];
            let name = words.next().unwrap();
            let table = aliases
                .iter()
                .find(|alias| alias.0 == name)
                .map_or(name, |alias| alias.1);
            GROW.contains(&table) && !(is_search && is_narrow(step))
        })
        .collect()
}

/// Whether a search names a value, or takes rows from one end of an index.
fn is_narrow(step: &str) -> bool {
    step.contains("=?")
        // The first or the last row.
        || !step.contains(" USING ")
        // These indexes have only rows that are to be found.
        || step.contains("USING INDEX watches_unlisted (unlisted")
        || step.contains("source_entries_withdrawn (withdrawn<?)")
        || step.contains("damaged_rows_found (found<?)")
}

fn with_statistics(statistics: Option<&str>) -> Connection {
    let database = open_memory().unwrap();
    if let Some(statistics) = statistics {
        database.conn.execute_batch("ANALYZE").unwrap();
        let mut insert = database
            .conn
            .prepare(
                "INSERT INTO sqlite_stat1 SELECT tbl_name, name, ?1 FROM sqlite_schema WHERE type = 'index'",
            )
            .unwrap();
        insert.execute([statistics]).unwrap();
        drop(insert);
        database.conn.execute_batch("ANALYZE sqlite_schema").unwrap();
    }
    database.conn
}

#[test]
fn no_statement_reads_a_whole_table_that_grows() {
    // None, and those of a state where no index helps. Those of an almost empty state are removed at every start.
    for statistics in [None, Some("1000000 1000000 1000000 1000000")] {
        let conn = with_statistics(statistics);
        for (module, statements) in MODULES {
            for sql in *statements {
                let scans = scans(&conn, sql);
                assert!(
                    scans.is_empty() || sql.scans.is_some(),
                    "{module}, with {statistics:?}: {}\n{scans:#?}",
                    sql.text
                );
            }
        }
    }
}

#[test]
fn a_scan_is_found() {
    let scans_of = |text| {
        let sql = Sql { text, scans: None };
        scans(&with_statistics(None), &sql).len()
    };
    assert_eq!(scans_of("SELECT 1 FROM events WHERE type = 'x'"), 1);
    assert_eq!(scans_of("SELECT 1 FROM events WHERE row > 5"), 1);
    assert_eq!(scans_of("SELECT 1 FROM deliveries d WHERE subject = 'x'"), 1);
    assert_eq!(scans_of("SELECT 1 FROM events WHERE row = ?1"), 0);
    assert_eq!(scans_of("SELECT 1 FROM endpoints"), 0);
}

#[test]
fn every_statement_is_known() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sqlite");
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("\nstatements! {") {
            assert!(
                MODULES.iter().any(|(module, _)| *module == name),
                "{name} is not listed"
            );
        }
        // Those that open a state, and the one place that prepares statements.
        if ["open", "schema", "statement", "tests", "checksum"].contains(&&*name) {
            continue;
        }
        for call in [
            ".prepare_cached(",
            "conn.prepare(",
            "conn.query_row(",
            "conn.execute(",
        ] {
            assert!(!text.contains(call), "{name} has a statement of its own: {call}");
        }
    }
}
