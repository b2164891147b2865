//! Readers of the program's output that are slow, gone or stopped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::daemon_checks::assert_memory_is_bounded;
use crate::support::{Daemon, Log, Setup, until_answered};

/// How many are watched.
const WATCHES: usize = 200;
/// A stop takes a fraction of it.
const SOON: Duration = Duration::from_secs(5);

/// A daemon whose standard error is a FIFO that nobody reads yet.
struct Frozen {
    daemon: Daemon,
    fifo: PathBuf,
    address: SocketAddr,
}

impl Frozen {
    fn start(setup: Setup) -> Self {
        let fifo = setup.folder().join("log");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // The log, which would say where the pages are, cannot be read.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let to_fifo = format!(r#"exec "$0" "$@" 2<>{}"#, fifo.display());
        let daemon = setup
            .set("http.listen", &address.to_string())
            .wrapped_in(&["sh", "-c", &to_fifo])
            .start();
        Self {
            daemon,
            fifo,
            address,
        }
    }

    /// Waits until a metric, labels included, has an expected value.
    async fn metric(&self, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        until_answered(name, async || {
            let metrics = self.metrics().await?;
            match metrics.get(&format!("backfill_watch_{name}")) {
                Some(value) if wanted(*value) => Ok(*value),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits for a poll of each watch; a daemon that waits for its log makes none.
    async fn polls_continue(&self) {
        const POLLS: &str = "poll_lag_seconds_count";
        let before = self.metric(POLLS, |_| true).await;
        self.metric(POLLS, |count| count >= before + WATCHES as f64).await;
    }

    async fn metrics(&self) -> Result<BTreeMap<String, f64>, String> {
        let url = format!("http://{}/metrics", self.address);
        let client = reqwest::Client::builder()
            .no_proxy()
            // Reading the system's certificates takes longer than the answer.
            .tls_certs_only([])
            .timeout(SOON)
            .build()
            .unwrap();
        let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        Ok(text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }
}

/// So many operations, each with labels that take seven kilobytes of a line of the log.
fn with_long_labels(count: usize) -> Vec<String> {
    // Beside a space, each backslash is two in a line of the list, and four in a line of the log.
    let labels: String = (0..15)
        .map(|n| format!(r#" label{n}=" {}""#, r"\\".repeat(110)))
        .collect();
    (0..count)
        .map(|n| format!("op-600000-100000-s-{n}{labels}"))
        .collect()
}

/// Reads a FIFO to the end of `reading`, and forgets what it read.
fn read_while(fifo: &Path, reading: &Arc<AtomicBool>) -> JoinHandle<()> {
    let mut fifo = File::open(fifo).unwrap();
    let reading = Arc::clone(reading);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while reading.load(Ordering::Relaxed) && fifo.read(&mut buffer).unwrap() > 0 {}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator)
        .set("poll.initial_interval", "2s")
        .set("poll.min_interval", "2s")
        .set("poll.max_interval", "2s")
        .set("poll.adaptive", "false")
        // First polls are spread by it, and so are all others.
        .set("ampersand.max_requests_per_second", "110")
        // Nearly each poll is an event, whose line has all labels.
        .set("poll.progress_step", "0.2")
        .list(&with_long_labels(WATCHES));
    let mut frozen = Frozen::start(setup);
    let reading = Arc::new(AtomicBool::new(true));
    let reader = read_while(&frozen.fifo, &reading);
    frozen
        .metric(r#"events_total{type="operation.started"}"#, |count| {
            count >= WATCHES as f64
        })
        .await;
    frozen.polls_continue().await;
    assert_eq!(
        frozen.metrics().await.unwrap()["backfill_watch_log_lines_dropped_total"],
        0.0
    );
    frozen
        .metric(r#"attention{kind="log_dropped"}"#, |count| count == 0.0)
        .await;

    reading.store(false, Ordering::Relaxed);
    reader.join().unwrap();
    let dropped = frozen
        .metric("log_lines_dropped_total", |count| count > 0.0)
        .await;
    frozen.polls_continue().await;
    frozen
        .metric(r#"attention{kind="log_dropped"}"#, |count| count == 1.0)
        .await;
    assert_memory_is_bounded(&frozen.daemon);

    // Somebody reads again.
    let log = Log::read(File::open(&frozen.fifo).unwrap());
    let is_report = |line: &crate::support::LogLine| line["lines_in_total"].is_u64();
    let report = log.wait_for("how many lines were dropped", is_report).await;
    assert_eq!(report["level"], "WARN");
    assert!(report["lines"].as_f64().unwrap() >= dropped, "{report:?}");
    let begun = clock::instant();
    frozen.daemon.signal(&["TERM"]);
    assert_eq!(frozen.daemon.exit_code().await, Some(0));
    assert!(clock::instant() - begun < SOON);
    log.end().await;
    assert_eq!(log.lines(|line| line["message"] == "stopped").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_with_a_log_that_nobody_reads() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let list = with_long_labels(100);
    for (signals, codes) in [
        (&["TERM"][..], &[0][..]),
        (&["STOP", "TERM", "INT", "CONT"], &[130, 143]),
    ] {
        let mut frozen = Frozen::start(Setup::new(&simulator).list(&list));
        frozen
            .metric(r#"events_total{type="operation.started"}"#, |count| {
                count >= 100.0
            })
            .await;
        let begun = clock::instant();
        frozen.daemon.signal(signals);
        let code = frozen.daemon.exit_code().await;
        assert!(codes.contains(&code.unwrap()), "{signals:?}: {code:?}");
        assert!(clock::instant() - begun < SOON, "{signals:?}");
    }
}

/// As a terminal that was closed.
#[tokio::test]
async fn a_log_whose_reader_is_gone() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&["op-600000-5000-s-1"]);
    let mut daemon = setup
        .wrapped_in(&["sh", "-c", r#"exec "$0" "$@" 2>&-; "#])
        .start();
    let polls = || simulator.requests_of("op-600000-5000-s-1");
    crate::daemon_checks::until_grown_by("polls", 5, polls).await;
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0));

    let (reader, writer) = io::pipe().unwrap();
    let setup = daemon.into_setup();
    let mut process = Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .arg("run")
        .env_clear()
        .envs(setup.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(writer)))
        .spawn()
        .unwrap();
    drop(reader);
    crate::daemon_checks::until_grown_by("polls", 5, polls).await;
    let id = process.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    let code = tokio::task::spawn_blocking(move || process.wait().unwrap()).await;
    assert_eq!(code.unwrap().code(), Some(0));
}

#[tokio::test]
async fn signals_that_the_parent_blocked() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut daemon = Setup::new(&simulator)
        .list(&["op-600000-5000-s-1"])
        .wrapped_in(&["env", "--block-signal=HUP,INT,TERM"])
        .start();
    daemon.event("operation.started").await;
    daemon.signal(&["HUP"]);
    daemon
        .wait_for("a reload", |line| line["message"] == "settings reloaded")
        .await;
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_service_manager_that_reads_nothing() {
    const RUNNING: &str = "op-600000-5000-s-1";
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&[RUNNING]);
    let path = setup.folder().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"STATUS=filled", &path).is_ok() {}
    let mut daemon = setup
        .variable("NOTIFY_SOCKET", &path.display().to_string())
        .variable("WATCHDOG_USEC", "300000")
        .start();
    daemon.event("operation.started").await;
    crate::daemon_checks::until_grown_by("polls", 10, || simulator.requests_of(RUNNING)).await;

    // READY=1 is repeated once the queue is read.
    let ready = tokio::task::spawn_blocking(move || {
        manager.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).contains("READY=1") {
                return manager;
            }
        }
    });
    let manager = ready.await.unwrap();
    while filler.send_to(b"STATUS=filled", &path).is_ok() {}
    let begun = clock::instant();
    daemon.signal(&["TERM"]);
    assert_eq!(daemon.exit_code().await, Some(0));
    assert!(clock::instant() - begun < SOON);
    drop(manager);
}

