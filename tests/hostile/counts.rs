//! Counts and estimates that mislead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::daemon_checks::{page, with_pages};
use crate::support::scripted_api::{ScriptedApi, counting, operation};
use crate::support::{Daemon, LogLine, Setup, until, until_answered};

/// The events of this type up to now.
fn events(daemon: &Daemon, event: &str) -> Vec<LogLine> {
    daemon.log.lines(|line| line["event"] == event)
}

/// Every event has an ID of its own, and their numbers have no gap.
fn assert_distinguished(daemon: &Daemon) {
    let events = daemon
        .log
        .lines(|line| line["operation_id"] == "op" && line["event"].is_string());
    let ids: BTreeSet<&str> = events
        .iter()
        .filter_map(|line| line["event_id"].as_str())
        .collect();
    assert_eq!(ids.len(), events.len());
    for (line, number) in events.iter().zip(1..) {
        assert_eq!(line["sequence"].as_u64(), Some(number), "{line:?}");
    }
}

#[tokio::test]
async fn two_replicas_that_are_one_record_apart() {
    let api = ScriptedApi::start(|id, poll| counting(id, 5_000 - poll % 2, 10_000)).await;
    let daemon = Setup::polling(&api.base_url())
        .set("poll.stalled_after", "2s")
        .list(&["op"])
        .start();
    let stalled = daemon.event("operation.stalled").await;
    assert_eq!(stalled["reason"], "count unchanged");
    assert!(stalled["since"].is_string());
    let polls = api.polls("op");
    until("polls go on", || api.polls("op") > polls + 10).await;
    assert_eq!(daemon.log.count("operation.progress"), 1);
    assert_eq!(daemon.log.count("operation.stalled"), 1);
    assert_eq!(daemon.log.count("operation.resumed"), 0);
    assert_distinguished(&daemon);
}

#[tokio::test]
async fn a_count_that_never_comes() {
    let counts = Arc::new(AtomicBool::new(false));
    let shows = Arc::clone(&counts);
    let api = ScriptedApi::start(move |id, _| {
        if shows.load(Ordering::Relaxed) {
            counting(id, 1, 10)
        } else {
            operation(id, "in_progress", json!({}))
        }
    })
    .await;
    let daemon = Setup::polling(&api.base_url())
        .set("poll.silent_after", "1s")
        .list(&["op"])
        .start();
    let stalled = daemon.event("operation.stalled").await;
    assert_eq!(stalled["reason"], "no count");
    counts.store(true, Ordering::Relaxed);
    daemon.event("operation.resumed").await;
    assert_distinguished(&daemon);
}

#[tokio::test]
async fn an_estimate_that_is_too_small() {
    let api = ScriptedApi::start(|id, poll| counting(id, 900 + 20 * poll, 1_000)).await;
    let daemon = Setup::polling(&api.base_url())
        .set("poll.progress_interval", "300ms")
        .list(&["op"])
        .start();
    until("progress beyond the estimate", || {
        let exceeded = |line: &&LogLine| line["estimate_exceeded"] == true;
        events(&daemon, "operation.progress")
            .iter()
            .filter(exceeded)
            .count()
            >= 4
    })
    .await;
    assert_distinguished(&daemon);
}

#[tokio::test]
async fn an_estimate_that_is_corrected() {
    let api = ScriptedApi::start(|id, poll| match poll {
        0..5 => counting(id, 900, 1_000),
        _ => counting(id, 900 + 200 * (poll - 5), 10_000),
    })
    .await;
    let daemon = Setup::polling(&api.base_url()).list(&["op"]).start();
    let percents = || -> Vec<f64> {
        let events = events(&daemon, "operation.progress");
        events
            .iter()
            .filter_map(|line| line["percent"].as_f64())
            .collect()
    };
    until("progress up to the end of the larger estimate", || {
        percents().len() > 1 && percents().last().is_some_and(|percent| *percent >= 90.0)
    })
    .await;
    let percents = percents();
    assert_eq!(percents[0], 90.0);
    // 9 % when it was corrected, and 2 % more with each poll: every step is crossed by a poll of its own.
    let steps: Vec<u64> = percents[1..].iter().map(|percent| *percent as u64 / 10).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_distinguished(&daemon);
}

#[tokio::test]
async fn numbers_in_an_outage() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let api = ScriptedApi::start(move |id, poll| {
        (!is_down.load(Ordering::Relaxed)).then(|| counting(id, 10 * poll, 1_000_000))?
    })
    .await;
    let daemon = with_pages(Setup::polling(&api.base_url())).list(&["op"]).start();
    let rate_is = async |wanted: bool| {
        until_answered("the rate", async || {
            let shown = page(&daemon, "/api/operations/op").await;
            let progress = &shown["progress"];
            let is_live = progress["recordsPerSecond"].is_f64() && progress["estimatedEndTime"].is_string();
            let is_stale = progress["recordsPerSecond"].is_null() && progress["estimatedEndTime"].is_null();
            let fits = if wanted { is_live } else { is_stale };
            if fits { Ok(shown) } else { Err(shown.to_string()) }
        })
        .await
    };
    rate_is(true).await;
    down.store(true, Ordering::Relaxed);
    let stale = rate_is(false).await;
    assert!(stale["progress"]["percent"].is_f64());
    assert_eq!(stale["observedTime"], stale["lastAnswerTime"]);
    assert!(
        stale["lastAnswerTime"].as_str() < stale["lastPollTime"].as_str(),
        "{stale}"
    );
    let polls = api.polls("op");
    until("polls go on", || api.polls("op") > polls + 3).await;
    let later = rate_is(false).await;
    assert_eq!(later["observedTime"], stale["observedTime"]);
    down.store(false, Ordering::Relaxed);
    rate_is(true).await;
}
