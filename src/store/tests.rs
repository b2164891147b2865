use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::clock;
use crate::core::deadline::Deadline;
use crate::core::discovery::StoredInstallation;
use crate::core::event::{ApiData, CompletedRound, Event, EventId, EventType, GroupData};
use crate::core::group::{GroupId, GroupRecord};
use crate::core::source::{Source, Terms};

mod cursors;
mod damage;
mod deliveries;
mod files;
mod sources;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn now() -> Timestamp {
    clock::wall()
}

fn key(operation: &str) -> WatchKey {
    WatchKey {
        project: "p".into(),
        operation: operation.into(),
    }
}

/// An event of `operation` with that number.
fn event(operation: &str, event_type: EventType, sequence: u64) -> Event {
    let mut data = Watch::default().data(&key(operation), &Vec::new(), now());
    data.sequence = sequence;
    Event::operation(&key(operation), event_type, &sequence.to_string(), now(), data)
}

fn change(operation: &str, events: &[(EventType, u64)]) -> StateChange {
    StateChange {
        subject: Subject::Watch(key(operation), Box::default()),
        events: events
            .iter()
            .map(|(event_type, sequence)| event(operation, *event_type, *sequence))
            .collect(),
    }
}

fn api_change(project: &str) -> StateChange {
    let data = ApiData {
        project: project.to_owned(),
        since: now(),
        reason: "because".into(),
    };
    StateChange {
        subject: Subject::Project(project.into(), Box::default()),
        events: vec![Event::api(EventType::ApiUnreachable, now(), data)],
    }
}

fn group_change(group: &str, round: u32) -> StateChange {
    let of = CompletedRound {
        project: "p",
        label: "group",
        group,
        round,
    };
    StateChange {
        subject: Subject::Group(
            "p".into(),
            GroupId::new("group", group),
            GroupRecord {
                completed: round,
                ..GroupRecord::default()
            },
        ),
        events: vec![Event::group_completed(now(), GroupData::new(of, [], []))],
    }
}

fn source_entry(key: WatchKey, source: Source, customer: &str) -> SourceEntry {
    let terms = Terms {
        labels: vec![("customer".into(), customer.into())],
        deadline: Deadline::parse("1h30m").ok(),
    };
    SourceEntry {
        key,
        source,
        terms: Arc::new(terms),
    }
}

fn installation(group: &str) -> StoredInstallation {
    serde_json::from_value(serde_json::json!({
        "integration": "i",
        "group": group,
        "first_seen": "2026-11-23T12:00:00Z",
        "objects": {"contact": {"fingerprint": u64::MAX, "changed": "2026-11-23T12:00:00Z", "operation": "a"}},
    }))
    .unwrap()
}

/// What sources ask of a project, from all pages.
async fn all_entries(store: &Store, project: &str) -> Vec<SourceEntry> {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = store.load_source_entries(project.into(), after).await.unwrap();
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return entries;
        }
    }
}

fn endpoint(name: &str) -> OutboxEndpoint {
    OutboxEndpoint {
        name: name.into(),
        events: EventType::ALL.to_vec(),
        max_backlog: 1000,
    }
}

async fn with_endpoint(name: &str) -> Store {
    let store = Store::in_memory();
    store.sync_endpoints(vec![endpoint(name)], now()).await.unwrap();
    store
}

async fn due(store: &Store, endpoint: &str) -> Vec<Delivery> {
    let due = store
        .due_deliveries(endpoint.into(), now(), 1000, Vec::new())
        .await;
    due.unwrap().ready
}

/// What is due as `operation sequence`.
async fn due_names(store: &Store, endpoint: &str) -> Vec<String> {
    due(store, endpoint).await.iter().map(name).collect()
}

fn name(delivery: &Delivery) -> String {
    let body: serde_json::Value = serde_json::from_str(&delivery.body).unwrap();
    let data = &body["data"];
    match data["operationId"].as_str() {
        Some(operation) => format!("{operation} {}", data["sequence"]),
        None => delivery.subject.clone(),
    }
}

