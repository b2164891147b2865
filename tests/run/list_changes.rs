//! The watch list changes while the daemon runs, in every way a file can.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};

use crate::support::{Daemon, LogLine, Setup, lines_of, replace_file, until};

const LONG: Duration = Duration::from_secs(3_600);
const INITIAL: Duration = Duration::from_millis(100);
const MULTIPLIER: f64 = 1.2;

/// A daemon whose intervals grow from poll to poll without chance, so that a schedule that was disturbed shows.
fn growing(simulator: &Simulator) -> Setup {
    Setup::new(simulator)
        .set("poll.initial_interval", "100ms")
        .set("poll.min_interval", "100ms")
        .set("poll.max_interval", "1m")
        .set("poll.multiplier", "1.2")
        .set("poll.randomization", "0")
        .set("poll.adaptive", "false")
}

/// The watch was polled on one schedule all along: a poller that was started again would poll too soon, or begin
/// with short intervals again.
fn assert_schedule_never_moved(simulator: &Simulator, operation: &str) {
    let polls = simulator.instants_of(operation);
    let mut interval = INITIAL;
    for (index, pair) in polls.windows(2).enumerate() {
        let gap = pair[1] - pair[0];
        // Late by what a busy machine costs, never early.
        assert!(
            gap >= interval && gap < interval + Duration::from_secs(5),
            "{operation}: poll {} came {gap:?} after the one before, due after {interval:?}",
            index + 2
        );
        interval = interval.mul_f64(MULTIPLIER);
    }
}

async fn applied(daemon: &Daemon, entries: usize, rejected: usize) {
    let what = format!("a list of {entries} and {rejected} rejected lines");
    daemon
        .wait_for(&what, |line| {
            line["message"] == "watch list applied"
                && line["entries"] == entries
                && line["rejected"] == rejected
        })
        .await;
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

fn long_ones(simulator: &Simulator, ids: &[String]) {
    for id in ids {
        simulator.add_waiting(SimulatedOperation::new(id, LONG, 1_000_000));
    }
}

async fn started(daemon: &Daemon, ids: &[String]) {
    for id in ids {
        daemon.event_of(id, "operation.started").await;
    }
}

#[tokio::test]
async fn other_schedules_do_not_move_while_lines_are_added_and_removed() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let (staying, leaving) = (names("staying", 30), names("leaving", 10));
    let (appended, swapped) = (names("appended", 5), names("swapped", 5));
    for ids in [&staying, &leaving, &appended, &swapped] {
        long_ones(&simulator, ids);
    }
    let mut list: Vec<String> = [&staying[..], &leaving].concat();
    let daemon = growing(&simulator).list(&list).start();
    let path = daemon.list_path();
    started(&daemon, &list).await;

    // Appended in place.
    list.extend(appended.iter().cloned());
    fs::write(&path, lines_of(&list)).unwrap();
    started(&daemon, &appended).await;

    // Ten lines removed and one broken: a file of another order, renamed over it.
    list.retain(|id| !leaving.contains(id));
    list.reverse();
    let broken_line = list.len() + 1;
    replace_file(&path, &format!("{}late!one customer=acme\n", lines_of(&list)));
    applied(&daemon, 35, 1).await;
    let broken = daemon
        .wait_for("the broken line", |line| line["column"].is_number())
        .await;
    assert_eq!(broken["level"], "WARN");
    assert_eq!(broken["file"], path.display().to_string());
    assert_eq!(
        (&broken["line"], &broken["column"]),
        (&broken_line.into(), &5.into())
    );
    assert!(broken["reason"].as_str().unwrap().contains('!'), "{broken:?}");

    // A ConfigMap: the file is a link through `..data`, which is swapped as Kubernetes does it.
    let folder = path.parent().unwrap().to_owned();
    let version = |name: &str, ids: &[String]| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("watch.list"), lines_of(ids)).unwrap();
        symlink(name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    version("..2026_01", &list);
    symlink("..data/watch.list", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), &path).unwrap();
    applied(&daemon, 35, 0).await;
    list.extend(swapped.iter().cloned());
    version("..2026_02", &list);
    fs::remove_dir_all(folder.join("..2026_01")).unwrap();
    started(&daemon, &swapped).await;

    // Those that were added last began after those that left had gone.
    let asked: HashMap<&String, u64> = leaving.iter().map(|id| (id, simulator.requests_of(id))).collect();
    let polls = simulator.requests_of(&staying[0]);
    until("the untouched are polled on", || {
        simulator.requests_of(&staying[0]) > polls + 1
    })
    .await;
    for id in &leaving {
        assert_eq!(
            simulator.requests_of(id),
            asked[id],
            "{id} is off the list, and still polled"
        );
    }
    for id in &staying {
        assert_schedule_never_moved(&simulator, id);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_watch_that_returns_continues_from_its_state() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = Setup::new(&simulator)
        .list(&["op-60000-100000-s-a", "op-100-10-s-b"])
        .set("poll.progress_step", "1")
        .start();
    let path = daemon.list_path();
    let progress = daemon.event_of("op-60000-100000-s-a", "operation.progress").await;
    daemon.event_of("op-100-10-s-b", "operation.succeeded").await;
    replace_file(&path, "");
    applied(&daemon, 0, 0).await;
    replace_file(&path, "op-100-10-s-b\nop-60000-100000-s-a returned=yes\n");
    let next = daemon
        .wait_for("an event with the new label", |line| {
            line["labels"] == "returned=yes"
        })
        .await;
    assert_eq!(next["event"], "operation.progress");
    assert!(next["sequence"].as_u64() > progress["sequence"].as_u64());
    let log = daemon.log.clone();
    daemon.stop().await;
    let reported = log.events_by_operation();
    let started = |line: &&LogLine| line["event"] == "operation.started";
    assert_eq!(reported["op-60000-100000-s-a"].iter().filter(started).count(), 1);
    assert_eq!(log.count("operation.succeeded"), 1, "what was over stayed over");
}

