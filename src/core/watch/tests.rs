use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::core::answer::{Failure, FailureClass};
use crate::core::event::{EventData, EventId, OperationData, RetryData};
use crate::core::operation::{ActionType, Metadata, Operation, Progress, Retry, Status};

mod deadlines;
mod identity;

/// A watch, its settings, and a clock that the test moves.
struct Fixture {
    watch: Watch,
    key: WatchKey,
    labels: Labels,
    deadline: Option<Deadline>,
    settings: WatchSettings,
    schedule: ScheduleSettings,
    kinds: OperationKinds,
    now: Timestamp,
    project_proven: Option<Duration>,
    project_answered: Option<Duration>,
    blocked: Duration,
    /// Time since the last observation.
    elapsed: Duration,
    all_others_refused: bool,
}

impl Fixture {
    fn new() -> Self {
        Self {
            watch: Watch::default(),
            key: WatchKey {
                project: Arc::from("p"),
                operation: Arc::from("op"),
            },
            labels: vec![("customer".into(), "acme".into())],
            deadline: None,
            settings: WatchSettings {
                stalled_after: Duration::from_mins(30),
                silent_after: Some(Duration::from_hours(6)),
                unreachable_after: Duration::from_mins(5),
                not_found_grace: Duration::from_mins(2),
                give_up_after: None,
                active_statuses: vec!["in_progress".into()],
                progress_step: 10.0,
                progress_interval: Duration::from_mins(1),
            },
            schedule: ScheduleSettings::DEFAULT,
            kinds: OperationKinds::default(),
            now: "2026-11-23T11:48:35Z".parse().unwrap(),
            project_proven: Some(Duration::ZERO),
            project_answered: Some(Duration::ZERO),
            blocked: Duration::ZERO,
            elapsed: Duration::ZERO,
            all_others_refused: false,
        }
    }

    fn step(&mut self, after: Duration, answer: Option<&Answer>) -> Decision {
        self.now = self.now.checked_add(after).unwrap();
        self.elapsed += after;
        let cx = WatchContext {
            key: &self.key,
            labels: &self.labels,
            deadline: self.deadline,
            settings: &self.settings,
            schedule: &self.schedule,
            kinds: &self.kinds,
            now: self.now,
            elapsed: self.elapsed,
            blocked: self.blocked,
            random_fraction: 0.5,
            project_proven: self.project_proven,
            project_answered: self.project_answered,
            all_others_refused: self.all_others_refused,
        };
        let decision = match answer {
            Some(answer) => self.watch.observe(answer, &cx),
            None => self.watch.observe_time(&cx),
        };
        if decision.next != NextStep::Unchanged {
            self.elapsed = Duration::ZERO;
        }
        decision
    }

    /// The types of the events that `answer`, `seconds` later, brings.
    fn after(&mut self, seconds: u64, answer: &Answer) -> Vec<&'static str> {
        names(&self.step(Duration::from_secs(seconds), Some(answer)))
    }
}

fn names(step: &Decision) -> Vec<&'static str> {
    step.events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect()
}

fn data(event: &Event) -> &OperationData {
    match &event.data {
        EventData::Operation(data) => data,
        EventData::Group(_) | EventData::Api(_) => panic!("not about an operation"),
    }
}

fn operation(status: &str, processed: Option<u64>, total: Option<u64>) -> Answer {
    Answer::Operation(Box::new(Operation {
        project_id: Some("project-456".into()),
        integration_id: Some("113e".into()),
        installation_id: Some("6643".into()),
        action_type: Some(ActionType::Read),
        result: (status != "in_progress").then(|| "[contact] done".into()),
        create_time: Some("2026-11-23T11:48:35Z".parse().unwrap()),
        metadata: Some(Metadata {
            objects: Some(vec!["contact".into()]),
            retry: None,
            progress: Some(Progress {
                records_processed: processed,
                records_estimated_total: total,
                ..Default::default()
            }),
        }),
        ..Operation::new("op", Status::from(status.to_owned()))
    }))
}

fn running(processed: u64) -> Answer {
    operation("in_progress", Some(processed), Some(5000))
}

fn retried(attempts: u64) -> Answer {
    let Answer::Operation(mut operation) = running(0) else {
        unreachable!()
    };
    operation.metadata.as_mut().unwrap().retry = Some(Retry {
        attempts: Some(attempts),
        ..Default::default()
    });
    Answer::Operation(operation)
}

