//! Clients that may write, with bodies that are too large, too slow or no bodies.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use backfill_watch::simulator::{Simulator, SimulatorConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, Daemon, Setup, process_status};

const TOKEN: &str = "write-token-1";
const LISTED: &str = "op-3600000-5000-s-listed";
/// Resident memory that no client may bring the daemon to; it needs some 50 MB.
const MEMORY: u64 = 200 * 1024 * 1024;

async fn start() -> (Simulator, Daemon, SocketAddr) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator);
    let file = setup.folder().join("write-token");
    fs::write(&file, TOKEN).unwrap();
    let setup = setup
        .set("http.listen", "127.0.0.1:0")
        .set("http.write_token_file", &file.display().to_string());
    let daemon = setup.list(&[LISTED]).start();
    let address = daemon.address().await;
    daemon.event("operation.started").await;
    (simulator, daemon, address)
}

/// The head of a `PUT` with the token.
fn head(more: &str) -> String {
    format!(
        "PUT /api/operations/my-project/op-3600000-5000-s-added HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n{more}\r\n"
    )
}

/// Sends bytes, and reads until the other end closes.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be cut while it is written to.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset is an end, too.
    let _ = tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

async fn assert_alive(daemon: &Daemon, address: SocketAddr) {
    let good = head("Connection: close\r\n");
    let answer = send(address, good.as_bytes()).await;
    assert!(["200", "201"].contains(&status(&answer)), "{answer}");
    let probe = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&send(address, probe).await), "200");
    let memory = process_status(daemon.id(), "VmRSS");
    assert!(memory < MEMORY, "{memory} bytes");
}

#[tokio::test]
async fn bodies_that_are_too_large_or_wrongly_framed() {
    let (_simulator, daemon, address) = start().await;
    let inner = "GET /api/operations HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = head("Transfer-Encoding: chunked\r\n");
    for (name, bytes, expected) in [
        ("announced", head("Content-Length: 1048577\r\n"), "413"),
        ("huge", head("Content-Length: 99999999999\r\n"), "413"),
        (
            "one chunk",
            format!("{chunked}{:x}\r\n{}", 2_000_000, "x".repeat(2_000_000)),
            "413",
        ),
        (
            "small chunks",
            format!("{chunked}{}", "10\r\n0123456789abcdef\r\n".repeat(70_000)),
            "413",
        ),
        // hyper ignores the length, as RFC 9112 allows, and closes the connection.
        (
            "both",
            head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + inner,
            "201",
        ),
        (
            "two lengths",
            head(&format!(
                "Content-Length: 2\r\nContent-Length: {}\r\n",
                inner.len()
            )) + inner,
            "400",
        ),
        ("bad chunk", chunked.clone() + "-1\r\n" + inner, "400"),
        (
            "unknown coding",
            head("Transfer-Encoding: xchunked\r\n") + inner,
            "400",
        ),
        // What follows a short body is no request: the connection is closed after an error.
        (
            "more than its length",
            head("Content-Length: 1\r\n") + "{" + inner,
            "400",
        ),
        (
            "nested",
            {
                let body = "[".repeat(500_000);
                head(&format!("Content-Length: {}\r\n", body.len())) + &body
            },
            "400",
        ),
    ] {
        let answer = send(address, bytes.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
    }
    // A client that waits for the permission to send gets it only if its head is good.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let expecting = head("Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n");
    stream.write_all(expecting.as_bytes()).await.unwrap();
    let mut permission = [0; 25];
    stream.read_exact(&mut permission).await.unwrap();
    assert_eq!(&permission, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    assert_eq!(status(&read_to_end(&mut stream).await), "200");
    let refused = head("Content-Length: 2\r\nExpect: 100-continue\r\n").replace(TOKEN, "wrong");
    assert_eq!(status(&send(address, refused.as_bytes()).await), "401");
    assert_alive(&daemon, address).await;
}

#[tokio::test]
async fn bodies_that_come_slowly_or_never() {
    let (_simulator, daemon, address) = start().await;
    let slow = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let begun = head("Content-Length: 1000\r\n");
        writer.write_all(begun.as_bytes()).await.unwrap();
        let sending = async {
            while writer.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => {}
            () = sending => {}
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let never = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begun = head("Content-Length: 1000\r\n");
        stream.write_all(begun.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    };
    let cut = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begun = head("Content-Length: 1000\r\n");
        stream.write_all(begun.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await
    };
    let (slow, never, cut, ()) = tokio::join!(slow(), never(), cut, assert_alive(&daemon, address));
    assert!(slow.is_empty() || status(&slow) == "408", "{slow}");
    assert_eq!(status(&never), "408");
    assert!(cut.is_empty() || status(&cut) == "400", "{cut}");
    assert_alive(&daemon, address).await;
}
