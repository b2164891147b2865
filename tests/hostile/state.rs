//! State that was damaged, removed or replaced.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};
use rusqlite::Connection;

use crate::daemon_checks::page;
use crate::event_log::{assert_gapless, by_operation, events, parse, types};
use crate::support::{Daemon, Setup, until, until_answered};

fn state_of(setup: &Setup) -> PathBuf {
    setup.folder().join("state")
}

fn database(setup: &Setup) -> Connection {
    Connection::open(state_of(setup).join("state.db")).unwrap()
}

/// A stopped daemon that has seen these operations start.
async fn started(simulator: &Simulator, ids: &[&str]) -> Setup {
    for id in ids {
        simulator.add_waiting(SimulatedOperation::new(*id, Duration::from_secs(6), 10_000));
    }
    let setup = Setup::polling(&simulator.base_url()).list(ids);
    let daemon = setup.start();
    until("all to have started", || {
        daemon.log.count("operation.started") == ids.len()
    })
    .await;
    daemon.stop().await
}

async fn metric(daemon: &Daemon, name: &str) -> String {
    let address = daemon.address().await;
    let text = until_answered("the metrics", async || {
        let answer = reqwest::get(format!("http://{address}/metrics")).await;
        let answer = answer.map_err(|error| error.to_string())?;
        answer.text().await.map_err(|error| error.to_string())
    })
    .await;
    let name = format!("backfill_watch_{name} ");
    let line = text.lines().find(|line| line.starts_with(&name));
    line.map_or_else(|| panic!("no {name}"), |line| line[name.len()..].to_owned())
}

/// The one entry of what needs attention, an error of this kind, which the metric counts.
async fn attention(daemon: &Daemon, kind: &str) -> serde_json::Value {
    let shown = page(daemon, "/api/attention").await;
    let [entry] = &shown["attention"].as_array().unwrap()[..] else {
        panic!("one entry expected: {shown}");
    };
    assert_eq!(
        (&entry["kind"], &entry["severity"]),
        (&kind.into(), &"error".into())
    );
    assert!(!entry["action"].as_str().unwrap().is_empty(), "{entry}");
    let counted = metric(daemon, &format!("attention{{kind=\"{kind}\"}}")).await;
    assert_eq!(counted, "1");
    entry.clone()
}