fn failed() -> Answer {
    Answer::Failed(Failure {
        class: FailureClass::Connect,
        reason: "connection refused".into(),
    })
}

fn not_found() -> Answer {
    Answer::NotFound("404 Not Found".into())
}

#[test]
fn a_backfill_from_start_to_end() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.after(0, &running(0)), ["operation.started"]);
    assert_eq!(fixture.after(10, &running(250)), [""; 0]);
    assert_eq!(fixture.after(10, &running(1250)), ["operation.progress"]);
    assert_eq!(fixture.after(10, &running(1300)), [""; 0]);
    let step = fixture.step(
        Duration::from_secs(10),
        Some(&operation("success", Some(5000), Some(5000))),
    );
    assert_eq!(step.next, NextStep::Finished);
    let event = &step.events[0];
    assert_eq!(event.event_type, EventType::Succeeded);
    let data = data(event);
    assert_eq!(data.sequence, 3);
    assert_eq!(data.duration_seconds, Some(40.0));
    assert_eq!(data.result.as_deref(), Some("[contact] done"));
    assert_eq!(data.previous_status.as_deref(), Some("in_progress"));
    assert_eq!(data.progress.as_ref().unwrap().percent, Some(100.0));
}

#[test]
fn the_body_is_as_the_contract_shows_it() {
    let mut fixture = Fixture::new();
    let _ = fixture.step(Duration::ZERO, Some(&running(0)));
    let step = fixture.step(Duration::from_millis(30_120), Some(&running(1250)));
    assert_eq!(
        step.events[0].body(),
        concat!(
            r#"{"type":"operation.progress","timestamp":"2026-11-23T11:49:05.120Z","data":{"project":"p","#,
            r#""projectId":"project-456","operationId":"op","installationId":"6643","integrationId":"113e","#,
            r#""objects":["contact"],"status":"in_progress","previousStatus":"in_progress","phase":"running","#,
            r#""sequence":2,"progress":{"recordsProcessed":1250,"recordsEstimatedTotal":5000,"percent":25.0,"#,
            r#""recordsPerSecond":41.5,"estimatedEndTime":"2026-11-23T11:50:35Z","estimateExceeded":false},"#,
            r#""labels":{"customer":"acme"},"createTime":"2026-11-23T11:48:35Z","#,
            r#""observedTime":"2026-11-23T11:49:05.120Z"}}"#
        )
    );
}

#[test]
fn an_operation_first_seen_after_its_end_gets_its_ending_event_alone() {
    for (status, event, phase) in [
        ("success", "operation.succeeded", Phase::Succeeded),
        ("failure", "operation.failed", Phase::Failed),
        ("Cancelled", "operation.ended", Phase::Ended),
    ] {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.after(0, &operation(status, None, None)), [event]);
        assert_eq!(fixture.watch.phase(), phase);
    }
}

#[test]
fn an_active_status_counts_as_running() {
    let mut fixture = Fixture::new();
    fixture.settings.active_statuses = vec!["queued".into()];
    assert_eq!(
        fixture.after(0, &operation("queued", None, None)),
        ["operation.started"]
    );
    assert_eq!(fixture.after(2, &running(0)), [""; 0]);
    assert_eq!(
        fixture.after(2, &operation("paused", None, None)),
        ["operation.ended"]
    );
}

#[test]
fn only_what_runs_has_an_estimated_end() {
    for (status, is_finished) in [
        ("in_progress", false),
        ("success", true),
        ("failure", true),
        ("cancelled", true),
    ] {
        let mut fixture = Fixture::new();
        let _ = fixture.after(0, &running(0));
        let _ = fixture.after(10, &running(250));
        let step = fixture.step(
            Duration::from_secs(10),
            Some(&operation(status, Some(1250), Some(5000))),
        );
        let progress = data(&step.events[0]).progress.clone().unwrap();
        assert_eq!(progress.estimated_end_time.is_none(), is_finished, "{status}");
    }
}

#[test]
fn an_unchanged_count_stalls_and_the_next_rise_resumes() {
    let mut fixture = Fixture::new();
    fixture.settings.stalled_after = Duration::from_secs(60);
    let _ = fixture.step(Duration::ZERO, Some(&running(10)));
    assert_eq!(fixture.after(59, &running(10)), [""; 0]);
    assert_eq!(fixture.after(1, &running(10)), ["operation.stalled"]);
    assert_eq!(fixture.after(60, &running(10)), [""; 0]);
    let step = fixture.step(Duration::from_secs(5), Some(&running(11)));
    assert_eq!(names(&step), ["operation.resumed"]);
    assert_eq!(data(&step.events[0]).phase, "running");
}

