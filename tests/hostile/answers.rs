//! Invalid answers of the API. Four operations get them, as many as may be polled at once; two others do not.

use std::process::{Command, Stdio};

use tokio::task::{JoinSet, LocalSet};

use crate::daemon_checks::{assert_memory_is_bounded, last_error, page, text, with_pages};
use crate::hostile_api::{Behavior, HEAD, HostileApi, ok, operation, with_length};
use crate::support::{Daemon, Setup, until};

const BAD: [&str; 4] = ["bad-1", "bad-2", "bad-3", "bad-4"];
const GOOD: [&str; 2] = ["good-1", "good-2"];
const MEBIBYTE: usize = 1024 * 1024;

/// The API misbehaves for three polls of each bad operation. `lastError` contains one of these texts, and afterwards
/// every operation's true end is reported. Returns daemon and API for further checks.
async fn survive(act: Behavior, words: &[&str]) -> (Daemon, HostileApi) {
    let api = HostileApi::start(act).await;
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
    // The other watches continue up to their end.
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
    assert_memory_is_bounded(&daemon);
    (daemon, api)
}

/// As [`survive`], for several named acts, a few at the same time; `check` gets the name and the daemon of each.
async fn survive_each<const N: usize>(
    acts: impl IntoIterator<Item = (String, Behavior, [String; N])>,
    check: impl Fn(&str, &Daemon),
) {
    const AT_ONCE: usize = 3;
    let mut acts = acts.into_iter();
    let all = async {
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE
                && let Some((name, act, words)) = acts.next()
            {
                running.spawn_local(async move {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    (name, survive(act, &words).await.0)
                });
            }
            match running.join_next().await {
                Some(survived) => {
                    let (name, daemon) = survived.unwrap();
                    check(&name, &daemon);
                }
                None => return,
            }
        }
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn a_byte_a_second() {
    let head = format!("{HEAD}content-length: 100000\r\n\r\n");
    survive(Behavior::Trickle(head.into_bytes()), &["no complete answer"]).await;
    let head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    let (daemon, _api) = survive(Behavior::Trickle(head), &["no complete answer"]).await;
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
        let (daemon, api) = survive(
            Behavior::Flood(head.into_bytes(), more),
            &["more than 1048576 bytes"],
        )
        .await;
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
    let acts = ["gzip", "x-gzip, gzip", "br", "deflate", "zstd"].map(|coding| {
        let head = format!(
            "{HEAD}content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        let answer = [head.as_bytes(), &bomb].concat();
        let words = format!("the content coding {coding}, which was not requested");
        (coding.to_owned(), Behavior::Close(answer), [words])
    });
    survive_each(acts, |_, _| {}).await;
}

#[tokio::test]
async fn deep_json() {
    let depth = 400_000;
    let nested = "[".repeat(depth) + &"]".repeat(depth);
    let open = r#"{"a":"#.repeat(depth / 4);
    let bodies = [
        nested.clone(),
        "[".repeat(MEBIBYTE - 1),
        open.clone(),
        operation("bad", "success", &format!(r#","metadata":{nested}"#)),
        operation("bad", "success", &format!(r#","unknown":{open}"#)),
    ];
    let words = ["not a JSON object", "the member `id` is bad"].map(str::to_owned);
    let acts = bodies.map(|body| {
        let name = body.chars().take(60).collect();
        (name, Behavior::Close(ok("", &body)), words.clone())
    });
    survive_each(acts, |_, _| {}).await;
}

#[tokio::test]
async fn a_length_that_is_wrong() {
    let body = operation("bad-1", "success", "");
    let answer = |length: usize| format!("{HEAD}content-length: {length}\r\n\r\n{body}").into_bytes();
    let wrong = [
        (Behavior::Hang(answer(body.len() - 10)), ["not a JSON object"; 3]),
        (
            Behavior::Close(answer(body.len() + 10)),
            ["closed", "interrupted", "interrupted"],
        ),
        (Behavior::Hang(answer(body.len() + 10)), ["no complete answer"; 3]),
    ];
    let odd = ["-1", "99999999999999999999999", "1, 2", "0x10", ""].map(|length| {
        let odd = format!("{HEAD}content-length: {length}\r\n\r\n{body}");
        let words = ["not HTTP", "interrupted", "not a JSON object"];
        (Behavior::Close(odd.into_bytes()), words)
    });
    let acts = wrong.into_iter().chain(odd).enumerate();
    let acts = acts.map(|(number, (act, words))| (format!("length {number}"), act, words.map(str::to_owned)));
    survive_each(acts, |_, _| {}).await;
}

/// Each is an operation that succeeded, with one member that cannot be used.
const UNUSABLE: [(&str, &str); 8] = [
    ("result", r#","result":"\ud800 done""#),
    ("result", r#","result":{"rows":3}"#),
    ("createTime", r#","createTime":20261123"#),
    ("createTime", r#","createTime":"0001-01-01T00:00:00Z""#),
    (
        "recordsProcessed",
        r#","metadata":{"progress":{"recordsProcessed":1e999,"recordsEstimatedTotal":5000}}"#,
    ),
    (
        "recordsEstimatedTotal",
        r#","metadata":{"progress":{"recordsEstimatedTotal":-1}}"#,
    ),
    ("objects", r#","metadata":{"objects":["con\udfff","contact"]}"#),
    ("metadata", ""),
];

fn unusable(path: &str) -> Vec<u8> {
    let (id, rest) = path.split_once('/').unwrap_or((path, ""));
    if rest == "logs" {
        return ok("", "[]");
    }
    let (member, more) = UNUSABLE[id.trim_start_matches("bad-").parse::<usize>().unwrap()];
    let deep = "[".repeat(200) + &"]".repeat(200);
    let more = match member {
        "metadata" => format!(r#","metadata":{{"objects":["contact"],"custom":{deep}}}"#),
        _ => more.to_owned(),
    };
    // A byte-order mark, and no other member.
    let body = format!("\u{feff}{{\"id\":\"{id}\",\"status\":\"success\"{more}}}");
    ok("connection: close\r\n", &body)
}

#[tokio::test]
async fn members_that_cannot_be_used() {
    let api = HostileApi::start(Behavior::Respond(unusable)).await;
    let ids: Vec<String> = (0..UNUSABLE.len()).map(|n| format!("bad-{n}")).collect();
    let setup = Setup::polling(&api.base_url()).set("log.filter", "info,backfill_watch=debug");
    let daemon = with_pages(setup.list(&ids)).start();
    for id in &ids {
        daemon.event_of(id, "operation.succeeded").await;
    }
    let metrics = text(&daemon, "/metrics").await;
    for (member, _) in UNUSABLE {
        let count = UNUSABLE.iter().filter(|(other, _)| *other == member).count();
        let line = format!("backfill_watch_poll_unusable_members_total{{member=\"{member}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
        let lines = daemon.log.lines(|line| line["members"] == member);
        assert_eq!(lines.len(), count, "{member}");
    }
    // The members beside an unusable one count.
    let found = page(&daemon, "/api/operations/bad-7").await;
    assert_eq!(found["objects"], serde_json::json!(["contact"]));
    let found = page(&daemon, "/api/operations/bad-3").await;
    assert!(
        found["createTime"].is_null() && found["installationId"].is_null(),
        "{found}"
    );
    daemon.stop().await;
}

fn counts(path: &str) -> Vec<u8> {
    let (processed, total) = match path {
        "bad-text" => (r#""1250""#, r#""5000""#),
        "bad-float" => ("1250.0", "5000.0"),
        _ => ("1.25e3", "5e3"),
    };
    let progress = format!(
        r#","metadata":{{"progress":{{"recordsProcessed":{processed},"recordsEstimatedTotal":{total}}}}}"#
    );
    ok(
        "connection: close\r\n",
        &operation(path, "in_progress", &progress),
    )
}

#[tokio::test]
async fn counts_as_text_and_floats() {
    let api = HostileApi::start(Behavior::Respond(counts)).await;
    let ids = ["bad-text", "bad-float", "bad-exponent"];
    let daemon = with_pages(Setup::polling(&api.base_url()).list(&ids)).start();
    for id in ids {
        daemon.event_of(id, "operation.started").await;
        let found = page(&daemon, &format!("/api/operations/{id}")).await;
        assert_eq!(found["progress"]["recordsProcessed"], 1250, "{found}");
        assert_eq!(found["progress"]["percent"], 25.0, "{found}");
    }
    daemon.stop().await;
}

/// The answer of a proxy or a login page proves nothing about keys and operations.
#[tokio::test]
async fn login_pages_and_proxies() {
    let acts = [
        ("401 Unauthorized", "a login page"),
        ("403 Forbidden", "a login page"),
        ("404 Not Found", "a proxy"),
        ("407 Proxy Authentication Required", "a proxy"),
        ("200 OK", "text/html instead of JSON"),
    ]
    .map(|(status, words)| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\nconnection: close\r\n");
        let page = with_length(&head, "<!doctype html><title>Sign in</title>");
        (status.to_owned(), Behavior::Close(page), [words.to_owned()])
    });
    survive_each(acts, |status, daemon| {
        assert_eq!(daemon.log.count("api.credentials_rejected"), 0, "{status}");
        assert_eq!(daemon.log.count("operation.unreachable"), 0, "{status}");
    })
    .await;
}

fn with_many_headers(path: &str) -> Vec<u8> {
    let id = path.split('/').next().unwrap();
    let headers: String = (0..1_000).map(|n| format!("x-header-{n}: value\r\n")).collect();
    ok(
        &format!("connection: close\r\n{headers}"),
        &operation(id, "success", ""),
    )
}

#[tokio::test]
async fn many_headers_and_large_ones() {
    let api = HostileApi::start(Behavior::Respond(with_many_headers)).await;
    let daemon = with_pages(Setup::polling(&api.base_url()).list(&["bad-1"])).start();
    daemon.event_of("bad-1", "operation.succeeded").await;
    drop(daemon);
    let head = format!("{HEAD}x-large: {}\r\n\r\n", "x".repeat(70_000));
    let (daemon, _api) = survive(
        Behavior::Close(head.into_bytes()),
        &["more than 65536 bytes of headers"],
    )
    .await;
    drop(daemon);
    let endless = b"x-more: value\r\n".repeat(1_000);
    let (daemon, _api) = survive(
        Behavior::Flood(HEAD.as_bytes().to_vec(), endless),
        &["more than 65536 bytes of headers"],
    )
    .await;
    daemon.stop().await;
}
