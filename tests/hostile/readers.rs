//! Clients that keep connections to the daemon's pages without reading.

use std::fs;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::daemon_checks::{text, until_grown_by, with_pages};
use crate::support::{Daemon, Setup, process_status, until, until_answered};

/// Resident memory, whatever clients do not read.
const MEMORY: u64 = 100 * 1024 * 1024;
/// For an answer to a probe.
const SOON: Duration = Duration::from_secs(1);
/// What a client that reads nothing costs, in bytes.
const COST: u64 = 32 * 1024;

const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// A daemon with many large events, of which some operations still run.
async fn start(simulator: &Simulator, finished: usize, through: &[&str]) -> Daemon {
    let mut lines: Vec<String> = (0..finished)
        .map(|n| format!("op-100-100-s-{n} l={}", "x".repeat(2_000)))
        .collect();
    lines.extend((0..50).map(|n| format!("op-600000-5000-s-{n} l={}", "x".repeat(2_000))));
    let setup = Setup::new(simulator)
        .set("poll.initial_interval", "200ms")
        .set("poll.min_interval", "200ms")
        .set("poll.max_interval", "1s")
        .set("poll.adaptive", "false")
        .wrapped_in(through)
        .list(&lines);
    let daemon = with_pages(setup).start();
    until("it watches them", || {
        daemon.log.count("operation.succeeded") == finished && daemon.log.count("operation.started") >= 50
    })
    .await;
    daemon
}

/// A client that asks, and reads nothing.
async fn ask(daemon: &Daemon, requests: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut client = socket.connect(daemon.address().await).await.unwrap();
    client.write_all(requests.as_bytes()).await.unwrap();
    client
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// The answer over a new connection, and how long it took.
async fn answer(daemon: &Daemon, path: &str) -> (String, Duration) {
    let begun = clock::instant();
    let mut client = TcpStream::connect(daemon.address().await).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

/// Waits until each probe is answered in time. Clients that come all at once may delay it, those that stay may not.
async fn probes_are_answered(daemon: &Daemon) {
    for path in PROBES {
        until_answered(path, async || {
            let (answer, took) = answer(daemon, path).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
            if took <= SOON {
                Ok(())
            } else {
                Err(format!("{took:?}"))
            }
        })
        .await;
    }
}

/// How many connections of others the daemon has open.
fn connections(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let local = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&local) && fields[3] == ESTABLISHED
        })
        .count()
}

/// How many polls were more than 5 s late.
pub async fn late_polls(daemon: &Daemon) -> u64 {
    let metrics = text(daemon, "/metrics").await;
    let count = |rest: &str| -> u64 {
        let name = format!("backfill_watch_poll_lag_seconds_{rest} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap().parse().unwrap()
    };
    count("count") - count("bucket{le=\"5\"}")
}

/// `benches/daemon.rs` has a thousand of them.
#[tokio::test]
async fn hundreds_that_read_nothing() {
    const READERS: usize = 300;
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(&simulator, 200, &[]).await;
    let port = daemon.address().await.port();
    // What the first answers need once is not the cost of a reader.
    for path in ["/page.js", "/api/events", "/api/operations", "/metrics"] {
        answer(&daemon, path).await;
    }
    let late = late_polls(&daemon).await;
    let before = process_status(daemon.id(), "VmRSS");
    let requests = [
        request("/page.js"),
        request("/api/events?limit=1000"),
        request("/api/operations"),
        request("/api/events/stream"),
        // Answers that queue behind each other.
        request("/page.css").repeat(20),
    ];
    let mut readers = Vec::new();
    for number in 0..READERS {
        readers.push(ask(&daemon, &requests[number % requests.len()]).await);
    }
    until_grown_by("polls", 100, || simulator.requests().total).await;
    probes_are_answered(&daemon).await;
    let memory = process_status(daemon.id(), "VmHWM");
    assert!(memory <= MEMORY, "{memory} bytes");
    let cost = process_status(daemon.id(), "VmRSS").saturating_sub(before) / READERS as u64;
    assert!(cost <= COST, "{cost} bytes for each reader");
    assert!(connections(port) > READERS / 2, "{}", connections(port));

    assert_eq!(late_polls(&daemon).await, late, "polls are on time");

    // The stream has a message each second, so that nobody has nothing to read.
    until("all are disconnected", || connections(port) == 0).await;
    drop(readers);
    daemon.stop().await;
}

/// Half of this many files: 32 connections, and 32 reserved ones.
const FEW_FILES: [&str; 2] = ["prlimit", "--nofile=128:128"];
const REGULAR: usize = 32;

#[tokio::test]
async fn idle_connections_are_closed_for_new_ones() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(&simulator, 0, &FEW_FILES).await;
    let mut idle = Vec::new();
    for _ in 0..2 * REGULAR {
        let mut client = TcpStream::connect(daemon.address().await).await.unwrap();
        client.write_all(request("/livez").as_bytes()).await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        idle.push(client);
    }
    // The oldest were closed, and the others were not.
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).await.unwrap();
    let last = idle.last_mut().unwrap();
    last.write_all(request("/livez").as_bytes()).await.unwrap();
    let mut twice = String::new();
    while twice.matches("alive\n").count() < 2 {
        let mut buffer = [0; 1024];
        let length = last.read(&mut buffer).await.unwrap();
        assert!(length > 0, "{twice}");
        twice.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    probes_are_answered(&daemon).await;
    let (page, _) = answer(&daemon, "/").await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    daemon.stop().await;
}

#[tokio::test]
async fn busy_connections_leave_places_for_probes() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(&simulator, 100, &FEW_FILES).await;
    let mut busy = Vec::new();
    // Each is in use before the next is asked for; else it would be idle, and closed for it.
    for _ in 0..REGULAR / 2 {
        for path in ["/api/events/stream", "/api/events"] {
            let mut client = ask(&daemon, &request(path)).await;
            let mut first = [0; 12];
            client.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200", "{path}");
            busy.push(client);
        }
    }
    // Those that send nothing, or half a request, do not keep the reserved places.
    for half in ["", "GET /liv"] {
        for _ in 0..40 {
            busy.push(ask(&daemon, half).await);
        }
    }
    probes_are_answered(&daemon).await;
    for path in ["/", "/api/events", "/api/operations", "/nowhere"] {
        let (answer, took) = answer(&daemon, path).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
        assert!(answer.contains("application/problem+json"), "{path}: {answer}");
        assert!(took <= SOON, "{path}: {took:?}");
    }
    // A reserved place is for one answer, even where the client would keep the connection.
    let mut client = TcpStream::connect(daemon.address().await).await.unwrap();
    client.write_all(request("/livez").as_bytes()).await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200 "), "{all}");
    // Others take polls and the state no file away.
    until_grown_by("polls", 100, || simulator.requests().total).await;
    drop(busy);
    let port = daemon.address().await.port();
    until("all have left", || connections(port) == 0).await;
    let (page, _) = answer(&daemon, "/").await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    daemon.stop().await;
}
