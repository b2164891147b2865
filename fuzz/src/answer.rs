//! What the API answers: status, headers, an empty line, a body; and what becomes of it.

use std::cell::RefCell;
use std::time::Duration;

use axum::http;
use backfill_watch::ampersand::{ApiError, ApiKey, ApiResponse, ResponseContext};
use backfill_watch::core::answer::Answer;
use backfill_watch::core::event::{Event, MAX_BODY, MAX_LOG_LINE};
use backfill_watch::core::gate::Pass;
use backfill_watch::core::installation::Installation;
use backfill_watch::core::operation::Operation;
use backfill_watch::core::operation_kind::OperationKinds;
use backfill_watch::core::operation_log::{OperationLogLine, last_warnings};
use backfill_watch::core::project_health::{AnsweredPoll, Moment, ProjectContext, ProjectHealth};
use backfill_watch::core::schedule::ScheduleSettings;
use backfill_watch::core::watch::{NextStep, Watch, WatchContext, WatchSettings};
use backfill_watch::core::watch_list::{Labels, WatchKey};
use backfill_watch::outbound::{Peer, response_head};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{is_one_line, wall};

/// The key, which must be in no message, also when an answer quotes it.
const KEY: &str = "simulated-key";
const ID: &str = "op";

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(super::runtime());
}

pub fn run(data: &[u8]) {
    let Some(response) = response(data) else { return };
    let is_plain = response_head::content_coding(response.headers()).is_none();
    let key = ApiKey::new(SecretString::from(KEY));
    let now = wall();
    let found = RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let peer = Peer {
                host: "api.example.com".to_owned(),
                proxy: None,
            };
            let terms = ResponseContext {
                peer: &peer,
                limit: Duration::from_secs(1),
                max_body: 1024 * 1024,
                now,
            };
            ApiResponse::read(response, terms, &key).await?.operation(ID)
        })
    });
    if is_plain {
        compare(&found, data);
    }
    match &found {
        Ok(operation) => {
            let printed = serde_json::to_string(operation).expect("JSON");
            let mut again: Operation = serde_json::from_str(&printed).expect("its own JSON");
            again.unusable = operation.unusable;
            assert_eq!(&again, operation);
        }
        Err(error) => check_error(error),
    }
    let answer = found.map_or_else(Answer::from, |operation| Answer::Operation(Box::new(operation)));
    conclude(&answer, now);
    if let Ok(lines) = str::from_utf8(body(data))
        .map_err(drop)
        .and_then(|text| OperationLogLine::parse_all(text).map_err(drop))
    {
        check_log(lines);
    }
    if let Ok(Ok(found)) = str::from_utf8(body(data)).map(|text| Installation::parse(text, ID)) {
        let statuses = [found.health_status, found.connection_status];
        assert!(statuses.iter().flatten().all(|status| !status.is_empty()));
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

/// What a strict reader of the same answer finds. Whenever it can read the operation, the answer counts, and no member
/// that it can use is lost.
fn compare(found: &Result<Operation, ApiError>, data: &[u8]) {
    let head = &data[..data.len() - body(data).len()];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.starts_with("200\n") || head.matches("content-type").count() != 1 {
        return;
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let content_type = lines.find(|(name, _)| name.trim() == "content-type");
    if content_type.is_none_or(|(_, value)| value.trim() != "application/json") {
        return;
    }
    let Ok(Value::Object(strict)) = serde_json::from_slice(body(data)) else {
        return;
    };
    let (Some(Value::String(id)), Some(Value::String(status))) = (strict.get("id"), strict.get("status"))
    else {
        return;
    };
    if id != ID {
        assert!(found.is_err(), "{id}");
        return;
    }
    let operation = match found {
        Ok(operation) => operation,
        Err(error) => {
            // The strict reader takes the last of two members of one name.
            assert!(error.to_string().contains("twice"), "{error}");
            return;
        }
    };
    let is_kept = |kept: Option<&str>, member: Option<&Value>| match member.and_then(Value::as_str) {
        Some(text) => assert!(
            kept == Some(text) || kept.is_some_and(|kept| kept.contains("[API key]")),
            "{text}"
        ),
        None => assert_eq!(kept, None),
    };
    is_kept(
        Some(operation.status.as_str()),
        Some(&Value::String(status.clone())),
    );
    is_kept(operation.result.as_deref(), strict.get("result"));
    is_kept(operation.project_id.as_deref(), strict.get("projectId"));
    is_kept(operation.installation_id.as_deref(), strict.get("installationId"));
    let progress = strict
        .get("metadata")
        .and_then(|metadata| metadata.get("progress"));
    let count = progress.and_then(|progress| progress.get("recordsProcessed"));
    let kept = operation
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.progress.as_ref()?.records_processed);
    if let Some(count) = count.and_then(Value::as_u64) {
        assert_eq!(kept, Some(count));
    }
    if let Some(count) = count
        .and_then(Value::as_f64)
        .filter(|count| count.fract() != 0.0 || *count < 0.0)
    {
        assert_eq!(kept, None, "{count}");
    }
}

fn check_error(error: &ApiError) {
    let reported = error.to_string();
    assert!(reported.len() <= 600 && is_one_line(&reported), "{reported:?}");
    assert!(!format!("{reported} {error:?}").contains(KEY), "{reported}");
    if let ApiError::Throttled { wait: Some(wait), .. } = error {
        assert!(!wait.is_zero());
    }
}

/// A project and a watch take it in, three times, with time in between.
fn conclude(answer: &Answer, now: Timestamp) {
    let rules = WatchSettings {
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
    let (mut project, mut watch) = (ProjectHealth::default(), Watch::default());
    let elapsed = Duration::from_mins(1);
    for turn in 0..3_u32 {
        let steady = elapsed * turn;
        let now = now.checked_add(steady).expect("not far off");
        let context = ProjectContext {
            name: "project",
            schedule: &ScheduleSettings::DEFAULT,
            unreachable_after: rules.unreachable_after,
            max_retry_after: Duration::from_mins(15),
            watches: 1,
            now: Moment { wall: now, steady },
        };
        let (_, events) = project.observe(
            AnsweredPoll {
                operation: ID,
                pass: Pass::Turn,
                is_forbidden: false,
            },
            answer,
            &context,
        );
        check_events(&events);
        if let Some(until) = project.restriction().paused_until {
            assert!(until <= steady + Duration::from_mins(15), "{until:?}");
        }
        if watch.phase().is_finished() {
            break;
        }
        let step = watch.observe(
            answer,
            &WatchContext {
                key: &key,
                labels: &labels,
                deadline: None,
                settings: &rules,
                schedule: &ScheduleSettings::DEFAULT,
                kinds: &OperationKinds::default(),
                now,
                elapsed,
                blocked: Duration::ZERO,
                random_fraction: 0.5,
                project_proven: Some(Duration::ZERO),
                project_answered: None,
                all_others_refused: false,
            },
        );
        check_events(&step.events);
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

fn check_events(events: &[Event]) {
    for event in events {
        let body = event.body();
        assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
        assert!(!body.contains(KEY), "{body}");
    }
}

fn check_log(lines: Vec<OperationLogLine>) {
    let lines = last_warnings(lines, 20);
    assert!(lines.len() <= 20);
    for line in lines {
        let bounded = line.bounded(MAX_LOG_LINE);
        let printed = serde_json::to_string(&bounded).expect("JSON");
        assert!(printed.len() <= MAX_LOG_LINE, "{} bytes", printed.len());
        assert_eq!(
            serde_json::from_str::<OperationLogLine>(&printed).expect("its own JSON"),
            bounded
        );
    }
}
