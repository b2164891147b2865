//! Damaged states: one row at a time, and random bytes.

use std::path::PathBuf;

use super::*;
use crate::core::answer::Answer;
use crate::core::operation::{ActionType, Metadata, Operation, Progress, Status};
use crate::core::operation_kind::OperationKinds;
use crate::core::schedule::ScheduleSettings;
use crate::core::watch::{WatchContext, WatchSettings};

fn answer(status: &str, processed: u64) -> Answer {
    Answer::Operation(Box::new(Operation {
        project_id: Some("project-456".into()),
        integration_id: Some("113e".into()),
        config_id: Some("c".into()),
        installation_id: Some("6643".into()),
        action_type: Some(ActionType::Read),
        result: (status != "in_progress").then(|| "[contact] done".into()),
        create_time: Some("2026-11-23T11:48:35Z".parse().unwrap()),
        metadata: Some(Metadata {
            objects: Some(vec!["contact".into()]),
            retry: None,
            progress: Some(Progress {
                records_processed: Some(processed),
                records_estimated_total: Some(5000),
                ..Default::default()
            }),
        }),
        ..Operation::new("op".to_owned(), Status::from(status.to_owned()))
    }))
}

/// What `answer`, a minute later, brings.
fn observe(watch: &mut Watch, key: &WatchKey, answer: &Answer) -> Vec<Event> {
    let rules = WatchSettings {
        stalled_after: 30 * HOUR,
        silent_after: None,
        unreachable_after: Duration::from_mins(5),
        not_found_grace: Duration::from_mins(2),
        give_up_after: None,
        active_statuses: Vec::new(),
        progress_step: 10.0,
        progress_interval: Duration::from_mins(1),
    };
    watch
        .observe(
            answer,
            &WatchContext {
                key,
                labels: &vec![("customer".into(), "acme".into())],
                deadline: None,
                settings: &rules,
                schedule: &ScheduleSettings::DEFAULT,
                kinds: &OperationKinds::default(),
                now: now(),
                elapsed: Duration::from_mins(1),
                blocked: Duration::ZERO,
                random_fraction: 0.5,
                all_others_refused: false,
                project_proven: Some(Duration::ZERO),
                project_answered: Some(Duration::ZERO),
            },
        )
        .events
}

/// How many records a watch of that number has last.
fn last_count(number: u64) -> u64 {
    1000 + 500 * (number % 3)
}

fn last_status(number: u64) -> &'static str {
    ["in_progress", "in_progress", "success", "cancelled"][(number % 4) as usize]
}

const WATCHES: u64 = 24;

/// What is in a closed state.
struct Original {
    dir: TempDir,
    watches: HashMap<WatchKey, Watch>,
    events: Vec<StoredEvent>,
    /// Subject, event and body of what waits to be delivered.
    waiting: Vec<(String, String, String)>,
    recorded: Recorded,
}

async fn original() -> Original {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    store.commit(&api_change("p")).await.unwrap();
    let mut keys = Vec::new();
    for number in 0..WATCHES {
        let key = key(&format!("operation-{number}"));
        let mut watch = Watch::default();
        for (status, count) in [
            ("in_progress", 100),
            ("in_progress", last_count(number)),
            (last_status(number), last_count(number)),
        ] {
            let events = observe(&mut watch, &key, &answer(status, count));
            let subject = Subject::Watch(key.clone(), Box::new(watch.clone()));
            store.commit(&StateChange { subject, events }).await.unwrap();
        }
        keys.push(key);
    }
    for (delivery, number) in due(&store, "e").await.iter().zip(0..) {
        if number % 2 == 0 {
            settle(&store, delivery.id, Settlement::Delivered).await;
        }
    }
    for key in &keys {
        let entry = source_entry(key.clone(), Source::Api, "acme");
        store.put_source_entries(vec![entry]).await.unwrap();
    }
    store
        .withdraw_source_entry(keys[3].clone(), Source::Api)
        .await
        .unwrap();
    for (number, key) in keys.iter().take(3).enumerate() {
        let installations = vec![(
            format!("installation-{number}").into(),
            Some(installation("acme")),
        )];
        let found = vec![source_entry(key.clone(), Source::Discovery, "acme")];
        store
            .record_discovery("p".into(), installations, found)
            .await
            .unwrap();
        store
            .commit(&group_change(&format!("customer-{number}"), 2))
            .await
            .unwrap();
    }
    let recorded = Recorded::of(&store).await;
    let events = all_events(&store).await;
    threads.close().await.unwrap();
    let copy = copy_of(dir.path());
    let (store, threads) = Store::open(copy.path()).await.unwrap();
    let waiting = deliver_all(&store).await;
    let records = store.load(keys).await.unwrap().watches;
    let watches = records
        .into_iter()
        .map(|(key, record)| (key, record.watch))
        .collect();
    threads.close().await.unwrap();
    Original {
        dir,
        watches,
        events,
        waiting,
        recorded,
    }
}

