//! Secrets that are planted, and looked for in all that comes out of the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use backfill_watch::simulator::{Config, Project, Simulator};
use reqwest::{Client, RequestBuilder};

use crate::api::{Act, Api, ok, operation, with_length};
use crate::inbox::{Inbox, SECRET};
use crate::support::{Daemon, Setup, replace_file, until};
use crate::well::{last_error, page, with_pages};

const KEY: &str = "planted-key-9c1b7e52";
const TOKEN: &str = "planted-token-41d0aa86";

/// Puts a secret into a file, which the setting of this path names.
fn plant(setup: Setup, path: &str, secret: &str) -> Setup {
    let file = setup.folder().join(path);
    fs::write(&file, format!("{secret}\n")).unwrap();
    let file = file.display().to_string();
    setup.set(path, &file)
}

/// Everything below a folder has no rights for others than the owner.
fn assert_private(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_private(&entry.unwrap().path());
        }
    }
}

/// The answer, head and body, to a request with or without the token.
async fn answer(request: RequestBuilder) -> Vec<u8> {
    let mut response = request.send().await.unwrap();
    let mut bytes = format!("{:?}", response.headers()).into_bytes();
    // The stream of events has no end: its first chunk has to do.
    if let Some(chunk) = response.chunk().await.unwrap() {
        bytes.extend(chunk);
    }
    if response.headers()["content-type"] != "text/event-stream" {
        bytes.extend(response.bytes().await.unwrap());
    }
    bytes
}

async fn assert_pages_tell_none(daemon: &Daemon) {
    let address = daemon.address().await;
    let client = Client::builder().no_proxy().build().unwrap();
    for path in [
        "/",
        "/page.js",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/operations",
        "/api/operations/op-200-100-s-1",
        "/api/operations/nowhere",
        "/api/events",
        "/api/events/stream",
        "/api/webhooks",
        "/api/events?after=%00",
        "/nowhere",
    ] {
        let request = || client.get(format!("http://{address}{path}"));
        for request in [
            request(),
            request().bearer_auth(TOKEN),
            request().bearer_auth("another"),
            request().header("authorization", "Basic broken"),
        ] {
            let answer = answer(request).await;
            daemon.setup().assert_no_secret_in(path, &answer);
        }
    }
}

/// Secrets from files, at the finest log level and with no umask: in no log line, page, metric, command's output, error,
/// argument or environment of the process, nor in its state, which is for its owner alone. (What each daemon of every
/// test logs and records is searched, too, by `support`.)
#[tokio::test]
async fn what_is_planted_is_not_found() {
    let simulator = Simulator::start(Config {
        projects: vec![Project {
            api_keys: vec![KEY.to_owned()],
            ..Project::default()
        }],
        ..Config::default()
    })
    .await
    .unwrap();
    let inbox = Inbox::open(0);
    let setup = inbox
        .subscribe(with_pages(Setup::new(&simulator)))
        .without("AMPERSAND_API_KEY")
        .without("BACKFILL_WATCH_WEBHOOK_SECRET")
        .set("log.filter", "trace")
        .through(&["sh", "-c", r#"umask 000; exec "$0" "$@""#])
        .list(&["op-200-100-s-1", "op-600000-100-s-2", "op-200-100-f-3"]);
    let setup = plant(setup, "ampersand.api_key_file", KEY);
    let setup = plant(setup, "webhook.secret_file", SECRET);
    let setup = plant(setup, "http.token_file", TOKEN);
    assert_eq!(setup.secrets().len(), 3);

    let daemon = setup.start();
    daemon.event_of("op-200-100-s-1", "operation.succeeded").await;
    daemon.event_of("op-200-100-f-3", "operation.failed").await;
    inbox.until_accepted(3).await;
    assert_pages_tell_none(&daemon).await;
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", daemon.id())).unwrap();
        assert!(!bytes.is_empty());
        daemon.setup().assert_no_secret_in(file, &bytes);
    }
    assert_private(&daemon.setup().folder().join("state"));

    // A key that is refused, and one that no header can carry.
    let key = daemon.setup().folder().join("ampersand.api_key_file");
    replace_file(&key, "planted-and-wrong-77f3\n");
    daemon.signal(&["HUP"]);
    daemon.event("api.credentials_rejected").await;
    daemon
        .setup()
        .assert_no_secret_in("the log", daemon.log.whole().as_bytes());
    replace_file(&key, &format!("{KEY}\u{7f}\n"));
    daemon.signal(&["HUP"]);
    let bad = |line: &crate::support::Line| line.to_string().contains("visible ASCII");
    daemon.wait_for("a key that cannot be sent", bad).await;
    assert!(!daemon.log.whole().contains(KEY));
    replace_file(&key, &format!("{KEY}\n"));
    daemon.signal(&["HUP"]);
    daemon.event("api.credentials_accepted").await;

    // Each command's output is searched by `Setup::run_with`.
    let listen = daemon.address().await.to_string();
    let setup = daemon.setup();
    for (command, arguments) in [
        ("check", &["--live"][..]),
        ("status", &["--json", "--listen", &listen]),
        ("events", &["--json"]),
        ("replay", &["--operation", "op-200-100-s-1"]),
    ] {
        let output = setup.run_with(command, arguments).await;
        assert!(output.status.success(), "{command}: {output:?}");
    }
    daemon.stop().await;
}

/// The API has the key anyway, and may say it: by mistake in an error, a result or a log line.
#[tokio::test]
async fn an_api_that_quotes_the_key() {
    let refusal = with_length(
        "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-type: application/problem+json\r\n",
        &format!(r#"{{"title":"Oh","detail":"header X-Api-Key: {KEY}"}}"#),
    );
    let api = Api::start(Act::Close(refusal)).await;
    let inbox = Inbox::open(0);
    let setup = inbox
        .subscribe(with_pages(Setup::polling(&api.base_url())))
        .variable("AMPERSAND_API_KEY", KEY)
        .list(&["bad-1", "good-1"]);
    let daemon = setup.start();
    let error = last_error(&daemon, "bad-1", &["X-Api-Key"]).await;
    assert!(error.contains("[API key]"), "{error}");
    let kind = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/{KEY}\r\n");
    api.act(Act::Close(with_length(&kind, "")));
    let error = last_error(&daemon, "bad-1", &["instead of JSON"]).await;
    assert!(!error.contains(KEY), "{error}");

    let result = format!(r#","result":"sent {KEY}""#);
    api.act(Act::Close(ok(
        "connection: close\r\n",
        &operation("bad-1", "failure", &result),
    )));
    daemon.event_of("bad-1", "operation.failed").await;
    let delivered = || {
        let messages = inbox.messages();
        let failed = messages
            .into_iter()
            .find(|message| message.event_type() == "operation.failed");
        failed.map(|message| message.body.to_string())
    };
    until("the failure is delivered", || delivered().is_some()).await;
    assert!(delivered().unwrap().contains("sent [API key]"));
    for path in ["/api/operations", "/api/events"] {
        let found = page(&daemon, path).await.to_string();
        daemon.setup().assert_no_secret_in(path, found.as_bytes());
    }
    daemon.stop().await;
}