#[test]
fn unobserved_time_does_not_count_towards_a_stall() {
    let mut fixture = Fixture::new();
    fixture.settings.stalled_after = Duration::from_secs(60);
    let _ = fixture.step(Duration::ZERO, Some(&running(10)));
    let _ = fixture.step(Duration::from_secs(100), Some(&failed()));
    assert_eq!(fixture.after(100, &running(10)), [""; 0]);
    fixture.blocked = Duration::from_secs(50);
    assert_eq!(fixture.after(100, &running(10)), [""; 0]);
    fixture.blocked = Duration::ZERO;
    fixture.watch.resume(Duration::from_hours(1));
    assert_eq!(fixture.after(9, &running(10)), [""; 0]);
    assert_eq!(fixture.after(10, &running(10)), ["operation.stalled"]);
}

#[test]
fn a_stall_shows_since_when_and_why() {
    let mut fixture = Fixture::new();
    let _ = fixture.step(Duration::ZERO, Some(&running(10)));
    let rise = fixture.now.checked_add(Duration::from_mins(1)).unwrap();
    let _ = fixture.after(60, &running(11));
    let _ = fixture.after(1200, &running(11));
    assert_eq!(fixture.watch.stall(), None);
    let step = fixture.step(Duration::from_secs(600), Some(&running(11)));
    assert_eq!(names(&step), ["operation.stalled"]);
    let stalled = data(&step.events[0]);
    assert_eq!(
        (stalled.since, stalled.reason.as_deref()),
        (Some(rise), Some("count unchanged"))
    );
    let progress = stalled.progress.as_ref().unwrap();
    assert_eq!(
        (progress.records_per_second, progress.estimated_end_time),
        (None, None)
    );
    let stall = Stall {
        since: Some(rise),
        reason: "count unchanged",
    };
    assert_eq!(fixture.watch.stall(), Some(stall));
    let _ = fixture.after(60, &failed());
    assert_eq!(fixture.watch.stall(), Some(stall));
    let _ = fixture.after(60, &running(12));
    assert_eq!(fixture.watch.stall(), None);
}

#[test]
fn an_operation_without_a_count_stalls_and_its_first_count_resumes_it() {
    let silent = operation("in_progress", None, None);
    let mut fixture = Fixture::new();
    let begin = fixture.now;
    let _ = fixture.step(Duration::ZERO, Some(&silent));
    // Out of sight no time counts.
    let _ = fixture.after(10_000, &failed());
    let _ = fixture.after(10_000, &silent);
    assert_eq!(fixture.after(21_599, &silent), [""; 0]);
    let step = fixture.step(Duration::from_secs(1), Some(&silent));
    assert_eq!(names(&step), ["operation.stalled"]);
    let stalled = data(&step.events[0]);
    assert_eq!(
        (stalled.since, stalled.reason.as_deref()),
        (Some(begin), Some("no count"))
    );
    assert_eq!(occurrence(&step.events[0], "generation 0 no count"), Ok(()));
    assert_eq!(fixture.after(100_000, &silent), [""; 0]);
    let step = fixture.step(Duration::from_secs(60), Some(&running(0)));
    assert_eq!(names(&step), ["operation.resumed"]);
    assert_eq!(occurrence(&step.events[0], "generation 0 no count"), Ok(()));
    assert_eq!(fixture.after(1800, &running(0)), ["operation.stalled"]);
    assert_eq!(fixture.watch.stall().unwrap().reason, "count unchanged");

    let mut off = Fixture::new();
    off.settings.silent_after = None;
    let _ = off.step(Duration::ZERO, Some(&silent));
    assert_eq!(off.after(100_000_000, &silent), [""; 0]);
}

#[test]
fn a_new_attempt_does_not_end_a_stall() {
    let mut fixture = Fixture::new();
    let _ = fixture.after(0, &retried(0));
    assert_eq!(fixture.after(1800, &retried(0)), ["operation.stalled"]);
    assert_eq!(fixture.after(60, &retried(1)), ["operation.retried"]);
    assert_eq!(fixture.watch.phase(), Phase::Stalled);
    assert_eq!(
        fixture.after(60, &running(600)),
        ["operation.resumed", "operation.progress"]
    );
}

