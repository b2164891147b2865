//! Answers that no API should give. Four operations get them, as many as may be asked for at once; two others do not.

use std::process::{Command, Stdio};

use crate::api::{Act, Api, HEAD, ok, operation};
use crate::support::{Daemon, Setup, until};
use crate::well::{assert_small, last_error, with_pages};

const BAD: [&str; 4] = ["bad-1", "bad-2", "bad-3", "bad-4"];
const GOOD: [&str; 2] = ["good-1", "good-2"];
const MEBIBYTE: usize = 1024 * 1024;

/// Meets `act` at three polls of each, learns nothing but its words, and afterwards tells every operation's true end.
/// The daemon and the API are given back for what more there is to check.
async fn survive(act: Act, words: &[&str]) -> (Daemon, Api) {
    let api = Api::start(act).await;
    let setup = Setup::polling(&api.base_url())
        .set("ampersand.request_timeout", "400ms")
        .set("ampersand.max_concurrent_requests", &BAD.len().to_string())
        .list(&[&BAD[..], &GOOD[..]].concat());
    let daemon = with_pages(setup).start();
    until("three bad answers for each", || {
        BAD.iter().all(|id| api.polls(id) >= 3)
    })
    .await;
    for id in BAD {
        last_error(&daemon, id, words).await;
    }
    // The others go on meanwhile, up to their end.
    api.end(GOOD[0]);
    daemon.event_of(GOOD[0], "operation.succeeded").await;
    let polls = api.polls(GOOD[1]);
    until("polls go on", || api.polls(GOOD[1]) > polls + 3).await;
    assert_eq!(
        daemon
            .log
            .lines(|line| line["event"].is_string() && BAD.iter().any(|id| line["operation_id"] == *id))
            .len(),
        0
    );

    api.heal();
    for id in BAD {
        api.end(id);
        daemon.event_of(id, "operation.succeeded").await;
    }
    for event in ["operation.failed", "operation.ended", "operation.gone"] {
        assert_eq!(daemon.log.count(event), 0, "{event}");
    }
    assert_small(&daemon);
    (daemon, api)
}

#[tokio::test]
async fn a_byte_a_second() {
    let head = format!("{HEAD}content-length: 100000\r\n\r\n");
    survive(Act::Trickle(head.into_bytes()), &["no complete answer"]).await;
    let head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    let (daemon, _api) = survive(Act::Trickle(head), &["no complete answer"]).await;
    daemon.stop().await;
}

#[tokio::test]
async fn four_gibibytes() {
    let piece = vec![b' '; 256 * 1024];
    let chunk = [b"40000\r\n", &piece[..], b"\r\n"].concat();
    for (framing, more) in [
        ("content-length: 4294967296\r\n", piece.clone()),
        ("transfer-encoding: chunked\r\n", chunk),
        ("connection: close\r\n", piece),
    ] {
        let head = format!("{HEAD}{framing}\r\n");
        let (daemon, api) = survive(Act::Flood(head.into_bytes(), more), &["more than 1048576 bytes"]).await;
        // A mebibyte of each poll, and what the network buffers.
        let polls: u64 = BAD.iter().map(|id| api.polls(id)).sum();
        let most = polls * 16 * MEBIBYTE as u64;
        assert!(
            api.flooded() < most,
            "{framing}{} of {polls} polls",
            api.flooded()
        );
        drop(daemon);
    }
}

/// Bytes that unpack to as much as a thousand times their length.
fn packed(mebibytes: usize) -> Vec<u8> {
    let script = format!("head -c {} /dev/zero | gzip -9", 16 * MEBIBYTE);
    let output = Command::new("sh")
        .args(["-c", &script])
        .stderr(Stdio::inherit())
        .output();
    // Files in this format may follow each other, and unpack to all of their contents.
    output.unwrap().stdout.repeat(mebibytes / 16)
}

#[tokio::test]
async fn a_compressed_bomb() {
    let bomb = packed(960);
    assert!(bomb.len() < MEBIBYTE, "{}", bomb.len());
    for coding in ["gzip", "x-gzip, gzip", "br", "deflate", "zstd"] {
        let head = format!(
            "{HEAD}content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        let answer = [head.as_bytes(), &bomb].concat();
        let (daemon, _api) = survive(Act::Close(answer), &["not as agreed", "content-encoding"]).await;
        drop(daemon);
    }
}

#[tokio::test]
async fn deep_json() {
    let depth = 400_000;
    let nested = "[".repeat(depth) + &"]".repeat(depth);
    let open = r#"{"a":"#.repeat(depth / 4);
    for body in [
        nested.clone(),
        "[".repeat(MEBIBYTE - 1),
        open.clone(),
        operation("bad", "success", &format!(r#","metadata":{nested}"#)),
        operation("bad", "success", &format!(r#","unknown":{open}"#)),
    ] {
        let (daemon, _api) = survive(Act::Close(ok("", &body)), &["not as agreed"]).await;
        drop(daemon);
    }
}

#[tokio::test]
async fn a_length_that_is_wrong() {
    let body = operation("bad-1", "success", "");
    let answer = |length: usize| format!("{HEAD}content-length: {length}\r\n\r\n{body}").into_bytes();
    let (daemon, _api) = survive(Act::Hang(answer(body.len() - 10)), &["not as agreed"]).await;
    drop(daemon);
    let (daemon, _api) = survive(Act::Close(answer(body.len() + 10)), &["closed", "broke off"]).await;
    drop(daemon);
    let (daemon, _api) = survive(Act::Hang(answer(body.len() + 10)), &["no complete answer"]).await;
    drop(daemon);
    for length in ["-1", "99999999999999999999999", "1, 2", "0x10", ""] {
        let odd = format!("{HEAD}content-length: {length}\r\n\r\n{body}");
        let (daemon, _api) = survive(
            Act::Close(odd.into_bytes()),
            &["not HTTP", "broke off", "not as agreed"],
        )
        .await;
        drop(daemon);
    }
}
