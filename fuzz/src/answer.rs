//! What the API answers: status, headers, an empty line, a body; and what becomes of it.

use std::cell::RefCell;
use std::time::Duration;

use axum::http;
use backfill_watch::ampersand::{ApiError, Reply};
use backfill_watch::core::answer::Answer;
use backfill_watch::core::event::{Event, MAX_BODY, MAX_LOG_LINE};
use backfill_watch::core::kind::Kinds;
use backfill_watch::core::log_line::{LogLine, last_warnings};
use backfill_watch::core::operation::Operation;
use backfill_watch::core::project::{self, Moment, Project};
use backfill_watch::core::schedule::Pace;
use backfill_watch::core::watch::{Context, Next, Rules, Watch};
use backfill_watch::core::watch_list::{Labels, WatchKey};
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::runtime::Runtime;

use super::{is_one_line, wall};

/// Quoted by an answer it must not be told.
const KEY: &str = "simulated-key";
const ID: &str = "op";

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(super::runtime());
}

pub fn run(data: &[u8]) {
    let Some(response) = response(data) else { return };
    let key = SecretString::from(KEY);
    let now = wall();
    let found = RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let limit = Duration::from_secs(1);
            Reply::read(response, "api.example.com", limit, &key)
                .await
                .operation(ID, now)
        })
    });
    // An escape can hide the key from who looks for it; whoever writes one does not quote by mistake.
    let is_quoting = !data.contains(&b'\\');
    match &found {
        Ok(operation) => {
            let printed = serde_json::to_string(operation).expect("JSON");
            let again: Operation = serde_json::from_str(&printed).expect("its own JSON");
            assert_eq!(&again, operation);
        }
        Err(error) => check_error(error, is_quoting),
    }
    let answer = found.map_or_else(Answer::from, |operation| Answer::Operation(Box::new(operation)));
    conclude(&answer, now, is_quoting);
    if let Ok(lines) = serde_json::from_slice::<Vec<serde_json::Value>>(body(data)) {
        check_log(&lines);
    }
}

fn body(data: &[u8]) -> &[u8] {
    data.windows(2)
        .position(|window| window == b"\n\n")
        .map_or(&[], |at| &data[at + 2..])
}

fn response(data: &[u8]) -> Option<reqwest::Response> {
    let head = data
        .windows(2)
        .position(|window| window == b"\n\n")
        .map_or(data, |at| &data[..at]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut response = http::Response::builder().status(lines.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        response = response.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some(reqwest::Response::from(response.body(body(data).to_vec()).ok()?))
}

fn check_error(error: &ApiError, is_quoting: bool) {
    let told = error.to_string();
    assert!(told.len() <= 600 && is_one_line(&told), "{told:?}");
    assert!(
        !is_quoting || !format!("{told} {error:?}").contains(KEY),
        "{told}"
    );
    if let ApiError::Throttled { wait: Some(wait), .. } = error {
        assert!(!wait.is_zero());
    }
}

/// A project and a watch take it in, three times, with time in between.
fn conclude(answer: &Answer, now: Timestamp, is_quoting: bool) {
    let rules = Rules {
        stalled_after: Duration::from_mins(1),
        silent_after: Some(Duration::from_hours(6)),
        unreachable_after: Duration::from_mins(1),
        not_found_grace: Duration::from_mins(1),
        give_up_after: None,
        active_statuses: vec!["in_progress".to_owned(), "paused".to_owned()],
        progress_step: 10.0,
        progress_interval: Duration::from_mins(1),
    };
    let key = WatchKey {
        project: "project".into(),
        operation: ID.into(),
    };
    // As long as a line allows, and twice that in JSON.
    let labels = Labels::from([("label".to_owned(), "\"".repeat(3_900))]);
    let (mut project, mut watch) = (Project::default(), Watch::default());
    let elapsed = Duration::from_mins(1);
    for turn in 0..3_u32 {
        let steady = elapsed * turn;
        let now = now.checked_add(steady).expect("not far off");
        let context = project::Context {
            name: "project",
            pace: &Pace::DEFAULT,
            unreachable_after: rules.unreachable_after,
            max_retry_after: Duration::from_mins(15),
            watches: 1,
            now: Moment { wall: now, steady },
        };
        let (_, events) = project.observe(ID, answer, false, false, &context);
        check_events(&events, is_quoting);
        if let Some(until) = project.hold().paused_until {
            assert!(until <= steady + Duration::from_mins(15), "{until:?}");
        }
        if watch.phase().is_over() {
            break;
        }
        let step = watch.observe(
            answer,
            &Context {
                key: &key,
                labels: &labels,
                rules: &rules,
                pace: &Pace::DEFAULT,
                kinds: &Kinds::default(),
                now,
                elapsed,
                held: Duration::ZERO,
                chance: 0.5,
                project_known: true,
                project_answered: None,
                others_refused: false,
            },
        );
        check_events(&step.events, is_quoting);
        match step.next {
            Next::PollAfter(wait) => {
                assert!((Pace::DEFAULT.min_interval..=Pace::DEFAULT.max_interval).contains(&wait))
            }
            Next::Over => assert!(watch.phase().is_over()),
        }
    }
}

fn check_events(events: &[Event], is_quoting: bool) {
    for event in events {
        let body = event.body();
        assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
        assert!(!is_quoting || !body.contains(KEY), "{body}");
    }
}

fn check_log(lines: &[serde_json::Value]) {
    let lines = last_warnings(lines.iter().filter_map(LogLine::from_api).collect(), 20);
    assert!(lines.len() <= 20);
    for line in lines {
        let bounded = line.bounded(MAX_LOG_LINE);
        let printed = serde_json::to_string(&bounded).expect("JSON");
        assert!(printed.len() <= MAX_LOG_LINE, "{} bytes", printed.len());
        assert_eq!(
            serde_json::from_str::<LogLine>(&printed).expect("its own JSON"),
            bounded
        );
    }
}
