//! `SIGHUP`: settings that apply, settings that need a restart, and wrong settings.

use std::fs;
use std::path::Path;
use std::time::Duration;

use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};

use crate::support::{Setup, until};

const LONG: Duration = Duration::from_secs(3_600);

/// Settings in a file, so that they can change: intervals without growth and chance.
fn write_settings(file: &Path, interval: &str, more: &str) {
    let text = format!(
        "{more}\n[poll]\ninitial_interval = \"{interval}\"\nmin_interval = \"{interval}\"\n\
         max_interval = \"{interval}\"\nrandomization = 0\nadaptive = false\n"
    );
    fs::write(file, text).unwrap();
}

fn setup(simulator: &Simulator) -> Setup {
    let setup = Setup::new(simulator)
        .unset("poll.initial_interval")
        .unset("poll.min_interval")
        .unset("poll.max_interval");
    let file = setup.folder().join("config.toml").display().to_string();
    setup.arguments(&["--config", &file])
}

fn gaps(simulator: &Simulator, operation: &str) -> Vec<Duration> {
    let polls = simulator.instants_of(operation);
    polls.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test]
async fn changed_intervals_apply_from_the_next_poll_on() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.add_waiting(SimulatedOperation::new("a", LONG, 1_000_000));
    let setup = setup(&simulator).list(&["a"]);
    let file = setup.folder().join("config.toml");
    write_settings(&file, "600ms", "");
    let daemon = setup.start();
    until("four polls", || simulator.requests_of("a") >= 4).await;
    let slow = gaps(&simulator, "a");
    assert!(
        slow.iter().all(|gap| *gap >= Duration::from_millis(600)),
        "{slow:?}"
    );

    write_settings(&file, "20ms", "");
    daemon.signal(&["HUP"]);
    until("a quick poll", || {
        gaps(&simulator, "a")
            .iter()
            .any(|gap| *gap < Duration::from_millis(500))
    })
    .await;

    write_settings(&file, "700ms", "");
    daemon.signal(&["HUP"]);
    until("a slow poll", || {
        gaps(&simulator, "a")
            .last()
            .is_some_and(|gap| *gap >= Duration::from_millis(700))
    })
    .await;
    assert_eq!(daemon.log.count("operation.started"), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn relative_paths_lead_to_what_took_the_place_of_their_folder() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    for id in ["old", "new"] {
        simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
    }
    let setup = Setup::new(&simulator).unset("watch_list");
    let folder = setup.folder().to_owned();
    // A release, as a deployment puts it into the place of the one before.
    let release = |name: &str, id: &str, filter: &str| {
        let release = folder.join(name);
        fs::create_dir(&release).unwrap();
        fs::write(release.join("watch.list"), format!("{id}\n")).unwrap();
        let settings = format!("watch_list = \"watch.list\"\n[log]\nfilter = \"{filter}\"\n");
        fs::write(release.join("config.toml"), settings).unwrap();
    };
    release("app", "old", "info");
    let app = folder.join("app").display().to_string();
    let daemon = setup
        .wrapped_in(&["sh", "-c", r#"cd "$0" && exec "$@""#, &app])
        .arguments(&["--config", "config.toml"])
        .start();
    let started = |id: &'static str| {
        move |line: &crate::support::LogLine| {
            line["event"] == "operation.started" && line["operation_id"] == id
        }
    };
    daemon.wait_for("the old list", started("old")).await;

    fs::rename(folder.join("app"), folder.join("before")).unwrap();
    release("app", "new", "info,backfill_watch=debug");
    daemon.wait_for("the new list", started("new")).await;
    daemon.signal(&["HUP"]);
    daemon
        .wait_for("the new settings", |line| line["level"] == "DEBUG")
        .await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_change_while_running_is_named_and_kept() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = setup(&simulator)
        .list(&["op-60000-100-s-a"])
        .unset("state_dir")
        .unset("http.listen");
    let folder = setup.folder().to_owned();
    let file = folder.join("config.toml");
    let state = |name: &str, listen: &str| {
        format!(
            "state_dir = \"{}\"\nhttp.listen = \"{listen}\"\n",
            folder.join(name).display()
        )
    };
    write_settings(&file, "100ms", &state("one", "off"));
    let daemon = setup.start();
    daemon.event("operation.started").await;
    write_settings(&file, "100ms", &state("two", "127.0.0.1:1"));
    daemon.signal(&["HUP"]);
    for key in ["state_dir", "http.listen"] {
        let reported = daemon.wait_for(key, |line| line["key"] == key).await;
        assert_eq!(reported["level"], "WARN");
    }
    daemon
        .wait_for("that the rest holds", |line| {
            line["message"] == "settings reloaded"
        })
        .await;
    assert!(folder.join("one").exists() && !folder.join("two").exists());
    daemon.stop().await;
}

#[tokio::test]
async fn broken_settings_keep_the_running_ones() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.add_waiting(SimulatedOperation::new("a", LONG, 1_000_000));
    simulator.add_waiting(SimulatedOperation::new("b", LONG, 1_000_000));
    let setup = setup(&simulator).list(&["a"]);
    let file = setup.folder().join("config.toml");
    write_settings(&file, "100ms", "");
    let daemon = setup.start();
    daemon.event_of("a", "operation.started").await;
    write_settings(&file, "never", "watch_lists = 7");
    fs::write(daemon.list_path(), "a\nb\n").unwrap();
    daemon.signal(&["HUP"]);
    let broken = daemon
        .wait_for("that the settings are broken", |line| line["error"].is_string())
        .await;
    assert_eq!(broken["level"], "ERROR");
    for problem in ["watch_lists", "poll.max_interval", "config.toml:"] {
        assert!(broken["error"].as_str().unwrap().contains(problem), "{broken:?}");
    }
    // The list is read all the same.
    daemon.event_of("b", "operation.started").await;
    let polls = simulator.requests_of("a");
    until("it is polled on", || simulator.requests_of("a") > polls + 3).await;
    let tail = gaps(&simulator, "a");
    assert!(
        tail.iter().all(|gap| *gap >= Duration::from_millis(100)),
        "{tail:?}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_project_can_be_added() {
    let config = SimulatorConfig {
        projects: ["main", "staging"]
            .map(|name| backfill_watch::simulator::SimulatedProject {
                id: format!("{name}-id"),
                name: name.to_owned(),
                api_keys: vec![format!("{name}-key")],
            })
            .to_vec(),
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.unwrap();
    let setup = setup(&simulator)
        .unset("ampersand.project")
        .set("log.filter", "info,backfill_watch=debug")
        .list(&["op-60000-100-s-a", "op-60000-100-s-b project=staging"]);
    let folder = setup.folder().to_owned();
    let file = folder.join("config.toml");
    let project = |name: &str| {
        let key = folder.join(name);
        fs::write(&key, format!("{name}-key\n")).unwrap();
        format!(
            "[[ampersand.projects]]\nname = \"{name}\"\napi_key_file = \"{}\"\n",
            key.display()
        )
    };
    write_settings(&file, "100ms", &project("main"));
    let daemon = setup.start();
    daemon.event_of("op-60000-100-s-a", "operation.started").await;
    let rejected = daemon
        .wait_for("that the project is not known", |line| line["reason"].is_string())
        .await;
    assert!(
        rejected["reason"].as_str().unwrap().contains("staging"),
        "{rejected:?}"
    );

    write_settings(&file, "100ms", &(project("main") + &project("staging")));
    daemon.signal(&["HUP"]);
    daemon
        .wait_for("that the second project is polled", |line| {
            line["project"] == "staging"
        })
        .await;
    assert_eq!(daemon.log.count("api.credentials_rejected"), 0);
    daemon.stop().await;
}
