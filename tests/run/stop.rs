//! Signals: one stops in order, a second one at once.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};
use rusqlite::Connection;

use crate::support::{Daemon, Setup, until};

/// A stop takes a fraction of it; a request in flight would take a minute.
const SOON: Duration = Duration::from_secs(5);

/// A simulator in a process of its own, which may have more open files than this one.
struct Simulated {
    process: Child,
    base_url: String,
}

impl Simulated {
    /// A thousand operations, and no answer to anything.
    fn hanging(watch_list: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#])
            .args([env!("CARGO_BIN_EXE_backfill-watch"), "simulate"])
            .args(["--listen", "127.0.0.1:0", "--operations", "1000", "--hangs", "1"])
            .arg("--watch-list")
            .arg(watch_list)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let base_url = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("BASE_URL=")?.1.to_owned()))
            .expect("it logs its address");
        Self { process, base_url }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A daemon with a thousand requests under way, none of which is answered for a minute.
async fn thousand_in_flight() -> (Simulated, Daemon) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("watch.list");
    let simulated = Simulated::hanging(&list);
    let setup = Setup::polling(&simulated.base_url);
    fs::copy(&list, setup.list_path()).unwrap();
    let daemon = setup
        .set("ampersand.request_timeout", "60s")
        .set("ampersand.max_concurrent_requests", "1000")
        .set("ampersand.max_requests_per_second", "5000")
        .start();
    let open_files = format!("/proc/{}/fd", daemon.id());
    until("a thousand connections", || {
        fs::read_dir(&open_files).is_ok_and(|files| files.count() > 1_000)
    })
    .await;
    (simulated, daemon)
}

#[tokio::test]
async fn sigterm_ends_a_thousand_polls_in_flight_in_order() {
    let (_simulated, mut daemon) = thousand_in_flight().await;
    let asked = clock::instant();
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0));
    let took = clock::instant() - asked;
    assert!(took < SOON, "{took:?}");
    let stopping = daemon.log.lines(|line| line["signal"] == "SIGTERM");
    assert_eq!(stopping.len(), 1);
    assert_eq!(daemon.log.lines(|line| line["message"] == "stopped").len(), 1);
    assert!(
        daemon.log.events_by_operation().is_empty(),
        "a dropped poll reports nothing"
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (_simulated, mut daemon) = thousand_in_flight().await;
    // Suspended between the two signals, so that it cannot have stopped before the second one.
    daemon.signal(&["STOP", "TERM", "INT", "CONT"]);
    let code = daemon.exit_code().await;
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    let forced = daemon
        .wait_for("that it was stopped at once", |line| {
            line["level"] == "WARN" && line["signal"].is_string()
        })
        .await;
    let name = if code == Some(130) { "SIGINT" } else { "SIGTERM" };
    assert_eq!(forced["signal"], name);
}

#[tokio::test]
async fn sigint_stops_in_order_too() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut daemon = Setup::new(&simulator).list(&["op-60000-100-s-a"]).start();
    daemon.event("operation.started").await;
    daemon.signal(&["INT"]);
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn until_done_that_is_stopped_did_not_get_its_end() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut daemon = Setup::new(&simulator)
            .list(&["op-60000-100-s-a"])
            .arguments(&["--until-done"])
            .start();
        daemon.event("operation.started").await;
        daemon.signal(&[signal]);
        assert_eq!(daemon.exit_code().await, Some(code));
    }
}

/// Rows that the check of the state takes minutes for, and nothing else reads: it evaluates the constraint of each.
const SLOW_TO_CHECK: &str = "
    PRAGMA synchronous = OFF;
    PRAGMA ignore_check_constraints = ON;
    CREATE TABLE slow (x INTEGER CHECK (length(hex(zeroblob(1000000))) > x));
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) INSERT INTO slow SELECT i FROM n;";

#[tokio::test]
async fn sigterm_during_the_check_of_the_state_ends_it_at_once() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    // Known before it is logged, and nobody else's.
    let id = std::process::id();
    let address = format!("127.{}.{}.{}:8464", 64 + (id >> 16), (id >> 8) & 255, id & 255);
    let daemon = Setup::new(&simulator)
        .set("http.listen", &address)
        .list(&["op-60000-100-s-a"])
        .start();
    daemon.event("operation.started").await;
    // So that the next start checks the state.
    let setup = daemon.kill().await;
    let state = Connection::open(setup.folder().join("state/state.db")).unwrap();
    state.execute_batch(SLOW_TO_CHECK).unwrap();

    let mut daemon = setup.start();
    daemon
        .wait_for("the check", |line| line["message"] == "checking the state")
        .await;
    let status = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await;
        answer.unwrap().status().as_u16()
    };
    for _ in 0..3 {
        assert_eq!((status("/livez").await, status("/readyz").await), (200, 503));
    }
    let asked = clock::instant();
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0));
    let took = asked.elapsed();
    assert!(took < SOON, "{took:?}");
    let checked = daemon.log.lines(|line| line["message"] == "the state is checked");
    assert!(checked.is_empty(), "the check was not under way");

    // Nothing was lost.
    state.execute_batch("DROP TABLE slow").unwrap();
    drop(state);
    let daemon = daemon.into_setup().start();
    daemon
        .wait_for("the list", |line| line["message"] == "watch list applied")
        .await;
    let polls = simulator.requests_of("op-60000-100-s-a");
    until("polls go on", || {
        simulator.requests_of("op-60000-100-s-a") > polls + 2
    })
    .await;
    assert_eq!(daemon.log.count("operation.started"), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_waits_for_its_list_stops() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut daemon = Setup::new(&simulator).start();
    daemon
        .wait_for("that the list is missing", |line| line["level"] == "WARN")
        .await;
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0));
}