async fn settle(store: &Store, id: DeliveryId, settled: Settlement) {
    store.settle_deliveries(vec![(id, settled)], now()).await.unwrap();
}

/// Delivers everything that is due until nothing is, and returns it.
async fn drain(store: &Store, endpoint: &str) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let ready = due(store, endpoint).await;
        if ready.is_empty() {
            return names;
        }
        for delivery in ready {
            names.push(name(&delivery));
            settle(store, delivery.id, Settlement::Delivered).await;
        }
    }
}

async fn stats(store: &Store) -> EndpointStats {
    store.endpoint_stats().await.unwrap().remove(0)
}

fn retry(at: Timestamp) -> Settlement {
    Settlement::Retry {
        at,
        error: "503".into(),
        counts: true,
    }
}

async fn all_events(store: &Store) -> Vec<StoredEvent> {
    store
        .events_after(None, usize::MAX, EventLogFilter::default())
        .await
        .unwrap()
        .events
}

// --- State ---

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    let mut watch = Watch::default();
    watch.resume(Duration::from_secs(1));
    let change = StateChange {
        subject: Subject::Watch(key("a"), Box::new(watch.clone())),
        events: vec![event("a", EventType::Started, 1)],
    };
    let before = now();
    store.commit(&change).await.unwrap();
    store.checkpoint(vec![(key("b"), watch.clone())]).await.unwrap();
    store.commit(&api_change("p")).await.unwrap();
    threads.close().await.unwrap();
    assert_eq!(
        store.commit(&self::change("c", &[])).await,
        Err(CommitError::Closed),
        "a handle that outlives its threads is told so"
    );

    let (store, threads) = Store::open(dir.path()).await.unwrap();
    let found = store
        .load(vec![key("a"), key("b"), key("c")])
        .await
        .unwrap()
        .watches;
    assert_eq!(found.len(), 2);
    assert_eq!(found[&key("a")].watch, watch);
    assert_eq!(found[&key("b")].watch, watch);
    assert_eq!(found[&key("a")].unlisted, None);
    assert!(found[&key("a")].saved.duration_since(before).as_secs() < 60);
    assert_eq!(
        store.load_project("p").await.unwrap(),
        Some(ProjectHealth::default())
    );
    assert_eq!(store.load_project("q").await.unwrap(), None);
    assert_eq!(all_events(&store).await.len(), 2);
    threads.close().await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_that_was_overtaken_puts_no_older_state_back() {
    let store = Store::in_memory();
    let older = Watch::default();
    let mut newer = older.clone();
    newer.start_again();
    let subject = Subject::Watch(key("a"), Box::new(newer.clone()));
    let events = Vec::new();
    store.commit(&StateChange { subject, events }).await.unwrap();
    store.checkpoint(vec![(key("a"), older)]).await.unwrap();
    let mut states = store.load(vec![key("a")]).await.unwrap().watches;
    assert_eq!(states.remove(&key("a")).unwrap().watch, newer);
}

#[tokio::test]
async fn an_event_whose_id_is_known_is_not_recorded_again() {
    let store = with_endpoint("e").await;
    let mut changes = store.changed();
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    assert!(!changes.has_changed().unwrap(), "nothing was recorded");
    assert_eq!(all_events(&store).await.len(), 1);
    assert_eq!(drain(&store, "e").await, ["a 1"]);
}

