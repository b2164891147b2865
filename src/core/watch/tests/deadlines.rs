//! A deadline that passes is reported once, unless the operation finishes first.

use super::*;
use crate::core::start_time;

const BEGIN: &str = "2026-11-23T11:48:35Z";

fn at(text: &str) -> Option<Deadline> {
    Deadline::parse(text).ok()
}

fn with_deadline(text: &str) -> Fixture {
    Fixture {
        deadline: Some(Deadline::parse(text).unwrap()),
        ..Fixture::new()
    }
}

fn left(fixture: &Fixture) -> Option<u64> {
    fixture
        .watch
        .overdue_in(&fixture.key.operation, fixture.deadline, fixture.now)
        .map(|left| left.as_secs())
}

/// The types of the events when `seconds` pass without a poll.
fn pass(fixture: &mut Fixture, seconds: u64) -> Vec<&'static str> {
    let step = fixture.step(Duration::from_secs(seconds), None);
    assert_eq!(step.next, NextStep::Unchanged);
    names(&step)
}

fn store_and_load(fixture: &mut Fixture) {
    let json = serde_json::to_string(&fixture.watch).unwrap();
    fixture.watch = serde_json::from_str(&json).unwrap();
    fixture.watch.resume(Duration::ZERO);
}

/// Like `running`, without `createTime`.
fn undated() -> Answer {
    let Answer::Operation(mut operation) = running(1) else {
        unreachable!()
    };
    operation.create_time = None;
    Answer::Operation(operation)
}

#[test]
fn a_deadline_is_reported_when_it_passes_without_a_poll_or_with_an_answer() {
    let mut fixture = with_deadline("2026-11-23T12:00:00.0005Z");
    let _ = fixture.after(25, &running(1));
    assert_eq!(left(&fixture), Some(660));
    assert_eq!(pass(&mut fixture, 659), [""; 0]);
    let step = fixture.step(Duration::from_secs(1), None);
    assert_eq!(names(&step), ["operation.overdue"]);
    let event = data(&step.events[0]);
    assert_eq!((event.phase, event.sequence), ("running", 2));
    assert_eq!(event.deadline, "2026-11-23T12:00:00Z".parse().ok());
    let id = EventId::derive("p", Some("op"), EventType::Overdue, "2026-11-23T12:00:00.000Z");
    assert_eq!(step.events[0].id, id);
    assert_eq!(left(&fixture), None);
    assert_eq!(pass(&mut fixture, 1000), [""; 0]);
    assert_eq!(fixture.after(1000, &running(2)), [""; 0]);

    // Answers without an operation report it too, and so does the first answer of all.
    let mut failing = with_deadline("2026-11-23T12:00:00Z");
    let _ = failing.after(25, &running(1));
    assert_eq!(failing.after(660, &failed()), ["operation.overdue"]);
    for answer in [running(1), failed(), not_found()] {
        let mut passed = with_deadline("2020-01-01T00:00:00Z");
        assert_eq!(left(&passed), Some(0));
        let events = passed.after(0, &answer);
        assert_eq!(events.last(), Some(&"operation.overdue"), "{events:?}");
        assert!(!passed.after(1, &answer).contains(&"operation.overdue"));
    }
}

#[test]
fn a_finished_watch_has_no_deadline() {
    for status in ["success", "failure", "cancelled"] {
        let mut fixture = with_deadline("2026-11-23T12:00:00Z");
        let _ = fixture.after(25, &running(1));
        let events = fixture.after(10_000, &operation(status, Some(1), None));
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(left(&fixture), None);
    }
    let mut seen_late = with_deadline("2020-01-01T00:00:00Z");
    assert_eq!(
        seen_late.after(0, &operation("success", Some(1), None)),
        ["operation.succeeded"]
    );
    let mut expiring = with_deadline("2026-11-23T12:00:00Z");
    expiring.settings.give_up_after = Some(Duration::from_mins(1));
    let _ = expiring.after(25, &running(1));
    let step = expiring.step(Duration::from_hours(1), None);
    assert_eq!(
        (names(&step), step.next),
        (vec!["operation.expired"], NextStep::Finished)
    );
}

#[test]
fn a_changed_deadline_is_reported_again_and_the_same_one_is_not() {
    let mut fixture = with_deadline("2026-11-23T12:00:00Z");
    assert_eq!(pass(&mut fixture, 700), ["operation.overdue"]);
    for (deadline, seconds, expected) in [
        // Later; earlier, in the past; one of those before; none; not yet.
        ("2026-11-23T12:01:00Z", 100, 1),
        ("2026-11-23T11:00:00Z", 0, 1),
        ("2026-11-23T12:00:00Z", 0, 0),
        ("2026-11-23T11:00:00+00:00", 0, 0),
        ("none", 0, 0),
        ("2026-11-23T15:00:00Z", 100, 0),
        ("2026-11-23T12:00:30Z", 0, 1),
    ] {
        fixture.deadline = at(deadline);
        assert_eq!(pass(&mut fixture, seconds).len(), expected, "{deadline}");
        store_and_load(&mut fixture);
    }
    assert_eq!(fixture.watch.sequence(), 4);
    // Also not after it was started again.
    let _ = fixture.after(1, &operation("cancelled", None, None));
    fixture.watch.start_again();
    assert_eq!(pass(&mut fixture, 1), [""; 0]);
}

