//! Deadlines of the watch list.

use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};

use crate::support::{Setup, lines_of, replace_file, until};

const LONG: Duration = Duration::from_secs(3_600);
const PAST: &str = "deadline=2020-01-01T00:00:00Z";

fn soon() -> String {
    format!("deadline={:.3}", clock::wall() + Duration::from_millis(1_500))
}

#[tokio::test]
async fn a_deadline_is_reported_once_over_restarts_and_again_when_it_changes() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    for id in ["past", "soon", "later"] {
        simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
    }
    let soon = soon();
    let lines = |past: &str| {
        [
            format!("past {past}"),
            format!("soon {soon}"),
            "later deadline=1h".to_owned(),
            format!("op-200-100-s-done {PAST}"),
        ]
    };
    let daemon = Setup::new(&simulator).list(&lines(PAST)).start();
    let line = daemon.event_of("past", "operation.overdue").await;
    assert_eq!(
        (&line["level"], &line["phase"], &line["deadline"]),
        (
            &"WARN".into(),
            &"running".into(),
            &"2020-01-01T00:00:00.000Z".into()
        )
    );
    let line = daemon.event_of("soon", "operation.overdue").await;
    assert_eq!(line["deadline"].as_str().unwrap(), &soon["deadline=".len()..]);
    daemon.event_of("op-200-100-s-done", "operation.succeeded").await;
    let status = daemon.setup().run_with("status", &["--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let overdue = status["attention"].as_array().unwrap().iter();
    let mut subjects: Vec<_> = overdue
        .filter(|entry| entry["kind"] == "operation_overdue" && entry["severity"] == "warning")
        .map(|entry| entry["subject"].as_str().unwrap())
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["past", "soon"]);
    let operations = status["operations"].as_array().unwrap();
    let of = |id: &str| {
        operations
            .iter()
            .find(|operation| operation["operationId"] == id)
            .unwrap()
    };
    assert_eq!(of("past")["deadline"], "2020-01-01T00:00:00Z");
    assert!(of("later")["deadline"].is_string());

    let polls = simulator.requests_of("soon");
    let daemon = daemon.kill().await.start();
    until("polls continue", || simulator.requests_of("soon") > polls + 8).await;
    assert_eq!(daemon.log.count("operation.overdue"), 0);
    let changed = lines("deadline=2020-01-02T00:00:00Z");
    replace_file(&daemon.list_path(), &lines_of(&changed));
    let line = daemon.event_of("past", "operation.overdue").await;
    assert_eq!(line["deadline"], "2020-01-02T00:00:00.000Z");
    assert_eq!(daemon.log.count("operation.overdue"), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn deadlines_pass_during_an_outage() {
    // Nothing listens there.
    let daemon = Setup::polling("http://127.0.0.1:1")
        .list(&[format!("past {PAST}"), format!("soon {}", soon())])
        .start();
    for id in ["past", "soon"] {
        let line = daemon.event_of(id, "operation.overdue").await;
        assert_eq!(line["phase"], "pending");
    }
    daemon.stop().await;
}