/// What is stored besides watches and events.
#[derive(Debug, Clone, PartialEq)]
struct Recorded {
    /// Without terms, for which a rebuilt entry has others.
    entries: Vec<(WatchKey, Source)>,
    terms: Vec<Arc<Terms>>,
    installations: Vec<(Arc<str>, StoredInstallation)>,
    groups: Vec<(GroupId, GroupRecord)>,
}

impl Recorded {
    async fn of(store: &Store) -> Self {
        let entries = all_entries(store, "p").await;
        let (entries, terms) = entries
            .into_iter()
            .map(|entry| ((entry.key, entry.source), entry.terms))
            .unzip();
        Self {
            entries,
            terms,
            installations: store.load_installations("p".into()).await.unwrap(),
            groups: store.load_groups("p".into()).await.unwrap(),
        }
    }
}

/// Delivers whatever waits; returns subject, event and body of each.
async fn deliver_all(store: &Store) -> Vec<(String, String, String)> {
    let mut delivered = Vec::new();
    loop {
        let ready = due(store, "e").await;
        let settled = ready.iter().map(|delivery| (delivery.id, Settlement::Delivered));
        store.settle_deliveries(settled.collect(), now()).await.unwrap();
        for delivery in &ready {
            delivered.push((
                delivery.subject.clone(),
                delivery.event_id.clone(),
                delivery.body.clone(),
            ));
        }
        if ready.is_empty() {
            // What turned out damaged is moved aside by the writer, and others follow.
            store.end_of_log().await.unwrap();
            store.set_listed(vec![key("none")]).await.unwrap();
            if due(store, "e").await.is_empty() {
                return delivered;
            }
        }
    }
}

pub(super) fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn state_file(dir: &TempDir) -> PathBuf {
    dir.path().join("state.db")
}

/// Numbers that look random and are the same each time.
struct SeededBytes(u64);