/// Commands that print without a daemon and without the API.
const PRINTING: [&[&str]; 6] = [
    &["--help"],
    &["--version"],
    &["check", "--help"],
    &["check"],
    &["completions", "zsh"],
    &["man"],
];

fn command(setup: &Setup, arguments: &[&str], stdout: Stdio) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backfill-watch"));
    command
        .args(arguments)
        .env_clear()
        .envs(setup.environment())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped());
    command
}

fn nowhere() -> Setup {
    Setup::polling("http://127.0.0.1:1").list(&["op-1"])
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn standard_output_that_does_not_block() {
    let setup = nowhere();
    for arguments in PRINTING {
        let usual = command(&setup, arguments, Stdio::piped()).output().unwrap();
        assert!(usual.status.success(), "{arguments:?}: {}", stderr(&usual));
        let (mut writer, mut reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut filled = 0;
        while let Ok(count) = writer.write(&[b'.'; 4096]) {
            filled += count;
        }
        let child = command(&setup, arguments, Stdio::from(OwnedFd::from(writer)))
            .spawn()
            .unwrap();
        // The command has the copy of the descriptor, and waits for the pipe.
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {}", stderr(&ended));
        assert!(received[filled..] == usual.stdout, "{arguments:?}");
    }
}

#[test]
fn standard_output_on_a_full_disk() {
    let setup = nowhere();
    for arguments in PRINTING {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = command(&setup, arguments, full.into()).output().unwrap();
        assert_ne!(ended.status.code(), Some(0), "{arguments:?}");
        let printed = stderr(&ended);
        assert!(
            printed.contains("No space left on device"),
            "{arguments:?}: {printed}"
        );
    }
}

#[test]
fn standard_output_whose_reader_is_gone() {
    let setup = nowhere();
    for arguments in PRINTING {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = command(&setup, arguments, Stdio::from(OwnedFd::from(writer)))
            .output()
            .unwrap();
        assert_eq!(stderr(&ended), "", "{arguments:?}");
    }
}

/// What is wrong with a line of the list is printed, and what is wrong in it controls no terminal.
#[test]
fn text_that_controls_a_terminal() {
    let setup = nowhere();
    let list: &Path = &setup.list_path();
    std::fs::write(
        list,
        "op\u{202e}1\nop-2 \u{2066}x\u{9b}31m\nop-3 a=b c\u{2028}d\n",
    )
    .unwrap();
    let checked = command(&setup, &["check"], Stdio::piped()).output().unwrap();
    let usage = command(&setup, &["run", "--\u{202e}evil", "\u{1b}[2J"], Stdio::piped())
        .output()
        .unwrap();
    for output in [checked, usage] {
        assert_eq!(output.status.code(), Some(2));
        let printed = stderr(&output);
        assert!(printed.contains(r"\u{202e}"), "{printed}");
        let raw = ['\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{2066}'];
        assert!(!printed.contains(raw), "{printed:?}");
    }
}