#[tokio::test]
async fn leaving_and_joining_the_list_is_noted() {
    let store = Store::in_memory();
    let state = vec![(key("a"), Watch::default()), (key("b"), Watch::default())];
    store.checkpoint(state).await.unwrap();
    let unlisted = async |operation: &str| {
        store.load(vec![key(operation)]).await.unwrap().watches[&key(operation)].unlisted
    };
    let left: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    store.set_unlisted(vec![key("a")], left).await.unwrap();
    assert_eq!(unlisted("a").await, Some(left));
    let later = left + HOUR;
    store.reconcile_listed(vec![key("a")], later).await.unwrap();
    assert_eq!(unlisted("a").await, Some(left), "it comes back with `set_listed`");
    assert_eq!(unlisted("b").await, Some(later));
    store.reconcile_listed(vec![], later + HOUR).await.unwrap();
    assert_eq!(unlisted("b").await, Some(later), "it left only once");
    store.set_listed(vec![key("a")]).await.unwrap();
    assert_eq!(unlisted("a").await, None);
}

// --- The log ---

#[tokio::test]
async fn the_log_is_read_in_pages() {
    let store = Store::in_memory();
    for operation in ["a", "b", "c"] {
        let events = [(EventType::Started, 1), (EventType::Succeeded, 2)];
        store.commit(&change(operation, &events)).await.unwrap();
    }
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let page = store
            .events_after(cursor, 4, EventLogFilter::default())
            .await
            .unwrap();
        seen.extend(page.events.iter().map(|event| event.body.clone()));
        cursor = Some(page.next);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.len(), 6);
    let end = store.end_of_log().await.unwrap();
    assert_eq!(cursor, Some(end.clone()));
    let filter = EventLogFilter {
        operation: Some("b".into()),
        types: Some(vec![EventType::Succeeded]),
        ..EventLogFilter::default()
    };
    let page = store.events_after(None, 10, filter.clone()).await.unwrap();
    assert_eq!(page.events.len(), 1);
    assert!(page.events[0].data().contains("\"operationId\":\"b\""));
    assert_eq!(page.next, end, "what does not match was passed over");
    store
        .commit(&change("b", &[(EventType::Failed, 3)]))
        .await
        .unwrap();
    let page = store.events_after(Some(end.clone()), 10, filter).await.unwrap();
    assert_eq!(page.events, []);
    assert!(page.next != end);
}

