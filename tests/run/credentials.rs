//! Rejected API keys, and errors that have another cause.

use std::fs;
use std::time::Duration;

use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};
use tokio::time::Instant;

use crate::support::{Daemon, LogLine, Setup, replace_file, until};

const LONG: Duration = Duration::from_secs(3_600);
const WATCHES: usize = 20;
const INITIAL: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(800);

fn ids() -> Vec<String> {
    (0..WATCHES).map(|i| format!("op{i}")).collect()
}

/// Twenty watches of a project with a wrong key in its key file.
fn badly_keyed(simulator: &Simulator, max_concurrent_requests: &str) -> Daemon {
    for id in ids() {
        simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
    }
    let setup = Setup::new(simulator);
    let key = setup.folder().join("api-key");
    fs::write(&key, "expired-key\n").unwrap();
    setup
        .set("ampersand.api_key_file", &key.display().to_string())
        .set("ampersand.max_concurrent_requests", max_concurrent_requests)
        .set("poll.initial_interval", "100ms")
        .set("poll.multiplier", "2")
        .set("poll.max_interval", "800ms")
        .set("poll.randomization", "0")
        .list(&ids())
        .start()
}

fn correct_key(daemon: &Daemon) {
    replace_file(&daemon.setup().folder().join("api-key"), "simulated-key\n");
}

/// When which operation was asked for, in order.
fn asked(simulator: &Simulator) -> Vec<(Instant, String)> {
    let mut asked: Vec<(Instant, String)> = ids()
        .into_iter()
        .flat_map(|id| {
            simulator
                .instants_of(&id)
                .into_iter()
                .map(move |at| (at, id.clone()))
        })
        .collect();
    asked.sort_unstable();
    asked
}

async fn all_started(daemon: &Daemon) {
    for id in ids() {
        daemon.event_of(&id, "operation.started").await;
    }
}

#[tokio::test]
async fn a_bad_key_is_one_event_and_one_probe_at_a_time_until_it_is_corrected() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    // One at a time, so that the first is refused, and everything after it is a probe.
    let daemon = badly_keyed(&simulator, "1");
    let rejected = daemon.event("api.credentials_rejected").await;
    assert_eq!(
        (&rejected["level"], &rejected["project"]),
        (&"ERROR".into(), &"my-project".into())
    );

    until("five probes", || simulator.requests().unauthorized >= 6).await;
    let asked = asked(&simulator);
    let mut due = INITIAL;
    for (index, pair) in asked.windows(2).enumerate() {
        let gap = pair[1].0 - pair[0].0;
        assert!(
            gap >= due,
            "probe {} came after {gap:?}, due after {due:?}",
            index + 1
        );
        due = (due * 2).min(LONGEST);
    }
    let mut probed: Vec<&String> = asked[1..6].iter().map(|(_, id)| id).collect();
    probed.sort_unstable();
    probed.dedup();
    assert_eq!(probed.len(), 5, "each watch probes in its turn");

    correct_key(&daemon);
    daemon.signal(&["HUP"]);
    daemon.event("api.credentials_accepted").await;
    all_started(&daemon).await;
    assert_eq!(daemon.log.count("api.credentials_rejected"), 1);
    assert_eq!(daemon.log.count("api.credentials_accepted"), 1);
    assert_eq!(daemon.log.count("operation.unreachable"), 0);
    let secret = |line: &LogLine| {
        line.to_string().contains("expired-key") || line.to_string().contains("simulated-key")
    };
    assert_eq!(daemon.log.lines(secret).len(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_corrected_key_file_is_found_by_the_next_probe_without_a_reload() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = badly_keyed(&simulator, "32");
    daemon.event("api.credentials_rejected").await;
    correct_key(&daemon);
    daemon.event("api.credentials_accepted").await;
    all_started(&daemon).await;
}

#[tokio::test]
async fn a_key_that_expires_while_it_runs_stops_all_watches_at_once() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = badly_keyed(&simulator, "32");
    correct_key(&daemon);
    all_started(&daemon).await;
    let known = simulator.requests().unauthorized;
    simulator.set_api_keys("my-project", ["renewed-key".to_owned()]);
    until("the key is rejected", || {
        simulator.requests().unauthorized > known
    })
    .await;
    replace_file(&daemon.setup().folder().join("api-key"), "renewed-key\n");
    let polls = simulator.requests().succeeded;
    until("all are polled again", || {
        simulator.requests().succeeded > polls + 2 * WATCHES as u64
    })
    .await;
    assert_eq!(daemon.log.count("operation.unreachable"), 0);
    assert_eq!(daemon.log.count("operation.gone"), 0);
}

#[tokio::test]
async fn one_forbidden_operation_proves_nothing_about_the_credentials() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    for id in ["forbidden", "allowed"] {
        simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
    }
    simulator.faults().forbid("forbidden");
    let daemon = Setup::new(&simulator).list(&["forbidden", "allowed"]).start();
    let unreachable = daemon.event_of("forbidden", "operation.unreachable").await;
    assert_eq!(unreachable["level"], "WARN");
    daemon.event_of("allowed", "operation.started").await;
    let polls = simulator.requests_of("forbidden");
    until("it is retried on its schedule", || {
        simulator.requests_of("forbidden") > polls + 3
    })
    .await;
    simulator.faults().restore("forbidden");
    daemon.event_of("forbidden", "operation.reachable").await;
    assert_eq!(daemon.log.count("operation.unreachable"), 1, "reported once");
    assert_eq!(daemon.log.count("api.credentials_rejected"), 0);
}

#[tokio::test]
async fn every_operation_forbidden_is_a_bad_key() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = ["a", "b", "c"];
    for id in ids {
        simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
        simulator.faults().forbid(id);
    }
    let daemon = Setup::new(&simulator).list(&ids).start();
    daemon.event("api.credentials_rejected").await;
    for id in ids {
        simulator.faults().restore(id);
    }
    daemon.event("api.credentials_accepted").await;
    for id in ids {
        daemon.event_of(id, "operation.started").await;
    }
    assert_eq!(daemon.log.count("operation.unreachable"), 0);
}
