//! `events` and `replay`, beside a running daemon and without one.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::event_log::{events, select};
use crate::support::{DEADLINE, Setup, until};
use crate::verifying_receiver::VerifyingReceiver;

const ONE: &str = "op-300-100-s-a";
const TWO: &str = "op-300-100-f-b";

/// A daemon that is done with two operations and has delivered all.
async fn done(simulator: &Simulator, inbox: &VerifyingReceiver) -> crate::support::Daemon {
    let daemon = inbox.subscribe(Setup::new(simulator).list(&[ONE, TWO])).start();
    daemon.event("operation.succeeded").await;
    daemon.event("operation.failed").await;
    until("the endings", || {
        let messages = inbox.messages();
        let ended = |name: &str| messages.iter().any(|message| message.event_type() == name);
        ended("operation.succeeded") && ended("operation.failed")
    })
    .await;
    daemon
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

#[tokio::test]
async fn events_are_selected_with_the_daemon_running_and_stopped() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let daemon = done(&simulator, &inbox).await;
    let running = events(daemon.setup()).await;
    let setup = daemon.stop().await;
    let all = events(&setup).await;
    assert_eq!(running, all);

    let of_one = select(&setup, &["--operation", ONE]).await;
    assert!(of_one.iter().all(|event| event["data"]["operationId"] == ONE));
    let of_two = select(&setup, &["--operation", TWO]).await;
    assert_eq!(of_one.len() + of_two.len(), all.len());
    let progress = select(&setup, &["--type", "operation.progress"]).await;
    let ends = select(&setup, &["--type", "*.succeeded", "--type", "operation.failed"]).await;
    let starts = select(&setup, &["--type", "operation.started", "--operation", TWO]).await;
    assert_eq!((ends.len(), starts.len()), (2, 1));
    assert_eq!(progress.len(), all.len() - 4);
    for (event, i) in all.iter().zip(1..) {
        let cursor = event["cursor"].as_str().unwrap();
        assert_eq!(select(&setup, &["--after", cursor]).await, all[i..]);
        for member in ["id", "type", "timestamp", "data"] {
            assert!(!event[member].is_null(), "{event}");
        }
    }

    let lines = setup.run_with("events", &[]).await;
    let text = String::from_utf8(lines.stdout).unwrap();
    assert_eq!(text.lines().count(), all.len());
    for (line, event) in text.lines().zip(&all) {
        for member in [&event["type"], &event["timestamp"], &event["data"]["operationId"]] {
            assert!(line.contains(member.as_str().unwrap()), "{line}");
        }
    }
    for (arguments, code) in [
        (["--type", "operation.sucess"], 2),
        (["--after", "nonsense"], 2),
        (["--after", "00ff00ff00ff00ff-1"], 1),
    ] {
        let output = setup.run_with("events", &arguments).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

#[tokio::test]
async fn events_are_followed_as_they_come_across_a_restart_of_the_daemon() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = Setup::new(&simulator).list(&[ONE]).start();
    daemon.event("operation.started").await;
    let state = daemon.setup().folder().join("state");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .args(["events", "--follow", "--json", "--state-dir"])
        .arg(state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, mut lines) = mpsc::unbounded_channel();
    let output = BufReader::new(follower.stdout.take().unwrap());
    let reading = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap();
            sender.send(event).unwrap();
        }
    });
    let mut followed = Vec::new();
    let mut follow = async |event: &str, operation: &str| {
        let following = async {
            loop {
                let next = lines.recv().await.unwrap();
                let found = next["type"] == event && next["data"]["operationId"] == operation;
                followed.push(next);
                if found {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, following).await.unwrap();
    };
    follow("operation.succeeded", ONE).await;
    let setup = daemon.stop().await.list(&[ONE, TWO]);
    let daemon = setup.start();
    follow("operation.failed", TWO).await;
    let reported = daemon.event("operation.failed").await;
    assert!(
        clock::instant() - reported.at < Duration::from_secs(5),
        "reported late"
    );
    let setup = daemon.stop().await;
    follower.kill().unwrap();
    follower.wait().unwrap();
    reading.join().unwrap();
    assert_eq!(followed, events(&setup).await);
}

/// The number of deliveries that `replay` reports as marked.
async fn replay(setup: &Setup, arguments: &[&str]) -> usize {
    let output = setup.run_with("replay", arguments).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn replays_are_seen_by_a_running_daemon_within_about_a_second() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let daemon = done(&simulator, &inbox).await;
    let setup = daemon.setup();
    let log = events(setup).await;
    let before = inbox.messages();
    let first = id(&log[0]);

    assert_eq!(replay(setup, &["--event", first]).await, 1);
    let marked = clock::instant();
    inbox.until_accepted(before.len() + 1).await;
    let took = clock::instant() - marked;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let again = inbox.messages().pop().unwrap();
    let once = before.iter().find(|message| message.id == first).unwrap();
    assert_eq!((&again.id, &again.body), (&once.id, &once.body));

    let of_two = select(setup, &["--operation", TWO]).await;
    let needed = of_two.len();
    assert_eq!(
        replay(setup, &["--operation", TWO, "--endpoint", "inbox"]).await,
        needed
    );
    inbox.until_accepted(before.len() + 1 + needed).await;
    let messages = inbox.messages();
    let replayed: Vec<&str> = messages[before.len() + 1..]
        .iter()
        .map(|message| &*message.id)
        .collect();
    assert_eq!(
        replayed,
        of_two.iter().map(id).collect::<Vec<_>>(),
        "in their order"
    );

    for (arguments, code, words) in [
        (&["--event", "evt_none"][..], 0, "event `evt_none` is unknown"),
        (&["--dead-letters"], 0, "there are no dead letters"),
        (&["--event", first, "--endpoint", "other"], 1, "inbox"),
    ] {
        let output = setup.run_with("replay", arguments).await;
        assert_eq!(output.status.code(), Some(code));
        let reported = String::from_utf8(output.stderr).unwrap();
        assert!(reported.contains(words), "{reported}");
    }
    daemon.stop().await;
    assert_eq!(inbox.count(), messages.len());
}

#[tokio::test]
async fn a_replay_without_a_daemon_is_delivered_at_its_next_start() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let daemon = done(&simulator, &inbox).await;
    let setup = daemon.stop().await;
    let before = inbox.count();
    let log = events(&setup).await;
    let marked = replay(&setup, &["--operation", ONE]).await;
    assert_eq!(
        marked,
        log.iter()
            .filter(|event| event["data"]["operationId"] == ONE)
            .count()
    );
    assert_eq!(inbox.count(), before);
    let daemon = setup.start();
    inbox.until_accepted(before + marked).await;
    let setup = daemon.stop().await;
    assert_eq!(inbox.count(), before + marked);
    assert_eq!(events(&setup).await, log, "a replay is no event");
}

