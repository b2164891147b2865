//! Progress events while settings and the list change: each fact is reported once, with its own ID.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::support::scripted_api::{ScriptedApi, counting, operation};
use crate::support::{Daemon, Setup, lines_of, replace_file, until};

fn write_step(file: &Path, step: &str) {
    fs::write(file, format!("[poll]\nprogress_step = {step}\n")).unwrap();
}

/// What the events of this log say of progress, in percent.
fn percents(daemon: &Daemon) -> Vec<f64> {
    let events = daemon.log.lines(|line| line["event"] == "operation.progress");
    events
        .iter()
        .filter_map(|line| line["percent"].as_f64())
        .collect()
}

async fn polled_twice(api: &ScriptedApi, id: &str) {
    let polls = api.polls(id);
    until("two more polls", || api.polls(id) >= polls + 2).await;
}

#[tokio::test]
async fn a_changed_step_applies_to_the_last_percentage_reported() {
    let count = Arc::new(AtomicU64::new(480));
    let counted = Arc::clone(&count);
    let api = ScriptedApi::start(move |id, _| counting(id, counted.load(Ordering::Relaxed), 1_000)).await;
    let setup = Setup::polling(&api.base_url()).list(&["op"]);
    let file = setup.folder().join("config.toml");
    let setup = setup.arguments(&["--config", &file.display().to_string()]);
    write_step(&file, "10");
    let daemon = setup.start();
    until("40 %", || percents(&daemon) == [48.0]).await;
    count.store(505, Ordering::Relaxed);
    until("50 %", || percents(&daemon) == [48.0, 50.5]).await;

    // By a restart, to a smaller one: 50 % is not reported again.
    let setup = daemon.stop().await;
    write_step(&file, "1");
    let daemon = setup.start();
    polled_twice(&api, "op").await;
    for (now, shown) in [(512, 51.2), (523, 52.3)] {
        count.store(now, Ordering::Relaxed);
        until("a smaller step", || percents(&daemon).last() == Some(&shown)).await;
    }
    let numbers = daemon.log.lines(|line| line["event"] == "operation.progress");
    assert_eq!(numbers[0]["sequence"], 4);

    // By a reload, to a larger one: 75 % is the next.
    write_step(&file, "25");
    daemon.signal(&["HUP"]);
    daemon
        .wait_for("the reload", |line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.contains("reload"))
        })
        .await;
    for now in [600, 740] {
        count.store(now, Ordering::Relaxed);
        polled_twice(&api, "op").await;
    }
    count.store(760, Ordering::Relaxed);
    until("75 %", || percents(&daemon) == [51.2, 52.3, 76.0]).await;
}

#[tokio::test]
async fn a_retry_of_an_operation_that_was_added_again_is_a_fact_of_its_own() {
    let stage = Arc::new(AtomicU64::new(0));
    let staged = Arc::clone(&stage);
    let api = ScriptedApi::start(move |id, _| {
        let stage = staged.load(Ordering::Relaxed);
        let status = if stage == 2 { "cancelled" } else { "in_progress" };
        operation(id, status, json!({"retry": {"attempts": stage.min(1)}}))
    })
    .await;
    let daemon = Setup::polling(&api.base_url()).list(&["op", "other"]).start();
    let seen = async |event: &str, times: usize| {
        until(event, || {
            let wanted =
                |line: &crate::support::LogLine| line["event"] == event && line["operation_id"] == "op";
            daemon.log.lines(wanted).len() == times
        })
        .await;
    };
    for round in 1..=2 {
        seen("operation.started", round).await;
        for (next, event) in [(1, "operation.retried"), (2, "operation.ended")] {
            stage.store(next, Ordering::Relaxed);
            seen(event, round).await;
        }
        stage.store(0, Ordering::Relaxed);
        if round == 1 {
            replace_file(&daemon.list_path(), &lines_of(&["third"]));
            until("the new list", || api.polls("third") > 0).await;
            replace_file(&daemon.list_path(), &lines_of(&["op"]));
        }
    }
    let events = daemon.log.events_by_operation().remove("op").unwrap();
    let ids: BTreeSet<&str> = events
        .iter()
        .filter_map(|line| line["event_id"].as_str())
        .collect();
    assert_eq!((events.len(), ids.len()), (6, 6));
    let numbers: Vec<u64> = events
        .iter()
        .filter_map(|line| line["sequence"].as_u64())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}
