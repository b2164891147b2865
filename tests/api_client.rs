//! The API client against misbehaving servers, with real sockets and TLS.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backfill_watch::ampersand::{ApiError, ApiFetch, ApiKey, Client, ClientError, ClientSettings, Fetch};
use backfill_watch::config::SecretSource;
use backfill_watch::core::answer::{Answer, FailureClass, LogAnswer, ProjectAnswer};
use backfill_watch::core::discovery::{
    BackfillPath, DiscoveryAnswer, DiscoveryReply, DiscoveryRequest, NamedOperation, ObjectKey,
};
use backfill_watch::core::installation::InstallationPath;
use backfill_watch::core::operation::Status;
use backfill_watch::core::operation_log::LogSelection;
use backfill_watch::core::project_health::DiscoveryEvidence;
use backfill_watch::core::watch_list::WatchKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const OPERATION: &str = r#"{"id":"op-1","projectId":"p","integrationId":"i","configId":"c","installationId":"n",
    "actionType":"read","status":"in_progress","metadata":{"progress":{"recordsProcessed":7}}}"#;
const PROBLEM: &str = r#"{"title":"Sorry","detail":"because"}"#;
const KEY: &str = "amp-0123456789abcdef";
const LIMIT: Duration = Duration::from_secs(10);
const MEBIBYTE: usize = 1024 * 1024;

/// What a server does after it sent its bytes.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Reset,
    Hang,
    Drip,
}