#[tokio::test]
async fn cursors_of_other_states_and_of_dropped_events_are_refused() {
    let store = Store::in_memory();
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    store
        .commit(&change("b", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    let after = async |cursor: &Cursor| {
        store
            .events_after(Some(cursor.clone()), 10, EventLogFilter::default())
            .await
    };
    let first = all_events(&store).await[0].cursor.clone();
    assert_eq!(after(&first).await.unwrap().events.len(), 1);

    let other = Store::in_memory().end_of_log().await.unwrap();
    assert!(matches!(after(&other).await, Err(EventsError::Foreign)));
    let beyond = Cursor {
        row: 3,
        ..first.clone()
    };
    assert!(matches!(after(&beyond).await, Err(EventsError::Foreign)));

    store.set_unlisted(vec![key("b")], now()).await.unwrap();
    store.prune(now() + HOUR, Duration::ZERO).await.unwrap();
    assert!(matches!(after(&first).await, Err(EventsError::Expired)));
    let page = store
        .events_after(None, 10, EventLogFilter::default())
        .await
        .unwrap();
    assert_eq!(page.events.len(), 1);
    // Who begins with the oldest and finds holes is not refused halfway.
    let halfway: Cursor = page.events[0].cursor.to_string().parse().unwrap();
    assert_eq!(after(&halfway).await.unwrap().events, []);
    assert!(after(&page.next).await.is_ok());
}

// --- The outbox ---

#[tokio::test]
async fn of_each_subject_only_the_first_that_waits_is_due() {
    let store = with_endpoint("e").await;
    let events = [
        (EventType::Started, 1),
        (EventType::Stalled, 2),
        (EventType::Resumed, 3),
    ];
    store.commit(&change("a", &events)).await.unwrap();
    store.commit(&change("b", &events[..1])).await.unwrap();
    store.commit(&api_change("p")).await.unwrap();
    assert_eq!(due_names(&store, "e").await, ["a 1", "b 1", "p/"]);
    let first = due(&store, "e").await.remove(0);
    assert_eq!(
        (first.attempts, first.first_attempt, first.replay),
        (0, None, false)
    );
    assert_eq!(first.subject, "p/a");
    let oldest = stats(&store).await.oldest.unwrap();
    let event = oldest.event.unwrap();
    assert_eq!(
        (
            event.id,
            event.event_type,
            &*event.project,
            event.subject.as_deref()
        ),
        (first.event_id.clone(), EventType::Started, "p", Some("a"))
    );
    assert_eq!((oldest.attempts, oldest.next_attempt), (0, None));
    assert_eq!(oldest.recorded, first.recorded);

    // In flight: neither it nor what follows it.
    let rest = store
        .due_deliveries("e".into(), now(), 1, vec![first.id])
        .await
        .unwrap();
    assert_eq!(rest.ready.iter().map(name).collect::<Vec<_>>(), ["b 1"]);

    // Waiting for its time: the same.
    let later = now() + HOUR;
    settle(&store, first.id, retry(later)).await;
    assert_eq!(due_names(&store, "e").await, ["b 1", "p/"]);
    let oldest = stats(&store).await.oldest.unwrap();
    let next_attempt = oldest.next_attempt.map(Timestamp::as_millisecond);
    assert_eq!((oldest.attempts, next_attempt), (1, Some(later.as_millisecond())));
    let waiting = store
        .due_deliveries("e".into(), now(), 10, Vec::new())
        .await
        .unwrap();
    assert_eq!(
        waiting.next_due.map(Timestamp::as_millisecond),
        Some(later.as_millisecond())
    );
    let due = store
        .due_deliveries("e".into(), later, 10, Vec::new())
        .await
        .unwrap();
    assert_eq!(
        due.ready.iter().map(name).collect::<Vec<_>>(),
        ["a 1", "b 1", "p/"]
    );
    assert_eq!(due.ready[0].attempts, 1);
    assert!(due.ready[0].first_attempt.is_some());
    assert_eq!(due.next_due, None);

    settle(&store, first.id, Settlement::Dead { error: "400".into() }).await;
    assert_eq!(drain(&store, "e").await, ["a 2", "b 1", "p/", "a 3"]);
    let stats = stats(&store).await;
    assert_eq!((stats.backlog, stats.dead_letters), (0, 1));
    assert!(stats.last_success.is_some() && stats.oldest.is_none());
    assert_eq!(stats.last_error.as_deref(), Some("400"));
}

#[tokio::test]
async fn what_was_put_off_by_a_clock_that_was_set_back_since_is_due() {
    let store = with_endpoint("e").await;
    let at = now();
    for operation in ["a", "b", "c"] {
        store
            .commit(&change(operation, &[(EventType::Started, 1)]))
            .await
            .unwrap();
    }
    // One was tried a day later by the clock, one before it was set back, one never.
    let [a, b, _] = due(&store, "e").await.try_into().unwrap();
    let day = HOUR * 24;
    for (id, tried) in [(a.id, at + day), (b.id, at - HOUR)] {
        store
            .settle_deliveries(vec![(id, retry(at + day + HOUR))], tried)
            .await
            .unwrap();
    }
    let names = async |time| {
        let due = store.due_deliveries("e".into(), time, 10, Vec::new());
        due.await.unwrap().ready.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(at).await, ["a 1", "c 1"]);
    assert_eq!(names(at + day).await, ["c 1"]);
    assert_eq!(names(at + day + HOUR).await, ["a 1", "b 1", "c 1"]);
}

#[tokio::test]
async fn a_newer_progress_or_the_end_drops_the_progress_that_waits() {
    let store = with_endpoint("e").await;
    let events = [
        (EventType::Progress, 1),
        (EventType::Stalled, 2),
        (EventType::Progress, 3),
    ];
    store.commit(&change("a", &events)).await.unwrap();
    assert_eq!(due_names(&store, "e").await, ["a 2"]);
    store
        .commit(&change("b", &[(EventType::Progress, 1)]))
        .await
        .unwrap();
    store
        .commit(&change("a", &[(EventType::Succeeded, 4)]))
        .await
        .unwrap();
    assert_eq!(drain(&store, "e").await, ["a 2", "b 1", "a 4"]);
    assert_eq!(stats(&store).await.backlog, 0);
}

#[tokio::test]
async fn progress_dropped_while_in_flight_keeps_its_subject_busy_and_settles_harmlessly() {
    let store = with_endpoint("e").await;
    for settled in [
        retry(now()),
        Settlement::Delivered,
        Settlement::Dead { error: "x".into() },
    ] {
        let id = EventId::derive("x", None, EventType::Started, &format!("{settled:?}"));
        let operation = &id.as_str()[4..];
        store
            .commit(&change(operation, &[(EventType::Progress, 1)]))
            .await
            .unwrap();
        let in_flight = due(&store, "e").await[0].id;
        store
            .commit(&change(operation, &[(EventType::Succeeded, 2)]))
            .await
            .unwrap();
        let busy = store
            .due_deliveries("e".into(), now(), 10, vec![in_flight])
            .await
            .unwrap();
        assert_eq!(busy.ready, [], "one in flight per subject");
        settle(&store, in_flight, settled).await;
        assert_eq!(drain(&store, "e").await, [format!("{operation} 2")]);
        assert_eq!(stats(&store).await.dead_letters, 0);
    }
}

#[tokio::test]
async fn a_backlog_that_is_full_loses_progress_first_and_then_the_oldest() {
    let store = Store::in_memory();
    let small = OutboxEndpoint {
        max_backlog: 3,
        ..endpoint("e")
    };
    store.sync_endpoints(vec![small], now()).await.unwrap();
    for operation in ["a", "b", "c"] {
        store
            .commit(&change(operation, &[(EventType::Started, 1)]))
            .await
            .unwrap();
    }
    store
        .commit(&change("a", &[(EventType::Progress, 2)]))
        .await
        .unwrap();
    assert_eq!(stats(&store).await.dead_letters, 0);
    assert_eq!(due_names(&store, "e").await, ["a 1", "b 1", "c 1"]);
    store
        .commit(&change("a", &[(EventType::Stalled, 3)]))
        .await
        .unwrap();
    let stats = stats(&store).await;
    assert_eq!((stats.backlog, stats.dead_letters), (3, 1));
    assert_eq!(drain(&store, "e").await, ["b 1", "c 1", "a 3"]);
}

#[tokio::test]
async fn endpoints_get_the_events_they_select_from_when_they_were_added() {
    let store = Store::in_memory();
    let e = endpoint("e");
    let ends = OutboxEndpoint {
        events: vec![EventType::Succeeded],
        ..endpoint("ends")
    };
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    store
        .sync_endpoints(vec![e.clone(), ends.clone()], now())
        .await
        .unwrap();
    store
        .commit(&change("a", &[(EventType::Stalled, 2)]))
        .await
        .unwrap();
    // Away: what waits stays, what comes is not for it.
    store.sync_endpoints(vec![ends.clone()], now()).await.unwrap();
    store
        .commit(&change("a", &[(EventType::Succeeded, 3)]))
        .await
        .unwrap();
    assert_eq!(store.endpoint_stats().await.unwrap().len(), 1);
    store.sync_endpoints(vec![e, ends], now()).await.unwrap();
    store
        .commit(&change("b", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    assert_eq!(drain(&store, "e").await, ["a 2", "b 1"]);
    assert_eq!(drain(&store, "ends").await, ["a 3"]);
}

// --- Retention ---

#[tokio::test]
async fn unlisted_watches_are_deleted_after_the_retention_but_not_with_deliveries_left() {
    let store = with_endpoint("e").await;
    let begin = now();
    for operation in ["listed", "left", "waits"] {
        store
            .commit(&change(operation, &[(EventType::Started, 1)]))
            .await
            .unwrap();
    }
    for delivery in due(&store, "e").await {
        if delivery.subject != "p/waits" {
            settle(&store, delivery.id, Settlement::Delivered).await;
        }
    }
    store
        .set_unlisted(vec![key("left"), key("waits")], begin)
        .await
        .unwrap();
    let keys = || vec![key("listed"), key("left"), key("waits")];
    store.prune(begin + 29 * DAY, 30 * DAY).await.unwrap();
    assert_eq!(store.load(keys()).await.unwrap().watches.len(), 3);
    store.prune(begin + 31 * DAY, 30 * DAY).await.unwrap();
    let left: HashSet<_> = store.load(keys()).await.unwrap().watches.into_keys().collect();
    assert_eq!(left, [key("listed"), key("waits")].into());
    assert_eq!(all_events(&store).await.len(), 2);
    assert_eq!(drain(&store, "e").await, ["waits 1"]);
    store.prune(begin + 31 * DAY, 30 * DAY).await.unwrap();
    assert_eq!(store.load(keys()).await.unwrap().watches.len(), 1);
}

#[tokio::test]
async fn events_of_a_group_keep_their_order_and_leave_after_retention() {
    let store = with_endpoint("e").await;
    store.commit(&api_change("p")).await.unwrap();
    store
        .commit(&change("acme", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    for (group, round) in [("acme", 1), ("a/b\nc", 1), ("acme", 2)] {
        store.commit(&group_change(group, round)).await.unwrap();
    }
    store.commit(&group_change("acme", 2)).await.unwrap();
    // The second round waits for the first. Neither an operation nor the project waits for a group.
    let first = ["p/", "acme 1", "p//group=acme", "p//group=a/b\nc"];
    assert_eq!(due_names(&store, "e").await, first);
    let mut all = first.to_vec();
    all.push("p//group=acme");
    assert_eq!(drain(&store, "e").await, all);
    assert_eq!(all_events(&store).await.len(), 5);
    let of_group = EventLogFilter {
        operation: Some("/group=acme".into()),
        ..EventLogFilter::default()
    };
    let page = store.events_after(None, 10, of_group).await.unwrap();
    assert_eq!(page.events.len(), 2);

    store.prune(now() + 29 * DAY, 30 * DAY).await.unwrap();
    assert_eq!(all_events(&store).await.len(), 5);
    store.prune(now() + 31 * DAY, 30 * DAY).await.unwrap();
    assert_eq!(all_events(&store).await.len(), 1, "the listed operation stays");
}

#[tokio::test]
async fn what_waits_for_an_endpoint_that_went_is_kept_for_seven_days() {
    let store = with_endpoint("e").await;
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    let begin = now();
    store.sync_endpoints(vec![], begin).await.unwrap();
    assert_eq!(store.prune(begin + 6 * DAY, 30 * DAY).await, Ok(0));
    assert_eq!(
        store.prune(begin + 8 * DAY, 30 * DAY).await,
        Ok(2),
        "the delivery and the endpoint"
    );
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    assert_eq!(drain(&store, "e").await, [""; 0]);
}

#[tokio::test]
async fn records_of_what_was_delivered_and_old_facts_about_the_api_go() {
    let store = with_endpoint("e").await;
    store.commit(&api_change("p")).await.unwrap();
    assert_eq!(drain(&store, "e").await, ["p/"]);
    assert_eq!(store.prune(now() + 6 * DAY, 30 * DAY).await, Ok(0));
    assert_eq!(store.prune(now() + 8 * DAY, 30 * DAY).await, Ok(1));
    assert_eq!(store.prune(now() + 31 * DAY, 30 * DAY).await, Ok(1));
    assert_eq!(all_events(&store).await, []);
}

// --- The directory ---

#[tokio::test]
async fn directory_and_files_are_for_their_owner_alone() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/b");
    let (store, threads) = Store::open(&dir).await.unwrap();
    store.commit(&change("a", &[])).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 4, "database, log, index of the log, lock");
    threads.close().await.unwrap();
}

#[tokio::test]
async fn a_second_daemon_is_kept_out() {
    let dir = TempDir::new().unwrap();
    let (_store, threads) = Store::open(dir.path()).await.unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    let pid = std::process::id();
    assert!(matches!(&error, OpenError::InUse { pid: Some(found), .. } if *found == pid));
    assert!(error.to_string().contains(&format!("process {pid}")));
    threads.close().await.unwrap();
    let (_store, threads) = Store::open(dir.path()).await.unwrap();
    threads.close().await.unwrap();
}

/// A closed state with something in it.
async fn closed_state() -> TempDir {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    for number in 0..200 {
        let operation = format!("operation-{number}");
        store
            .commit(&change(&operation, &[(EventType::Started, 1)]))
            .await
            .unwrap();
    }
    threads.close().await.unwrap();
    dir
}

#[tokio::test]
async fn a_newer_state_is_refused_and_left_as_it_is() {
    let dir = closed_state().await;
    let file = dir.path().join("state.db");
    let conn = Connection::open(&file).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    conn.close().unwrap();
    let before = fs::read(&file).unwrap();
    for error in [
        Store::open(dir.path()).await.unwrap_err(),
        StateReader::open(dir.path()).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    }
    assert!(fs::read(&file).unwrap() == before);
}

#[tokio::test]
async fn what_is_no_state_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("state.db");
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
    conn.close().unwrap();
    let before = fs::read(&file).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(fs::read(&file).unwrap() == before);

    fs::write(&file, "plain text, longer than a header: ".repeat(100)).unwrap();
    let before = fs::read(&file).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(fs::read(&file).unwrap() == before);
}

#[tokio::test]
async fn damage_is_found_after_a_crash_and_the_file_left_as_it_is() {
    let dir = closed_state().await;
    let file = dir.path().join("state.db");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    // As a crash leaves it.
    fs::write(dir.path().join("lock"), "4194304\n").unwrap();
    for _ in 0..2 {
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(fs::read(&file).unwrap() == bytes);
    }
}

#[tokio::test]
async fn after_a_crash_everything_committed_is_there() {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    let image = TempDir::new().unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), image.path().join(entry.file_name())).unwrap();
    }
    threads.close().await.unwrap();
    let (store, threads) = Store::open(image.path()).await.unwrap();
    assert_eq!(drain(&store, "e").await, ["a 1"]);
    threads.close().await.unwrap();
}

