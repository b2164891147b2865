//! A host whose clock is set: elapsed time counts, not the wall clock.

use std::fs;
use std::path::{Path, PathBuf};

use backfill_watch::clock;
use backfill_watch::simulator::{FaultPlan, SimulatedOperation, Simulator, SimulatorConfig};
use std::time::Duration;

use crate::daemon_checks::{assert_memory_is_bounded, page, with_pages};
use crate::event_log::{assert_gapless, events};
use crate::readers::late_polls;
use crate::support::{Setup, skip, until};
use crate::verifying_receiver::VerifyingReceiver;

/// What sets the clock of one process alone, by a file.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let found = folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists());
    found.or_else(|| skip("libfaketime is not installed (package faketime)"))
}

fn with_clock(setup: Setup, library: &Path) -> Setup {
    let file = setup.folder().join("clock");
    fs::write(&file, "+0").unwrap();
    setup
        .variable("LD_PRELOAD", &library.display().to_string())
        .variable("FAKETIME_TIMESTAMP_FILE", &file.display().to_string())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
        .variable("NO_FAKE_STAT", "1")
}

/// The clock is set by `step` while an event waits for its retry: the retry is on time, and the step causes no event.
/// The same after a restart.
async fn survive(step: &str) {
    let Some(library) = library() else { return };
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    for id in ["long", "left", "next"] {
        simulator.add_waiting(SimulatedOperation::new(id, Duration::from_secs(600), 10_000));
    }
    let inbox = VerifyingReceiver::open(0);
    inbox.fail(1.0);
    let setup = with_clock(Setup::new(&simulator), &library)
        .set("poll.give_up_after", "1h")
        .list(&["long", "left", "op-200-100-s-over"]);
    let clock = setup.folder().join("clock");
    let daemon = inbox.subscribe(setup).start();
    daemon.event_of("op-200-100-s-over", "operation.succeeded").await;
    for id in ["long", "left"] {
        daemon.event_of(id, "operation.started").await;
    }
    until("attempts that fail", || inbox.count() >= 2).await;
    // It stops with an undelivered event.
    fs::write(daemon.list_path(), "long\nop-200-100-s-over\n").unwrap();
    fs::write(&clock, step).unwrap();
    inbox.fail(0.0);
    let accepted = |id: &str| {
        let messages = inbox.messages();
        messages
            .iter()
            .any(|message| message.accepted && message.operation() == id)
    };
    until("what waited is sent", || {
        ["long", "left", "op-200-100-s-over"].into_iter().all(accepted)
    })
    .await;
    let polls = simulator.requests_of("long");
    until("polls go on", || simulator.requests_of("long") > polls + 5).await;
    assert_eq!(
        daemon
            .log
            .lines(|line| line["level"] == "WARN" && line["operation_id"].is_string())
            .len(),
        0,
        "nothing is stalled, gone, expired or unreachable"
    );
    assert_memory_is_bounded(&daemon);

    // Expiry counts the time of a stop, by the wall clock.
    let setup = daemon.stop().await.unset("poll.give_up_after");
    let before = events(&setup).await;
    let finished = simulator.requests_of("op-200-100-s-over");
    let daemon = setup.list(&["long", "op-200-100-s-over", "next"]).start();
    daemon.event_of("next", "operation.started").await;
    let polls = simulator.requests_of("long");
    until("polls go on", || simulator.requests_of("long") > polls + 5).await;
    until("what is new is sent", || accepted("next")).await;
    assert_eq!(
        simulator.requests_of("op-200-100-s-over"),
        finished,
        "what is over stays over"
    );
    let log = events(&daemon.stop().await).await;
    assert_gapless(&log);
    let new: Vec<_> = log.iter().filter(|event| !before.contains(event)).collect();
    assert!(
        new.iter()
            .all(|event| event["data"]["operationId"] == "next" || event["type"] == "operation.progress"),
        "{new:#?}"
    );
}

/// Longer than a poll may last (three timeouts for `/livez`), than `stalled_after` and than `unreachable_after`.
const SUSPENDED: Duration = Duration::from_secs(10);
const STALLED_AFTER: Duration = Duration::from_secs(6);

/// As by a debugger, a full cgroup freezer or a laptop that sleeps.
#[tokio::test]
async fn suspended_for_longer_than_every_limit() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = ["op-1", "op-2", "op-3"];
    for id in ids {
        // One record in an hour: the count does not change.
        simulator.add_waiting(SimulatedOperation::new(id, Duration::from_hours(1), 1));
    }
    // Some requests are in flight at any time.
    let slow = FaultPlan {
        latency: Duration::from_millis(300),
        ..FaultPlan::default()
    };
    simulator.faults().set(slow, 0);
    let begun = clock::instant();
    let daemon = with_pages(Setup::new(&simulator))
        .set("ampersand.request_timeout", "3s")
        .set("poll.stalled_after", &format!("{}s", STALLED_AFTER.as_secs()))
        .set("poll.unreachable_after", "3s")
        .list(&ids)
        .start();
    for id in ids {
        daemon.event_of(id, "operation.started").await;
    }
    let address = daemon.address().await;
    daemon.signal(&["STOP"]);
    let ran = begun.elapsed();
    tokio::time::sleep(SUSPENDED).await;
    let continued = clock::instant();
    let polls = ids.map(|id| simulator.requests_of(id));
    daemon.signal(&["CONT"]);
    loop {
        let answer = reqwest::get(format!("http://{address}/livez")).await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        let has_polled = |(id, polls): (&str, u64)| simulator.requests_of(id) >= polls + 4;
        if ids.into_iter().zip(polls).all(has_polled) {
            break;
        }
    }
    let stalled = daemon.log.count("operation.stalled");
    let counted = ran + continued.elapsed();
    assert!(
        stalled == 0 || counted >= STALLED_AFTER,
        "stalled after {counted:?}"
    );
    // What came before the stop was read while the daemon was suspended.
    let alarms = daemon.log.lines(|line| {
        line.at >= continued && line["level"] != "INFO" && line["event"] != "operation.stalled"
    });
    assert!(alarms.is_empty(), "{alarms:?}");
    let noticed = daemon.log.lines(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line.at >= continued
            && message.starts_with("the process was suspended")
            && line["seconds"].as_f64().is_some_and(|seconds| seconds > 5.0)
    });
    assert_eq!(noticed.len(), 1, "{noticed:?}");
    assert_eq!(
        page(&daemon, "/api/attention").await["attention"],
        serde_json::json!([])
    );
    assert_eq!(late_polls(&daemon).await, 0);
    // The count does not change, and the time in which the process runs counts.
    daemon.event("operation.stalled").await;
    daemon.stop().await;
}

#[tokio::test]
async fn set_back_a_day() {
    survive("-1d").await;
}

#[tokio::test]
async fn set_ahead_a_year() {
    survive("+365d").await;
}