impl SeededBytes {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Opens what a flip left and compares it with what was there. Returns whether it could be opened.
async fn is_sound(original: &Original, dir: &TempDir, what: &str) -> bool {
    let before = fs::read(state_file(dir)).unwrap();
    let (store, threads) = match Store::open(dir.path()).await {
        Ok(opened) => opened,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("state.db"), "{what}: {text}");
            assert!(
                matches!(
                    error,
                    OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Newer { .. }
                ),
                "{what}: {text}"
            );
            assert!(fs::read(state_file(dir)).unwrap() == before, "{what}: {text}");
            return false;
        }
    };
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    let keys: Vec<WatchKey> = original.watches.keys().cloned().collect();
    let loaded = store.load(keys.clone()).await.unwrap();
    let events = all_events(&store).await;
    assert!(store.load_project("p").await.unwrap().is_some(), "{what}");
    let delivered = deliver_all(&store).await;
    let recorded = Recorded::of(&store).await;
    let damaged = store.health().damaged_rows;
    if damaged == 0 {
        assert_eq!(recorded, original.recorded, "{what}");
    }
    let mut entries = recorded.entries.clone();
    // What was rebuilt has a new row. It is unknown whether an entry was withdrawn.
    entries.retain(|entry| damaged == 0 || original.recorded.entries.contains(entry));
    entries.sort_unstable_by_key(|entry| original.recorded.entries.iter().position(|one| one == entry));
    let mut groups = recorded.groups.clone();
    groups.sort_unstable_by_key(|group| original.recorded.groups.iter().position(|one| one == group));
    let lost = self::missing(&original.recorded.entries, &entries, what)
        + self::missing(&original.recorded.installations, &recorded.installations, what)
        + self::missing(&original.recorded.groups, &groups, what);
    assert!(
        lost <= damaged,
        "{what}: {lost} rows are missing, {damaged} are reported"
    );

    for (key, number) in (0..WATCHES).map(|number| (self::key(&format!("operation-{number}")), number)) {
        let was = &original.watches[&key];
        let Some(record) = loaded.watches.get(&key) else {
            panic!("{what}: {key} is lost");
        };
        if damaged == 0 {
            assert_eq!(record.watch, *was, "{what}");
        }
        let mut watch = record.watch.clone();
        assert_eq!(watch.phase(), was.phase(), "{what}: {key}");
        assert_eq!(watch.sequence(), was.sequence(), "{what}: {key}");
        if !watch.phase().is_finished() {
            let again = observe(&mut watch, &key, &answer("in_progress", last_count(number)));
            assert_eq!(again, [], "{what}: {key}");
        }
    }
    // Rows, times and bodies are what they were, in the same order; what is missing was reported.
    let facts = |events: &[StoredEvent]| -> Vec<(String, Timestamp, String)> {
        events
            .iter()
            .map(|event| (event.id.clone(), event.timestamp, event.body.clone()))
            .collect()
    };
    let missing = missing(&facts(&original.events), &facts(&events), what);
    assert!(
        missing <= damaged,
        "{what}: {missing} events are missing, {damaged} rows are reported"
    );
    let mut undelivered = 0;
    for subject in original
        .waiting
        .iter()
        .map(|waiting| &waiting.0)
        .collect::<HashSet<_>>()
    {
        let of = |all: &[(String, String, String)]| -> Vec<(String, String, String)> {
            all.iter().filter(|one| one.0 == *subject).cloned().collect()
        };
        undelivered += self::missing(&of(&original.waiting), &of(&delivered), what);
    }
    assert!(
        delivered.len() as u64 + undelivered == original.waiting.len() as u64,
        "{what}"
    );
    assert!(
        undelivered <= damaged,
        "{what}: {undelivered} deliveries are missing, {damaged} rows are reported"
    );
    // What is recorded now follows.
    let last = events.last().map(|event| event.cursor.clone());
    store
        .commit(&change("later", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    let page = store
        .events_after(last, 10, EventLogFilter::default())
        .await
        .unwrap();
    assert_eq!(page.events.len(), 1, "{what}");
    threads.close().await.unwrap();
    let (_store, threads) = Store::open(dir.path()).await.unwrap();
    threads.close().await.unwrap();
    true
}

/// How many of `before` are not in `after`, which has nothing else and keeps the order.
fn missing<T: PartialEq + std::fmt::Debug>(before: &[T], after: &[T], what: &str) -> u64 {
    let mut rest = before.iter();
    let mut missing = 0;
    for one in after {
        loop {
            match rest.next() {
                Some(other) if other == one => break,
                Some(_) => missing += 1,
                None => panic!("{what}: {one:?} was never there, or comes twice, or too late"),
            }
        }
    }
    missing + rest.count() as u64
}

#[tokio::test]
async fn after_a_flipped_byte_everything_readable_is_there_or_the_state_is_refused() {
    let flips: u64 = std::env::var("BACKFILL_WATCH_FLIPS").map_or(60, |count| count.parse().unwrap());
    let seed: u64 = std::env::var("BACKFILL_WATCH_SEED").map_or(1, |seed| seed.parse().unwrap());
    let original = original().await;
    let size = fs::metadata(state_file(&original.dir)).unwrap().len();
    let (mut opened, mut changed) = (0, 0);
    for flip in 0..flips {
        let mut random = SeededBytes(seed.wrapping_add(flip).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.below(2);
        let dir = copy_of(original.dir.path());
        let mut bytes = fs::read(state_file(&dir)).unwrap();
        let (place, bit) = (random.below(size), random.below(8));
        bytes[usize::try_from(place).unwrap()] ^= 1 << bit;
        fs::write(state_file(&dir), &bytes).unwrap();
        let what = format!("flip {flip}: bit {bit} of byte {place} of {size}");
        changed += 1;
        opened += u64::from(is_sound(&original, &dir, &what).await);
    }
    eprintln!("{opened} of {changed} damaged states were opened");
    assert!(opened * 2 > changed, "{opened} of {changed} were opened");
}

/// Damages a row with `sql`, in a state that is open.
fn damage(dir: &TempDir, sql: &str) {
    let conn = Connection::open(state_file(dir)).unwrap();
    assert_eq!(conn.execute(sql, []).unwrap(), 1, "{sql}");
}

#[tokio::test]
async fn each_damaged_row_costs_what_it_is_about_and_nothing_else() {
    let event_of_7 = "FROM events WHERE operation = 'operation-7' ORDER BY row LIMIT 1";
    let cases = [
        "UPDATE watches SET state = '{\"phase\":' WHERE operation = 'operation-7'".to_owned(),
        "UPDATE watches SET state = '{\"phase\": 7}' WHERE operation = 'operation-7'".to_owned(),
        "UPDATE watches SET state = CAST(X'7BFFFE7D' AS TEXT) WHERE operation = 'operation-7'".to_owned(),
        "UPDATE watches SET saved = 9223372036854775807 WHERE operation = 'operation-7'".to_owned(),
        "UPDATE watches SET project = 'other' WHERE operation = 'operation-7'".to_owned(),
        "DELETE FROM watches WHERE operation = 'operation-7'".to_owned(),
        format!("UPDATE events SET body = 'x' WHERE row = (SELECT row {event_of_7})"),
        format!("UPDATE events SET type = 'operation.exploded' WHERE row = (SELECT row {event_of_7})"),
        format!("UPDATE events SET id = CAST(X'FF' AS TEXT) WHERE row = (SELECT row {event_of_7})"),
        format!("UPDATE events SET time = 9223372036854775807 WHERE row = (SELECT row {event_of_7})"),
        "UPDATE projects SET state = 'x'".to_owned(),
        "UPDATE projects SET name = CAST(X'FF' AS TEXT)".to_owned(),
        "UPDATE source_entries SET terms = '{}' WHERE operation = 'operation-7'".to_owned(),
        "UPDATE source_entries SET terms = CAST(X'FF' AS TEXT) WHERE operation = 'operation-7'".to_owned(),
        "UPDATE source_entries SET project = CAST(X'FF' AS TEXT) WHERE operation = 'operation-7'".to_owned(),
        "UPDATE source_entries SET source = 'apj' WHERE operation = 'operation-7'".to_owned(),
        "UPDATE source_entries SET withdrawn = 1 WHERE operation = 'operation-7'".to_owned(),
        "UPDATE source_entries SET withdrawn = NULL WHERE operation = 'operation-3'".to_owned(),
        "UPDATE installations SET state = 'x' WHERE installation = 'installation-1'".to_owned(),
        "UPDATE installations SET installation = CAST(X'FF' AS TEXT) WHERE installation = 'installation-1'".to_owned(),
        "UPDATE groups SET state = '{}' WHERE row = 1".to_owned(),
        "UPDATE groups SET group_id = 5 WHERE row = 1".to_owned(),
        "UPDATE endpoints SET name = 'other'".to_owned(),
        "UPDATE endpoints SET name = CAST(X'FF' AS TEXT)".to_owned(),
        "UPDATE endpoints SET types = CAST(X'FF' AS TEXT)".to_owned(),
        "UPDATE endpoints SET backlog = -1".to_owned(),
        "UPDATE endpoints SET max_backlog = -1".to_owned(),
        "UPDATE deliveries SET subject = CAST(X'FF' AS TEXT) WHERE id = (SELECT max(id) FROM deliveries WHERE state = 0)"
            .to_owned(),
        "UPDATE deliveries SET due = -5 WHERE id = (SELECT min(id) FROM deliveries WHERE head = 1)".to_owned(),
        "UPDATE deliveries SET state = 0 WHERE id = (SELECT min(id) FROM deliveries WHERE state = 1)".to_owned(),
        "UPDATE state SET id = '00'".to_owned(),
        "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'events'".to_owned(),
        "UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'deliveries'".to_owned(),
        "UPDATE starts SET first_row = 2 WHERE first_row > 0".to_owned(),
    ];
    let original = original().await;
    for sql in &cases {
        // Before a start, which checks the state, since somebody else wrote to it.
        let dir = copy_of(original.dir.path());
        damage(&dir, sql);
        assert!(is_sound(&original, &dir, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn a_page_is_complete_while_damaged_rows_are_moved_aside() {
    let original = original().await;
    let dir = copy_of(original.dir.path());
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    let conn = Connection::open(state_file(&dir)).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    for round in 0..25 {
        conn.execute("UPDATE source_entries SET terms = 'x' WHERE source = 'api'", [])
            .unwrap();
        conn.execute("UPDATE groups SET state = 'x'", []).unwrap();
        // The first one has the rows moved aside, the next ones read at the same time.
        for read in 0..4 {
            let recorded = Recorded::of(&store).await;
            assert_eq!(
                recorded.entries.len(),
                original.recorded.entries.len(),
                "{round}, {read}"
            );
            assert_eq!(
                recorded.groups.len(),
                original.recorded.groups.len(),
                "{round}, {read}"
            );
        }
    }
    drop(conn);
    threads.close().await.unwrap();
}

/// As a disk does it: without a sign that anything was written. The next reader of the row notices.
#[tokio::test]
async fn what_is_damaged_while_it_is_open_is_moved_aside_when_it_is_read() {
    let original = original().await;
    let dir = copy_of(original.dir.path());
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    let unknown = source_entry(key("unknown"), Source::Api, "acme");
    store.put_source_entries(vec![unknown]).await.unwrap();
    let mut rows = 0;
    let mut reported = 0;
    for sql in [
        "UPDATE watches SET state = 'x' WHERE operation = 'operation-4'",
        "UPDATE watches SET unlisted = 'x' WHERE 0 OR operation = 'operation-5'",
        "UPDATE events SET body = 'x' WHERE row = (SELECT event FROM deliveries WHERE head = 1 ORDER BY id LIMIT 1)",
        "UPDATE deliveries SET attempts = 9 WHERE id = (SELECT max(id) FROM deliveries WHERE head = 1)",
        "UPDATE projects SET state = 'x'",
        "UPDATE source_entries SET terms = 'x' WHERE operation = 'operation-7'",
        "UPDATE source_entries SET terms = 'x' WHERE operation = 'operation-8'",
        "UPDATE source_entries SET terms = 'x' WHERE operation = 'unknown'",
        "UPDATE installations SET state = 'x' WHERE installation = 'installation-1'",
        "UPDATE groups SET state = 'x' WHERE row = 1",
    ] {
        let conn = Connection::open(state_file(&dir)).unwrap();
        rows += u64::try_from(conn.execute(sql, []).unwrap_or(0)).unwrap();
    }
    let keys: Vec<WatchKey> = original.watches.keys().cloned().collect();
    let loaded = store.load(keys.clone()).await.unwrap();
    assert_eq!(loaded.damaged.len(), 1);
    assert_eq!(loaded.damaged[0].key, key("operation-4"));
    assert!(loaded.damaged[0].is_rebuilt);
    reported += 1;
    assert_eq!(store.health().damaged_rows, reported);
    // It was stored again.
    assert_eq!(store.load(keys).await.unwrap().damaged, []);
    let project = store.load_project("p").await.unwrap();
    assert!(project.is_some());
    // A write notices it, too.
    let withdrawal = store.withdraw_source_entry(key("operation-8"), Source::Api).await;
    assert_eq!(withdrawal, Ok(Withdrawal::Withdrawn));
    let was = &original.recorded;
    let is_left = |entry: &&(WatchKey, Source)| entry.0 != key("operation-8");
    for _ in 0..2 {
        let mut entries = all_entries(&store, "p").await;
        let rebuilt = entries.pop().unwrap();
        assert_eq!((&rebuilt.key, rebuilt.source), (&key("operation-7"), Source::Api));
        assert_eq!(rebuilt.terms.labels, [("customer".to_owned(), "acme".to_owned())]);
        let mut keys: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.key, entry.source))
            .collect();
        keys.push((rebuilt.key, rebuilt.source));
        keys.sort_unstable_by_key(|entry| was.entries.iter().position(|one| one == entry));
        assert!(keys.iter().eq(was.entries.iter().filter(is_left)));
        assert_eq!(store.load_installations("p".into()).await.unwrap().len(), 2);
        let groups = store.load_groups("p".into()).await.unwrap();
        assert_eq!(
            groups,
            [was.groups[1], was.groups[2], was.groups[0]],
            "one is rebuilt"
        );
    }
    let delivered = deliver_all(&store).await;
    assert!(delivered.len() < original.waiting.len());
    let events = all_events(&store).await;
    assert_eq!(events.len() + 1, original.events.len());
    // The delivery of the damaged event, too.
    assert_eq!(store.health().damaged_rows, rows + 1);
    let conn = Connection::open(state_file(&dir)).unwrap();
    let kept: u64 = conn
        .query_row("SELECT count(*) FROM damaged_rows", [], |row| {
            row.get::<_, u32>(0)
        })
        .unwrap()
        .into();
    assert_eq!(kept, rows + 1);
    threads.close().await.unwrap();
}