/// Nobody keeps the superuser from writing.
fn is_superuser() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o400)).unwrap();
    fs::OpenOptions::new().write(true).open(file.path()).is_ok()
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_reported_and_can_be_read() {
    let dir = closed_state().await;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    fs::remove_file(dir.path().join("lock")).unwrap_or_default();
    if !is_superuser() {
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(error.to_string().contains("may not write"), "{error}");
    }
    let reader = StateReader::open(dir.path()).unwrap();
    let page = reader
        .events_after(None, 1000, &EventLogFilter::default())
        .unwrap();
    assert_eq!(page.events.len(), 200);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();

    let error = Store::open(Path::new("/dev/null/state")).await.unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
}

// --- Beside the daemon ---

#[tokio::test]
async fn a_replay_is_seen_by_the_daemon_and_keeps_id_body_and_order() {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    let events = [
        (EventType::Started, 1),
        (EventType::Progress, 2),
        (EventType::Succeeded, 3),
    ];
    for change in events.map(|event| change("a", &[event])) {
        store.commit(&change).await.unwrap();
    }
    store
        .commit(&change("b", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    let first = due(&store, "e").await.remove(0);
    assert_eq!(drain(&store, "e").await, ["a 1", "b 1", "a 3"]);

    let mut changes = store.changed();
    changes.mark_unchanged();
    let reader = StateReader::open(dir.path()).unwrap();
    let again =
        |replay: &ReplaySelection, endpoint| reader.request_replay(replay, endpoint, now()).unwrap().marked;
    let operation = ReplaySelection::Operation("a".into());
    assert_eq!(again(&operation, None), 3);
    assert_eq!(again(&operation, None), 0, "they wait already");
    assert_eq!(again(&operation, Some("other")), 0);
    tokio::time::timeout(Duration::from_secs(10), changes.changed())
        .await
        .expect("the daemon looks")
        .unwrap();
    let replayed = due(&store, "e").await.remove(0);
    assert!(replayed.replay && replayed.id != first.id);
    assert_eq!((replayed.event_id, replayed.body), (first.event_id, first.body));
    assert_eq!(drain(&store, "e").await, ["a 1", "a 2", "a 3"]);

    let id = EventId::derive("p", Some("b"), EventType::Started, "1");
    assert_eq!(again(&ReplaySelection::Event(id.to_string()), Some("e")), 1);
    let dead = due(&store, "e").await.remove(0);
    settle(&store, dead.id, Settlement::Dead { error: "x".into() }).await;
    assert_eq!(stats(&store).await.dead_letters, 1);
    assert_eq!(again(&ReplaySelection::DeadLetters, None), 1);
    assert_eq!(again(&ReplaySelection::DeadLetters, None), 0);
    assert_eq!(stats(&store).await.dead_letters, 0);
    assert_eq!(drain(&store, "e").await, ["b 1"]);
    threads.close().await.unwrap();

    // The daemon is stopped: it is there when it starts.
    assert_eq!(again(&ReplaySelection::Event(id.to_string()), None), 1);
    drop(reader);
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    assert_eq!(drain(&store, "e").await, ["b 1"]);
    threads.close().await.unwrap();
}

#[tokio::test]
async fn commands_report_a_state_that_is_missing() {
    let dir = TempDir::new().unwrap();
    let error = StateReader::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Absent { .. }), "{error}");
}