#[tokio::test]
async fn a_damaged_watch_is_rebuilt_and_named_and_the_others_continue() {
    tokio::join!(
        survive_state_of(r#"'{"phase":'"#),
        survive_state_of(r#"'{"phase": 7}'"#),
        survive_state_of("CAST(X'7BFFFE7D' AS TEXT)"),
    );
}

/// One of three watches has `value`, as SQL writes it, for its state.
async fn survive_state_of(value: &str) {
    const IDS: [&str; 3] = ["op-1", "op-2", "op-3"];
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = started(&simulator, &IDS).await;
    let sql = format!("UPDATE watches SET state = {value} WHERE operation = 'op-2'");
    assert_eq!(database(&setup).execute(&sql, []).unwrap(), 1);
    let daemon = setup.set("http.listen", "127.0.0.1:0").start();
    daemon
        .wait_for("the damaged row", |line| {
            line["level"] == "ERROR"
                && line["id"].as_str().is_some_and(|id| id.ends_with("op-2"))
                && line["effect"] == "rebuilt from its last event"
        })
        .await;
    for id in IDS {
        daemon.event_of(id, "operation.succeeded").await;
    }
    assert_eq!(metric(&daemon, "state_damaged_rows").await, "1");
    let entry = attention(&daemon, "state_damaged").await;
    assert!(
        entry["message"].as_str().unwrap().starts_with("1 damaged"),
        "{entry}"
    );
    let log = events(&daemon.stop().await).await;
    assert_gapless(&log);
    for (id, events) in by_operation(&log) {
        let types = types(&events);
        let once = |name| types.iter().filter(|other| **other == name).count() == 1;
        assert!(
            once("operation.started") && once("operation.succeeded"),
            "{id}: {types:?}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_at_most_its_row_or_the_start() {
    const IDS: [&str; 3] = ["op-1", "op-2", "op-3"];
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut setup = started(&simulator, &IDS).await;
    let file = state_of(&setup).join("state.db");
    let whole = fs::read(&file).unwrap();
    let before = events(&setup).await;
    for turn in 0..12_usize {
        let mut bytes = whole.clone();
        let place = (turn * 7919 + 4096 * turn + 333) % bytes.len();
        bytes[place] ^= 1 << (turn % 8);
        fs::write(&file, &bytes).unwrap();
        let mut daemon = setup.start();
        let log = daemon.log.clone();
        let refused = tokio::select! {
            () = until("the start", || !log.lines(|line| line["message"] == "started").is_empty()) => false,
            () = log.end() => true,
        };
        if refused {
            let printed = log.text();
            assert_eq!(daemon.exit_code().await, Some(2), "byte {place}: {printed}");
            assert!(printed.contains("state.db"), "byte {place}: {printed}");
            assert!(
                fs::read(&file).unwrap() == bytes,
                "byte {place}: the file was changed"
            );
            setup = daemon.into_setup();
            continue;
        }
        setup = daemon.stop().await;
        let after = events(&setup).await;
        let lost = before
            .iter()
            .filter(|known| !after.iter().any(|event| event["id"] == known["id"]));
        assert!(lost.count() <= 1, "byte {place}");
        for event in &after {
            if let Some(known) = before.iter().find(|known| known["id"] == event["id"]) {
                assert_eq!(event["data"], known["data"], "byte {place}");
            } else {
                let of_operation = |other: &&serde_json::Value| {
                    other["data"]["operationId"] == event["data"]["operationId"]
                        && other["data"]["sequence"].as_u64() >= event["data"]["sequence"].as_u64()
                };
                assert!(
                    !before.iter().any(|other| of_operation(&other)),
                    "byte {place}: {event:#}"
                );
            }
        }
    }
}

/// Writes event after event until its state is taken away.
async fn busy(simulator: &Simulator) -> Daemon {
    simulator.add_waiting(SimulatedOperation::new("op-1", Duration::from_secs(60), 100_000));
    let daemon = Setup::polling(&simulator.base_url())
        .list(&["op-1"])
        .set("poll.progress_step", "1")
        .set("http.listen", "127.0.0.1:0")
        .start();
    daemon.event("operation.progress").await;
    daemon
}

#[tokio::test]
async fn a_state_that_is_removed_or_replaced_is_noticed_and_not_written() {
    for is_replaced in [false, true] {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        let daemon = busy(&simulator).await;
        let state = state_of(daemon.setup());
        let aside = state.with_extension("aside");
        fs::rename(&state, &aside).unwrap();
        if is_replaced {
            fs::create_dir(&state).unwrap();
        }
        let noticed = daemon.wait_for("that it is gone", |line| {
            line["level"] == "ERROR"
                && line["message"]
                    .as_str()
                    .is_some_and(|message| message.contains("removed or replaced"))
        });
        tokio::time::timeout(Duration::from_secs(10), noticed)
            .await
            .unwrap();
        assert_eq!(metric(&daemon, "state_writable").await, "0");
        let entry = attention(&daemon, "state_removed").await;
        assert!(entry["message"].as_str().unwrap().contains("state"), "{entry}");
        let count = daemon.log.count("operation.progress");
        let polls = simulator.requests_of("op-1");
        until("more polls", || simulator.requests_of("op-1") > polls + 3).await;
        assert_eq!(
            daemon.log.count("operation.progress"),
            count,
            "events were written"
        );
        assert!(!is_replaced || fs::read_dir(&state).unwrap().count() == 0);

        // What could not be recorded is found again when the files are back.
        if is_replaced {
            fs::remove_dir(&state).unwrap();
        }
        fs::rename(&aside, &state).unwrap();
        until_answered("the attention to end", async || {
            match metric(&daemon, r#"attention{kind="state_removed"}"#)
                .await
                .as_str()
            {
                "0" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        until("events again", || daemon.log.count("operation.progress") > count).await;
        assert_gapless(&events(&daemon.stop().await).await);
    }
}

#[tokio::test]
async fn a_state_of_version_0_1_is_brought_up_to_date_and_kept_as_it_was() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::polling(&simulator.base_url()).list::<&str>(&[]);
    let state = state_of(&setup);
    fs::create_dir(&state).unwrap();
    let old = include_str!("../../src/store/sqlite/schema/fixture_2.sql");
    database(&setup).execute_batch(old).unwrap();
    let daemon = setup.start();
    daemon
        .wait_for("the start", |line| line["message"] == "started")
        .await;
    let setup = daemon.stop().await;
    let log = events(&setup).await;
    assert_eq!(log.len(), 3);
    // A cursor that version 0.1 gave.
    let output = setup
        .run_with("events", &["--json", "--after", "5da322f62fa191ef-2"])
        .await;
    assert_eq!(parse(&output), log[2..]);

    // The way back.
    let copy = state.join("state.db.before-4");
    let version: i64 = Connection::open(&copy)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
}

/// `events --follow`, and what it prints.
fn follow(setup: &Setup) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin!("backfill-watch"))
        .args(["events", "--follow", "--json", "--state-dir"])
        .arg(state_of(setup))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_follower_of_the_events_continues_in_a_restored_backup_or_is_refused() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = started(&simulator, &["op-1"]).await;
    let state = state_of(&setup);
    let backup = state.with_extension("backup");
    let copy = |from: &PathBuf, to: &PathBuf| {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&state, &backup);
    let count = events(&setup).await.len();

    // It has read nothing that the backup lacks.
    let mut following = follow(&setup);
    let lines = crate::support::Log::read(following.stdout.take().unwrap());
    until("the log", || lines.lines(|_| true).len() == count).await;
    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    let daemon = setup.start();
    until("events of the restored state", || {
        lines.lines(|_| true).len() > count
    })
    .await;
    // Now it has, and the next backup is older.
    let setup = daemon.stop().await;
    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    let output = tokio::task::spawn_blocking(|| following.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("a restored backup does not have"), "{printed}");
    drop(setup);
}
