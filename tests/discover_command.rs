//! `discover`, `check --live` and a daemon without a watch list, with the built binary and the simulated API.
#![expect(clippy::unwrap_used, reason = "a panic is how the helpers of a test fail it")]

#[path = "support/mod.rs"]
#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

use std::process::Output;
use std::time::Duration;

use backfill_watch::simulator::{
    CUSTOMER_TOKEN, RequestKind, RetryAfter, SimulatedBackfill, SimulatedInstallation, SimulatedObject,
    SimulatedOperation, SimulatedReply, Simulator, SimulatorConfig,
};
use serde_json::Value;
use support::{Setup, text};

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_hours(100 * 24);

fn backfill(age: Duration, duration: Duration) -> SimulatedBackfill {
    SimulatedBackfill::ago(age, SimulatedOperation::new("", duration, 1_000))
}

/// One customer with an object in each state, and one without a backfill.
async fn customers() -> Simulator {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let objects = [
        ("account", backfill(Duration::from_secs(60), Duration::ZERO)),
        ("contact", backfill(3 * DAY, LONG)),
        ("lead", backfill(3 * DAY, Duration::ZERO)),
    ];
    simulator.install(SimulatedInstallation {
        id: "acme-1".to_owned(),
        ..SimulatedInstallation::new(
            "acme",
            objects.map(|(name, backfill)| SimulatedObject::reading(name, backfill)),
        )
    });
    simulator.install(SimulatedInstallation {
        id: "gale-1".to_owned(),
        ..SimulatedInstallation::new("gale", [SimulatedObject::new("odd/object")])
    });
    simulator
}

/// Settings without a watch list, and with an empty `[[discover]]` table.
fn discovering(simulator: &Simulator) -> Setup {
    Setup::new(simulator)
        .unset("watch_list")
        .set("discover.0.project", "my-project")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test]
async fn each_object_is_shown_with_its_verdict_and_nothing_changes() {
    let simulator = customers().await;
    let setup = discovering(&simulator)
        .set("discover.0.labels", "team=crm")
        .set("discover.0.deadline", "24h");
    let output = setup.run_with("discover", &["--output", "json"]).await;
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let shown: Vec<[&str; 3]> = rows
        .iter()
        .map(|row| ["group", "object", "verdict"].map(|member| row[member].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            ["acme", "account", "new"],
            ["acme", "contact", "running"],
            ["acme", "lead", "old"],
            ["gale", "odd/object", "no_backfill"],
        ]
    );
    let labels = &rows[0]["labels"];
    assert_eq!(
        (&labels["team"], &labels["integration"], &labels["installation"]),
        (&"crm".into(), &"crm-sync".into(), &"acme-1".into())
    );
    assert!(rows[0]["deadline"].is_string() && rows[2]["deadline"].is_null());
    assert!(rows[1]["operationId"].is_string() && rows[3]["operationId"].is_null());
    let summary = "4 objects: 2 would be watched, 1 older and finished, 1 without a backfill yet";
    assert!(text(&output.stderr).contains(summary), "{}", text(&output.stderr));
    // One request for each object, and a poll for each old operation.
    assert_eq!(simulator.requests_of_kind(RequestKind::BackfillProgress).total, 4);
    assert_eq!(simulator.requests_of_kind(RequestKind::Operation).total, 2);
    assert!(!setup.folder().join("state").exists());
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!printed.contains(CUSTOMER_TOKEN));

    let output = setup.run("discover").await;
    let table = text(&output.stdout);
    assert!(table.starts_with("GROUP  OBJECT"), "{table}");
    assert!(table.contains("no backfill yet"), "{table}");
}

#[tokio::test]
async fn without_a_table_it_shows_what_an_empty_one_finds_and_what_to_add() {
    let simulator = customers().await;
    let setup = Setup::new(&simulator);
    let output = setup.run("discover").await;
    assert_eq!(code(&output), Some(0));
    let printed = text(&output.stderr);
    assert!(
        printed.contains("[[discover]]") && printed.contains("project = \"my-project\""),
        "{printed}"
    );
    assert_eq!(text(&output.stdout).lines().count(), 5);

    let setup = discovering(&simulator).set("discover.0.groups", "nobody");
    let output = setup.run("discover").await;
    assert_eq!((code(&output), text(&output.stdout).as_str()), (Some(0), ""));
    let printed = text(&output.stderr);
    assert!(
        printed.contains("matches none of the 2 installations"),
        "{printed}"
    );
}

#[tokio::test]
async fn the_exit_code_names_what_is_wrong() {
    let simulator = customers().await;
    let setup = discovering(&simulator);
    let settings = setup.run_with("discover", &["--config", "missing.toml"]).await;
    assert_eq!(code(&settings), Some(2));

    // A pause that the API asks for, and a broken answer, only take time.
    simulator.faults().script(
        "installations",
        [SimulatedReply::Status(
            429,
            RetryAfter::Seconds(Duration::from_secs(1)),
        )],
    );
    simulator.faults().script(
        RequestKind::backfill_progress("acme-1", "lead"),
        [SimulatedReply::Garbage],
    );
    let output = setup.run("discover").await;
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr).matches("retrying in 1s").count(), 2);

    simulator.set_api_keys("my-project", ["another".to_owned()]);
    let output = setup.run("discover").await;
    assert_eq!(code(&output), Some(4));
    assert!(text(&output.stderr).contains("rejected the key of project my-project"));

    let nobody = Setup::polling("http://127.0.0.1:1/v1").set("discover.0.project", "my-project");
    let output = nobody.run("discover").await;
    assert_eq!(code(&output), Some(3));
    assert!(text(&output.stderr).contains("no answer from the API at http://127.0.0.1:1/v1"));
}

#[tokio::test]
async fn check_names_the_sources_and_what_discovery_searches() {
    let simulator = customers().await;
    let setup = discovering(&simulator);
    let output = setup.run_with("check", &["--live"]).await;
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("4 objects to search in 2 installations"),
        "{printed}"
    );
    if !std::path::Path::new("/etc/backfill-watch/watch.list").exists() {
        assert!(printed.contains("watch list: none ("), "{printed}");
    }
    assert_eq!(simulator.requests_of_kind(RequestKind::BackfillProgress).total, 0);

    simulator.set_api_keys("my-project", ["another".to_owned()]);
    assert_eq!(code(&setup.run_with("check", &["--live"]).await), Some(4));
}