#[test]
fn two_replicas_that_disagree_by_a_record_are_one_step_and_one_stall() {
    let mut fixture = Fixture::new();
    let mut reports = Vec::new();
    for poll in 0..400 {
        let answer = operation("in_progress", Some(5000 - poll % 2), Some(10_000));
        reports.extend(fixture.after(10, &answer));
    }
    assert_eq!(
        reports,
        ["operation.started", "operation.progress", "operation.stalled"]
    );
}

#[test]
fn a_retry_is_reported_once_for_each_attempt() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.after(0, &retried(1)), ["operation.started"]);
    assert_eq!(fixture.after(2, &retried(1)), [""; 0]);
    let step = fixture.step(Duration::from_secs(2), Some(&retried(3)));
    assert_eq!(names(&step), ["operation.retried"]);
    assert_eq!(data(&step.events[0]).retry, Some(RetryData { attempts: 3 }));
}

#[test]
fn not_found_through_the_grace_time_is_gone() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.after(0, &not_found()), [""; 0]);
    assert_eq!(fixture.after(60, &failed()), [""; 0]);
    assert_eq!(fixture.after(59, &not_found()), [""; 0]);
    let step = fixture.step(Duration::from_secs(1), Some(&not_found()));
    assert_eq!(names(&step), ["operation.gone"]);
    assert_eq!(
        (step.next, data(&step.events[0]).phase),
        (NextStep::Finished, "gone")
    );
}

#[test]
fn two_not_founds_are_never_enough_and_an_answer_restarts_the_grace_time() {
    let mut fixture = Fixture::new();
    let _ = fixture.step(Duration::ZERO, Some(&not_found()));
    assert_eq!(fixture.after(1000, &not_found()), [""; 0]);
    assert_eq!(fixture.after(1, &running(0)), ["operation.started"]);
    let _ = fixture.step(Duration::ZERO, Some(&not_found()));
    let _ = fixture.step(Duration::from_secs(60), Some(&not_found()));
    assert_eq!(fixture.after(59, &not_found()), [""; 0]);
    assert_eq!(fixture.after(1, &not_found()), ["operation.gone"]);
}

#[test]
fn while_the_project_is_in_doubt_no_watch_is_gone() {
    let mut fixture = Fixture::new();
    fixture.project_proven = None;
    let _ = fixture.step(Duration::ZERO, Some(&not_found()));
    let _ = fixture.step(Duration::from_secs(60), Some(&not_found()));
    let step = fixture.step(Duration::from_secs(60), Some(&not_found()));
    assert!(step.events.is_empty() && step.doubts_project);
    assert!(matches!(step.next, NextStep::PollAfter(_)));
}

#[test]
fn an_operation_that_is_refused_three_times_is_unreachable_until_it_is_answered() {
    let mut fixture = Fixture::new();
    let refused = Answer::Refused("400 Bad Request".into());
    let begin = fixture.now;
    assert_eq!(fixture.after(0, &refused), [""; 0]);
    assert!(fixture.watch.is_refused() && !fixture.watch.is_forbidden() && !fixture.watch.is_unreachable());
    assert_eq!(fixture.after(10, &Answer::Forbidden("403".into())), [""; 0]);
    assert!(fixture.watch.is_forbidden());
    let step = fixture.step(Duration::from_secs(10), Some(&refused));
    assert_eq!(names(&step), ["operation.unreachable"]);
    let unreachable = data(&step.events[0]);
    assert_eq!(
        (unreachable.since, unreachable.reason.as_deref()),
        (Some(begin), Some("400 Bad Request"))
    );
    assert_eq!(fixture.watch.outage(), Some(begin));
    assert_eq!(fixture.after(10, &refused), [""; 0]);
    let step = fixture.step(Duration::from_secs(10), Some(&running(1)));
    assert_eq!(names(&step), ["operation.reachable", "operation.started"]);
    assert_eq!(data(&step.events[0]).since, Some(begin));
    assert!(!fixture.watch.is_refused() && !fixture.watch.is_forbidden() && !fixture.watch.is_unreachable());
    for _ in 0..2 {
        assert_eq!(fixture.after(10, &refused), [""; 0]);
    }
    assert_eq!(fixture.after(10, &not_found()), [""; 0]);
    assert!(fixture.watch.is_refused() && fixture.watch.refusals() == 0);
    for _ in 0..2 {
        assert_eq!(fixture.after(10, &refused), [""; 0]);
    }
    assert_eq!(fixture.after(10, &refused), ["operation.unreachable"]);
}

