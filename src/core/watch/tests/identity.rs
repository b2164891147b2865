//! Two facts never share an ID, and one fact never has two.

use std::collections::HashSet;

use super::*;

fn has_ids(step: &Decision, occurrences: &[(EventType, &str)]) {
    let expected: Vec<(EventType, EventId)> = occurrences
        .iter()
        .map(|(event_type, occurrence)| {
            let id = EventId::derive("p", Some("op"), *event_type, occurrence);
            (*event_type, id)
        })
        .collect();
    let found: Vec<(EventType, EventId)> = step
        .events
        .iter()
        .map(|event| (event.event_type, event.id.clone()))
        .collect();
    assert_eq!(found, expected, "{occurrences:?}");
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_ids_of_version_0_1_stay_as_they_are() {
    use EventType::{Gone, Progress, Reachable, Resumed, Retried, Stalled, Started, Succeeded, Unreachable};
    let mut fixture = Fixture::new();
    has_ids(
        &fixture.step(Duration::ZERO, Some(&running(0))),
        &[(Started, "generation 0")],
    );
    has_ids(
        &fixture.step(seconds(60), Some(&running(1530))),
        &[(Progress, "generation 0 restart 0 percent 30")],
    );
    has_ids(
        &fixture.step(seconds(1800), Some(&running(1530))),
        &[(Stalled, "generation 0 restart 0 count 1530")],
    );
    has_ids(
        &fixture.step(seconds(60), Some(&running(1531))),
        &[(Resumed, "generation 0 restart 0 count 1530")],
    );
    let Answer::Operation(mut again) = running(10) else {
        unreachable!()
    };
    again.metadata.as_mut().unwrap().retry = Some(Retry {
        attempts: Some(2),
        ..Default::default()
    });
    has_ids(
        &fixture.step(seconds(60), Some(&Answer::Operation(again))),
        &[(Retried, "attempt 2")],
    );
    has_ids(
        &fixture.step(seconds(60), Some(&running(2600))),
        &[(Progress, "generation 0 restart 1 percent 50")],
    );
    for _ in 0..2 {
        has_ids(&fixture.step(seconds(10), Some(&failed())), &[]);
    }
    has_ids(
        &fixture.step(seconds(300), Some(&failed())),
        &[(Unreachable, "2026-11-23T12:22:45.000Z")],
    );
    has_ids(
        &fixture.step(seconds(10), Some(&operation("success", Some(5000), Some(5000)))),
        &[
            (Reachable, "2026-11-23T12:22:45.000Z"),
            (Succeeded, "generation 0"),
        ],
    );

    let mut counted = Fixture::new();
    let _ = counted.step(Duration::ZERO, Some(&operation("in_progress", Some(1), None)));
    has_ids(
        &counted.step(seconds(60), Some(&operation("in_progress", Some(1250), None))),
        &[(Progress, "generation 0 restart 0 count 1250")],
    );
    for _ in 0..2 {
        let _ = counted.after(60, &not_found());
    }
    has_ids(
        &counted.step(seconds(60), Some(&not_found())),
        &[(Gone, "generation 0")],
    );
    // printf 'p\nop\noperation.progress\ngeneration 0 restart 0 percent 30' | sha256sum | cut -c1-32
    let id = EventId::derive("p", Some("op"), Progress, "generation 0 restart 0 percent 30");
    assert_eq!(id.as_str(), "evt_c9d90a8489578e14b814550fdaf3ec48");
}

#[test]
fn what_shared_an_id_in_version_0_1_has_one_of_its_own() {
    let mut fixture = Fixture::new();
    let _ = fixture.step(Duration::ZERO, Some(&retried(0)));
    has_ids(
        &fixture.step(seconds(2), Some(&retried(1))),
        &[(EventType::Retried, "attempt 1")],
    );
    let _ = fixture.step(seconds(2), Some(&operation("cancelled", None, None)));
    fixture.watch.start_again();
    let _ = fixture.step(seconds(2), Some(&retried(0)));
    has_ids(
        &fixture.step(seconds(2), Some(&retried(1))),
        &[(EventType::Retried, "generation 1 attempt 1")],
    );
    let mut silent = Fixture::new();
    let _ = silent.after(0, &operation("in_progress", None, None));
    has_ids(
        &silent.step(seconds(21_600), Some(&operation("in_progress", None, None))),
        &[(EventType::Stalled, "generation 0 no count")],
    );
}

#[test]
fn a_changed_step_compares_with_the_last_percentage_reported() {
    let mut fixture = Fixture::new();
    let _ = fixture.after(0, &running(0));
    assert_eq!(fixture.after(10, &running(2525)), ["operation.progress"]);
    fixture.settings.progress_step = 1.0;
    assert_eq!(fixture.after(10, &running(2530)), [""; 0]);
    has_ids(
        &fixture.step(seconds(10), Some(&running(2600))),
        &[(EventType::Progress, "generation 0 restart 0 percent 52")],
    );
    fixture.settings.progress_step = 25.0;
    for count in [3000, 3500, 3700] {
        assert_eq!(fixture.after(10, &running(count)), [""; 0], "{count}");
    }
    has_ids(
        &fixture.step(seconds(10), Some(&running(3800))),
        &[(EventType::Progress, "generation 0 restart 0 percent 75")],
    );
}

/// The steps that are to be reported, by the rules as the contract has them, from what the API answers.
#[derive(Default)]
struct Expected {
    highest: Option<u64>,
    total: Option<u64>,
    far_below: bool,
    total_missing: bool,
    attempts: u64,
    retried: bool,
    /// The last percentage reported, the highest seen, and the one of a first answer with a lower estimate.
    reported: f64,
    peak: f64,
    lower: Option<f64>,
}

impl Expected {
    fn percent(&self) -> Option<f64> {
        let (count, total) = (self.highest?, self.total?);
        Some(((count as f64 / total as f64 * 1000.0).round() / 10.0).min(99.9))
    }

    fn restart(&mut self, count: u64) {
        *self = Self {
            highest: Some(count),
            total: self.total,
            total_missing: self.total_missing,
            attempts: self.attempts,
            ..Self::default()
        };
    }

    /// Takes in an answer of a running operation.
    fn see(&mut self, count: Option<u64>, total: Option<u64>, attempts: u64, is_new: bool, step: f64) {
        self.retried |= attempts > self.attempts && !is_new && self.highest.is_some();
        self.attempts = self.attempts.max(attempts);
        let Some(count) = count else { return };
        match total.filter(|total| *total > 0) {
            None if self.total.is_some() && !self.total_missing => self.total_missing = true,
            total => (self.total, self.total_missing) = (total, false),
        }
        let Some(highest) = self.highest else {
            self.highest = Some(count);
            return;
        };
        let far_below = u128::from(count) * 10 < u128::from(highest) * 9;
        if self.retried || (far_below && self.far_below) {
            self.restart(count);
            return;
        }
        self.far_below = far_below;
        if let Some(before) = self.percent() {
            if before > self.peak - step + 1e-9 {
                self.lower = None;
            } else if let Some(lower) = self.lower.take() {
                (self.reported, self.peak) = (lower, lower);
            } else {
                self.lower = Some(before);
            }
        }
        if !far_below {
            self.highest = Some(count.max(highest));
        }
    }

    /// The highest step above the last percentage reported, which is reported now.
    fn cross(&mut self, step: f64) -> Option<f64> {
        let percent = self.percent()?;
        self.peak = self.peak.max(percent);
        let reached = (percent / step + 1e-9).floor() * step;
        (reached > self.reported + 1e-9).then(|| {
            self.reported = percent;
            reached
        })
    }
}

#[derive(Debug, Clone)]
enum Act {
    Answer(Answer),
    /// A reload.
    Decision(f64),
    Interval(u64),
    StalledAfter(u64),
    SilentAfter(Option<u64>),
    /// The line is removed and added again.
    Remove,
    /// The daemon is started again.
    Restart,
    /// The deadline changes.
    Deadline(Option<Deadline>),
    /// Time passes without a poll.
    Pass,
}

fn acts() -> impl Strategy<Value = Act> {
    let count = prop_oneof![
        1 => Just(None),
        4 => (0..20_u64).prop_map(Some),
        8 => (0..1000_u64).prop_map(Some),
        8 => (990..1000_u64).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
    ];
    let total = prop_oneof![
        2 => Just(None),
        12 => Just(Some(1000)),
        3 => prop::sample::select(vec![Some(0), Some(500), Some(2000), Some(10_000)]),
        1 => any::<u64>().prop_map(Some),
    ];
    let running = (count, total, 0..4_u64).prop_map(|(count, total, attempts)| {
        let Answer::Operation(mut answer) = operation("in_progress", count, total) else {
            unreachable!()
        };
        answer.metadata.as_mut().unwrap().retry = Some(Retry {
            attempts: Some(attempts / 3),
            ..Default::default()
        });
        Act::Answer(Answer::Operation(answer))
    });
    prop_oneof![
        40 => running,
        8 => any_answer().prop_map(Act::Answer),
        4 => prop::sample::select(vec![0.1, 1.0, 7.5, 10.0, 25.0, 100.0]).prop_map(Act::Decision),
        1 => (1..200_u64).prop_map(Act::Interval),
        1 => (1..2000_u64).prop_map(Act::StalledAfter),
        1 => prop::option::of(1..2000_u64).prop_map(Act::SilentAfter),
        2 => Just(Act::Remove),
        2 => Just(Act::Restart),
        6 => deadlines().prop_map(Act::Deadline),
        4 => Just(Act::Pass),
    ]
}

/// More than a watch keeps.
fn deadlines() -> impl Strategy<Value = Option<Deadline>> {
    let begin = Fixture::new().now;
    prop_oneof![
        1 => Just(None),
        8 => (0..40_u64).prop_map(move |minutes| {
            Some(Deadline::At(begin.checked_add(Duration::from_mins(5 * minutes)).unwrap()))
        }),
        4 => (1..10_u64).prop_map(|minutes| Some(Deadline::After(Duration::from_mins(20 * minutes)))),
    ]
}

fn store_and_load(watch: &Watch) -> Watch {
    serde_json::from_str(&serde_json::to_string(watch).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn ids_are_unique_sequences_have_no_gap_and_steps_are_reported_once(
        acts in prop::collection::vec((acts(), 0..600_u64), 1..120),
    ) {
        let mut fixture = Fixture::new();
        let mut expected = Expected::default();
        let (mut sequence, mut ids) = (0, HashSet::new());
        for (act, wait) in acts {
            let answer = match act {
                Act::Answer(answer) => Some(answer),
                Act::Pass => None,
                Act::Deadline(deadline) => {
                    fixture.deadline = deadline;
                    continue;
                }
                Act::Decision(step) => {
                    fixture.settings.progress_step = step;
                    continue;
                }
                Act::Interval(interval) => {
                    fixture.settings.progress_interval = seconds(interval);
                    continue;
                }
                Act::StalledAfter(limit) => {
                    fixture.settings.stalled_after = seconds(limit);
                    continue;
                }
                Act::SilentAfter(limit) => {
                    fixture.settings.silent_after = limit.map(seconds);
                    continue;
                }
                Act::Remove | Act::Restart => {
                    let is_removed = matches!(act, Act::Remove);
                    fixture.watch = store_and_load(&fixture.watch);
                    if is_removed && fixture.watch.phase().may_start_again() {
                        fixture.watch.start_again();
                        expected = Expected::default();
                    } else {
                        fixture.watch.resume(seconds(wait));
                    }
                    continue;
                }
            };
            if fixture.watch.phase().is_finished() {
                continue;
            }
            let is_new = fixture.watch.phase() == Phase::Pending;
            let step = fixture.step(seconds(wait), answer.as_ref());
            for event in &step.events {
                sequence += 1;
                prop_assert_eq!(data(event).sequence, sequence);
                prop_assert!(ids.insert(event.id.clone()), "{} twice", event.event_type);
            }
            let Some(Answer::Operation(operation)) = &answer else { continue };
            let metadata = operation.metadata.as_ref().unwrap();
            let progress = metadata.progress.as_ref().unwrap();
            let attempts = metadata.retry.as_ref().and_then(|retry| retry.attempts).unwrap_or(0);
            let size = fixture.settings.progress_step;
            expected.see(progress.records_processed, progress.records_estimated_total, attempts, is_new, size);
            if fixture.watch.phase() != Phase::Running {
                continue;
            }
            let reports: Vec<&OperationData> = step
                .events
                .iter()
                .filter(|event| event.event_type == EventType::Progress)
                .map(data)
                .collect();
            let shown = fixture.watch.progress(fixture.now);
            prop_assert_eq!(shown.as_ref().map(|shown| shown.records_processed), expected.highest);
            prop_assert_eq!(shown.as_ref().and_then(|shown| shown.percent), expected.percent());
            if let Some(reached) = expected.cross(size) {
                prop_assert_eq!(reports.len(), 1, "no report of {}", reached);
                prop_assert!(reports[0].progress.as_ref().unwrap().percent >= Some(reached - 1e-9));
            } else {
                let is_usable = shown.is_some_and(|shown| shown.percent.is_some() && !shown.estimate_exceeded);
                prop_assert!(reports.len() <= usize::from(!is_usable), "{:?}", reports);
            }
        }
    }
}

/// What version 0.1 stored of an operation at 55 %, with a step of 10.
const AT_55_PERCENT: &str = r#"{"phase":"running","sequence":2,"generation":0,"polls":2,"watched":{"secs":60,"nanos":0},"lasted":null,"first_seen":"2026-11-23T11:48:35Z","last_poll":"2026-11-23T11:49:35Z","next_poll":"2026-11-23T11:50:21.503014Z","last_error":null,"facts":{"project_id":"project-456","integration_id":"113e","objects":["contact"],"installation_id":"6643","status":"in_progress","create_time":"2026-11-23T11:48:35Z","result":null},"attempts":0,"progress":{"processed":2750,"total":5000,"records":2750.0,"seconds":60.0,"trend":{"records":2750.0,"seconds":60.0,"moment":1800.0,"rate":45.833332,"span":60.0,"falls":0},"restarts":0,"unchanged":{"secs":0,"nanos":0},"stalled_at":[0,0],"told_ago":{"secs":0,"nanos":0},"told_step":5,"told_count":2750},"schedule":{"interval":{"secs":4,"nanos":500000000},"failures":0,"seen":2},"missing":null,"trouble":null,"unreachable":null}"#;
/// And of one whose estimate grew from 1,000 to 10,000 at 90 %.
const AT_9_OF_90_PERCENT: &str = r#"{"phase":"running","sequence":2,"generation":0,"polls":3,"watched":{"secs":120,"nanos":0},"lasted":null,"first_seen":"2026-11-23T11:48:35Z","last_poll":"2026-11-23T11:50:35Z","next_poll":"2026-11-23T11:51:35Z","last_error":null,"facts":{"project_id":"project-456","integration_id":"113e","objects":["contact"],"installation_id":"6643","status":"in_progress","create_time":"2026-11-23T11:48:35Z","result":null},"attempts":0,"progress":{"processed":900,"total":10000,"records":630.0,"seconds":102.0,"trend":{"records":180.0,"seconds":72.0,"moment":2880.0,"rate":0.0,"span":60.0,"falls":0},"restarts":0,"unchanged":{"secs":60,"nanos":0},"stalled_at":[0,0],"told_ago":{"secs":60,"nanos":0},"told_step":9,"told_count":900},"schedule":{"interval":{"secs":6,"nanos":750000000},"failures":0,"seen":3},"missing":null,"trouble":null,"unreachable":null}"#;
/// And of one without a count, after a failed poll.
const WITHOUT_A_COUNT: &str = r#"{"phase":"running","sequence":1,"generation":0,"polls":2,"watched":{"secs":60,"nanos":0},"lasted":null,"first_seen":"2026-11-23T11:48:35Z","last_poll":"2026-11-23T11:49:35Z","next_poll":"2026-11-23T11:49:37Z","last_error":"connection refused","facts":{"project_id":"project-456","integration_id":"113e","objects":["contact"],"installation_id":"6643","status":"in_progress","create_time":"2026-11-23T11:48:35Z","result":null},"attempts":0,"progress":{"processed":null,"total":null,"records":0.0,"seconds":0.0,"trend":{"records":0.0,"seconds":0.0,"moment":0.0,"rate":0.0,"span":0.0,"falls":0},"restarts":0,"unchanged":{"secs":0,"nanos":0},"stalled_at":[0,0],"told_ago":{"secs":60,"nanos":0},"told_step":0,"told_count":0},"schedule":{"interval":{"secs":3,"nanos":0},"failures":1,"seen":1},"missing":null,"trouble":{"since":"2026-11-23T11:49:35Z","lasted":{"secs":0,"nanos":0},"polls":1},"unreachable":null}"#;
/// And of one that was refused, never answered and reported unreachable.
const UNREACHABLE: &str = r#"{"phase":"pending","sequence":1,"generation":0,"polls":1,"watched":{"secs":0,"nanos":0},"lasted":null,"first_seen":null,"last_poll":"2026-11-23T11:48:35Z","next_poll":"2026-11-23T11:48:37Z","last_error":"400","facts":null,"attempts":0,"progress":{"processed":null,"total":null,"records":0.0,"seconds":0.0,"trend":{"records":0.0,"seconds":0.0,"moment":0.0,"rate":0.0,"span":0.0,"falls":0},"restarts":0,"unchanged":{"secs":0,"nanos":0},"stalled_at":[0,0],"told_ago":{"secs":0,"nanos":0},"told_step":0,"told_count":0},"schedule":{"interval":{"secs":3,"nanos":0},"failures":0,"seen":1},"missing":null,"trouble":null,"unreachable":"2026-11-23T11:48:35Z"}"#;
/// And of one whose count has been 0 for half an hour.
const STALLED: &str = r#"{"phase":"stalled","sequence":3,"generation":0,"polls":2,"watched":{"secs":1800,"nanos":0},"lasted":null,"first_seen":"2026-11-23T11:48:35Z","last_poll":"2026-11-23T12:18:35Z","next_poll":"2026-11-23T12:19:35Z","last_error":null,"facts":{"project_id":"project-456","integration_id":"113e","objects":["contact"],"installation_id":"6643","status":"in_progress","create_time":"2026-11-23T11:48:35Z","result":null},"attempts":2,"progress":{"processed":0,"total":5000,"records":0.0,"seconds":1800.0,"trend":{"records":0.0,"seconds":1800.0,"moment":1620000.0,"rate":0.0,"span":1800.0,"falls":0},"restarts":0,"unchanged":{"secs":1800,"nanos":0},"stalled_at":[0,0],"told_ago":{"secs":1800,"nanos":0},"told_step":0,"told_count":0},"schedule":{"interval":{"secs":4,"nanos":500000000},"failures":0,"seen":2},"missing":null,"trouble":null,"unreachable":null}"#;

/// A fixture that continues from a row of version 0.1, an hour later.
fn continued(row: &str) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.watch = serde_json::from_str(row).unwrap();
    fixture.watch.resume(Duration::from_hours(1));
    fixture
}

#[test]
fn a_row_of_version_0_1_continues_with_the_next_step() {
    for step in [0.1, 1.0, 10.0, 25.0] {
        let mut fixture = continued(AT_55_PERCENT);
        fixture.settings.progress_step = step;
        for _ in 0..2 {
            assert_eq!(fixture.after(10, &running(2750)), [""; 0], "a step of {step}");
        }
    }
    let mut fixture = continued(AT_55_PERCENT);
    assert_eq!(fixture.watch.last_answer(), fixture.watch.last_poll());
    assert_eq!(fixture.after(10, &failed()), [""; 0]);
    assert_eq!(
        fixture.watch.last_answer(),
        Some("2026-11-23T11:49:35Z".parse().unwrap())
    );
    has_ids(
        &fixture.step(seconds(10), Some(&running(3010))),
        &[(EventType::Progress, "generation 0 restart 0 percent 60")],
    );
}

#[test]
fn a_row_of_version_0_1_with_a_grown_estimate_reports_progress_again() {
    let mut fixture = continued(AT_9_OF_90_PERCENT);
    let at = |count| operation("in_progress", Some(count), Some(10_000));
    assert_eq!(fixture.after(10, &at(950)), [""; 0]);
    has_ids(
        &fixture.step(seconds(10), Some(&at(1010))),
        &[(EventType::Progress, "generation 0 restart 0 lowered 1 percent 10")],
    );
}

#[test]
fn a_row_of_version_0_1_without_a_count_stalls_after_its_time() {
    let mut fixture = continued(WITHOUT_A_COUNT);
    let silent = operation("in_progress", None, None);
    assert_eq!(fixture.watch.last_answer(), None);
    assert_eq!(fixture.after(10, &silent), [""; 0]);
    assert_eq!(fixture.after(21_599, &silent), [""; 0]);
    assert_eq!(fixture.after(1, &silent), ["operation.stalled"]);
}

#[test]
fn a_row_of_version_0_1_that_is_unreachable_or_stalled_ends_as_it_would_have() {
    let mut fixture = continued(UNREACHABLE);
    assert!(fixture.watch.is_unreachable());
    assert_eq!(fixture.after(10, &Answer::Refused("400".into())), [""; 0]);
    has_ids(
        &fixture.step(seconds(10), Some(&operation("in_progress", None, None))),
        &[
            (EventType::Reachable, "2026-11-23T11:48:35.000Z"),
            (EventType::Started, "generation 0"),
        ],
    );

    let mut fixture = continued(STALLED);
    let since = Some("2026-11-23T11:48:35Z".parse().unwrap());
    assert_eq!(fixture.watch.stall().unwrap().since, since);
    assert_eq!(fixture.after(10, &retried(2)), [""; 0]);
    has_ids(
        &fixture.step(seconds(10), Some(&running(1))),
        &[(EventType::Resumed, "generation 0 restart 0 count 0")],
    );
}

#[test]
fn a_watch_is_small() {
    assert!(size_of::<Watch>() <= 344, "{} bytes", size_of::<Watch>());
}
