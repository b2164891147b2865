use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::answer::Answer;
use crate::core::deadline::Deadline;
use crate::core::event::Event;
use crate::core::operation::{ActionType, Metadata, Operation, Progress, Retry};
use crate::core::operation_kind::OperationKinds;
use crate::core::schedule::ScheduleSettings;
use crate::core::watch::{WatchContext, WatchSettings};

struct Fixture {
    watch: Watch,
    key: WatchKey,
    settings: WatchSettings,
    deadline: Option<Deadline>,
    now: Timestamp,
    log: Vec<PastEvent>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            watch: Watch::default(),
            key: WatchKey {
                project: "p".into(),
                operation: "op".into(),
            },
            settings: WatchSettings {
                stalled_after: Duration::from_mins(30),
                silent_after: None,
                unreachable_after: Duration::from_mins(5),
                not_found_grace: Duration::from_mins(2),
                give_up_after: None,
                active_statuses: Vec::new(),
                progress_step: 10.0,
                progress_interval: Duration::from_mins(1),
            },
            deadline: None,
            now: "2026-11-23T11:48:35Z".parse().unwrap(),
            log: Vec::new(),
        }
    }

    /// The types of the events that `answer` brings.
    fn after(&mut self, seconds: u64, answer: &Answer) -> Vec<&'static str> {
        let elapsed = Duration::from_secs(seconds);
        self.now = self.now.checked_add(elapsed).unwrap();
        let step = self.watch.observe(
            answer,
            &WatchContext {
                key: &self.key,
                labels: &Vec::new(),
                deadline: self.deadline,
                settings: &self.settings,
                schedule: &ScheduleSettings::DEFAULT,
                kinds: &OperationKinds::default(),
                now: self.now,
                elapsed,
                blocked: Duration::ZERO,
                random_fraction: 0.5,
                all_others_refused: false,
                project_proven: Some(Duration::ZERO),
                project_answered: Some(Duration::ZERO),
            },
        );
        let types = step
            .events
            .iter()
            .map(|event| event.event_type.as_str())
            .collect();
        let past: Vec<PastEvent> = step.events.iter().map(|event| self.past(event)).collect();
        self.log.extend(past);
        types
    }

    fn past(&self, event: &Event) -> PastEvent {
        PastEvent {
            id: event.id.to_string(),
            event_type: event.event_type,
            recorded: self.now,
            body: event.body(),
        }
    }

    fn lose_state(&mut self) {
        self.watch = Watch::rebuild(&self.key, &self.log, 0).unwrap_or_default();
    }

    fn assert_sound(&self) {
        let mut ids: Vec<&str> = self.log.iter().map(|event| &*event.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), self.log.len(), "an ID came twice: {:#?}", self.log);
        for (event, sequence) in self.log.iter().zip(1..) {
            let body: EventBody = serde_json::from_str(&event.body).unwrap();
            assert_eq!(body.data.sequence, sequence);
        }
    }
}

fn answer(status: &str, processed: u64, total: Option<u64>, attempts: u64) -> Answer {
    Answer::Operation(Box::new(Operation {
        project_id: Some("project-456".into()),
        integration_id: Some("113e".into()),
        config_id: Some("c".into()),
        installation_id: Some("6643".into()),
        action_type: Some(ActionType::Read),
        result: (status != "in_progress").then(|| "done".into()),
        create_time: Some("2026-11-23T11:48:35Z".parse().unwrap()),
        metadata: Some(Metadata {
            objects: Some(vec!["contact".into()]),
            retry: Some(Retry {
                attempts: Some(attempts),
                ..Default::default()
            }),
            progress: Some(Progress {
                records_processed: Some(processed),
                records_estimated_total: total,
                ..Default::default()
            }),
        }),
        ..Operation::new("op".to_owned(), Status::from(status.to_owned()))
    }))
}

fn running(processed: u64) -> Answer {
    answer("in_progress", processed, Some(5000), 2)
}

#[test]
fn what_was_reported_is_not_reported_again() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.after(0, &running(1000)),
        ["operation.started", "operation.progress"]
    );
    let data = fixture.watch.data(&fixture.key, &Vec::new(), fixture.now);
    fixture.lose_state();
    assert_eq!(fixture.watch.data(&fixture.key, &Vec::new(), fixture.now), data);
    // The attempts and the step were there before.
    assert_eq!(fixture.after(10, &running(1100)), [""; 0]);
    assert_eq!(fixture.after(10, &running(1500)), ["operation.progress"]);
    fixture.lose_state();
    assert_eq!(
        fixture.after(10, &answer("in_progress", 1500, Some(5000), 3)),
        [""; 0]
    );
    assert_eq!(
        fixture.after(10, &answer("in_progress", 1500, Some(5000), 4)),
        ["operation.retried", "operation.progress"]
    );
    fixture.lose_state();
    assert_eq!(
        fixture.after(10, &answer("in_progress", 1500, Some(5000), 5)),
        ["operation.retried", "operation.progress"]
    );
    fixture.assert_sound();
}

