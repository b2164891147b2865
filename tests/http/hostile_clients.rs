//! Hostile clients: the daemon and its polls continue.

use std::fs;
use std::time::Duration;

use backfill_watch::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::fixture::{Fixture, read_to_end};
use crate::support::{DEADLINE, process_status, until};

/// Resident memory that no attack may bring the daemon to; it needs some 50 MB.
const MEMORY: u64 = 400 * 1024 * 1024;

fn memory(fixture: &Fixture) -> u64 {
    process_status(fixture.daemon.id(), "VmRSS")
}

/// Checks that the daemon answers and polls, as if nothing had happened.
async fn assert_alive(fixture: &Fixture) {
    assert_eq!(fixture.text("/livez").await, "alive\n");
    let polls = fixture.simulator.requests().total;
    until("polls go on", || fixture.simulator.requests().total > polls + 3).await;
    assert!(memory(fixture) < MEMORY, "{} bytes", memory(fixture));
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// A request whose line and headers have this size together.
fn head_of(size: usize) -> Vec<u8> {
    let before = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: ";
    let value = "a".repeat(size - before.len() - 4);
    format!("{before}{value}\r\n\r\n").into_bytes()
}

fn assert_problem(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-type: application/problem+json"),
        "{answer}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], status);
}

#[tokio::test]
async fn heads_have_thirty_two_kibibytes_in_any_number_of_headers() {
    const MOST: usize = 32 * 1024;
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    let answer = fixture.raw(&head_of(MOST)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let many: String = (0..3_000).map(|n| format!("X-{n}:1\r\n")).collect();
    let many = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{many}\r\n");
    assert!(many.len() < MOST);
    let answer = fixture.raw(many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for size in [MOST + 1, 1024 * 1024] {
        assert_problem(&fixture.raw(&head_of(size)).await, 431);
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(MOST));
    assert_problem(&fixture.raw(long.as_bytes()).await, 431);
    for nonsense in [
        "\r\n\r\n\r\n\0\0\0",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{nonsense:?}: {answer}"
        );
        if !answer.is_empty() {
            assert_problem(&answer, 400);
        }
    }
    assert_alive(&fixture).await;
}

#[tokio::test]
async fn a_request_within_a_body_is_never_answered() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    let inner = "GET /api/operations HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = inner.len();
    for (name, framing) in [
        (
            "both",
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "two lengths",
            format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}"),
        ),
        ("length", format!("Content-Length: {length}\r\n\r\n{inner}")),
        (
            "list of lengths",
            format!("Content-Length: {length}, {length}\r\n\r\n{inner}"),
        ),
        ("signed", format!("Content-Length: +{length}\r\n\r\n{inner}")),
        (
            "space",
            format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "unknown coding",
            format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "coding twice",
            format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "folded",
            format!("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "chunked",
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n"),
        ),
        (
            "bad chunk",
            format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{inner}"),
        ),
    ] {
        for method in ["GET", "POST"] {
            let attack = format!("{method} /livez HTTP/1.1\r\nHost: localhost\r\n{framing}");
            let answer = fixture.raw(attack.as_bytes()).await;
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 4"), "{name}: {answer}");
            assert!(!answer.contains("op-600000"), "{name}: {answer}");
        }
    }
    assert_alive(&fixture).await;
}

#[tokio::test]
async fn paths_lead_nowhere_but_to_pages() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    for path in [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.css/../../../etc/passwd",
        "/api/operations/..%2f..%2f..%2fetc%2fpasswd",
        "/api/operations/%00",
        "/api/operations/../../state",
        "/\\..\\..\\etc\\passwd",
        "/livez/../api/operations",
    ] {
        let mut attack = request(path);
        attack.truncate(attack.len() - 2);
        attack.extend_from_slice(b"Connection: close\r\n\r\n");
        let answer = fixture.raw(&attack).await;
        assert!(
            answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
            "{path}: {answer}"
        );
        assert!(!answer.contains("root:"), "{path}: {answer}");
    }
    assert_alive(&fixture).await;
}