#[test]
fn while_all_others_are_refused_too_the_project_reports_it() {
    let mut fixture = Fixture::new();
    let refused = Answer::Refused("400 Bad Request".into());
    fixture.all_others_refused = true;
    for _ in 0..5 {
        assert_eq!(fixture.after(10, &refused), [""; 0]);
    }
    assert_eq!(fixture.watch.refusals(), 5);
    fixture.all_others_refused = false;
    assert_eq!(fixture.after(10, &refused), ["operation.unreachable"]);
}

#[test]
fn outages_that_begin_in_one_millisecond_have_ids_of_their_own() {
    let mut fixture = Fixture::new();
    let refused = Answer::Refused("400 Bad Request".into());
    let mut ids = HashMap::new();
    for round in 0..5 {
        for answer in [&refused, &refused, &refused, &running(1)] {
            for event in fixture.step(Duration::from_micros(50), Some(answer)).events {
                assert_eq!(ids.insert(event.id, round), None, "{}", event.event_type);
            }
        }
    }
    assert_eq!(ids.len(), 11);
}

#[test]
fn an_answer_of_any_kind_ends_a_row_of_failed_polls() {
    let mut fixture = Fixture::new();
    let _ = fixture.step(Duration::ZERO, Some(&running(0)));
    for answer in [not_found(), Answer::Refused("400".into())] {
        for _ in 0..2 {
            assert_eq!(fixture.after(200, &failed()), [""; 0]);
        }
        assert_eq!(fixture.after(200, &answer), [""; 0]);
    }
    for _ in 0..2 {
        assert_eq!(fixture.after(200, &failed()), [""; 0]);
    }
    assert_eq!(fixture.after(200, &failed()), ["operation.unreachable"]);
}

#[test]
fn failed_polls_make_numbers_stale_and_leave_the_time_of_the_answer() {
    let mut fixture = Fixture::new();
    let _ = fixture.step(Duration::ZERO, Some(&running(0)));
    let _ = fixture.step(Duration::from_secs(10), Some(&running(250)));
    let answered = fixture.now;
    let shown = |fixture: &Fixture| fixture.watch.data(&fixture.key, &fixture.labels, fixture.now);
    let fresh = shown(&fixture).progress.unwrap();
    assert_eq!(
        (fresh.records_per_second, fresh.estimated_end_time.is_some()),
        (Some(25.0), true)
    );
    let _ = fixture.after(10, &failed());
    assert_eq!(
        shown(&fixture).progress.as_ref(),
        Some(&fresh),
        "one poll is no outage"
    );
    let _ = fixture.after(10, &failed());
    let stale = shown(&fixture);
    assert_eq!(stale.observed_time, Some(answered));
    assert_eq!(
        (fixture.watch.last_answer(), fixture.watch.last_poll()),
        (Some(answered), Some(fixture.now))
    );
    let progress = stale.progress.unwrap();
    assert_eq!(
        (progress.records_per_second, progress.estimated_end_time),
        (None, None)
    );
    assert_eq!(progress.percent, Some(5.0));
    let _ = fixture.after(10, &running(500));
    assert_eq!(shown(&fixture).observed_time, Some(fixture.now));
    assert!(
        shown(&fixture)
            .progress
            .is_some_and(|progress| progress.records_per_second.is_some())
    );
}

#[test]
fn an_operation_that_was_never_answered_has_no_observed_time() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        let _ = fixture.after(200, &failed());
    }
    let step = fixture.step(Duration::from_secs(200), Some(&failed()));
    assert_eq!(names(&step), ["operation.unreachable"]);
    assert!(!step.events[0].body().contains("observedTime"));
}