#[test]
fn without_an_estimate_the_count_continues() {
    let mut fixture = Fixture::new();
    let count = |count| answer("in_progress", count, None, 0);
    assert_eq!(fixture.after(0, &count(10)), ["operation.started"]);
    assert_eq!(fixture.after(60, &count(20)), ["operation.progress"]);
    fixture.lose_state();
    assert_eq!(fixture.after(60, &count(20)), [""; 0]);
    assert_eq!(fixture.after(60, &count(30)), ["operation.progress"]);
    fixture.assert_sound();
}

#[test]
fn a_stall_and_an_outage_continue() {
    let mut fixture = Fixture::new();
    let _ = fixture.after(0, &running(1000));
    assert_eq!(fixture.after(1800, &running(1000)), ["operation.stalled"]);
    fixture.lose_state();
    assert_eq!(fixture.after(1800, &running(1000)), [""; 0]);
    let refused = Answer::Refused("400 Bad Request".into());
    for _ in 0..2 {
        assert_eq!(fixture.after(10, &refused), [""; 0]);
    }
    assert_eq!(fixture.after(10, &refused), ["operation.unreachable"]);
    fixture.lose_state();
    assert_eq!(fixture.after(10, &refused), [""; 0]);
    assert_eq!(
        fixture.after(10, &running(1100)),
        ["operation.reachable", "operation.resumed"]
    );
    fixture.assert_sound();
}

#[test]
fn a_finished_watch_stays_finished_and_one_that_started_again_continues() {
    let mut fixture = Fixture::new();
    let _ = fixture.after(0, &running(1000));
    for generation in 0..3 {
        assert_eq!(
            fixture.after(10, &answer("cancelled", 1000, Some(5000), 2)),
            ["operation.ended"]
        );
        fixture.lose_state();
        assert_eq!(fixture.watch.phase(), Phase::Ended);
        assert_eq!(fixture.watch.generation, generation);
        fixture.watch.start_again();
        assert_eq!(
            fixture.after(10, &running(1000)),
            ["operation.started", "operation.progress"]
        );
        fixture.lose_state();
        assert_eq!(fixture.watch.generation, generation + 1);
    }
    fixture.lose_state();
    assert_eq!(
        fixture.after(10, &answer("success", 5000, Some(5000), 2)),
        ["operation.succeeded"]
    );
    fixture.lose_state();
    assert!(fixture.watch.phase().is_finished());
    fixture.assert_sound();
}

#[test]
fn an_event_that_is_lost_keeps_its_number() {
    let mut fixture = Fixture::new();
    let _ = fixture.after(0, &running(1000));
    let rebuilt = Watch::rebuild(&fixture.key, &fixture.log[..1], 1).unwrap();
    assert_eq!(rebuilt.sequence(), 2);
    assert_eq!(Watch::rebuild(&fixture.key, &[], 0), None);
    let foreign = PastEvent {
        body: "{}".into(),
        ..fixture.log[0].clone()
    };
    assert_eq!(Watch::rebuild(&fixture.key, &[foreign], 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_when_numbers_have_no_gap_and_ids_are_unique(
        steps in proptest::collection::vec((0..8_u8, 0..6000_u64, 1..2000_u64), 1..60),
    ) {
        let mut fixture = Fixture::new();
        for (what, processed, seconds) in steps {
            match what {
                0 => fixture.lose_state(),
                1 if fixture.watch.phase().may_start_again() => fixture.watch.start_again(),
                _ if fixture.watch.phase().is_finished() => {}
                2 => drop(fixture.after(seconds, &Answer::Refused("400".into()))),
                3 => drop(fixture.after(seconds, &Answer::NotFound("404".into()))),
                4 => drop(fixture.after(seconds, &answer("cancelled", processed, Some(5000), 0))),
                5 => drop(fixture.after(seconds, &answer("in_progress", processed, None, 0))),
                _ => drop(fixture.after(seconds, &answer("in_progress", processed, Some(5000), 0))),
            }
            fixture.assert_sound();
        }
    }
}