#[tokio::test]
async fn changed_labels_take_effect_without_a_poll_more() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.add_waiting(SimulatedOperation::new(
        "labelled",
        Duration::from_secs(20),
        10_000,
    ));
    let daemon = growing(&simulator)
        .set("poll.progress_step", "1")
        .list(&["labelled customer=acme"])
        .start();
    daemon.event_of("labelled", "operation.progress").await;
    fs::write(daemon.list_path(), "labelled customer=initech object=lead\n").unwrap();
    daemon
        .wait_for("the new labels", |line| {
            line["labels"] == "customer=initech object=lead"
        })
        .await;
    assert_schedule_never_moved(&simulator, "labelled");
    assert_eq!(daemon.log.count("operation.started"), 1);
}

#[tokio::test]
async fn a_list_that_is_emptied_keeps_its_watches_until_the_delay_has_passed_or_a_reload() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = names("op", 12);
    long_ones(&simulator, &ids);
    let daemon = growing(&simulator)
        .set("watch_list_shrink_delay", "1h")
        .list(&ids)
        .start();
    started(&daemon, &ids).await;
    let path = daemon.list_path();
    let is_pending = |line: &LogLine| line["pending_removal"] == 12;
    let is_removed = |line: &LogLine| line["removed"] == 12;

    fs::write(&path, "").unwrap();
    daemon.wait_for("that the removal waits", is_pending).await;
    let polls = simulator.requests_of("op0");
    until("the watches are polled on", || {
        simulator.requests_of("op0") > polls + 1
    })
    .await;
    // An operation that is added now starts at once.
    long_ones(&simulator, &names("new", 1));
    fs::write(&path, "new0\n").unwrap();
    started(&daemon, &names("new", 1)).await;
    assert_eq!(daemon.log.lines(is_removed).len(), 0);
    for id in &ids {
        assert_schedule_never_moved(&simulator, id);
    }
    daemon.signal(&["HUP"]);
    daemon.wait_for("the removal", is_removed).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_emptied_list_is_applied_after_its_delay() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = names("op", 10);
    long_ones(&simulator, &ids);
    let daemon = growing(&simulator)
        .set("watch_list_shrink_delay", "1s")
        .list(&ids)
        .start();
    started(&daemon, &ids).await;
    fs::write(daemon.list_path(), "").unwrap();
    let pending = daemon
        .wait_for("that the removal waits", |line| line["pending_removal"] == 10)
        .await;
    assert_eq!(
        (&pending["level"], &pending["entries"]),
        (&"WARN".into(), &0.into())
    );
    let removed = daemon.wait_for("the removal", |line| line["removed"] == 10).await;
    assert!(removed.at - pending.at >= Duration::from_millis(900));
    daemon.stop().await;
}

#[tokio::test]
async fn a_lost_list_is_reported_once_and_stays_active() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    long_ones(&simulator, &names("op", 2));
    let daemon = growing(&simulator).list(&["op0"]).start();
    daemon.event_of("op0", "operation.started").await;
    let path = daemon.list_path();
    fs::remove_file(&path).unwrap();
    let lost =
        |line: &LogLine| line["message"] == "watch list cannot be read, the last good one stays active";
    daemon.wait_for("that the list is lost", lost).await;
    let polls = simulator.requests_of("op0");
    until("the last good list is polled on", || {
        simulator.requests_of("op0") > polls + 2
    })
    .await;
    fs::write(&path, "op0\nop1\n").unwrap();
    daemon.event_of("op1", "operation.started").await;
    assert_eq!(daemon.log.lines(lost).len(), 1);
    assert_schedule_never_moved(&simulator, "op0");
}