#[test]
fn an_operation_whose_polls_fail_while_others_are_answered_is_unreachable() {
    let mut fixture = Fixture::new();
    fixture.project_answered = Some(Duration::from_secs(1));
    let _ = fixture.step(Duration::ZERO, Some(&running(0)));
    let _ = fixture.step(Duration::ZERO, Some(&failed()));
    let _ = fixture.step(Duration::from_secs(150), Some(&failed()));
    let before = fixture.watch.clone();
    assert_eq!(fixture.after(149, &failed()), [""; 0]);
    fixture.watch = before.clone();
    assert_eq!(fixture.after(150, &failed()), ["operation.unreachable"]);
    assert_eq!(fixture.after(1, &failed()), [""; 0]);
    assert_eq!(fixture.after(1, &running(0)), ["operation.reachable"]);

    fixture.watch = before.clone();
    fixture.project_answered = Some(Duration::from_secs(1000));
    assert_eq!(
        fixture.after(150, &failed()),
        [""; 0],
        "it is the API, not the operation"
    );

    fixture.watch = before;
    fixture.project_answered = Some(Duration::from_secs(1));
    fixture.blocked = Duration::from_secs(1);
    assert_eq!(
        fixture.after(150, &failed()),
        [""; 0],
        "what was not tried has not failed"
    );
}

#[test]
fn a_watch_expires_in_whatever_phase() {
    let mut fixture = Fixture::new();
    fixture.settings.give_up_after = Some(Duration::from_secs(60));
    let _ = fixture.step(Duration::from_secs(1), Some(&failed()));
    let early = fixture.step(Duration::from_secs(58), None);
    assert_eq!(early.next, NextStep::Unchanged);
    let step = fixture.step(Duration::from_secs(1), None);
    assert_eq!(names(&step), ["operation.expired"]);
    assert_eq!(
        (step.next, fixture.watch.phase()),
        (NextStep::Finished, Phase::Expired)
    );
}

#[test]
fn every_ending_has_a_duration() {
    let without_time = |status: &str| {
        let Answer::Operation(mut operation) = operation(status, Some(1), None) else {
            unreachable!()
        };
        operation.create_time = None;
        Answer::Operation(operation)
    };
    let duration = |step: &Decision| {
        let event = step.events.last().unwrap();
        assert!(event.event_type.is_ending());
        data(event).duration_seconds
    };
    for status in ["success", "failure", "cancelled"] {
        let mut fixture = Fixture::new();
        let _ = fixture.after(5, &without_time("in_progress"));
        let step = fixture.step(Duration::from_secs(20), Some(&without_time(status)));
        assert_eq!(duration(&step), Some(20.0), "{status}");
    }
    let mut gone = Fixture::new();
    let _ = gone.after(5, &running(1));
    for _ in 0..2 {
        let _ = gone.after(60, &not_found());
    }
    let step = gone.step(Duration::from_secs(60), Some(&not_found()));
    assert_eq!(duration(&step), Some(185.0));
    // Never seen: since it is watched.
    let mut never_seen = Fixture::new();
    let begin = never_seen.now;
    for _ in 0..4 {
        let _ = never_seen.after(60, &not_found());
    }
    assert_eq!(never_seen.watch.phase(), Phase::Gone);
    assert_eq!(never_seen.watch.start(), Some(begin));
    let mut expired = Fixture::new();
    expired.settings.give_up_after = Some(Duration::from_mins(1));
    let begin = expired.now;
    let _ = expired.after(10, &failed());
    let step = expired.step(Duration::from_secs(50), None);
    assert_eq!(duration(&step), Some(60.0));
    let data = data(&step.events[0]);
    assert_eq!(data.since, Some(begin));
    assert_eq!(
        data.reason.as_deref(),
        Some("the operation did not finish within poll.give_up_after (1m); last error: connection refused")
    );
}

#[test]
fn a_stalled_watch_expires_too() {
    let mut fixture = Fixture::new();
    fixture.settings.give_up_after = Some(Duration::from_hours(1));
    let _ = fixture.after(0, &running(1));
    assert_eq!(fixture.after(1800, &running(1)), ["operation.stalled"]);
    assert_eq!(fixture.after(1800, &running(1)), ["operation.expired"]);
}

#[test]
fn a_watch_started_again_continues_its_sequence_and_reports_its_start_with_a_new_id() {
    let mut fixture = Fixture::new();
    let first = fixture.step(Duration::ZERO, Some(&running(0)));
    let end = fixture.step(Duration::ZERO, Some(&operation("paused", None, None)));
    fixture.watch.start_again();
    let again = fixture.step(Duration::ZERO, Some(&running(0)));
    assert_ne!(first.events[0].id, again.events[0].id);
    assert_eq!(
        (data(&end.events[0]).sequence, data(&again.events[0]).sequence),
        (2, 3)
    );
}

