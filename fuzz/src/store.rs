//! Rows of the state that somebody or something damaged.
//!
//! The first line names the row: `watch SAVED UNLISTED` or `project`, with its state below it; `event TIME ID TYPE`, with its
//! body; `delivery DUE ATTEMPTS`, with its error. Whatever is understood must then be of use.

use std::path::Path;
use std::time::Duration;

use backfill_watch::core::answer::{Answer, Failure, FailureClass};
use backfill_watch::core::event::{ApiData, Event, EventType, MAX_BODY};
use backfill_watch::core::gate::Pass;
use backfill_watch::core::operation::{Metadata, Operation, Progress, Status};
use backfill_watch::core::operation_kind::OperationKinds;
use backfill_watch::core::project_health::{AnsweredPoll, Moment, ProjectContext, ProjectHealth};
use backfill_watch::core::schedule::ScheduleSettings;
use backfill_watch::core::watch::{NextStep, Watch, WatchContext, WatchSettings};
use backfill_watch::core::watch_list::{Labels, WatchKey};
use backfill_watch::store::{EventLogFilter, OutboxEndpoint, StateChange, Store, Subject};
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use serde::de::IgnoredAny;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::wall;

thread_local! {
    static STATE: State = State::new();
}

/// A state on disk, and a second way to it.
struct State {
    runtime: Runtime,
    store: Store,
    beside: Connection,
    _folder: TempDir,
}

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let mut words = head.split(' ');
    STATE.with(|state| match words.next() {
        Some("watch") => {
            let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
            state.watch(rest, number().unwrap_or_default(), number());
        }
        Some("project") => state.project(rest),
        Some("event") => {
            let mut word = || words.next().unwrap_or_default();
            state.event(word().parse().unwrap_or_default(), word(), word(), rest);
        }
        Some("delivery") => {
            let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
            state.delivery(number().unwrap_or_default(), number().unwrap_or_default(), rest);
        }
        _ => {}
    });
}

fn key() -> WatchKey {
    WatchKey {
        project: "project".into(),
        operation: "op".into(),
    }
}

fn open(folder: &Path) -> Connection {
    let beside = Connection::open(folder.join("state.db")).expect("it opens");
    beside
        .pragma_update(None, "synchronous", "OFF")
        .expect("a pragma");
    beside
        .create_scalar_function("row_checksum", -1, FunctionFlags::SQLITE_UTF8, |cx| {
            Ok(checksum(cx))
        })
        .expect("a function");
    beside
}

/// One row of each kind.
async fn fill(store: &Store) {
    let watch = StateChange {
        subject: Subject::Watch(key(), Box::default()),
        events: Vec::new(),
    };
    store.commit(&watch).await.expect("it is writable");
    let data = ApiData {
        project: "project".to_owned(),
        since: wall(),
        reason: "no answer".to_owned(),
    };
    let project = StateChange {
        subject: Subject::Project("project".into(), Box::default()),
        events: vec![Event::api(EventType::ApiUnreachable, wall(), data)],
    };
    store.commit(&project).await.expect("it is writable");
}

