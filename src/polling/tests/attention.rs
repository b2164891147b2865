//! What needs attention in a project: when each entry begins and ends.

use super::*;
use crate::core::attention::{Attention, AttentionKind};

const HOUR: u64 = 3600;

/// The entries of a kind, without those that an outage explains.
fn entries(fixture: &Fixture, kind: AttentionKind) -> Vec<Attention> {
    let now = fixture.services.recorder.now();
    let views = fixture.board.projects();
    let all = views.iter().flat_map(|view| {
        let can_poll = view.api.unreachable.is_none() && view.api.rejected.is_none();
        view.attention.entries(&view.name, can_poll, now)
    });
    all.filter(|entry| entry.kind == kind).collect()
}

/// The operations that are named by entries of a kind.
fn named(fixture: &Fixture, kind: AttentionKind) -> Vec<String> {
    let entries = entries(fixture, kind).into_iter();
    entries.map(|entry| entry.subject.unwrap_or_default()).collect()
}

fn failed(fixture: &Fixture) -> Vec<String> {
    named(fixture, AttentionKind::OperationFailed)
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shown_for_a_day() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Count(1), Act::Fail]);
    fixture.list("a customer=acme\n").await;
    pass(10).await;
    let [entry] = &entries(&fixture, AttentionKind::OperationFailed)[..] else {
        panic!("one entry expected");
    };
    assert_eq!(entry.message, "contact of acme: the operation failed");
    let finished = fixture.view("a").await.unwrap().watch.end().unwrap();
    assert_eq!(entry.since, Some(finished));
    let left = finished + Duration::from_hours(24) - fixture.services.recorder.now();
    let left = u64::try_from(left.as_secs()).unwrap();
    pass(left - 1).await;
    assert_eq!(failed(&fixture), ["a"]);
    pass(3).await;
    assert_eq!(failed(&fixture), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_later_success_of_the_same_objects_ends_a_failure_and_another_does_not() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Count(1), Act::Fail]);
    fixture.script().play("before", &[Act::SucceedBefore]);
    fixture.list("a\nbefore\n").await;
    pass(150).await;
    assert_eq!(failed(&fixture), ["a"], "an earlier success changes nothing");
    fixture
        .script()
        .play("b", &[Act::Count(1), Act::Count(2), Act::Succeed]);
    fixture.list("a\nbefore\nb\n").await;
    pass(2).await;
    assert_eq!(failed(&fixture), ["a"]);
    pass(10).await;
    assert_eq!(failed(&fixture), [""; 0]);
    // New labels of a finished watch do not show it again.
    fixture.list("a team=x\nbefore\nb\n").await;
    pass(10).await;
    assert_eq!(failed(&fixture), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_was_seen_before_the_failure_of_an_earlier_operation_counts() {
    let fixture = Fixture::start();
    let running = [Act::Count(1); 6];
    fixture.script().play("a", &[&running[..], &[Act::Fail]].concat());
    fixture.list("a\n").await;
    pass(3).await;
    fixture.script().play("b", &[Act::Succeed]);
    fixture.list("a\nb\n").await;
    pass(180).await;
    assert_eq!(fixture.counts(), (2, 2));
    assert_eq!(failed(&fixture), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_the_same_after_a_restart() {
    let fixture = Fixture::start();
    for operation in ["a", "c"] {
        fixture.script().play(operation, &[Act::Count(1), Act::Fail]);
    }
    fixture.list("a\n").await;
    pass(5).await;
    fixture.script().play("b", &[Act::Succeed]);
    fixture.list("a\nb\n").await;
    pass(5).await;
    let lines = "a\nb\nc customer=acme\n";
    fixture.list(lines).await;
    pass(5).await;
    let before = entries(&fixture, AttentionKind::OperationFailed);
    assert_eq!(failed(&fixture), ["c"], "b supersedes a");
    let disk = Arc::clone(&fixture.disk);
    let _ = fixture.stop().await;
    *disk.away.lock().unwrap() = 23 * Duration::from_secs(HOUR);
    let again = Fixture::start_with(Arc::clone(&disk), |_| {});
    again.list(lines).await;
    assert_eq!(entries(&again, AttentionKind::OperationFailed), before);
    let _ = again.stop().await;
    *disk.away.lock().unwrap() = 25 * Duration::from_secs(HOUR);
    let again = Fixture::start_with(disk, |_| {});
    again.list(lines).await;
    assert_eq!(failed(&again), [""; 0], "a day has passed");
}

#[tokio::test(start_paused = true)]
async fn entries_end_when_their_watch_leaves_or_recovers() {
    let fixture = Fixture::start();
    fixture.script().play("gone", &[Act::NotFound; 40]);
    fixture.script().play("refused", &[Act::Forbidden; 6]);
    fixture.list("gone\nrefused\nfine\n").await;
    fixture.until(|_| failed(&fixture) == ["gone"]).await;
    fixture.list("refused\nfine\n").await;
    assert_eq!(failed(&fixture), [""; 0]);
    // What the API does not know is started again when it is added again.
    fixture.list("gone\nrefused\nfine\n").await;
    assert_eq!(failed(&fixture), [""; 0]);
    pass(600).await;
    assert_eq!(named(&fixture, AttentionKind::OperationUnreachable), [""; 0]);
    // The count of `fine` never rises.
    pass(HOUR + 60).await;
    let stalled = named(&fixture, AttentionKind::OperationStalled);
    assert!(stalled.contains(&"fine".to_owned()), "{stalled:?}");
    fixture.script().play("fine", &[Act::Count(50)]);
    pass(21).await;
    let stalled = named(&fixture, AttentionKind::OperationStalled);
    assert!(!stalled.contains(&"fine".to_owned()), "{stalled:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_unreachable_until_it_is_answered_and_not_beside_an_outage() {
    const KIND: AttentionKind = AttentionKind::OperationUnreachable;
    let fixture = Fixture::start();
    fixture.script().play("refused", &[Act::Forbidden; 8]);
    fixture.list("refused\nfine\n").await;
    fixture.until(|_| named(&fixture, KIND) == ["refused"]).await;
    let [entry] = &entries(&fixture, KIND)[..] else {
        panic!("one entry expected");
    };
    assert!(entry.message.contains("403"), "{entry:?}");
    fixture.script().play("fine", &[Act::Unauthorized; 4]);
    fixture.until(|_| fixture.has_rejected_key()).await;
    assert_eq!(named(&fixture, KIND), [""; 0], "the rejected key explains it");
    pass(600).await;
    assert!(!fixture.has_rejected_key());
    assert_eq!(named(&fixture, KIND), [""; 0], "it is answered again");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_shown_for_a_day() {
    const KIND: AttentionKind = AttentionKind::PollerRestarted;
    let fixture = Fixture::start();
    fixture
        .script()
        .play("a", &[Act::Panic, Act::Panic, Act::Succeed]);
    fixture.list("a\n").await;
    pass(10).await;
    let [entry] = &entries(&fixture, KIND)[..] else {
        panic!("one entry expected");
    };
    assert_eq!(
        (entry.subject.as_deref(), &*entry.message),
        (
            Some("a"),
            "the poller of this operation panicked 2 times and was restarted: scripted for a"
        )
    );
    pass(24 * HOUR - 20).await;
    assert_eq!(named(&fixture, KIND), ["a"]);
    pass(20).await;
    assert_eq!(named(&fixture, KIND), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_hundred_failures_are_counted_exactly() {
    let fixture = Fixture::start();
    let lines: String = (0..500).map(|number| format!("op-{number}\n")).collect();
    for number in 0..500 {
        fixture.script().play(&format!("op-{number}"), &[Act::Fail]);
    }
    fixture.list(&lines).await;
    pass(60).await;
    let found = entries(&fixture, AttentionKind::OperationFailed);
    assert_eq!(found.len(), 101);
    assert_eq!(found.iter().map(|entry| entry.count).sum::<usize>(), 500);
    fixture.list("op-7\n").await;
    assert_eq!(failed(&fixture), ["op-7"]);
}

#[tokio::test(start_paused = true)]
async fn pauses_are_shown_after_a_minute_until_the_api_answers_otherwise() {
    const KIND: AttentionKind = AttentionKind::PausedByApi;
    let fixture = Fixture::start();
    let pause = Act::Throttle(40 * SECOND);
    fixture.script().play("a", &[pause, pause]);
    fixture.list("a\n").await;
    pass(59).await;
    assert_eq!(entries(&fixture, KIND), [], "a minute has not passed");
    pass(3).await;
    let [entry] = &entries(&fixture, KIND)[..] else {
        panic!("one entry expected");
    };
    assert!(
        entry.message.contains("429") && entry.message.contains("until 2026-11-23T12:01:20"),
        "{entry:?}"
    );
    assert!(entry.since.unwrap() < "2026-11-23T12:00:01Z".parse().unwrap());
    pass(20).await;
    assert_eq!(entries(&fixture, KIND), [], "it answers again");
    // A pause that nobody waits for ends by itself.
    fixture.script().play("a", &[Act::Throttle(100 * SECOND)]);
    fixture
        .until(|board| board.projects()[0].attention.pause.is_some())
        .await;
    fixture.list("").await;
    pass(60).await;
    assert_eq!(entries(&fixture, KIND), []);
}

#[tokio::test(start_paused = true)]
async fn suspended_time_makes_no_pause_long() {
    const KIND: AttentionKind = AttentionKind::PausedByApi;
    let fixture = Fixture::start();
    fixture
        .script()
        .play("a", &[Act::Throttle(50 * SECOND), Act::Hang]);
    fixture.list("a\n").await;
    pass(10).await;
    // The task has nothing to do until the pause ends, 50 s after its start. The time after that does not count.
    tokio::time::advance(Duration::from_mins(10)).await;
    for _ in 0..4 {
        pass(2).await;
        assert_eq!(entries(&fixture, KIND), []);
    }
    assert_eq!(fixture.script().polls("a").len(), 2, "the pause has ended");
    pass(4).await;
    assert_eq!(
        entries(&fixture, KIND).len(),
        1,
        "the API has not answered for a minute"
    );
}

fn limit(fixture: &Fixture, per_second: f64) {
    fixture.settings.send_modify(|settings| {
        Arc::make_mut(settings).limits = RequestLimits {
            concurrent: 100,
            per_second,
        };
    });
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_saturated_when_polls_are_late_for_a_minute_until_it_keeps_up() {
    const KIND: AttentionKind = AttentionKind::GateSaturated;
    let fixture = Fixture::start();
    limit(&fixture, 1.0);
    let lines: String = (0..60).map(|number| format!("op-{number}\n")).collect();
    fixture.list(&lines).await;
    // The first polls are late after half a minute, which is 1.5 times the longest interval.
    pass(80).await;
    assert_eq!(entries(&fixture, KIND), []);
    pass(40).await;
    let [entry] = &entries(&fixture, KIND)[..] else {
        panic!("one entry expected");
    };
    assert_eq!(
        entry.message,
        "polls are late: 60 operations take 60 s per round at 1 requests/s"
    );
    limit(&fixture, 100.0);
    pass(2).await;
    assert_eq!(entries(&fixture, KIND), []);
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_the_gate_can_poll_is_no_saturation() {
    let fixture = Fixture::start();
    limit(&fixture, 1.0);
    let lines: String = (0..18).map(|number| format!("op-{number}\n")).collect();
    fixture.list(&lines).await;
    for _ in 0..60 {
        pass(5).await;
        assert_eq!(entries(&fixture, AttentionKind::GateSaturated), []);
    }
}