#[test]
fn the_same_fact_has_the_same_id_after_the_state_was_lost() {
    let run = || {
        let mut fixture = Fixture::new();
        let mut ids = Vec::new();
        for (seconds, answer) in [
            (0, running(0)),
            (10, running(2000)),
            (10, operation("failure", None, None)),
        ] {
            ids.extend(
                fixture
                    .step(Duration::from_secs(seconds), Some(&answer))
                    .events
                    .into_iter()
                    .map(|e| e.id),
            );
        }
        ids
    };
    assert_eq!(run(), run());
    assert_eq!(run().len(), 3);
}

#[test]
fn the_state_survives_being_written_down() {
    let mut fixture = Fixture::new();
    for count in [0, 100, 2000] {
        let _ = fixture.step(Duration::from_secs(30), Some(&running(count)));
    }
    let json = serde_json::to_string(&fixture.watch).unwrap();
    let restored: Watch = serde_json::from_str(&json).unwrap();
    assert_eq!(
        restored.data(&fixture.key, &fixture.labels, fixture.now),
        fixture.watch.data(&fixture.key, &fixture.labels, fixture.now)
    );
    assert_eq!(
        (restored.phase(), restored.sequence(), restored.polls()),
        (Phase::Running, 2, 3)
    );
}

#[test]
fn hostile_answers_stay_within_the_size_of_a_body() {
    let nasty = "\u{1}".repeat(500_000);
    let Answer::Operation(mut operation) = operation(&nasty, Some(u64::MAX), Some(1)) else {
        unreachable!()
    };
    operation.result = Some(nasty.clone());
    operation.installation_id = Some(nasty.clone());
    operation.metadata.as_mut().unwrap().objects = Some(vec![nasty; 3]);
    let mut fixture = Fixture::new();
    fixture.labels = vec![("l".into(), "\"".repeat(4000))];
    let step = fixture.step(Duration::ZERO, Some(&Answer::Operation(operation)));
    let body = step.events[0].body();
    assert!(body.len() <= crate::core::event::MAX_BODY, "{}", body.len());
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
}

/// Whether the event has the ID of that occurrence.
fn occurrence(event: &Event, occurrence: &str) -> Result<(), String> {
    let id = EventId::derive("p", Some("op"), event.event_type, occurrence);
    if event.id == id {
        Ok(())
    } else {
        Err(format!("{} is not {occurrence:?}", event.event_type))
    }
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let progress = (any::<Option<u64>>(), any::<Option<u64>>());
    let status = prop_oneof![
        20 => Just("in_progress"),
        1 => Just("success"),
        1 => Just("failure"),
        1 => Just("odd"),
    ];
    prop_oneof![
        8 => (status, progress, 0..5_u64).prop_map(|(status, (processed, total), attempts)| {
            let Answer::Operation(mut answer) = operation(status, processed, total) else { unreachable!() };
            answer.metadata.as_mut().unwrap().retry =
                Some(Retry { attempts: Some(attempts), ..Default::default() });
            Answer::Operation(answer)
        }),
        4 => (0..1000_u64).prop_map(running),
        2 => Just(failed()),
        2 => Just(not_found()),
        1 => Just(Answer::Refused("400".into())),
        1 => Just(Answer::Forbidden("403".into())),
        1 => Just(Answer::Unauthorized("401".into())),
        1 => Just(Answer::Throttled { wait: None, reason: "429".into() }),
    ]
}

fn legal(from: Phase, to: Phase) -> bool {
    use Phase::{Ended, Expired, Failed, Gone, Pending, Running, Stalled, Succeeded};
    match from {
        Pending => to != Stalled || from == to,
        Running | Stalled => to != Pending,
        Succeeded | Failed | Ended | Gone | Expired => to == from,
    }
}