/// The checksum of a row: that of a damaged one fits, so that what is in it is read.
fn checksum(cx: &rusqlite::functions::Context<'_>) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for index in 0..cx.len() {
        let (tag, bytes): (u8, Vec<u8>) = match cx.get_raw(index) {
            ValueRef::Null => (0, Vec::new()),
            ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
            ValueRef::Real(number) => (2, number.to_le_bytes().to_vec()),
            ValueRef::Text(text) => (3, text.to_vec()),
            ValueRef::Blob(blob) => (4, blob.to_vec()),
        };
        hasher.update(&[tag]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    i64::from(hasher.finalize())
}

impl State {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = super::runtime();
        let store = runtime.block_on(async {
            let (store, _threads) = Store::open(folder.path()).await.expect("a new state");
            let endpoint = OutboxEndpoint {
                name: "inbox".into(),
                events: EventType::ALL.to_vec(),
                max_backlog: 1_000,
            };
            store
                .sync_endpoints(vec![endpoint], wall())
                .await
                .expect("it is writable");
            fill(&store).await;
            store
        });
        Self {
            runtime,
            store,
            beside: open(folder.path()),
            _folder: folder,
        }
    }

    fn damage(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) {
        let rows = self
            .beside
            .prepare_cached(sql)
            .and_then(|mut update| update.execute(params));
        assert_eq!(rows, Ok(1), "the row is there");
    }

    /// Puts back what was moved aside because it makes no sense.
    fn restore(&self) {
        self.runtime.block_on(async {
            // What is read sends what is damaged to the writer, which is done with it when this is written.
            self.store.end_of_log().await.expect("it is readable");
            self.store.set_listed(vec![key()]).await.expect("it is writable");
            for row in [
                "DELETE FROM events",
                "DELETE FROM deliveries",
                "DELETE FROM watches",
                "DELETE FROM projects",
            ] {
                self.beside.execute(row, []).expect("it is writable");
            }
            fill(&self.store).await;
        });
    }

    fn watch(&self, text: &str, saved: i64, unlisted: Option<i64>) {
        let sql = "UPDATE watches SET state = ?1, saved = ?2, unlisted = ?3,
             checksum = row_checksum(project, operation, ?1, ?2, ?3)";
        self.damage(sql, params![text, saved, unlisted]);
        let found = self.runtime.block_on(self.store.load(vec![key()]));
        let record = match found {
            Ok(mut found) => match found.watches.remove(&key()) {
                Some(record) => record,
                None => return self.restore(),
            },
            Err(error) => return check_words(&error.to_string()),
        };
        let watch = record.watch;
        let printed = serde_json::to_string(&watch).expect("JSON");
        let again: Watch = serde_json::from_str(&printed).expect("its own JSON");
        assert_eq!(
            again.data(&key(), &Labels::new(), wall()),
            watch.data(&key(), &Labels::new(), wall())
        );
        for answer in answers() {
            continue_watch(watch.clone(), &answer);
        }
        // What was seen is written over what was damaged.
        let checkpoint = self.store.checkpoint(vec![(key(), watch)]);
        assert_eq!(self.runtime.block_on(checkpoint), Ok(()));
    }

    fn project(&self, text: &str) {
        let sql = "UPDATE projects SET state = ?1, checksum = row_checksum(name, ?1, saved)";
        self.damage(sql, params![text]);
        let found = match self.runtime.block_on(self.store.load_project("project")) {
            Ok(found) => found.expect("the row is there"),
            Err(error) => return check_words(&error.to_string()),
        };
        let printed = serde_json::to_string(&found).expect("JSON");
        assert_eq!(
            serde_json::from_str::<ProjectHealth>(&printed).expect("its own JSON"),
            found
        );
        for answer in answers() {
            let mut project = found.clone();
            for turn in 0..3 {
                let elapsed = Duration::from_mins(10 * turn);
                let context = ProjectContext {
                    name: "project",
                    schedule: &ScheduleSettings::DEFAULT,
                    unreachable_after: Duration::from_mins(5),
                    max_retry_after: Duration::from_mins(15),
                    watches: 2,
                    now: Moment {
                        wall: wall() + elapsed,
                        steady: elapsed,
                    },
                };
                let (_, events) = project.observe(
                    AnsweredPoll {
                        operation: "op",
                        pass: Pass::Probe,
                        is_forbidden: false,
                    },
                    &answer,
                    &context,
                );
                events.iter().for_each(check_event);
            }
        }
        self.restore();
    }

    fn event(&self, time: i64, id: &str, event_type: &str, body: &str) {
        let sql = "UPDATE events SET time = ?1, id = ?2, type = ?3, body = ?4,
             checksum = row_checksum(row, ?2, ?3, project, operation, ?1, recorded, ?4)";
        self.damage(sql, params![time, id, event_type, body]);
        let page = self.store.events_after(None, 10, EventLogFilter::default());
        match self.runtime.block_on(page) {
            Ok(page) => {
                for event in page.events {
                    let text = event.to_json();
                    assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{text}");
                    // Numbers outside the range of a float are JSON, but no `Value`.
                    if let Ok(reported) = serde_json::from_str::<serde_json::Value>(&text) {
                        assert_eq!(reported["id"], event.id);
                        assert_eq!(reported["type"], event.event_type.as_str());
                        assert_eq!(reported.as_object().map(serde_json::Map::len), Some(5));
                    }
                }
            }
            Err(error) => check_words(&error.to_string()),
        }
        self.due();
        self.restore();
    }

    fn delivery(&self, due: i64, attempts: i64, error: &str) {
        let sql =
            "UPDATE deliveries SET due = ?1, attempts = ?2, first_attempt = ?1, recorded = ?1, error = ?3,
                 checksum = row_checksum(id, endpoint, event, subject, progress, replay, ?1, state, head, ?1, ?2, ?1,
                     last_attempt, settled, ?3)";
        self.damage(sql, params![due, attempts, error]);
        self.due();
        self.restore();
    }

    fn due(&self) {
        let due = self.store.due_deliveries("inbox".into(), wall(), 10, Vec::new());
        if let Err(error) = self.runtime.block_on(due) {
            check_words(&error.to_string());
        }
        let stats = self.runtime.block_on(self.store.endpoint_stats());
        if let Err(error) = stats {
            check_words(&error.to_string());
        }
    }
}

