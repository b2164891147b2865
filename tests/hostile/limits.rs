//! Too few open files, and too little memory.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use backfill_watch::simulator::{
    FaultPlan, RetryAfter, SimulatedOperation, SimulatedReply, Simulator, SimulatorConfig,
};
use tokio::net::TcpStream;

use crate::daemon_checks::{assert_memory_is_bounded, text, until_grown_by, with_pages};
use crate::event_log::{assert_delivered, assert_gapless, by_operation, events, types};
use crate::support::{Daemon, LogLine, Setup, process_status, report, until, until_answered};
use crate::verifying_receiver::VerifyingReceiver;

#[tokio::test]
async fn sixty_four_open_files() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let ids: Vec<String> = (0..100).map(|n| format!("op-2000-100-s-{n}")).collect();
    // Answers take a while, so that many are waited for at once.
    let plan = FaultPlan {
        latency: Duration::from_millis(200),
        ..FaultPlan::default()
    };
    simulator.faults().set(plan, 0);
    let setup = Setup::new(&simulator)
        .set("ampersand.max_concurrent_requests", "100")
        .set("log.filter", "debug")
        .wrapped_in(&["prlimit", "--nofile=64:64"])
        .list(&ids);
    let daemon = with_pages(inbox.subscribe(setup)).start();
    let address = daemon.address().await;
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(TcpStream::connect(address).await.unwrap());
    }
    daemon
        .wait_for("that there are too few", |line| {
            line.to_string().contains("Too many open files")
        })
        .await;
    // With fewer at once, what was given none is tried again.
    drop(readers);
    simulator.faults().set(FaultPlan::default(), 0);
    // Deliveries name their event, too.
    let ended = |line: &LogLine| line["event"] == "operation.succeeded" && line["phase"] == "succeeded";
    until("the end of all", || daemon.log.lines(ended).len() == ids.len()).await;
    assert_eq!(text(&daemon, "/livez").await, "alive\n");
    // They are read from files, too.
    until_answered("the metrics of the process", async || {
        let metrics = text(&daemon, "/metrics").await;
        if metrics.contains("process_max_fds 64\n") {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
    let ended = || {
        inbox
            .messages()
            .iter()
            .filter(|message| message.event_type() == "operation.succeeded")
            .count()
    };
    until("the end of all at the receiver", || ended() == ids.len()).await;
    assert_memory_is_bounded(&daemon);
    let log = events(&daemon.stop().await).await;
    assert_gapless(&log);
    assert_delivered(&log, &inbox);
}

/// A daemon that is short of memory is killed, and started again as its supervisor would: the operations that ended
/// in between are reported, and nothing is reported twice or lost.
async fn killed_and_started_again(starve: impl FnOnce(&Daemon), signals: &[i32]) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let ids: Vec<String> = (0..30).map(|n| format!("op{n}")).collect();
    for (id, n) in ids.iter().zip(0..) {
        let life = Duration::from_millis(500 + n * 400);
        simulator.add_waiting(SimulatedOperation::new(id, life, 10_000));
    }
    // The ends of these are not seen before the kill, however late it is.
    let unseen = &ids[27..];
    for id in unseen {
        let faults = simulator.faults();
        faults.always(id, SimulatedReply::Status(503, RetryAfter::Absent));
    }
    let setup = inbox.subscribe(Setup::new(&simulator).list(&ids));
    let path = setup.list_path();
    let list = fs::read_to_string(&path).unwrap();
    let mut daemon = setup.start();
    until("some to have ended", || {
        daemon.log.count("operation.succeeded") > 3
    })
    .await;
    starve(&daemon);
    // All of the file is read at once.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(60 * 1024 * 1024).unwrap();
    let status = daemon.exit().await;
    assert!(
        status.signal().is_some_and(|signal| signals.contains(&signal)),
        "{status}"
    );
    for id in unseen {
        simulator.faults().restore(id);
    }
    let setup = daemon.into_setup();
    fs::write(&path, list).unwrap();
    let mut daemon = setup
        .set("shutdown_timeout", "60s")
        .arguments(&["--until-done"])
        .start();
    assert_eq!(daemon.exit_code().await, Some(0));
    let log = events(&daemon.into_setup()).await;
    assert_gapless(&log);
    assert_delivered(&log, &inbox);
    for (operation, events) in by_operation(&log) {
        let ends = types(&events)
            .iter()
            .filter(|name| **name == "operation.succeeded")
            .count();
        assert_eq!(ends, 1, "{operation}");
    }
    assert_eq!(by_operation(&log).len(), ids.len());
}

#[tokio::test]
async fn no_memory_is_given() {
    const ABORTED: i32 = 6;
    let limit = |daemon: &Daemon| {
        let most = process_status(daemon.id(), "VmSize") + 16 * 1024 * 1024;
        let status = Command::new("prlimit")
            .args(["--pid", &daemon.id().to_string(), &format!("--as={most}")])
            .status();
        assert!(status.unwrap().success());
    };
    killed_and_started_again(limit, &[ABORTED]).await;
}

/// A control group of its own, as a container has one; it goes when this is dropped.
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    /// `None` where this user cannot make one, which is so in most containers, in CI too.
    fn make() -> Option<Self> {
        let name = format!("backfill-watch-test-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (root, limit) in kinds {
            let folder = PathBuf::from(root).join(&name);
            if fs::create_dir(&folder).is_ok() {
                let group = Self { folder, limit };
                if group.folder.join(limit).exists() {
                    return Some(group);
                }
            }
        }
        report("skipped: no control group with a limit of memory can be made here");
        None
    }

    fn take(&self, daemon: &Daemon) {
        // What the daemon has is charged to whom it was given before, so that this is what it gets in addition.
        fs::write(self.folder.join(self.limit), (24 * 1024 * 1024).to_string()).unwrap();
        fs::write(self.folder.join("cgroup.procs"), daemon.id().to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[tokio::test]
async fn the_memory_of_the_container_is_used_up() {
    const KILLED: i32 = 9;
    let Some(group) = Group::make() else {
        return;
    };
    killed_and_started_again(|daemon| group.take(daemon), &[KILLED]).await;
}

#[tokio::test]
async fn a_list_that_grows_takes_little_memory() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&["op-600000-5000-s-first"]);
    let path = setup.list_path();
    let daemon = setup.start();
    daemon.event("operation.started").await;
    let lines: String = (0..2_000)
        .map(|n| format!("op-600000-5000-s-{n} label={n}\n"))
        .collect();
    fs::write(path, lines).unwrap();
    until_grown_by("polls", 2_000, || simulator.requests().total).await;
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}