/// A server on loopback that reads the head of each request, answers with the same bytes, and notes the heads.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self::start_with(bytes, then, None).await
    }

    async fn start_with(bytes: impl Into<Vec<u8>>, then: Then, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (bytes, noted) = (bytes.into(), heads.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accept");
                let (bytes, noted, tls) = (bytes.clone(), noted.clone(), tls.clone());
                tokio::spawn(async move {
                    if matches!(then, Then::Reset) {
                        stream.set_zero_linger().expect("linger");
                    }
                    match tls {
                        None => converse(stream, &bytes, then, &noted).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, &bytes, then, &noted).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heads, task }
    }

    fn client(&self) -> Client {
        client(&format!("http://{}/v1", self.address), LIMIT)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    bytes: &[u8],
    then: Then,
    heads: &Mutex<Vec<String>>,
) {
    let Some(head) = read_head(&mut stream).await else {
        return;
    };
    heads.lock().expect("heads").push(head);
    if stream.write_all(bytes).await.is_err() {
        return;
    }
    match then {
        Then::Close => {
            let _ = stream.shutdown().await;
        }
        Then::Reset => {}
        Then::Hang => {
            // Until the client times out.
            let _ = stream.read_u8().await;
        }
        Then::Drip => {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while stream.write_all(b" ").await.is_ok() {
                tick.tick().await;
            }
        }
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// An answer with the right length.
fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn json(status: &str, body: &str) -> Vec<u8> {
    http(status, "content-type: application/json\r\n", body)
}

fn problem(status: &str, body: &str) -> Vec<u8> {
    http(status, "content-type: application/problem+json\r\n", body)
}

fn settings(base_url: &str, request_timeout: Duration) -> ClientSettings {
    ClientSettings {
        base_url: base_url.parse().expect("a URL"),
        request_timeout,
        ca_file: None,
        max_concurrent_requests: 32,
    }
}

fn client(base_url: &str, request_timeout: Duration) -> Client {
    Client::new(settings(base_url, request_timeout)).expect("client")
}

fn key() -> ApiKey {
    ApiKey::new(KEY.into())
}

async fn ask(client: &Client) -> Answer {
    client.get_operation("my-project", "op-1", &key()).await
}

fn reason(answer: &Answer) -> &str {
    match answer {
        Answer::Operation(_) => "",
        Answer::NotFound(reason)
        | Answer::Refused(reason)
        | Answer::Unauthorized(reason)
        | Answer::Forbidden(reason)
        | Answer::Throttled { reason, .. } => reason,
        Answer::Failed(failure) | Answer::Unprocessed(failure) => &failure.reason,
    }
}

fn class(answer: &Answer) -> Option<FailureClass> {
    match answer {
        Answer::Failed(failure) => Some(failure.class),
        _ => None,
    }
}

#[tokio::test]
async fn each_status_and_body_has_its_outcome() {
    let retry = |status: &str, value: &str| http(status, &format!("retry-after: {value}\r\n"), "");
    let at = |status: &str, time: &str| problem(status, &format!(r#"{{"retryAfter":"{time}"}}"#));
    let wrong_id = OPERATION.replace("op-1", "op-2");
    let typed = |content_type: &str, body: &str| {
        let headers = format!("content-type: {content_type}\r\n");
        http("200 OK", &headers, body)
    };
    let cases = [
        (json("200 OK", OPERATION), "operation", ""),
        (
            typed("application/vnd.x+json; charset=utf-8", OPERATION),
            "operation",
            "",
        ),
        (json("200 OK", &wrong_id), "malformed", "the member `id` is op-2"),
        (json("200 OK", "{not json"), "malformed", "not a JSON object"),
        (json("200 OK", ""), "malformed", "EOF"),
        (json("200 OK", "[]"), "malformed", "not a JSON object"),
        (json("200 OK", r#"{"id":7}"#), "malformed", "`id` is not a string"),
        (
            json("200 OK", r#"{"id":"op-1"}"#),
            "malformed",
            "`status` is missing",
        ),
        (json("200 OK", r#"{"id":"op-1","status":"x"}"#), "operation", ""),
        (json("200 OK", &format!("\u{feff}{OPERATION}")), "operation", ""),
        (latin_1(OPERATION), "malformed", "not UTF-8"),
        (coded("200 OK", "gzip", OPERATION), "malformed", "gzip"),
        (
            coded("200 OK", "identity, br, zstd", OPERATION),
            "malformed",
            "br, zstd",
        ),
        (coded("200 OK", "identity", OPERATION), "operation", ""),
        (
            coded("401 Unauthorized", "x-gzip", PROBLEM),
            "malformed",
            "x-gzip",
        ),
        (coded("404 Not Found", "deflate", PROBLEM), "malformed", "deflate"),
        (
            coded("429 Too Many Requests", "gzip", PROBLEM),
            "throttled",
            "429",
        ),
        (coded("500 Oh", "gzip", PROBLEM), "server_error", "500"),
        (
            json("200 OK", &format!("{OPERATION}{OPERATION}")),
            "malformed",
            "trailing characters",
        ),
        (typed("text/html", OPERATION), "malformed", "text/html"),
        (http("200 OK", "", OPERATION), "malformed", "no content type"),
        (json("201 Created", OPERATION), "malformed", "201 Created"),
        (http("204 No Content", "", ""), "malformed", "base_url"),
        (
            problem("404 Not Found", PROBLEM),
            "not_found",
            "404 Sorry: because",
        ),
        (json("404 Not Found", PROBLEM), "not_found", "404 Sorry: because"),
        (problem("410 Gone", "{}"), "not_found", "410 Gone"),
        (
            json("404 Not Found", r#"{"message":"no route"}"#),
            "malformed",
            "without problem details of the API",
        ),
        (typed_404("text/html", "<h1>404</h1>"), "malformed", "base_url"),
        (
            problem("404 Not Found", "<h1>404</h1>"),
            "malformed",
            "without problem details of the API",
        ),
        (problem("401 Unauthorized", PROBLEM), "unauthorized", "401 Sorry"),
        (http("401 Unauthorized", "", ""), "malformed", "401 Unauthorized"),
        (json("401 Unauthorized", "{}"), "unauthorized", "401 Unauthorized"),
        (json("401 Unauthorized", "<html>"), "malformed", "login page"),
        (html("401 Unauthorized"), "malformed", "login page"),
        (html("403 Forbidden"), "malformed", "login page"),
        (json("403 Forbidden", r#""no""#), "forbidden", "403"),
        (html("400 Bad Request"), "malformed", "proxy"),
        (html("407 Proxy Authentication Required"), "malformed", "407"),
        (html("410 Gone"), "malformed", "410"),
        (html("302 Found"), "redirect", "302"),
        (html("200 OK"), "malformed", "text/html"),
        (
            problem("400 Bad Request", r#"{"retryable":true}"#),
            "server_error",
            "400",
        ),
        (
            problem("400 Bad Request", r#"{"retryable":false}"#),
            "refused",
            "400",
        ),
        (
            problem("404 Not Found", r#"{"retryable":true}"#),
            "not_found",
            "404",
        ),
        (json("400 Bad Request", r#"{"message":"x"}"#), "malformed", "400"),
        (
            json("400 Bad Request", r#"{"detail":"\ud800","status":400}"#),
            "refused",
            "400 Bad Request",
        ),
        (problem("403 Forbidden", PROBLEM), "forbidden", "403 Sorry"),
        (problem("400 Bad Request", PROBLEM), "refused", "400 Sorry"),
        (http("405 Method Not Allowed", "", ""), "malformed", "405"),
        (problem("422 Unprocessable Entity", PROBLEM), "refused", "422"),
        (problem("499 Odd", "{}"), "refused", "499"),
        (http("408 Request Timeout", "", ""), "server_error", "408"),
        (http("425 Too Early", "", ""), "server_error", "425"),
        (
            problem("500 Internal Server Error", PROBLEM),
            "server_error",
            "500 Sorry",
        ),
        (retry("500 Internal Server Error", "7"), "server_error", "500"),
        (http("502 Bad Gateway", "", "<html>"), "server_error", "502"),
        (http("599 Odd", "", ""), "server_error", "599"),
        (http("503 Service Unavailable", "", ""), "server_error", "503"),
        (retry("503 Service Unavailable", "soon"), "server_error", "503"),
        (retry("503 Service Unavailable", "7"), "throttled", "503"),
        (
            at("503 Service Unavailable", "2999-01-01T00:00:00Z"),
            "throttled",
            "503",
        ),
        (
            at("503 Service Unavailable", "1999-01-01T00:00:00Z"),
            "server_error",
            "503",
        ),
        (http("429 Too Many Requests", "", ""), "throttled", "429"),
        (
            http("302 Found", "location: //evil.test/v1\r\n", ""),
            "redirect",
            "redirect to evil.test,",
        ),
        (
            http("304 Not Modified", "", ""),
            "redirect",
            "304 Not Modified instead of 200",
        ),
        (
            http("302 Found", "location: /elsewhere\r\n", ""),
            "redirect",
            "redirect to 127.0.0.1,",
        ),
    ];
    for (bytes, outcome, words) in cases {
        let reported = String::from_utf8_lossy(&bytes).into_owned();
        let server = Server::start(bytes, Then::Close).await;
        let answer = ask(&server.client()).await;
        assert_eq!(answer.outcome(), outcome, "{reported}\n{answer:?}");
        assert!(reason(&answer).contains(words), "{reported}\n{answer:?}");
        assert!(reason(&answer).len() <= 500);
    }
}

fn html(status: &str) -> Vec<u8> {
    http(status, "content-type: text/html\r\n", "<h1>Please sign in</h1>")
}

/// An answer with a content coding.
fn coded(status: &str, coding: &str, body: &str) -> Vec<u8> {
    let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
    http(status, &headers, body)
}

/// An answer with a byte that no UTF-8 has.
fn latin_1(body: &str) -> Vec<u8> {
    let bytes = json("200 OK", &body.replace("\"id\"", "\"x\":\"~\",\"id\""));
    bytes
        .into_iter()
        .map(|byte| if byte == b'~' { 0xe4 } else { byte })
        .collect()
}

fn typed_404(content_type: &str, body: &str) -> Vec<u8> {
    http(
        "404 Not Found",
        &format!("content-type: {content_type}\r\n"),
        body,
    )
}

#[tokio::test]
async fn the_time_to_wait_is_the_later_one_of_header_and_body() {
    let later = r#"{"retryAfter":"2999-01-01T00:00:00Z"}"#;
    let far = u64::from(u32::MAX);
    let date = "date: Mon, 22 Apr 2024 18:55:28 GMT\r\n";
    let in_a_minute = r#"{"retryAfter":"2024-04-22T18:56:28Z"}"#;
    let by_date = |value: &str| format!("{date}retry-after: {value}\r\n");
    for (header, body, seconds) in [
        ("retry-after: 7\r\n", "{}", 7),
        ("retry-after: 1.2\r\n", "{}", 2),
        ("retry-after: 7\r\n", later, far),
        ("retry-after: Tue, 01 Jan 2999 00:00:00 GMT\r\n", "{}", far),
        ("retry-after: soon\r\n", later, far),
        ("", later, far),
        ("retry-after: 99999999999999999999\r\n", "{}", far),
        (&by_date("Mon, 22 Apr 2024 18:55:31 GMT"), "{}", 3),
        (&by_date("Mon, 22 Apr 2024 18:55:31 UTC"), "{}", 3),
        (&by_date("Monday, 22-Apr-24 18:55:31 GMT"), "{}", 3),
        (&by_date("Mon Apr 22 18:55:31 2024"), "{}", 3),
        (&by_date("7"), in_a_minute, 60),
        (&by_date("90"), in_a_minute, 90),
        (&by_date("Fri, 31 Dec 9999 23:59:59 GMT"), "{}", far),
        ("", r#"{"retryAfter":"9999-12-31T23:59:59Z"}"#, far),
    ] {
        let headers = format!("content-type: application/problem+json\r\n{header}");
        let server = Server::start(http("429 Too Many Requests", &headers, body), Then::Close).await;
        let answer = ask(&server.client()).await;
        let Answer::Throttled { wait: Some(wait), .. } = answer else {
            panic!("{header} {answer:?}");
        };
        assert_eq!(wait.as_secs(), seconds, "{header} {body}");
    }
    for header in [
        "retry-after: 0\r\n",
        &by_date("Mon, 22 Apr 2024 18:55:28 GMT"),
        &by_date("Mon, 22 Apr 2024 18:55:27 GMT"),
    ] {
        let server = Server::start(http("429 Too Many Requests", header, ""), Then::Close).await;
        let answer = ask(&server.client()).await;
        assert!(
            matches!(answer, Answer::Throttled { wait: None, .. }),
            "{header} {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_status_counts_though_its_body_breaks_off() {
    for (status, outcome) in [
        // Whether it is the API that speaks is in the body.
        ("401 Unauthorized", "interrupted"),
        ("403 Forbidden", "interrupted"),
        ("429 Too Many Requests", "throttled"),
        ("500 Internal Server Error", "server_error"),
        ("404 Not Found", "interrupted"),
    ] {
        let bytes = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: 99\r\n\r\n{{"
        );
        let server = Server::start(bytes, Then::Close).await;
        let answer = ask(&server.client()).await;
        assert_eq!(answer.outcome(), outcome, "{status} {answer:?}");
    }
}

#[tokio::test]
async fn broken_exchanges_are_distinguished() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let cut = format!("{head}content-length: 1000\r\n\r\n{OPERATION}");
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n");
    let cases = [
        (cut.clone(), Then::Close, FailureClass::Interrupted),
        (cut, Then::Reset, FailureClass::Interrupted),
        (chunk, Then::Close, FailureClass::Interrupted),
        (head.to_owned(), Then::Close, FailureClass::Interrupted),
        (String::new(), Then::Close, FailureClass::Interrupted),
        (String::new(), Then::Reset, FailureClass::Interrupted),
        (
            "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
            Then::Close,
            FailureClass::Malformed,
        ),
    ];
    for (bytes, then, expected) in cases {
        let server = Server::start(bytes.as_str(), then).await;
        let answer = ask(&server.client()).await;
        assert_eq!(class(&answer), Some(expected), "{bytes:?} {answer:?}");
        assert!(
            reason(&answer).contains(&server.address.to_string()),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answer = ask(&client(&format!("http://{address}"), LIMIT)).await;
    assert_eq!(class(&answer), Some(FailureClass::Connect), "{answer:?}");
    assert!(reason(&answer).contains("connection refused"), "{answer:?}");
}

#[tokio::test]
async fn the_time_limit_applies_to_the_whole_exchange() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    for (bytes, then) in [("", Then::Hang), (head, Then::Hang), (head, Then::Drip)] {
        let server = Server::start(bytes, then).await;
        let hasty = client(&format!("http://{}", server.address), Duration::from_millis(100));
        let answer = ask(&hasty).await;
        assert_eq!(class(&answer), Some(FailureClass::Timeout), "{answer:?}");
        assert!(reason(&answer).contains("within 100ms"), "{answer:?}");
    }
}

#[tokio::test]
async fn bodies_end_at_a_mebibyte() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let spaces = |count: usize| " ".repeat(count);
    let announced = format!("{head}content-length: {}\r\n\r\n", 2 * MEBIBYTE);
    let close_ends = format!("{head}\r\n{}", spaces(2 * MEBIBYTE));
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n200000\r\n{}",
        spaces(2 * MEBIBYTE)
    );
    // The announced one sends no byte of its body: it is refused by its length.
    for (bytes, then) in [
        (announced, Then::Hang),
        (close_ends, Then::Close),
        (chunked, Then::Hang),
    ] {
        let server = Server::start(bytes, then).await;
        let answer = ask(&server.client()).await;
        assert_eq!(class(&answer), Some(FailureClass::TooLarge), "{answer:?}");
    }
    let padding = spaces(MEBIBYTE - OPERATION.len());
    for (body, outcome) in [
        (format!("{OPERATION}{padding}"), "operation"),
        (format!("{OPERATION}{padding} "), "too_large"),
    ] {
        let server = Server::start(json("200 OK", &body), Then::Close).await;
        assert_eq!(ask(&server.client()).await.outcome(), outcome);
    }
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let target = Server::start(json("200 OK", OPERATION), Then::Close).await;
    let location = format!("location: http://{}/v1\r\n", target.address);
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let server = Server::start(http(status, &location, ""), Then::Close).await;
        let answer = ask(&server.client()).await;
        assert_eq!(class(&answer), Some(FailureClass::Redirect), "{answer:?}");
        assert!(reason(&answer).contains("127.0.0.1"), "{answer:?}");
        assert_eq!(server.heads().len(), 1);
    }
    assert_eq!(target.heads(), [""; 0]);
}

#[tokio::test]
async fn the_request_is_as_agreed() {
    let server = Server::start(json("200 OK", OPERATION), Then::Close).await;
    let answer = ask(&server.client()).await;
    let Answer::Operation(operation) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(operation.status, Status::InProgress);
    let heads = server.heads();
    let head = heads[0].to_ascii_lowercase();
    assert!(
        head.starts_with("get /v1/projects/my-project/operations/op-1 http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("\r\nx-api-key: {KEY}\r\n")), "{head}");
    assert!(head.contains(concat!(
        "\r\nuser-agent: backfill-watch/",
        env!("CARGO_PKG_VERSION"),
        "\r\n"
    )));
    assert!(head.contains("\r\naccept: application/json\r\n"), "{head}");
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
    assert_eq!(heads.len(), 1);
}

#[tokio::test]
async fn a_key_that_the_api_quotes_is_not_repeated() {
    let body = format!(r#"{{"title":"Unauthorized","detail":"the key {KEY} is unknown"}}"#);
    let quoted =
        format!(r#"{{"id":"op-1","projectId":{{"{KEY}":1}},"status":"{KEY}","actionType":"{KEY}"}}"#);
    for bytes in [
        problem("401 Unauthorized", &body),
        problem("500 Oh", &body),
        json("200 OK", &quoted),
        json("200 OK", &format!("\"{KEY}\"")),
        typed_404(KEY, ""),
    ] {
        let server = Server::start(bytes, Then::Close).await;
        let answer = ask(&server.client()).await;
        assert!(!format!("{answer:?}").contains(KEY), "{answer:?}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_sent_is_a_bad_key() {
    let server = Server::start(json("200 OK", OPERATION), Then::Close).await;
    for bad in ["", "two\nlines", "ümlaut\u{7f}"] {
        let answer = server
            .client()
            .get_operation("p", "op-1", &ApiKey::new(bad.into()))
            .await;
        assert_eq!(answer.outcome(), "unauthorized", "{bad:?}");
    }
    assert_eq!(server.heads().len(), 0);
}

#[tokio::test]
async fn a_probe_distinguishes_a_good_key_from_a_bad_one() {
    for (bytes, outcome) in [
        (problem("404 Not Found", PROBLEM), "not_found"),
        (problem("401 Unauthorized", PROBLEM), "unauthorized"),
    ] {
        let server = Server::start(bytes, Then::Close).await;
        assert_eq!(server.client().probe("p", &key()).await.outcome(), outcome);
        assert!(server.heads()[0].starts_with("GET /v1/projects/p/operations/00000000-0000-"));
    }
}

#[tokio::test]
async fn operations_are_listed_page_by_page() {
    let page = |pagination: &str| {
        json(
            "200 OK",
            &format!(r#"{{"results":[{OPERATION}],"pagination":{pagination}}}"#),
        )
    };
    for (pagination, next) in [
        (r#"{"done":false,"nextPageToken":"a+b=="}"#, Some("a+b==")),
        (r#"{"done":true,"nextPageToken":"a"}"#, None),
        (r#"{"done":true}"#, None),
    ] {
        let server = Server::start(page(pagination), Then::Close).await;
        let client = server.client();
        let page = client
            .list_operations("p", "i", "n", &key(), 50, next)
            .await
            .unwrap();
        assert_eq!(
            (page.operations.len(), page.next_page_token.as_deref()),
            (1, next)
        );
        let token = next.map_or("", |_| "&pageToken=a%2Bb%3D%3D");
        let line = format!(
            "GET /v1/projects/p/integrations/i/installations/n/operations?pageSize=50{token} HTTP/1.1"
        );
        assert_eq!(server.heads()[0].lines().next(), Some(line.as_str()));
    }
    let server = Server::start(page(r#"{"done":false,"nextPageToken":""}"#), Then::Close).await;
    let error = server
        .client()
        .list_operations("p", "i", "n", &key(), 50, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("pagination.nextPageToken"), "{error}");
    let server = Server::start(
        json("200 OK", r#"{"results":[{"id":1}],"pagination":{}}"#),
        Then::Close,
    )
    .await;
    let error = server
        .client()
        .list_operations("p", "i", "n", &key(), 50, None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`results` cannot be read: the member `id` is not a string"),
        "{error}"
    );
    // Half of a list is not a list.
    for pagination in [
        "{}",
        r#"{"done":false,"nextPageToken":""}"#,
        r#"{"done":"no"}"#,
        "[]",
    ] {
        let server = Server::start(page(pagination), Then::Close).await;
        let client = server.client();
        let error = client.list_operations("p", "i", "n", &key(), 50, None).await;
        assert!(
            error.unwrap_err().to_string().contains("`pagination"),
            "{pagination}"
        );
    }
    let server = Server::start(problem("403 Forbidden", PROBLEM), Then::Close).await;
    let error = server
        .client()
        .list_operations("p", "i", "n", &key(), 50, None)
        .await
        .unwrap_err();
    assert_eq!(error, ApiError::Forbidden("403 Sorry: because".to_owned()));
}

#[tokio::test]
async fn logs_are_read_line_by_line() {
    let body = r#"[{"timestamp":"2023-07-13T21:34:44Z","severity":"ERROR","message":{"msg":"bad","error":"why"}},
        17, {"severity":"DEBUG","message":{"msg":"fine"}}]"#;
    let server = Server::start(json("200 OK", body), Then::Close).await;
    let lines = server
        .client()
        .get_logs("p", "op-1", &key(), LIMIT)
        .await
        .unwrap();
    assert_eq!(
        lines
            .iter()
            .map(|line| line.message.msg.as_str())
            .collect::<Vec<_>>(),
        ["bad", "fine"]
    );
    assert!(server.heads()[0].starts_with("GET /v1/projects/p/operations/op-1/logs HTTP/1.1\r\n"));

    let silent = Server::start("", Then::Hang).await;
    let short = Duration::from_millis(50);
    let error = silent
        .client()
        .get_logs("p", "op-1", &key(), short)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApiError::Failed(failure) if failure.class == FailureClass::Timeout),
        "{error:?}"
    );
}

#[tokio::test]
async fn each_project_is_asked_with_its_key_of_the_moment() {
    let server = Server::start(json("200 OK", OPERATION), Then::Close).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("api-key");
    std::fs::write(&file, "the-first-key\n").unwrap();
    let api = ApiFetch::new(
        server.client(),
        HashMap::from([(Arc::from("p"), SecretSource::File(file.clone()))]),
    );
    let watch = |project: &str| WatchKey {
        project: project.into(),
        operation: "op-1".into(),
    };
    // A poller that awaits this sleeps most of its life: it must not carry the request's kibibytes.
    assert!(size_of_val(&api.fetch(&watch("p"))) <= 16);
    assert_eq!(api.fetch(&watch("p")).await.outcome(), "operation");
    assert_eq!(api.fetch(&watch("other")).await.outcome(), "unauthorized");
    assert!(!api.refresh_key("p").await, "nothing has changed");
    std::fs::remove_file(&file).unwrap();
    assert!(
        !api.refresh_key("p").await,
        "a key that is gone for a moment stays in use"
    );
    std::fs::write(&file, "the-second-key\n").unwrap();
    assert!(api.refresh_key("p").await);
    assert_eq!(api.fetch(&watch("p")).await.outcome(), "operation");
    let heads = server.heads();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].contains("the-first-key") && heads[1].contains("the-second-key"));
    assert!(!format!("{api:?}").contains("the-second-key"));

    let moved = Server::start(problem("404 Not Found", PROBLEM), Then::Close).await;
    api.set_client(moved.client());
    assert_eq!(api.fetch(&watch("p")).await.outcome(), "not_found");
    assert!(matches!(
        api.last_lines(&watch("p"), LogSelection::Warnings).await,
        LogAnswer::Failed
    ));
    assert_eq!(moved.heads().len(), 2);

    // The key before is kept out of answers as well.
    let quoting = r#"{"title":"the-first\u002dkey and the-second%2dkey"}"#;
    let quoting = Server::start(problem("500 Oh", quoting), Then::Close).await;
    api.set_client(quoting.client());
    let answer = api.fetch(&watch("p")).await;
    assert_eq!(reason(&answer), "500 [API key] and [API key]");
}

type IsRight = fn(&ProjectAnswer) -> bool;

#[tokio::test]
async fn only_the_api_proves_whether_a_project_exists() {
    let exists = |answer: &ProjectAnswer| matches!(answer, ProjectAnswer::Exists);
    let missing = |answer: &ProjectAnswer| matches!(answer, ProjectAnswer::Missing(_));
    let unknown = |answer: &ProjectAnswer| matches!(answer, ProjectAnswer::Unknown(_));
    let throttled = |answer: &ProjectAnswer| matches!(answer, ProjectAnswer::Throttled { .. });
    let cases: [(Vec<u8>, IsRight); 10] = [
        (json("200 OK", "[]"), exists),
        (json("200 OK", "{"), exists),
        (json("200 OK", &" ".repeat(2 * MEBIBYTE)), exists),
        (problem("403 Forbidden", PROBLEM), exists),
        (problem("404 Not Found", PROBLEM), missing),
        (html("404 Not Found"), unknown),
        (html("403 Forbidden"), unknown),
        (html("200 OK"), unknown),
        (problem("401 Unauthorized", PROBLEM), unknown),
        (problem("429 Too Many Requests", PROBLEM), throttled),
    ];
    for (bytes, is_right) in cases {
        let printed = String::from_utf8_lossy(&bytes).into_owned();
        let server = Server::start(bytes, Then::Close).await;
        let answer = server.client().get_integrations("my project", &key()).await;
        assert!(is_right(&answer), "{printed}\n{answer:?}");
        assert!(server.heads()[0].starts_with("GET /v1/projects/my%20project/integrations HTTP/1.1\r\n"));
    }
}

#[tokio::test]
async fn a_throttled_log_request_returns_for_how_long() {
    let server = Server::start(
        http("503 Service Unavailable", "retry-after: 7\r\n", ""),
        Then::Close,
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("api-key");
    std::fs::write(&file, KEY).unwrap();
    let sources = HashMap::from([(Arc::from("p"), SecretSource::File(file))]);
    let api = ApiFetch::new(server.client(), sources);
    let watch = WatchKey {
        project: "p".into(),
        operation: "op-1".into(),
    };
    let answer = api.last_lines(&watch, LogSelection::Warnings).await;
    let seven = Some(Duration::from_secs(7));
    assert!(
        matches!(&answer, LogAnswer::Throttled(wait) if *wait == seven),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_installation_is_read_without_what_only_the_customer_may_know() {
    let path = InstallationPath {
        integration: "i".into(),
        installation: "n/1".into(),
    };
    let body =
        r#"{"id":"n/1","healthStatus":"unhealthy the-key-of-p","connection":{"apiKey":"planted-token"}}"#;
    let body = body.replace("the-key-of-p", KEY);
    let server = Server::start(json("200 OK", &body), Then::Close).await;
    let found = server.client().get_installation("p", &path, &key(), LIMIT).await;
    let health = found.unwrap().health_status;
    assert_eq!(health.as_deref(), Some("unhealthy [API key]"));
    let head = "GET /v1/projects/p/integrations/i/installations/n%2F1 HTTP/1.1\r\n";
    assert!(server.heads()[0].starts_with(head), "{:?}", server.heads());

    for body in [
        "\"planted-token\"",
        "[\"planted-token\"]",
        r#"{"id":"planted-token"}"#,
    ] {
        let server = Server::start(json("200 OK", body), Then::Close).await;
        let found = server.client().get_installation("p", &path, &key(), LIMIT).await;
        let error = found.unwrap_err();
        assert!(
            matches!(&error, ApiError::Failed(failure) if failure.class == FailureClass::Malformed),
            "{error:?}"
        );
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    }
}

async fn discover(server: &Server, request: &DiscoveryRequest) -> DiscoveryReply {
    server.client().discover("my project", request, &key()).await
}

fn backfill_of(object: &str) -> DiscoveryRequest {
    DiscoveryRequest::Backfill(BackfillPath {
        integration: "g".into(),
        key: ObjectKey {
            installation: "n/1".into(),
            object: object.into(),
        },
    })
}

#[tokio::test]
async fn discovery_requests_what_the_api_serves_and_reads_no_token() {
    let installations = r#"[{"id":"n","integrationId":"g","group":{"groupRef":"acme the-key-of-p"},
        "connection":{"apiKey":"planted-token"},"config":{"content":{"read":{"objects":
        {"contact":{"backfill":{"defaultPeriod":{"days":30}}}}}}}}]"#
        .replace("the-key-of-p", KEY);
    let named = NamedOperation {
        id: "op".to_owned(),
        create_time: "2026-11-24T11:00:00Z".parse().ok(),
    };
    let progress = r#"{"installationId":"n/1","objectName":"a/b c","operationId":"op",
        "createTime":"2026-11-24T11:00:00Z","recordsProcessed":7}"#;
    let names = vec![("g".to_owned(), "read-contacts".to_owned())];
    for (request, body, path, expected) in [
        (
            DiscoveryRequest::Integrations,
            r#"[{"id":"g","name":"read-contacts"}]"#,
            "integrations",
            DiscoveryAnswer::Integrations(names),
        ),
        (
            backfill_of("a/b c"),
            progress,
            "integrations/g/installations/n%2F1/objects/a%2Fb%20c/backfill-progress",
            DiscoveryAnswer::Backfill(Some(named)),
        ),
    ] {
        let server = Server::start(json("200 OK", body), Then::Close).await;
        let reply = discover(&server, &request).await;
        assert_eq!(reply, DiscoveryReply::Answered(expected));
        let line = format!("GET /v1/projects/my%20project/{path} HTTP/1.1\r\n");
        assert!(server.heads()[0].starts_with(&line), "{:?}", server.heads());
    }

    let server = Server::start(json("200 OK", &installations), Then::Close).await;
    let reply = discover(&server, &DiscoveryRequest::Installations).await;
    let DiscoveryReply::Answered(DiscoveryAnswer::Installations(list)) = &reply else {
        panic!("{reply:?}");
    };
    assert_eq!(list.installations[0].group.as_deref(), Some("acme [API key]"));
    assert_eq!(list.installations[0].objects[0].name, "contact");
    assert!(!format!("{reply:?}").contains("planted"));
    assert!(server.heads()[0].starts_with("GET /v1/projects/my%20project/installations HTTP/1.1\r\n"));

    let server = Server::start(json("200 OK", OPERATION), Then::Close).await;
    let reply = discover(&server, &DiscoveryRequest::Operation("op-1".into())).await;
    assert!(
        matches!(&reply, DiscoveryReply::Other(answer) if answer.is_operation()),
        "{reply:?}"
    );
}

#[tokio::test]
async fn an_object_that_is_no_part_of_a_path_is_not_requested() {
    for odd in [".", "..", ""] {
        let server = Server::start(json("200 OK", "{}"), Then::Close).await;
        let reply = discover(&server, &backfill_of(odd)).await;
        assert_eq!(reply.outcome(), "refused", "{reply:?}");
        assert_eq!(server.heads(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_failure_of_discovery_has_its_outcome_and_shows_no_token() {
    let planted = r#"{"connection":{"apiKey":"planted-token"}}"#;
    let no_backfill = DiscoveryReply::Answered(DiscoveryAnswer::Backfill(None));
    for status in ["404 Not Found", "410 Gone"] {
        let server = Server::start(problem(status, PROBLEM), Then::Close).await;
        assert_eq!(discover(&server, &backfill_of("contact")).await, no_backfill);
        let reply = discover(&server, &DiscoveryRequest::Installations).await;
        let evidence = reply.evidence(&DiscoveryRequest::Installations);
        let is_missing = matches!(evidence, DiscoveryEvidence::ProjectMissing(_));
        assert!(is_missing, "{reply:?}");
    }
    let throttled = http("429 Too Many Requests", "retry-after: 7\r\n", "");
    let latin = latin_1(r#"[{"id":"planted-token"}]"#);
    for (bytes, outcome) in [
        (html("404 Not Found"), "malformed"),
        (problem("401 Unauthorized", PROBLEM), "unauthorized"),
        (problem("403 Forbidden", PROBLEM), "forbidden"),
        (problem("422 Unprocessable Entity", PROBLEM), "refused"),
        (problem("500 Internal Server Error", PROBLEM), "server_error"),
        (throttled, "throttled"),
        (json("200 OK", planted), "malformed"),
        (json("200 OK", &format!("[{planted}]")), "malformed"),
        (json("200 OK", "\"planted-token\""), "malformed"),
        (json("500 Internal Server Error", planted), "server_error"),
        (latin, "malformed"),
    ] {
        let printed = String::from_utf8_lossy(&bytes).into_owned();
        for request in [DiscoveryRequest::Installations, backfill_of("contact")] {
            let server = Server::start(bytes.clone(), Then::Close).await;
            let reply = discover(&server, &request).await;
            assert_eq!(reply.outcome(), outcome, "{printed}\n{reply:?}");
            assert!(!format!("{reply:?}").contains("planted"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_list_may_have_64_mebibytes_and_take_longer_than_a_poll() {
    let empty = || DiscoveryReply::Answered(DiscoveryAnswer::Integrations(Vec::new()));
    let list = |bytes: usize| json("200 OK", &format!("[{}]", " ".repeat(bytes - 2)));
    // No list, which shows fast that it was read to its end.
    let text = |bytes: usize| json("200 OK", &"x".repeat(bytes));
    for (bytes, outcome) in [
        (list(3 * MEBIBYTE), "answered"),
        (text(64 * MEBIBYTE), "malformed"),
        (text(64 * MEBIBYTE + 1), "too_large"),
    ] {
        let server = Server::start(bytes, Then::Close).await;
        let reply = discover(&server, &DiscoveryRequest::Installations).await;
        assert_eq!(reply.outcome(), outcome, "{:?}", reply.failure());
    }
    let server = Server::start(list(2 * MEBIBYTE), Then::Close).await;
    let reply = discover(&server, &backfill_of("contact")).await;
    assert_eq!(reply.outcome(), "too_large", "{:?}", reply.failure());

    // The first bytes arrive after the time limit of a poll.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = Duration::from_millis(200);
    let client = client(&format!("http://{}/v1", listener.local_addr().unwrap()), limit);
    let (key, request) = (key(), DiscoveryRequest::Integrations);
    let slow = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await.unwrap();
        tokio::time::sleep(2 * limit).await;
        stream.write_all(&json("200 OK", "[]")).await.unwrap();
    };
    let (reply, ()) = tokio::join!(client.discover("p", &request, &key), slow);
    assert_eq!(reply, empty());
}

#[tokio::test]
async fn headers_count_by_their_bytes_and_not_by_their_number() {
    for (headers, outcome) in [
        ("a:\r\n".repeat(10_000), "operation"),
        (
            (0..120).map(|n| format!("x-header-{n}: value\r\n")).collect(),
            "operation",
        ),
        (format!("x-large: {}\r\n", "x".repeat(60_000)), "operation"),
        (format!("x-large: {}\r\n", "x".repeat(70_000)), "too_large"),
        (format!("x-large: {}\r\n", "x".repeat(2_000_000)), "too_large"),
        ("a:\r\n".repeat(20_000), "too_large"),
    ] {
        let headers = format!("content-type: application/json\r\n{headers}");
        let server = Server::start(http("200 OK", &headers, OPERATION), Then::Close).await;
        let answer = ask(&server.client()).await;
        assert_eq!(answer.outcome(), outcome, "{} bytes: {answer:?}", headers.len());
    }
}

/// A server that answers the first request of a connection and keeps it, and does `then` at the second.
async fn start_keeping(then: Then) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = heads.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let noted = noted.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await?;
                noted.lock().expect("heads").push(head);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{OPERATION}",
                    OPERATION.len()
                );
                stream.write_all(answer.as_bytes()).await.ok()?;
                let head = read_head(&mut stream).await?;
                noted.lock().expect("heads").push(head);
                match then {
                    Then::Reset => stream.set_zero_linger().ok()?,
                    Then::Hang => {
                        let _ = stream.read_u8().await;
                    }
                    Then::Close | Then::Drip => {}
                }
                Some(())
            });
        }
    });
    Server { address, heads, task }
}

#[tokio::test]
async fn a_request_that_fails_on_a_connection_that_was_there_was_not_processed() {
    for then in [Then::Close, Then::Reset] {
        let server = start_keeping(then).await;
        let client = server.client();
        assert_eq!(ask(&client).await.outcome(), "operation");
        let answer = ask(&client).await;
        assert_eq!(answer.outcome(), "unprocessed", "{answer:?}");
        assert_eq!(answer.of_repeated().outcome(), "interrupted");
        // On a new connection.
        assert_eq!(ask(&client).await.outcome(), "operation");
        assert_eq!(server.heads().len(), 3);
    }
    // Silence is a failed poll on any connection.
    let server = start_keeping(Then::Hang).await;
    let hasty = client(&format!("http://{}", server.address), Duration::from_millis(200));
    assert_eq!(ask(&hasty).await.outcome(), "operation");
    assert_eq!(ask(&hasty).await.outcome(), "timeout");
}

/// How a server over HTTP/2 refuses each request but every third.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Stream,
    GoAway,
    Internal,
}

async fn start_http2(authority: &Authority, refusal: Refusal) -> SocketAddr {
    let acceptor = authority.acceptor_for(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let requests = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            let (acceptor, requests) = (acceptor.clone(), requests.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.ok()?;
                let mut connection = h2::server::handshake(stream).await.ok()?;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let number = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    match refusal {
                        _ if number.is_multiple_of(2) => {
                            let head = axum::http::Response::builder()
                                .header("content-type", "application/json")
                                .body(())
                                .ok()?;
                            let mut body = respond.send_response(head, false).ok()?;
                            body.send_data(OPERATION.into(), true).ok()?;
                        }
                        Refusal::Stream => respond.send_reset(h2::Reason::REFUSED_STREAM),
                        Refusal::Internal => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                        Refusal::GoAway => {
                            respond.send_reset(h2::Reason::REFUSED_STREAM);
                            connection.graceful_shutdown();
                        }
                    }
                }
                Some(())
            });
        }
    });
    address
}

#[tokio::test]
async fn a_request_that_http_2_refuses_was_not_processed() {
    let authority = Authority::new();
    for (refusal, outcome) in [
        (Refusal::Stream, "unprocessed"),
        (Refusal::GoAway, "unprocessed"),
        // It was the first answer of a stream on a connection that lives: whatever it was, it was processed.
        (Refusal::Internal, "interrupted"),
    ] {
        let address = start_http2(&authority, refusal).await;
        let base_url = format!("https://localhost:{}/v1", address.port());
        let client = trusting(&base_url, &authority.ca_file).expect("client");
        assert_eq!(ask(&client).await.outcome(), "operation");
        let answer = ask(&client).await;
        assert_eq!(answer.outcome(), outcome, "{refusal:?} {answer:?}");
        assert_eq!(ask(&client).await.outcome(), "operation");
    }
}

/// A certificate authority of our own, and a server certificate for `localhost` and `api.example.test` from it.
struct Authority {
    _dir: tempfile::TempDir,
    ca_file: PathBuf,
    acceptor: TlsAcceptor,
    config: ServerConfig,
}

impl Authority {
    fn new() -> Self {
        let ca_key = KeyPair::generate().expect("key");
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).expect("CA");
        let issuer = Issuer::new(ca, ca_key);
        let server_key = KeyPair::generate().expect("key");
        let names = ["localhost".to_owned(), "api.example.test".to_owned()];
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&server_key, &issuer))
            .expect("certificate");
        let dir = tempfile::tempdir().expect("folder");
        let ca_file = dir.path().join("ca.pem");
        // Ours comes second: all certificates of a bundle count.
        let other = CertificateParams::default();
        let other = other.self_signed(&KeyPair::generate().expect("key")).expect("CA");
        std::fs::write(&ca_file, other.pem() + &ca_certificate.pem()).expect("write");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate.der().clone()], key)
            })
            .expect("TLS");
        Self {
            _dir: dir,
            ca_file,
            acceptor: TlsAcceptor::from(Arc::new(config.clone())),
            config,
        }
    }

    /// What speaks these protocols over TLS.
    fn acceptor_for(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let mut config = self.config.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn server(&self) -> Server {
        Server::start_with(
            json("200 OK", OPERATION),
            Then::Close,
            Some(self.acceptor.clone()),
        )
        .await
    }
}

fn trusting(base_url: &str, ca_file: &Path) -> Result<Client, ClientError> {
    Client::new(ClientSettings {
        ca_file: Some(ca_file.to_owned()),
        ..settings(base_url, LIMIT)
    })
}

#[tokio::test]
async fn https_requires_a_trusted_certificate_for_this_name() {
    let authority = Authority::new();
    let server = authority.server().await;
    let base_url = format!("https://localhost:{}/v1", server.address.port());

    let answer = ask(&trusting(&base_url, &authority.ca_file).unwrap()).await;
    assert_eq!(answer.outcome(), "operation", "{answer:?}");
    assert_eq!(server.heads().len(), 1);

    // A bundle with another authority alone, so that the machine's own does not matter.
    let stranger = Authority::new();
    let answer = ask(&trusting(&base_url, &stranger.ca_file).unwrap()).await;
    assert_eq!(class(&answer), Some(FailureClass::Tls), "{answer:?}");
    assert!(reason(&answer).contains("ampersand.ca_file"), "{answer:?}");

    let by_address = format!("https://{}/v1", server.address);
    let answer = ask(&trusting(&by_address, &authority.ca_file).unwrap()).await;
    assert_eq!(class(&answer), Some(FailureClass::Tls), "{answer:?}");
    assert!(reason(&answer).contains("another name"), "{answer:?}");
    assert_eq!(server.heads().len(), 1, "no request without trust");
}

#[tokio::test]
async fn https_asked_of_a_server_without_tls_is_a_tls_failure() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let plain = tokio::spawn(async move {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let client = trusting(&base_url, &authority.ca_file).unwrap();
    for case in ["speaks HTTP", "hangs up"] {
        let answer = ask(&client).await;
        assert_eq!(class(&answer), Some(FailureClass::Tls), "{case} {answer:?}");
    }
    plain.await.unwrap();
}

#[test]
fn an_unusable_ca_file_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let error = |path: &Path| trusting("https://localhost", path).unwrap_err();
    assert!(matches!(error(&path), ClientError::CaFileEmpty(_)));
    file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(matches!(error(&path), ClientError::CaFileInvalid { .. }));
    drop(file);
    assert!(matches!(error(&path), ClientError::CaFileUnreadable { .. }));
    assert!(error(&path).to_string().contains(&path.display().to_string()));
}

/// Set in a child process: the base URL that it asks.
const CHILD_URL: &str = "API_CLIENT_TEST_URL";
/// Set in a child process: the CA file that it trusts.
const CHILD_CA: &str = "API_CLIENT_TEST_CA";

/// Runs the test `name` of this file in a process of its own with these environment variables, since a
/// process has but one environment. Gives what the child printed.
fn in_child(name: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this test's binary"));
    command.args(["--exact", name, "--nocapture"]);
    for name in [
        "ALL_PROXY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "REQUEST_METHOD",
        "SSL_CERT_DIR",
    ] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.envs(variables.iter().copied());
    let output = command.output().expect("child");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the child does: ask, and print the outcome.
async fn be_child(base_url: &str) {
    let ca_file = std::env::var(CHILD_CA).expect("set with the URL");
    let answer = ask(&trusting(base_url, Path::new(&ca_file)).expect("client")).await;
    println!("outcome={} {answer:?}", answer.outcome());
}

/// A proxy that connects every `CONNECT` to one address, and notes the heads of the requests.
async fn start_proxy(target: SocketAddr) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = heads.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.expect("accept");
            let noted = noted.clone();
            tokio::spawn(async move {
                let Some(head) = read_head(&mut near).await else {
                    return;
                };
                let refused = head.contains("refused.example.test");
                noted.lock().expect("heads").push(head);
                if refused {
                    let _ = near.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
                    return;
                }
                let mut far = TcpStream::connect(target).await.expect("target");
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("write");
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Server { address, heads, task }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_proxy_and_no_proxy_are_honoured() {
    if let Ok(base_url) = std::env::var(CHILD_URL) {
        return be_child(&base_url).await;
    }
    let authority = Authority::new();
    let server = authority.server().await;
    let proxy = start_proxy(server.address).await;
    let proxy_url = format!("http://{}", proxy.address);
    let ca_file = authority.ca_file.to_str().unwrap().to_owned();
    let run = async |base_url: &str, no_proxy: &str| {
        let (url, no_proxy) = (base_url.to_owned(), no_proxy.to_owned());
        let (proxy_url, ca_file) = (proxy_url.clone(), ca_file.clone());
        tokio::task::spawn_blocking(move || {
            let variables = [
                (CHILD_URL, url.as_str()),
                (CHILD_CA, &ca_file),
                ("HTTPS_PROXY", &proxy_url),
                ("NO_PROXY", &no_proxy),
            ];
            in_child("https_proxy_and_no_proxy_are_honoured", &variables)
        })
        .await
        .unwrap()
    };

    // A name that exists nowhere: only the proxy can have made the connection.
    let printed = run("https://api.example.test/v1", "").await;
    assert!(printed.contains("outcome=operation"), "{printed}");
    assert_eq!(proxy.heads().len(), 1);
    assert!(
        proxy.heads()[0].starts_with("CONNECT api.example.test:443 "),
        "{:?}",
        proxy.heads()
    );
    assert!(!proxy.heads()[0].contains(KEY));
    assert!(server.heads()[0].contains(KEY));

    let local = format!("https://localhost:{}/v1", server.address.port());
    let printed = run(&local, "localhost").await;
    assert!(printed.contains("outcome=operation"), "{printed}");
    assert_eq!((proxy.heads().len(), server.heads().len()), (1, 2));

    let printed = run("https://refused.example.test/v1", "localhost").await;
    assert!(
        printed.contains("outcome=connect") && printed.contains("HTTPS_PROXY"),
        "{printed}"
    );
    assert!(printed.contains(&format!("the proxy {} refuses a connection", proxy.address)));
    assert_eq!((proxy.heads().len(), server.heads().len()), (2, 2));
}

/// The proxy is blamed by its name, and its password is nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_proxy_is_named_without_its_password() {
    if let Ok(base_url) = std::env::var(CHILD_URL) {
        let answer = ask(&client(&base_url, LIMIT)).await;
        println!("outcome={} {answer:?}", answer.outcome());
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for (base_url, variable) in [
        ("http://api.example.test/v1", "HTTP_PROXY"),
        ("https://api.example.test/v1", "HTTPS_PROXY"),
        ("https://api.example.test/v1", "ALL_PROXY"),
    ] {
        for (host, words) in [
            (
                address.to_string(),
                format!("no connection to the proxy {address}: connection refused"),
            ),
            (
                "no-such-proxy.invalid:3128".to_owned(),
                "the name of the proxy no-such-proxy.invalid:3128 cannot be resolved".to_owned(),
            ),
        ] {
            let proxy = format!("http://someone:hunter2@{host}");
            let printed = tokio::task::spawn_blocking(move || {
                let variables = [(CHILD_URL, base_url), (variable, &proxy)];
                in_child("a_dead_proxy_is_named_without_its_password", &variables)
            })
            .await
            .unwrap();
            assert!(
                printed.contains("outcome=connect") && printed.contains(&words),
                "{printed}"
            );
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }
}

#[test]
fn without_ca_certificates_https_fails_with_advice_and_http_works() {
    if std::env::var(CHILD_URL).is_ok() {
        let error = Client::new(settings("https://localhost", LIMIT)).unwrap_err();
        println!("https={error}");
        println!(
            "http={}",
            Client::new(settings("http://localhost", LIMIT)).is_ok()
        );
        return;
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    let variables = [
        (CHILD_URL, "unused"),
        ("SSL_CERT_FILE", empty.path().to_str().unwrap()),
    ];
    let printed = in_child(
        "without_ca_certificates_https_fails_with_advice_and_http_works",
        &variables,
    );
    assert!(
        printed.contains("https=no CA certificates") && printed.contains("SSL_CERT_FILE"),
        "{printed}"
    );
    assert!(printed.contains("http=true"), "{printed}");
}