#[tokio::test]
async fn dead_letters_are_kept_reported_and_replayed() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut inbox = VerifyingReceiver::closed(0);
    // The backlog has two deliveries at most; older ones become dead letters.
    let setup = Setup::new(&simulator)
        .list(&[ONE, TWO])
        .set("webhook.max_backlog", "2");
    let daemon = inbox
        .subscribe(setup)
        .set(
            "webhook.events",
            "operation.started, operation.succeeded, operation.failed",
        )
        .start();
    daemon.event("operation.succeeded").await;
    daemon.event("operation.failed").await;
    daemon
        .wait_for("that deliveries were given up", |line| {
            line["level"] == "ERROR" && line["endpoint"] == "inbox" && line["count"].is_number()
        })
        .await;
    let setup = daemon.stop().await;
    inbox.start();
    let daemon = setup.start();
    inbox.until_accepted(2).await;
    let deadline = clock::instant() + DEADLINE;
    // An outcome that is not recorded yet counts towards the backlog: what is left out at first comes later.
    let mut marked = 0;
    while marked < 2 {
        let output = daemon.setup().run_with("replay", &["--dead-letters"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        marked += text
            .split_whitespace()
            .next()
            .map_or(0, |count| count.parse().unwrap());
        assert!(
            clock::instant() < deadline,
            "{marked} of 2 dead letters were replayed"
        );
    }
    inbox.until_accepted(4).await;
    let setup = daemon.stop().await;
    let messages = inbox.messages();
    let mut ids: Vec<&str> = messages.iter().map(|message| &*message.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        (ids.len(), messages.len()),
        (4, 4),
        "a start and an end of each, once"
    );
    assert_eq!(
        setup.run_with("replay", &["--dead-letters"]).await.status.code(),
        Some(0)
    );
}
