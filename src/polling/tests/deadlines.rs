//! A deadline is reported when it passes, whatever the poller waits for.

use super::*;
use crate::core::attention::AttentionKind;

/// The time by the fixture's clock at which `operation.overdue` was reported; it starts at 12:00:00.
async fn overdue(fixture: &Fixture, operation: &str) -> Vec<String> {
    let filter = EventLogFilter {
        operation: Some(operation.to_owned()),
        types: Some(vec![EventType::Overdue]),
        ..EventLogFilter::default()
    };
    let page = fixture.store.events_after(None, 100, filter).await.unwrap();
    let times = page.events.iter().map(|event| event.timestamp);
    times.map(|time| time.strftime("%H:%M:%S").to_string()).collect()
}

fn shown_as_overdue(fixture: &Fixture) -> Vec<String> {
    let views = fixture.board.projects();
    let all = views
        .iter()
        .flat_map(|view| view.attention.entries("p", true, Timestamp::MIN));
    let overdue = all.filter(|entry| entry.kind == AttentionKind::OperationOverdue);
    let mut subjects: Vec<String> = overdue.filter_map(|entry| entry.subject).collect();
    subjects.sort();
    subjects
}

#[tokio::test(start_paused = true)]
async fn it_passes_between_two_polls_on_time_and_costs_no_poll() {
    let fixture =
        Fixture::of("a deadline=2026-11-23T12:01:15.5Z\nb deadline=1m\nc deadline=2026-11-24T12:00:00Z")
            .await;
    pass(70).await;
    assert_eq!(overdue(&fixture, "a").await, [""; 0]);
    pass(10).await;
    assert_eq!(overdue(&fixture, "a").await, ["12:01:15"]);
    assert_eq!(overdue(&fixture, "b").await, ["12:01:00"]);
    let data = fixture.data("a", EventType::Overdue).await.unwrap();
    assert_eq!(
        (&data["deadline"], &data["phase"]),
        (&"2026-11-23T12:01:15.5Z".into(), &"running".into())
    );
    assert_eq!(shown_as_overdue(&fixture), ["a", "b"]);
    pass(60).await;
    for operation in ["a", "b", "c"] {
        assert_eq!(fixture.script().gaps(operation)[..7], INTERVALS, "{operation}");
    }
    fixture.script().play("a", &[Act::Succeed]);
    pass(30).await;
    assert_eq!(
        fixture.events("a").await,
        [
            (EventType::Started, 1),
            (EventType::Overdue, 2),
            (EventType::Succeeded, 3)
        ]
    );
    assert_eq!(shown_as_overdue(&fixture), ["b"]);
    assert_eq!(overdue(&fixture, "c").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_passed_before_is_reported_with_the_first_answer_unless_that_finishes() {
    let fixture = Fixture::start();
    fixture.script().play("done", &[Act::Succeed]);
    fixture.script().play("hangs", &[Act::Hang]);
    let past = "deadline=2020-01-01T00:00:00Z";
    fixture
        .list(&format!("runs {past}\ndone {past}\nhangs {past}"))
        .await;
    pass(2).await;
    assert_eq!(
        fixture.events("runs").await,
        [(EventType::Started, 1), (EventType::Overdue, 2)]
    );
    assert_eq!(fixture.events("done").await, [(EventType::Succeeded, 1)]);
    pass(20).await;
    assert_eq!(fixture.events("hangs").await, [], "the answer decides");
}

#[tokio::test(start_paused = true)]
async fn a_changed_deadline_is_followed_and_the_same_is_reported_once() {
    let fixture = Fixture::of("a deadline=2026-11-23T13:00:00Z\nb").await;
    pass(10).await;
    fixture
        .list("a deadline=2026-11-23T12:00:30Z\nb deadline=2026-11-23T11:00:00Z")
        .await;
    pass(5).await;
    assert_eq!(overdue(&fixture, "b").await, ["12:00:10"], "at once");
    pass(30).await;
    assert_eq!(overdue(&fixture, "a").await, ["12:00:30"]);
    fixture.list("a deadline=2026-11-23T12:10:00Z\nb").await;
    assert_eq!(shown_as_overdue(&fixture), [""; 0]);
    pass(600).await;
    fixture
        .list("a deadline=2026-11-23T12:00:30Z\nb deadline=2026-11-23T11:00:00Z")
        .await;
    pass(60).await;
    assert_eq!(overdue(&fixture, "a").await, ["12:00:30", "12:10:00"]);
    assert_eq!(overdue(&fixture, "b").await, ["12:00:10"]);
    assert_eq!(shown_as_overdue(&fixture), ["a", "b"]);
    fixture.list("b deadline=2026-11-23T11:00:00Z").await;
    assert_eq!(shown_as_overdue(&fixture), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_reports_it_no_second_time_and_one_that_passed_in_between_once() {
    let disk = Arc::<Disk>::default();
    let lines =
        "a deadline=2026-11-23T12:00:05Z\nb deadline=2026-11-23T12:00:30Z\nc deadline=2026-11-23T12:00:30Z";
    let fixture = Fixture::start_with(Arc::clone(&disk), |_| {});
    fixture.list(lines).await;
    pass(10).await;
    assert_eq!(overdue(&fixture, "a").await, ["12:00:05"]);
    fixture.stop().await;

    let fixture = Fixture::start_with(disk, |_| {});
    fixture.ahead.store(3_600, Ordering::Relaxed);
    fixture.script().play("c", &[Act::Succeed]);
    fixture.list(lines).await;
    assert_eq!(shown_as_overdue(&fixture), ["a"]);
    pass(60).await;
    assert_eq!(overdue(&fixture, "a").await, ["12:00:05"]);
    assert_eq!(overdue(&fixture, "b").await.len(), 1);
    assert_eq!(
        fixture.events("c").await,
        [(EventType::Started, 1), (EventType::Succeeded, 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejected_key_a_pause_and_a_doubt_do_not_delay_it() {
    let lines = "a deadline=2026-11-23T12:00:30Z\nb";
    for act in [Act::Unauthorized, Act::Throttle(Duration::from_mins(5))] {
        let fixture = Fixture::start();
        for operation in ["a", "b"] {
            let refusals = if act == Act::Unauthorized { 1_000 } else { 1 };
            let acts = [vec![Act::Count(1)], vec![act; refusals]].concat();
            fixture.script().play(operation, &acts);
        }
        fixture.list(lines).await;
        pass(29).await;
        let polls = fixture.script().polls("a").len();
        assert_eq!(overdue(&fixture, "a").await, [""; 0]);
        pass(2).await;
        assert_eq!(overdue(&fixture, "a").await, ["12:00:30"], "{act:?}");
        if matches!(act, Act::Throttle(_)) {
            assert_eq!(fixture.script().polls("a").len(), polls, "it waits as before");
            pass(700).await;
            assert!(
                fixture.script().polls("a").len() > polls + 5,
                "it is polled again"
            );
        }
        assert_eq!(overdue(&fixture, "a").await.len(), 1);
        fixture.stop().await;
    }

    // The probe of the other watch has no answer.
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Count(1), Act::Forbidden]);
    fixture.script().play("b", &[Act::Count(1), Act::Hang]);
    fixture.list(lines).await;
    pass(60).await;
    assert_eq!(overdue(&fixture, "a").await, ["12:00:30"]);
    assert_eq!(
        fixture.script().polls("a").len(),
        2,
        "it still waits for the other watch"
    );
    fixture.list("a deadline=2026-11-23T12:00:30Z").await;
    pass(60).await;
    assert!(fixture.script().polls("a").len() > 2, "nobody else can answer");
    assert_eq!(fixture.events("a").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cannot_be_recorded_is_reported_later() {
    let fixture = Fixture::of("a deadline=2026-11-23T12:00:30Z").await;
    pass(20).await;
    *fixture.disk.refuses.lock().unwrap() = Some("a");
    pass(60).await;
    assert_eq!(overdue(&fixture, "a").await, [""; 0]);
    *fixture.disk.refuses.lock().unwrap() = None;
    pass(60).await;
    assert_eq!(overdue(&fixture, "a").await.len(), 1);
    assert_eq!(
        fixture.events("a").await,
        [(EventType::Started, 1), (EventType::Overdue, 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn deadlines_follow_a_clock_that_is_set() {
    // All requests wait, so no answer leads to a look at the clock.
    let fixture = Fixture::start();
    for operation in ["a", "b"] {
        let acts = [
            vec![Act::Count(1)],
            vec![Act::Throttle(Duration::from_mins(15)); 10],
        ]
        .concat();
        fixture.script().play(operation, &acts);
    }
    fixture.list("a deadline=2026-11-23T14:00:00Z\nb").await;
    pass(60).await;
    fixture.ahead.store(3_600, Ordering::Relaxed);
    pass(120).await;
    assert_eq!(overdue(&fixture, "a").await, [""; 0]);
    fixture.ahead.store(7_200, Ordering::Relaxed);
    pass(120).await;
    assert_eq!(overdue(&fixture, "a").await.len(), 1);
}