fn check_words(reported: &str) {
    assert!(
        (10..1_000).contains(&reported.len()) && super::is_one_line(reported),
        "{reported:?}"
    );
}

fn check_event(event: &Event) {
    let body = event.body();
    assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
}

fn answers() -> [Answer; 4] {
    let operation = |status, processed| {
        Answer::Operation(Box::new(Operation {
            project_id: Some("p".to_owned()),
            integration_id: Some("i".to_owned()),
            installation_id: Some("n".to_owned()),
            create_time: Some(wall()),
            metadata: Some(Metadata {
                progress: Some(Progress {
                    records_processed: Some(processed),
                    records_estimated_total: Some(5_000),
                    ..Progress::default()
                }),
                ..Metadata::default()
            }),
            ..Operation::new("op", status)
        }))
    };
    [
        operation(Status::InProgress, 2_500),
        operation(Status::Success, 5_000),
        Answer::NotFound("404".to_owned()),
        Answer::Failed(Failure {
            class: FailureClass::Timeout,
            reason: "no answer".to_owned(),
        }),
    ]
}

/// Continues as after a restart, and gets this answer three times.
fn continue_watch(mut watch: Watch, answer: &Answer) {
    let rules = WatchSettings {
        stalled_after: Duration::from_mins(1),
        silent_after: Some(Duration::from_hours(6)),
        unreachable_after: Duration::from_mins(1),
        not_found_grace: Duration::from_mins(1),
        give_up_after: Some(Duration::from_hours(24)),
        active_statuses: vec!["in_progress".to_owned()],
        progress_step: 10.0,
        progress_interval: Duration::from_mins(1),
    };
    let key = key();
    watch.resume(Duration::from_hours(1));
    let mut sequence = watch.sequence();
    for turn in 0..3 {
        if watch.phase().is_finished() {
            if !watch.phase().may_start_again() {
                return;
            }
            watch.start_again();
        }
        let context = WatchContext {
            key: &key,
            labels: &Labels::new(),
            deadline: None,
            settings: &rules,
            schedule: &ScheduleSettings::DEFAULT,
            kinds: &OperationKinds::default(),
            now: wall() + Duration::from_mins(turn),
            elapsed: Duration::from_mins(1),
            blocked: Duration::ZERO,
            random_fraction: 0.5,
            project_proven: Some(Duration::ZERO),
            project_answered: Some(Duration::ZERO),
            all_others_refused: false,
        };
        let step = watch.observe(answer, &context);
        for event in &step.events {
            check_event(event);
            let reported = watch_sequence(event);
            assert!(
                reported == sequence + 1 || reported == u64::MAX,
                "{reported} after {sequence}"
            );
            sequence = reported;
        }
        match step.next {
            NextStep::PollAfter(wait) => {
                assert!(
                    (ScheduleSettings::DEFAULT.min_interval..=ScheduleSettings::DEFAULT.max_interval)
                        .contains(&wait)
                )
            }
            NextStep::Finished => assert!(watch.phase().is_finished()),
            NextStep::Unchanged => panic!("there was a poll"),
        }
    }
}

fn watch_sequence(event: &Event) -> u64 {
    event.data.operation().map_or(0, |data| data.sequence)
}