#[tokio::test]
async fn clients_that_send_slowly_or_nothing_are_disconnected() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    let begun = clock::instant();
    let silent = async {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        read_to_end(&mut stream).await
    };
    let slow = async {
        let stream = TcpStream::connect(fixture.address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let dribbling = async {
            for byte in request("/api/operations").iter().cycle() {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut answer = Vec::new();
        let reading = reader.read_to_end(&mut answer);
        tokio::select! {
            _ = reading => {}
            () = dribbling => {}
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let idle_after_a_request = async {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(&request("/livez")).await.unwrap();
        read_to_end(&mut stream).await
    };
    let all = async { tokio::join!(silent, slow, idle_after_a_request) };
    let (silent, slow, idle) = tokio::time::timeout(DEADLINE, all)
        .await
        .expect("all are cut off");
    assert!(
        !silent.contains(" 200 ") && !slow.contains(" 200 "),
        "{silent}{slow}"
    );
    assert_eq!(idle.matches("HTTP/1.1 200 ").count(), 1, "{idle}");
    assert!(begun.elapsed() >= Duration::from_secs(30));
    assert_alive(&fixture).await;
}

#[tokio::test]
async fn thousands_of_idle_connections_block_no_client() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    let mut idle = Vec::new();
    while idle.len() < 10_000 {
        // This process may have fewer open files than that.
        let Ok(stream) = TcpStream::connect(fixture.address).await else {
            break;
        };
        idle.push(stream);
    }
    let spare = idle.len() / 20;
    idle.truncate(idle.len() - spare.max(20));
    assert!(idle.len() > 500, "{}", idle.len());
    assert_alive(&fixture).await;
    drop(idle);
    assert_alive(&fixture).await;
}

#[tokio::test]
async fn a_thousand_stream_readers_delay_nobody() {
    let lines: Vec<String> = (0..100).map(|n| format!("op-600000-5000-s-{n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start(&lines).await;
    let mut readers = Vec::new();
    for _ in 0..1_000 {
        let Ok(mut stream) = TcpStream::connect(fixture.address).await else {
            break;
        };
        stream.write_all(&request("/api/events/stream")).await.unwrap();
        readers.push(stream);
    }
    let spare = readers.len() / 20;
    readers.truncate(readers.len() - spare.max(20));
    assert!(readers.len() > 500, "{}", readers.len());
    // Each gets the changes, or a problem because there are too many.
    for reader in &mut readers {
        let mut heard = String::new();
        let mut buffer = [0; 16 * 1024];
        let hearing = async {
            while !heard.contains("\"operationId\"") && !heard.contains(" 503 ") {
                let length = reader.read(&mut buffer).await.unwrap();
                assert!(length > 0, "{heard}");
                heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        tokio::time::timeout(DEADLINE, hearing)
            .await
            .expect("each gets an answer");
    }
    assert_alive(&fixture).await;
    let slow = fixture.text("/metrics").await;
    let late = slow
        .lines()
        .find_map(|line| line.strip_prefix("backfill_watch_poll_lag_seconds_bucket{le=\"10\"} "));
    let all = slow
        .lines()
        .find_map(|line| line.strip_prefix("backfill_watch_poll_lag_seconds_count "));
    assert_eq!(late, all, "no poll is 10 s late");
}

/// Whether the daemon still has a connection to that port of ours.
fn is_connected(fixture: &Fixture, port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let (local, remote) = (format!(":{:04X}", fixture.address.port()), format!(":{port:04X}"));
    fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&local) && fields[2].ends_with(&remote) && fields[3] == ESTABLISHED
    })
}

#[tokio::test]
async fn a_stream_reader_that_reads_nothing_is_disconnected() {
    let lines: Vec<String> = (0..500)
        .map(|n| format!("op-600000-50000-s-{n} l={}", "x".repeat(800)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start(&lines).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut reader = socket.connect(fixture.address).await.unwrap();
    let port = reader.local_addr().unwrap().port();
    reader.write_all(&request("/api/events/stream")).await.unwrap();
    until("the reader is connected", || is_connected(&fixture, port)).await;
    until("the reader is dropped", || !is_connected(&fixture, port)).await;
    assert_alive(&fixture).await;
}
