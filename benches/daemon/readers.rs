//! Clients that do not read their answers.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backfill_watch::clock;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use super::processes::{Api, Daemon};
use super::{MEBIBYTE, lags_between, report};

const WATCHES: usize = 1_000;
const READERS: usize = 1_000;
/// Who reads nothing is disconnected after 30 s.
const MEASURED_FOR: Duration = Duration::from_secs(20);

/// A thousand clients that ask for pages, streams and JSON, and read nothing of what they get.
pub fn readers() -> anyhow::Result<()> {
    let api = Api::start()?;
    let label = "x".repeat(2_000);
    let lines: String = (0..WATCHES)
        .map(|number| format!("op-600000-1000000-s-{number:07} label={label}\n"))
        .collect();
    let daemon = Daemon::start(
        &api,
        &lines,
        &[
            ("poll__initial_interval", "10s"),
            ("poll__max_interval", "10s"),
            ("poll__adaptive", "false"),
            ("poll__progress_step", "1"),
            ("ampersand__max_requests_per_second", "200"),
        ],
    )?;
    daemon.wait_for_polls(3 * WATCHES)?;
    let requests = [
        request("/"),
        request("/page.js"),
        request("/api/events?limit=1000"),
        request("/api/operations"),
        request("/api/events/stream"),
        // Answers that queue behind each other.
        request("/page.css").repeat(20),
    ];
    let files = daemon.open_files()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let before = daemon.lags()?;
    let is_finished = AtomicBool::new(false);
    let (clients, slowest) = std::thread::scope(|scope| {
        let probe = scope.spawn(|| slowest_answer(&daemon, &is_finished));
        let clients = runtime.block_on(open(&daemon, &requests));
        if clients.is_ok() {
            std::thread::sleep(MEASURED_FOR);
        }
        is_finished.store(true, Ordering::Relaxed);
        let slowest = probe.join().expect("it does not panic");
        anyhow::Ok((clients?, slowest?))
    })?;
    let kept = daemon.open_files()?.saturating_sub(files);
    let (all, within) = lags_between(&before, &daemon.lags()?)?;
    let p99 = within(0.99);
    let most = daemon.most_resident()? as f64 / MEBIBYTE;
    report(
        &format!("resident memory with {kept} clients that read nothing, at most"),
        format_args!("{most:.1} MiB"),
        "at most 100 MiB",
        most <= 100.0,
    );
    report(
        "slowest answer of /livez meanwhile",
        format_args!("{:.0} ms", 1e3 * slowest.as_secs_f64()),
        "at most 1 s",
        slowest <= Duration::from_secs(1),
    );
    report(
        &format!("poll lag p99 of {all:.0} polls meanwhile"),
        format_args!("within {p99} s"),
        "at most 0.1 s",
        p99 <= 0.1,
    );
    drop(clients);
    Ok(())
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Clients with a small buffer, which ask and read nothing.
async fn open(daemon: &Daemon, requests: &[String]) -> anyhow::Result<Vec<TcpStream>> {
    let mut clients = Vec::with_capacity(READERS);
    for number in 0..READERS {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 * 1024)?;
        let mut client = socket.connect(daemon.address()).await?;
        client
            .write_all(requests[number % requests.len()].as_bytes())
            .await?;
        clients.push(client.into_std()?);
    }
    Ok(clients)
}

/// The longest that `/livez` took, over a new connection each time.
fn slowest_answer(daemon: &Daemon, is_finished: &AtomicBool) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    while !is_finished.load(Ordering::Relaxed) {
        let begin = clock::instant();
        daemon.get("/livez")?;
        slowest = slowest.max(begin.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(slowest)
}
