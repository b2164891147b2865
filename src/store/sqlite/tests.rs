use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::OpenFlags;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::schema::{self, DatabaseKind};
use super::*;
use crate::core::event::EventType;
use crate::core::watch_list::WatchKey;
use crate::store::change::{ChangeRows, EventRow, StateRow};
use crate::store::delivery::{Delivery, DueDeliveries, OutboxEndpoint, Settlement};
use crate::store::event_log::{Cursor, EventLogFilter, EventPage};
use crate::store::lock::{DirLock, Last};
use crate::store::request::{CommitError, WriteRequest};
use crate::store::status::StoreStatus;
use crate::store::writer::Writer;

mod plans;

/// States as each version wrote them, with something of everything in them. Never changed once a version is released.
const OLDER: &[&str] = &[
    include_str!("schema/fixture_1.sql"),
    include_str!("schema/fixture_2.sql"),
    include_str!("schema/fixture_3.sql"),
    include_str!("schema/fixture_4.sql"),
];

#[test]
fn a_state_of_every_version_is_opened_and_brought_up_to_date() {
    assert_eq!(OLDER.len() as i64, schema::latest());
    for (fixture, version) in OLDER.iter().zip(1_i64..) {
        let dir = TempDir::new().unwrap();
        let conn = Connection::open(dir.path().join("state.db")).unwrap();
        conn.execute_batch(fixture).unwrap();
        assert_eq!(schema::kind(&conn).unwrap(), DatabaseKind::State(version));
        conn.close().unwrap();

        let (mut database, lock) = opened(dir.path());
        assert_eq!(
            schema::kind(&database.conn).unwrap(),
            DatabaseKind::State(schema::latest())
        );
        let key = WatchKey {
            project: "my-project".into(),
            operation: "op-1".into(),
        };
        let watches = state::load(&database.conn, std::slice::from_ref(&key)).unwrap();
        assert_eq!(watches.watches[&key].watch.sequence(), 3);
        assert_eq!(watches.damaged, []);
        let mut bad = Vec::new();
        assert!(
            state::load_project(&database.conn, "my-project", &mut bad)
                .unwrap()
                .is_some()
        );
        let page = page_of(&database, None, 10);
        assert_eq!(page.events.len(), 3);
        // A cursor as version 0.1 wrote it.
        let old: Cursor = "5da322f62fa191ef-2".parse().unwrap();
        assert_eq!(page.events[1].cursor, old);
        assert_eq!(page_of(&database, Some(&old), 10).events.len(), 1);
        let due = due_now(&database, "crm-sync");
        assert_eq!(due.ready.len(), 1);
        assert_eq!(due.ready[0].body, page.events[1].body);
        let copy = dir.path().join(format!("state.db.before-{}", schema::latest()));
        if version < schema::latest() {
            let conn = Connection::open(&copy).unwrap();
            assert_eq!(schema::kind(&conn).unwrap(), DatabaseKind::State(version));
            let events: i64 = conn
                .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
                .unwrap();
            assert_eq!(events, 3);
        } else {
            assert!(!copy.exists());
        }
        let project = Arc::from("my-project");
        let entries = sources::load(&database.conn, &project, 0, &mut bad).unwrap();
        let installations = installations::load(&database.conn, &project, 0, &mut bad).unwrap();
        let groups = groups::load(&database.conn, &project, 0, &mut bad).unwrap();
        let counts = (entries.rows.len(), installations.rows.len(), groups.rows.len());
        assert_eq!(counts, if version < 4 { (0, 0, 0) } else { (2, 1, 1) });
        assert_eq!(bad, []);
        let stats = endpoints::stats(&database.conn).unwrap();
        assert_eq!((stats[0].backlog, stats[0].dead_letters), (2, 1));
        database.write(&[record("a", EventType::Started, 1)]).unwrap();
        let page = page_of(&database, Some(&old), 10);
        assert_eq!(page.events.len(), 2);
        assert!(page.next.start.is_some());
        database.close().unwrap();
        lock.release(&dir.path().join("state.db")).unwrap();
        open_beside(dir.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    }
}

#[test]
fn finished_watches_of_version_0_1_are_kept_and_no_group_has_completed() {
    let dir = TempDir::new().unwrap();
    let conn = Connection::open(dir.path().join("state.db")).unwrap();
    checksum::install(&conn).unwrap();
    conn.execute_batch(OLDER[2]).unwrap();
    conn.execute_batch(
        "CREATE TEMP TABLE done AS
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             SELECT i, printf('done-%d', i) AS id FROM n;
         INSERT INTO watches (project, operation, state, saved, checksum)
             SELECT project, id, state, saved, row_checksum(project, id, state, saved, NULL)
             FROM done, (SELECT project, json_set(state, '$.phase', 'succeeded') AS state, saved FROM watches);
         INSERT INTO events
             SELECT 3 + i, id, type, project, id, time, recorded, body,
                 row_checksum(3 + i, id, type, project, id, time, recorded, body)
             FROM done, (SELECT 'operation.succeeded' AS type, project, time, recorded,
                             json_set(body, '$.data.labels.group', 'acme') AS body FROM events WHERE row = 3);",
    )
    .unwrap();
    conn.close().unwrap();

    let (database, _lock) = opened(dir.path());
    let keys: Vec<WatchKey> = (1..=1000)
        .map(|number| WatchKey::of(&"my-project".into(), &format!("done-{number}").into()))
        .collect();
    let loaded = state::load(&database.conn, &keys).unwrap();
    assert_eq!(loaded.damaged, []);
    assert_eq!(loaded.watches.len(), 1000);
    let mut watches = loaded.watches.values();
    assert!(watches.all(|record| record.watch.phase().is_finished()));
    assert_eq!(page_of(&database, None, 2000).events.len(), 1003);
    let (mut bad, project) = (Vec::new(), Arc::from("my-project"));
    let groups = groups::load(&database.conn, &project, 0, &mut bad).unwrap();
    assert_eq!(groups.rows, []);
    let entries = sources::load(&database.conn, &project, 0, &mut bad).unwrap();
    assert_eq!(entries.rows, []);
    let copy = Connection::open(dir.path().join("state.db.before-4")).unwrap();
    assert_eq!(schema::kind(&copy).unwrap(), DatabaseKind::State(3));
}

/// The state in `dir`, with nothing damaged in it.
fn opened(dir: &Path) -> (Database, DirLock) {
    let Opened {
        database,
        lock,
        damaged,
        ..
    } = open(dir, &Cancel::default()).unwrap();
    assert_eq!(damaged, []);
    (database, lock)
}

/// A page of the log, with nothing damaged in it.
fn page_of(database: &Database, after: Option<&Cursor>, limit: usize) -> EventPage {
    let mut bad = Vec::new();
    let page = events::page(&database.conn, after, limit, &EventLogFilter::default(), &mut bad).unwrap();
    assert_eq!(bad, []);
    page
}

fn due_now(database: &Database, endpoint: &str) -> DueDeliveries {
    let mut bad = Vec::new();
    let due = outbox::due(
        &database.conn,
        &endpoint.into(),
        Timestamp::MAX,
        1000,
        &[],
        &mut bad,
    )
    .unwrap();
    assert_eq!(bad, []);
    due
}

fn record(operation: &str, event_type: EventType, sequence: u64) -> Write {
    Write::Change(Box::new(ChangeRows {
        state: StateRow::Watch {
            key: key(operation),
            state: format!("{{\"sequence\":{sequence}}}"),
        },
        events: vec![EventRow {
            id: format!("evt_{operation}_{sequence}"),
            event_type,
            project: "p".into(),
            operation: Some(operation.into()),
            time: 0,
            body: sequence.to_string(),
        }],
        at: 1,
    }))
}

fn key(operation: &str) -> WatchKey {
    WatchKey {
        project: "p".into(),
        operation: operation.into(),
    }
}

fn endpoints_of(max_backlog: u64) -> Write {
    Write::Endpoints {
        endpoints: vec![OutboxEndpoint {
            name: "e".into(),
            events: EventType::ALL.to_vec(),
            max_backlog,
        }],
        at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn the_log_keeps_about_a_million_events_and_whatever_still_waits() {
    let mut database = open_memory().unwrap();
    database.write(&[endpoints_of(1000)]).unwrap();
    for sequence in 1..=1200 {
        database
            .write(&[record("a", EventType::Stalled, sequence)])
            .unwrap();
    }
    let first = ready(&database).remove(0);
    settle(&mut database, &first, Outcome::Delivered);
    // 200 became dead letters because the backlog is full, one was delivered, then a million others came.
    database
        .conn
        .execute_batch("UPDATE sqlite_sequence SET seq = 1001200 WHERE name = 'events'")
        .unwrap();
    let prune = || Write::Prune {
        at: Timestamp::UNIX_EPOCH,
        retention: std::time::Duration::from_secs(3600),
    };
    let mut pruned = || {
        let mut group = database.write(&[prune()]).unwrap();
        group.results.remove(0).unwrap().pruned
    };
    assert_eq!((pruned(), pruned()), (201, 0));
    check_outbox(&database);
    assert_eq!(ready(&database)[0].body, "202");
    let page = page_of(&database, None, 1);
    assert_eq!(page.events[0].body, "202");
}

// --- A full disk ---

fn ask(writer: &mut Writer, writes: Vec<Write>) -> Vec<Result<WriteResult, CommitError>> {
    let (requests, mut answers): (Vec<_>, Vec<_>) = writes
        .into_iter()
        .map(|write| {
            let (reply, answer) = oneshot::channel();
            (WriteRequest { write, reply }, answer)
        })
        .unzip();
    writer.write(requests);
    answers
        .iter_mut()
        .map(|answer| answer.try_recv().unwrap())
        .collect()
}

fn max_pages(database: &Database, pages: i64) {
    database
        .conn
        .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .unwrap();
}

#[test]
fn on_a_full_disk_a_whole_group_fails_with_the_reason_and_later_ones_succeed() {
    let dir = TempDir::new().unwrap();
    let (database, _lock) = opened(dir.path());
    let pages: i64 = database
        .conn
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    max_pages(&database, pages + 20);
    let status = Arc::new(StoreStatus::default());
    let mut writer = Writer::new(database, status.clone());
    assert_eq!(
        ask(&mut writer, vec![endpoints_of(1_000_000)]),
        [Ok(WriteResult::default())]
    );
    let mut recorded = 0;
    let failed = loop {
        let group = (1..=10)
            .map(|number| record("a", EventType::Started, recorded + number))
            .collect();
        let answers = ask(&mut writer, group);
        if answers[0].is_err() {
            break answers;
        }
        assert!(answers.iter().all(Result::is_ok));
        recorded += 10;
        assert!(recorded < 10_000, "the disk never fills");
    };
    for answer in failed {
        assert!(
            matches!(&answer, Err(CommitError::Unwritable(words)) if words.contains("full")),
            "{answer:?}"
        );
    }
    assert!(!status.is_writable());
    max_pages(writer.database(), 1_000_000);
    assert_eq!(
        ask(&mut writer, vec![record("a", EventType::Started, recorded + 1)]),
        [Ok(WriteResult::default())]
    );
    assert!(status.is_writable());
    let page = page_of(writer.database(), None, usize::MAX);
    assert_eq!(page.events.len() as u64, recorded + 1);
    check_outbox(writer.database());
}

#[test]
fn a_write_that_is_refused_does_not_fail_its_neighbours() {
    let mut database = open_memory().unwrap();
    let too_big = Write::Checkpoint {
        states: vec![StateRow::Project {
            name: "p".into(),
            // SQLite takes a billion bytes by default; this connection takes fewer.
            state: "x".repeat(200_000),
        }],
        at: Timestamp::UNIX_EPOCH,
    };
    database
        .conn
        .execute_batch(
            "CREATE TRIGGER small BEFORE INSERT ON projects WHEN length(NEW.state) > 100000
             BEGIN SELECT raise(ABORT, 'too big'); END",
        )
        .unwrap();
    let group = database
        .write(&[
            record("a", EventType::Started, 1),
            too_big,
            record("b", EventType::Started, 1),
        ])
        .unwrap();
    assert!(group.results[0].is_ok() && group.results[1].is_err() && group.results[2].is_ok());
    let page = page_of(&database, None, 10);
    assert_eq!(page.events.len(), 2);
}

// --- Anything in any order ---

#[derive(Debug, Clone)]
enum Step {
    ChangeRows {
        operation: usize,
        event_type: EventType,
    },
    Settle {
        which: usize,
        outcome: Outcome,
    },
    ReplaySelection {
        operation: usize,
    },
    ReplayDead,
    Backlog(u64),
    /// The process dies in the middle of a transaction.
    Crash,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Delivered,
    Retry,
    Dead,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event_type = prop_oneof![
        3 => Just(EventType::Progress),
        2 => Just(EventType::Stalled),
        1 => Just(EventType::Succeeded),
    ];
    let outcome = prop_oneof![
        Just(Outcome::Delivered),
        Just(Outcome::Retry),
        Just(Outcome::Dead)
    ];
    let step = prop_oneof![
        8 => (0..3_usize, event_type).prop_map(|(operation, event_type)| Step::ChangeRows { operation, event_type }),
        8 => (0..3_usize, outcome).prop_map(|(which, outcome)| Step::Settle { which, outcome }),
        1 => (0..3_usize).prop_map(|operation| Step::ReplaySelection { operation }),
        1 => Just(Step::ReplayDead),
        1 => (3..20_u64).prop_map(Step::Backlog),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

/// The marks and counters that are kept beside the rows say what the rows say.
fn check_outbox(database: &Database) {
    let count = |sql: &str| -> i64 { database.conn.query_row(sql, [], |row| row.get(0)).unwrap() };
    let heads = "SELECT group_concat(id) FROM (SELECT min(id) AS id FROM deliveries WHERE state = 0
                 GROUP BY endpoint, subject ORDER BY 1)";
    let marked = "SELECT group_concat(id) FROM (SELECT id FROM deliveries WHERE head = 1 ORDER BY 1)";
    let list = |sql: &str| -> Option<String> { database.conn.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(list(heads), list(marked));
    assert_eq!(
        check::find(&database.conn, schema::latest()).unwrap(),
        [],
        "no checksum fits"
    );
    for (counter, state) in [("backlog", 0), ("dead_letters", 2)] {
        assert_eq!(
            count(&format!("SELECT coalesce(sum({counter}), 0) FROM endpoints")),
            count(&format!("SELECT count(*) FROM deliveries WHERE state = {state}")),
            "{counter}"
        );
    }
}

/// What a crash leaves of `dir`.
fn image(dir: &TempDir) -> TempDir {
    let image = TempDir::new().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), image.path().join(entry.file_name())).unwrap();
    }
    image
}

fn ready(database: &Database) -> Vec<Delivery> {
    // Whatever waits for its time has waited long enough.
    let due = due_now(database, "e");
    assert_eq!(due.next_due, None);
    due.ready
}

/// Delivers all that waits; returns what was, by operation.
fn drain(database: &mut Database, delivered: &mut BTreeMap<String, Vec<(u64, bool)>>) {
    loop {
        let ready = ready(database);
        if ready.is_empty() {
            return;
        }
        for delivery in ready {
            settle(database, &delivery, Outcome::Delivered);
            note(delivered, &delivery);
        }
    }
}

fn note(delivered: &mut BTreeMap<String, Vec<(u64, bool)>>, delivery: &Delivery) {
    delivered
        .entry(delivery.subject.clone())
        .or_default()
        .push((delivery.body.parse().unwrap(), delivery.replay));
}

fn settle(database: &mut Database, delivery: &Delivery, outcome: Outcome) {
    let settled = match outcome {
        Outcome::Delivered => Settlement::Delivered,
        Outcome::Retry => Settlement::Retry {
            at: Timestamp::from_second(1000).unwrap(),
            error: "x".into(),
            counts: true,
        },
        Outcome::Dead => Settlement::Dead { error: "x".into() },
    };
    let write = Write::Settle {
        settled: vec![(delivery.id, settled)],
        at: Timestamp::UNIX_EPOCH,
    };
    database.write(&[write]).unwrap();
}

fn replay_all(database: &mut Database, replay: &ReplaySelection) {
    let until = last_delivery(&database.conn).unwrap();
    let mut after = 0;
    while let Some(next) = replay_slice(&mut database.conn, replay, None, after, until, 2)
        .unwrap()
        .next
    {
        after = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_order_and_events_are_kept(steps in steps()) {
        let mut dir = TempDir::new().unwrap();
        let (mut database, mut _lock) = opened(dir.path());
        // The machine does not crash in this test, processes do.
        let fast = |database: &Database| database.conn.pragma_update(None, "synchronous", "off").unwrap();
        fast(&database);
        database.write(&[endpoints_of(1000)]).unwrap();
        let mut recorded: BTreeMap<String, Vec<EventType>> = BTreeMap::new();
        let mut delivered = BTreeMap::new();
        for step in steps {
            match step {
                Step::ChangeRows { operation, event_type } => {
                    let events = recorded.entry(format!("p/op-{operation}")).or_default();
                    events.push(event_type);
                    let write = record(&format!("op-{operation}"), event_type, events.len() as u64);
                    database.write(&[write]).unwrap();
                }
                Step::Settle { which, outcome } => {
                    if let Some(delivery) = ready(&database).get(which) {
                        settle(&mut database, delivery, outcome);
                        if matches!(outcome, Outcome::Delivered) {
                            note(&mut delivered, delivery);
                        }
                    }
                }
                Step::ReplaySelection { operation } => {
                    replay_all(&mut database, &ReplaySelection::Operation(format!("op-{operation}")));
                }
                Step::ReplayDead => replay_all(&mut database, &ReplaySelection::DeadLetters),
                Step::Backlog(max) => {
                    database.write(&[endpoints_of(max)]).unwrap();
                }
                Step::Crash => {
                    database.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
                    let mut tx = Tx::new(&database.conn).unwrap();
                    tx.apply(&record("op-0", EventType::Succeeded, 1000)).unwrap();
                    let after = image(&dir);
                    drop(database);
                    (database, _lock) = opened(after.path());
                    prop_assert_eq!(_lock.last(), Last::Unclean);
                    fast(&database);
                    dir = after;
                }
            }
            check_outbox(&database);
        }
        drain(&mut database, &mut delivered);
        database.write(&[endpoints_of(1000)]).unwrap();
        replay_all(&mut database, &ReplaySelection::DeadLetters);
        drain(&mut database, &mut delivered);
        check_outbox(&database);

        for (subject, events) in recorded {
            let delivered = delivered.remove(&subject).unwrap_or_default();
            let live: Vec<u64> = delivered.iter().filter(|(_, is_replay)| !is_replay).map(|(sequence, _)| *sequence).collect();
            prop_assert!(live.is_sorted_by(|one, other| one < other), "{subject}: {live:?}");
            for (event_type, sequence) in events.iter().zip(1_u64..) {
                let count = delivered.iter().filter(|(found, _)| *found == sequence).count();
                prop_assert!(count > 0 || *event_type == EventType::Progress, "{subject} {sequence} was lost");
            }
            let filter = EventLogFilter { operation: Some(subject[2..].to_owned()), ..EventLogFilter::default() };
            let mut bad = Vec::new();
            let log = events::page(&database.conn, None, 1000, &filter, &mut bad).unwrap();
            prop_assert_eq!(bad, []);
            prop_assert_eq!(log.events.iter().map(|event| event.event_type).collect::<Vec<_>>(), events);
        }
    }
}