#[test]
fn a_deadline_after_the_start_counts_from_what_is_known_of_it() {
    let mut dated = with_deadline("1h");
    let _ = dated.after(600, &running(1));
    assert_eq!(left(&dated), Some(3000), "from createTime");

    let mut by_id = with_deadline("1h");
    // 2026-11-23T11:38:35Z.
    by_id.key.operation = Arc::from("019ab0a8-e3f8-7a2b-8c3d-0123456789ab");
    let created = start_time::of_id(&by_id.key.operation, by_id.now).unwrap();
    let age = Duration::try_from(by_id.now.duration_since(created)).unwrap();
    by_id.deadline = Some(Deadline::After(age + Duration::from_secs(100)));
    assert_eq!(left(&by_id), Some(100), "from the time in the ID");

    let mut seen = with_deadline("1h");
    let _ = seen.after(600, &failed());
    assert_eq!(left(&seen), Some(3000), "from when it was first watched");
    assert_eq!(pass(&mut seen, 100), [""; 0]);
    assert_eq!(left(&seen), Some(2900));
    store_and_load(&mut seen);
    assert_eq!(left(&seen), Some(2900));
    let _ = seen.after(60, &undated());
    assert_eq!(left(&seen), Some(3600), "from when it was first seen");
    let _ = seen.after(60, &undated());
    store_and_load(&mut seen);
    assert_eq!(left(&seen), Some(3540));
}

#[test]
fn a_watch_that_is_never_polled_has_its_deadline_too() {
    let mut fixture = with_deadline("10m");
    assert_eq!(pass(&mut fixture, 0), [""; 0]);
    assert_eq!(pass(&mut fixture, 599), [""; 0]);
    store_and_load(&mut fixture);
    assert_eq!(pass(&mut fixture, 1), ["operation.overdue"]);
}

#[test]
fn a_start_that_is_known_later_reports_no_second_time() {
    let mut fixture = with_deadline("10m");
    fixture.now = fixture.now.checked_add(Duration::from_mins(5)).unwrap();
    let _ = fixture.after(300, &failed());
    assert_eq!(pass(&mut fixture, 300), ["operation.overdue"]);
    store_and_load(&mut fixture);
    assert_eq!(fixture.after(10, &running(1)), ["operation.started"]);
    // The user changed it.
    fixture.deadline = at("11m");
    assert_eq!(pass(&mut fixture, 0), ["operation.overdue"]);
}

#[test]
fn a_state_without_deadlines_loads_and_is_written_as_before() {
    let mut fixture = with_deadline("2026-11-23T12:00:00Z");
    let _ = fixture.after(1, &running(1));
    let json = serde_json::to_string(&fixture.watch).unwrap();
    assert!(!json.contains("deadlines"), "{json}");
    store_and_load(&mut fixture);
    assert_eq!(pass(&mut fixture, 700), ["operation.overdue"]);
    let id = fixture.key.operation.to_string();
    let since = |fixture: &Fixture| fixture.watch.overdue_since(&id, fixture.deadline, fixture.now);
    assert_eq!(since(&fixture), "2026-11-23T12:00:00Z".parse().ok());
    fixture.deadline = None;
    assert_eq!(since(&fixture), None);
}

#[test]
fn a_clock_that_is_set_moves_a_deadline_only_as_the_true_time_requires() {
    let mut fixture = with_deadline("2026-11-23T12:00:00Z");
    let _ = fixture.after(1, &running(1));
    fixture.now = BEGIN.parse().unwrap();
    fixture.now = fixture.now.checked_sub(Duration::from_hours(1)).unwrap();
    assert_eq!(pass(&mut fixture, 700), [""; 0], "set back");
    fixture.now = "2026-11-23T12:00:00Z".parse().unwrap();
    assert_eq!(pass(&mut fixture, 0), ["operation.overdue"], "set forward");
    fixture.now = BEGIN.parse().unwrap();
    assert_eq!(pass(&mut fixture, 10_000), [""; 0], "once");
}

#[test]
fn time_without_a_poll_counts_for_the_next_observation() {
    let mut with = with_deadline("2026-11-23T12:00:00Z");
    let mut without = Fixture::new();
    let mut last = Vec::new();
    for fixture in [&mut with, &mut without] {
        let _ = fixture.after(0, &running(1));
        if fixture.deadline.is_some() {
            assert_eq!(pass(fixture, 900), ["operation.overdue"]);
            last = fixture.after(900, &running(1));
        } else {
            assert_eq!(fixture.after(1800, &running(1)), last);
        }
    }
    assert_eq!(last, ["operation.stalled"]);
}
