//! Groups of the watch list: one event when all operations of a group are finished.

use backfill_watch::simulator::{Simulator, SimulatorConfig};
use serde_json::{Value, json};

use crate::support::{Daemon, Setup, lines_of, text, until};

/// What a command prints as JSON about a group.
async fn shown(daemon: &Daemon, command: &str, group: &str) -> Vec<Value> {
    let output = daemon
        .setup()
        .run_with(command, &["--json", "--group", group])
        .await;
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_group_of_the_list_is_reported_once_and_shown() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut lines = vec![
        "op-300-100-s-a group=acme team=crm".to_owned(),
        "op-500-100-s-b group=acme team=crm".to_owned(),
        "op-300-100-f-c group=gale".to_owned(),
        "op-3600000-100-s-d group=hill".to_owned(),
        "op-300-100-s-e".to_owned(),
    ];
    let setup = Setup::new(&simulator).list(&lines).set("groups.settle", "300ms");
    let daemon = setup.start();
    until("two groups are complete", || {
        daemon.log.count("group.completed") == 2
    })
    .await;
    let acme = daemon.log.lines(|line| line["group"] == "acme");
    assert_eq!(acme.len(), 1);
    assert_eq!(
        (&acme[0]["outcome"], &acme[0]["operations"]),
        (&json!("succeeded"), &json!(2))
    );

    let status = &shown(&daemon, "status", "acme").await[0];
    let group = &status["groups"][0];
    assert_eq!(
        (&group["group"], &group["outcome"], &group["round"]),
        (&json!("acme"), &json!("succeeded"), &json!(1))
    );
    assert_eq!(group["phases"], json!({"succeeded": 2}));
    assert_eq!(group["progress"]["percent"], 100.0);
    assert_eq!(status["operations"].as_array().unwrap().len(), 2);
    let table = daemon.setup().run("status").await;
    let table = text(&table.stdout);
    for row in [
        "acme   succeeded  1",
        "gale   failed     1",
        "hill   running    1",
    ] {
        assert!(table.contains(row), "{table}");
    }

    // After a restart too, a round is reported once.
    let setup = daemon.stop().await;
    lines.push("op-300-100-s-f group=acme".to_owned());
    std::fs::write(setup.list_path(), lines_of(&lines)).unwrap();
    let daemon = setup.start();
    daemon.event("group.completed").await;
    let events = shown(&daemon, "events", "acme").await;
    let completed = events.iter().filter(|event| event["type"] == "group.completed");
    let rounds: Vec<_> = completed
        .map(|event| {
            (
                event["data"]["round"].clone(),
                event["data"]["operationCount"].clone(),
            )
        })
        .collect();
    assert_eq!(rounds, [(json!(1), json!(2)), (json!(2), json!(1))]);
    let others = events.iter().filter(|event| event["type"] != "group.completed");
    assert!(others.clone().count() >= 3);
    assert!(
        others
            .into_iter()
            .all(|event| event["data"]["labels"]["group"] == "acme")
    );
    let all = daemon
        .setup()
        .run_with("events", &["--type", "group.completed"])
        .await;
    assert_eq!(text(&all.stdout).lines().count(), 3);
    daemon.stop().await;
}