// --- Groups ---

#[tokio::test(flavor = "multi_thread")]
async fn many_commits_at_once_are_all_recorded() {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    store.sync_endpoints(vec![endpoint("e")], now()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let store = store.clone();
        let change = change(&format!("o{number}"), &[(EventType::Succeeded, 1)]);
        tasks.spawn(async move { store.commit(&change).await });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    let mut count = BTreeMap::new();
    for event in all_events(&store).await {
        *count.entry(event.id).or_insert(0) += 1;
    }
    assert_eq!(count.len(), 1000);
    assert!(count.values().all(|count| *count == 1));
    assert_eq!(due(&store, "e").await.len(), 1000);
    threads.close().await.unwrap();
}

#[tokio::test]
async fn the_watches_that_left_the_list_last_are_found() {
    let store = Store::in_memory();
    let all = ["a", "b", "c", "listed"];
    for (operation, sequence) in all.into_iter().zip(1..) {
        let mut change = change(operation, &[(EventType::Started, sequence)]);
        // Distinguishes them.
        let mut watch = serde_json::to_value(Watch::default()).unwrap();
        watch["sequence"] = sequence.into();
        change.subject = Subject::Watch(key(operation), serde_json::from_value(watch).unwrap());
        store.commit(&change).await.unwrap();
    }
    for (operation, ago) in [("a", 2 * HOUR), ("b", HOUR), ("c", 3 * HOUR)] {
        let left = now().checked_sub(ago).unwrap();
        store.set_unlisted(vec![key(operation)], left).await.unwrap();
    }
    let left = store.recently_unlisted(2).await.unwrap();
    let sequences: Vec<u64> = left.iter().map(Watch::sequence).collect();
    assert_eq!(sequences, [2, 1]);
}