proptest! {
    #[test]
    fn any_sequence_of_answers_causes_consistent_events(
        steps in prop::collection::vec((any_answer(), 0..2000_u64, any::<bool>()), 1..80),
        give_up_after in prop::option::of(1..50_000_u64),
    ) {
        let mut fixture = Fixture::new();
        fixture.settings.give_up_after = give_up_after.map(Duration::from_secs);
        let (mut sequence, mut endings) = (0, 0);
        let mut ids = HashMap::new();
        for (answer, seconds, project_known) in steps {
            fixture.project_proven = project_known.then_some(Duration::ZERO);
            let before = fixture.watch.phase();
            let step = fixture.step(Duration::from_secs(seconds), Some(&answer));
            prop_assert!(legal(before, fixture.watch.phase()), "{before} to {}", fixture.watch.phase());
            for event in &step.events {
                let reported = data(event);
                sequence += 1;
                prop_assert_eq!(reported.sequence, sequence);
                endings += u32::from(event.event_type.is_ending());
                prop_assert!(event.body().len() <= crate::core::event::MAX_BODY);
                let percent = reported.progress.as_ref().and_then(|progress| progress.percent);
                prop_assert!(event.event_type == EventType::Succeeded || percent.is_none_or(|percent| percent < 100.0));
                prop_assert_eq!(ids.insert(event.id.clone(), sequence), None, "{} twice", event.event_type);
            }
            prop_assert_eq!(fixture.watch.sequence(), sequence);
            prop_assert!(endings <= 1);
            prop_assert_eq!(step.next == NextStep::Finished, fixture.watch.phase().is_finished());
            prop_assert_eq!(endings == 1, fixture.watch.phase().is_finished());
            if let NextStep::PollAfter(wait) = step.next {
                prop_assert!(wait <= fixture.schedule.max_interval && wait >= fixture.schedule.min_interval);
            } else {
                break;
            }
        }
    }

    #[test]
    fn the_same_fact_has_the_same_id_whenever_the_daemon_was_restarted(
        steps in prop::collection::vec((any_answer(), 0..2000_u64, any::<bool>()), 1..60),
    ) {
        let (mut steady, mut restarted) = (Fixture::new(), Fixture::new());
        for (answer, seconds, restart) in steps {
            if restart {
                let json = serde_json::to_string(&restarted.watch).unwrap();
                restarted.watch = serde_json::from_str(&json).unwrap();
                restarted.watch.resume(Duration::ZERO);
            }
            let elapsed = Duration::from_secs(seconds);
            let one = steady.step(elapsed, Some(&answer));
            let other = restarted.step(elapsed, Some(&answer));
            // A restart hides time, so a stall may be seen later; every other fact is the same, under the same ID.
            let ids = |step: &Decision| -> Vec<EventId> {
                step.events
                    .iter()
                    .filter(|event| !matches!(event.event_type, EventType::Stalled | EventType::Resumed | EventType::Progress))
                    .map(|event| event.id.clone())
                    .collect()
            };
            prop_assert_eq!(ids(&one), ids(&other));
            if one.next == NextStep::Finished {
                break;
            }
        }
    }
}

/// The seconds that `fixture` adds to the history.
fn duration_sample(fixture: &Fixture) -> Option<u64> {
    let sample = fixture.watch.history_sample();
    sample.map(|(_, sample)| sample.duration.as_secs())
}

#[test]
fn an_observed_success_adds_the_time_since_its_creation_to_the_history() {
    let mut fixture = Fixture::new();
    // Listed ten minutes after it was created, and finished between the last two polls.
    let _ = fixture.after(600, &running(1));
    assert_eq!(duration_sample(&fixture), None);
    let _ = fixture.after(60, &running(2));
    let _ = fixture.after(20, &operation("success", Some(3), None));
    assert_eq!(duration_sample(&fixture), Some(670));
}

#[test]
fn only_observed_successes_are_added_to_the_history() {
    let mut unseen = Fixture::new();
    let _ = unseen.after(600, &operation("success", Some(3), None));
    assert_eq!(duration_sample(&unseen), None);

    let mut away = Fixture::new();
    let _ = away.after(10, &running(1));
    away.watch.resume(Duration::from_hours(10));
    let _ = away.after(36_000, &operation("success", Some(3), None));
    assert_eq!(duration_sample(&away), None);

    let mut failed = Fixture::new();
    let _ = failed.after(10, &running(1));
    let _ = failed.after(10, &operation("failure", Some(3), None));
    assert_eq!(duration_sample(&failed), None);
}

#[test]
fn what_is_read_back_shares_its_kind_with_the_others() {
    let mut fixture = Fixture::new();
    let _ = fixture.after(10, &running(1));
    let stored = serde_json::to_string(&fixture.watch).unwrap();
    let mut back: Watch = serde_json::from_str(&stored).unwrap();
    let kind = |watch: &Watch| Arc::clone(&watch.details.as_ref().unwrap().kind);
    assert!(!Arc::ptr_eq(&kind(&back), &kind(&fixture.watch)));
    let mut kinds = OperationKinds::default();
    fixture.watch.share(None, &mut kinds);
    back.share(None, &mut kinds);
    assert!(Arc::ptr_eq(&kind(&back), &kind(&fixture.watch)));
}
