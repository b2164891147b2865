//! Planted secrets are in no output of the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use backfill_watch::simulator::{SimulatedProject, Simulator, SimulatorConfig};
use base64::Engine as _;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::daemon_checks::{last_error, page, with_pages};
use crate::hostile_api::{Behavior, HostileApi, ok, operation, with_length};
use crate::support::scripted_api::ScriptedApi;
use crate::support::{Daemon, Setup, replace_file, until, until_answered};
use crate::verifying_receiver::{SECRET, VerifyingReceiver};

const KEY: &str = "planted-key-9c1b7e52";
/// The secret part of a receiver's address.
const PATH: &str = "planted-Path_3c+77=d1";
/// A token that a customer's connection has.
const CUSTOMER_TOKEN: &str = "planted-customer-5fe1c09b";
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

async fn assert_pages_have_none(daemon: &Daemon) {
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
    let simulator = Simulator::start(SimulatorConfig {
        projects: vec![SimulatedProject {
            api_keys: vec![KEY.to_owned()],
            ..SimulatedProject::default()
        }],
        ..SimulatorConfig::default()
    })
    .await
    .unwrap();
    let inbox = VerifyingReceiver::open(0);
    let setup = inbox
        .subscribe(with_pages(Setup::new(&simulator)))
        .without("AMPERSAND_API_KEY")
        .without("BACKFILL_WATCH_WEBHOOK_SECRET")
        .set("log.filter", "trace")
        .wrapped_in(&["sh", "-c", r#"umask 000; exec "$0" "$@""#])
        .list(&["op-200-100-s-1", "op-600000-100-s-2", "op-200-100-f-3"]);
    let setup = plant(setup, "ampersand.api_key_file", KEY);
    let setup = plant(setup, "webhook.secret_file", SECRET);
    let setup = plant(setup, "http.token_file", TOKEN);
    assert_eq!(setup.secrets().len(), 4);

    let daemon = setup.start();
    daemon.event_of("op-200-100-s-1", "operation.succeeded").await;
    daemon.event_of("op-200-100-f-3", "operation.failed").await;
    inbox.until_accepted(3).await;
    assert_pages_have_none(&daemon).await;
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
        .assert_no_secret_in("the log", daemon.log.text().as_bytes());
    replace_file(&key, &format!("{KEY}\u{7f}\n"));
    daemon.signal(&["HUP"]);
    let bad = |line: &crate::support::LogLine| line.to_string().contains("visible ASCII");
    daemon.wait_for("a key that cannot be sent", bad).await;
    assert!(!daemon.log.text().contains(KEY));
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
        &format!(r#"{{"title":"Oh","detail":"header X-HostileApi-Key: {KEY}"}}"#),
    );
    let api = HostileApi::start(Behavior::Close(refusal)).await;
    let inbox = VerifyingReceiver::open(0);
    let setup = inbox
        .subscribe(with_pages(Setup::polling(&api.base_url())))
        .variable("AMPERSAND_API_KEY", KEY)
        .list(&["bad-1", "good-1"]);
    let daemon = setup.start();
    let error = last_error(&daemon, "bad-1", &["X-HostileApi-Key"]).await;
    assert!(error.contains("[API key]"), "{error}");
    let kind = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/{KEY}\r\n");
    api.act(Behavior::Close(with_length(&kind, "")));
    let error = last_error(&daemon, "bad-1", &["instead of JSON"]).await;
    assert!(!error.contains(KEY), "{error}");

    let result = format!(r#","result":"sent {KEY}""#);
    api.act(Behavior::Close(ok(
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

/// The ways in which a text comes back.
fn spellings(text: &str) -> Vec<String> {
    let each = |spell: fn(u32) -> String| text.chars().map(|c| spell(u32::from(c))).collect::<String>();
    let every_other = |spell: fn(u32) -> String| {
        let mixed = text.chars().enumerate().map(|(n, c)| match n % 2 {
            0 => spell(u32::from(c)),
            _ => c.to_string(),
        });
        mixed.collect::<String>()
    };
    let base64 = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    vec![
        text.to_owned(),
        text.to_uppercase(),
        each(|c| format!("\\u{c:04x}")),
        every_other(|c| format!("\\u{c:04X}")),
        each(|c| format!("\\\\u{c:04x}")),
        each(|c| format!("%{c:02x}")),
        each(|c| format!("%{c:02X}")),
        every_other(|c| format!("%{c:02x}")),
        each(|c| format!("%25{c:02x}")),
        each(|c| format!("&#{c};")),
        every_other(|c| format!("&#x{c:x};")),
        base64(text),
        base64(&format!("x:{text}")),
    ]
}

/// How a text is printed whose spelling was understood in part: JSON undoes its own escapes, and others write them.
fn printed(spelling: &str) -> Vec<String> {
    vec![
        spelling.to_owned(),
        spelling.replace('\\', "\\\\"),
        spelling.replace("\\\\", "\\"),
        // What base64 shares with its neighbours may stay.
        spelling.trim_end_matches('=').chars().skip(4).take(12).collect(),
    ]
}

#[track_caller]
fn assert_no_spelling_in(what: &str, secret: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    for spelling in spellings(secret) {
        for printed in printed(&spelling) {
            let found = text.find(&printed.to_lowercase());
            if let Some(at) = found {
                let start = text.floor_char_boundary(at.saturating_sub(200));
                let end = text.ceil_char_boundary(at + 200);
                panic!("{printed} is in {what}: {}", &text[start..end]);
            }
        }
    }
}

/// `bad-PLACE-N` is answered with the key in that place, in the spelling of that number.
fn quote(path: &str) -> Vec<u8> {
    let (id, rest) = path.split_once('/').unwrap_or((path, ""));
    let mut parts = id.split('-').skip(1);
    let place = parts.next().unwrap();
    let number: usize = parts.next().unwrap().parse().unwrap();
    let key = &spellings(KEY)[number];
    if rest == "logs" {
        let line = format!(
            r#"{{"severity":"ERROR","message":{{"msg":"{key}","error":"{key}","operation_id":"{key}","details":{{"{key}":"{key}"}}}}}}"#
        );
        return ok("connection: close\r\n", &format!("[{line}]"));
    }
    let members = format!(
        r#""projectId":"{key}","integrationId":"{key}","installationId":"{key}","actionType":"{key}","result":"the key {key} again","metadata":{{"objects":["{key}"]}}"#
    );
    let head = |status: &str, kind: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nx-key: {key}\r\nconnection: close\r\n")
    };
    match place {
        "result" => ok(
            "connection: close\r\n",
            &format!(r#"{{"id":"{id}","status":"failure",{members}}}"#),
        ),
        "status" => ok(
            "connection: close\r\n",
            &format!(r#"{{"id":"{id}","status":"{key}"}}"#),
        ),
        "id" => ok(
            "connection: close\r\n",
            &format!(r#"{{"id":"{key}","status":"success"}}"#),
        ),
        "type" => with_length(&head("200 OK", &format!("text/{key}")), key),
        "reason" => with_length(&head(&format!("500 {key}"), "text/plain"), key),
        "location" => with_length(
            &format!(
                "{}location: https://{key}.example/{key}\r\n",
                head("302 Found", "text/plain")
            ),
            "",
        ),
        "json" => ok("connection: close\r\n", &format!(r#""{key}""#)),
        _ => with_length(
            &head("400 Bad Request", "application/problem+json"),
            &format!(
                r#"{{"title":"{key}","detail":"{key}","remedy":"{key}","requestId":"{key}","type":"{key}","causes":["{key}"]}}"#
            ),
        ),
    }
}

/// The key, in every spelling and in every place that the API can put it, is nowhere.
#[tokio::test]
async fn an_api_that_spells_the_key() {
    let api = HostileApi::start(Behavior::Respond(quote)).await;
    let inbox = VerifyingReceiver::open(0);
    let places = [
        "result", "status", "id", "type", "reason", "location", "json", "problem",
    ];
    let ids: Vec<String> = places
        .iter()
        .flat_map(|place| (0..spellings(KEY).len()).map(move |n| format!("bad-{place}-{n}")))
        .collect();
    let setup = inbox
        .subscribe(with_pages(Setup::polling(&api.base_url())))
        .variable("AMPERSAND_API_KEY", KEY)
        .set("log.filter", "trace")
        .list(&ids);
    let daemon = setup.start();
    for id in &ids {
        if id.contains("result") {
            daemon.event_of(id, "operation.failed").await;
        } else if id.contains("status") {
            daemon.event_of(id, "operation.ended").await;
        } else {
            until("two polls", || api.polls(id) >= 2).await;
        }
    }
    let count = spellings(KEY).len();
    until("the ends are delivered", || inbox.messages().len() >= 2 * count).await;
    for message in inbox.messages() {
        assert_no_spelling_in("a callback", KEY, message.body.to_string().as_bytes());
    }
    assert_nowhere(&daemon, KEY).await;
    let failed = page(&daemon, "/api/operations/bad-result-5").await;
    assert_eq!(failed["result"], "the key [API key] again");
    daemon.stop().await;
}

/// The answer for an installation, with the customer's token in every place that a connection and its neighbours have.
fn with_tokens(id: &str) -> Option<Value> {
    match id {
        "text" => Some(json!(CUSTOMER_TOKEN)),
        "list" => Some(json!([CUSTOMER_TOKEN])),
        "other" => Some(json!({"id": CUSTOMER_TOKEN, "healthStatus": "healthy"})),
        "odd" => Some(json!({
            "id": "odd", "healthStatus": {"token": CUSTOMER_TOKEN}, "connection": {"status": [CUSTOMER_TOKEN]},
        })),
        _ => Some(json!({
            "id": id, "healthStatus": "unhealthy", "group": {"ref": CUSTOMER_TOKEN}, CUSTOMER_TOKEN: CUSTOMER_TOKEN,
            "config": {"content": {"proxy": {"secret": CUSTOMER_TOKEN}}},
            "connection": {
                "status": "bad_credentials", "apiKey": CUSTOMER_TOKEN,
                "oauth2AuthorizationCode": {
                    "accessToken": {"token": CUSTOMER_TOKEN}, "refreshToken": {"token": CUSTOMER_TOKEN},
                },
                "providerMetadata": {"x": {"value": CUSTOMER_TOKEN}},
            },
        })),
    }
}

/// The tokens that the API shows with an installation are nowhere, and what explains a stall is in its event.
#[tokio::test]
async fn tokens_of_a_customer() {
    let ids = ["whole", "text", "list", "other", "odd"];
    let api = ScriptedApi::with_installations(
        |id, _| {
            Some(json!({
                "id": id, "projectId": "p", "integrationId": "i", "installationId": id, "status": "in_progress",
                "metadata": {"progress": {"recordsProcessed": 5}},
            }))
        },
        with_tokens,
    )
    .await;
    let inbox = VerifyingReceiver::open(0);
    let daemon = inbox
        .subscribe(with_pages(Setup::polling(&api.base_url())))
        .set("poll.stalled_after", "1s")
        .set("log.filter", "trace")
        .list(&ids)
        .start();
    for id in ids {
        let line = daemon.event_of(id, "operation.stalled").await;
        let statuses = (line["health_status"].as_str(), line["connection_status"].as_str());
        if id == "whole" {
            assert_eq!(statuses, (Some("unhealthy"), Some("bad_credentials")));
        } else {
            assert_eq!(statuses, (None, None), "{id}");
        }
    }
    inbox.until_accepted(2 * ids.len()).await;
    let messages = inbox.messages();
    let stall = messages
        .iter()
        .find(|message| message.operation() == "whole" && message.event_type() == "operation.stalled");
    let data = &stall.unwrap().body["data"];
    assert_eq!(data["healthStatus"], "unhealthy");
    assert_eq!(data["connectionStatus"], "bad_credentials");
    for message in messages {
        assert_no_spelling_in("a callback", CUSTOMER_TOKEN, message.body.to_string().as_bytes());
    }
    assert_nowhere(&daemon, CUSTOMER_TOKEN).await;
    daemon.stop().await;
}

/// Searches the log, the pages, the state and the output of the commands for a secret.
async fn assert_nowhere(daemon: &Daemon, secret: &str) {
    for path in ["/", "/metrics", "/api/operations", "/api/events", "/api/webhooks"] {
        assert_no_spelling_in(
            path,
            secret,
            crate::daemon_checks::text(daemon, path).await.as_bytes(),
        );
    }
    let listen = daemon.address().await.to_string();
    for (command, arguments) in [
        ("status", &["--listen", &listen][..]),
        ("status", &["--json", "--listen", &listen]),
        ("events", &["--json"]),
        ("events", &[]),
    ] {
        let output = daemon.setup().run_with(command, arguments).await;
        assert_no_spelling_in(command, secret, &output.stdout);
        assert_no_spelling_in(command, secret, &output.stderr);
    }
    assert_no_spelling_in("the log", secret, daemon.log.text().as_bytes());
    for entry in fs::read_dir(daemon.setup().folder().join("state")).unwrap() {
        if let Ok(bytes) = fs::read(entry.unwrap().path()) {
            assert_no_spelling_in("the state", secret, &bytes);
        }
    }
}

/// Answers one callback with its own path in the spelling that its query asks for, which it gives.
async fn echo(mut stream: tokio::net::TcpStream) -> Option<usize> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        request.push(char::from(stream.read_u8().await.ok()?));
    }
    let query = request.split("?n=").nth(1)?;
    let number: usize = query.split(' ').next()?.parse().ok()?;
    let spelled = &spellings(PATH)[number];
    // The secret is in two chunks.
    let text = format!("no route for {spelled}");
    let (start, end) = text.split_at(text.len() - 5);
    let status = if number.is_multiple_of(2) { 500 } else { 404 };
    let answer = format!(
        "HTTP/1.1 {status} {spelled}\r\ntransfer-encoding: chunked\r\nconnection: close\r\nx-path: {spelled}\r\n\r\n\
         {:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n",
        start.len(),
        end.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    // The callback's body was not read: the end of the connection must not come before its sender has the answer.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Some(number)
}

/// A receiver that quotes its own address, in every spelling, is not repeated.
#[tokio::test]
async fn a_receiver_that_spells_its_address() {
    let count = spellings(PATH).len();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let noted = heard.clone();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let noted = noted.clone();
            tokio::spawn(async move {
                let number = echo(stream).await?;
                noted.lock().unwrap().insert(number);
                Some(())
            });
        }
    });
    let api = HostileApi::start(Behavior::Close(Vec::new())).await;
    api.end("good-1");
    let mut setup = with_pages(Setup::polling(&api.base_url())).set("log.filter", "trace");
    let secret = setup.folder().join("secret");
    fs::write(&secret, SECRET).unwrap();
    for number in 0..count {
        let url = format!("http://{address}/services/{PATH}?n={number}");
        setup = setup
            .set(&format!("webhooks.{number}.name"), &format!("hook-{number}"))
            .set(&format!("webhooks.{number}.url"), &url)
            .set(
                &format!("webhooks.{number}.secret_file"),
                &secret.display().to_string(),
            );
    }
    let daemon = setup.list(&["good-1"]).start();
    daemon.event_of("good-1", "operation.succeeded").await;
    until("every endpoint has failed", || {
        heard.lock().unwrap().len() == count
    })
    .await;
    until_answered("every failure is on record", async || {
        let found = page(&daemon, "/api/webhooks").await;
        let errors = found["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint["lastError"].to_string());
        let masked = errors.filter(|error| error.contains("no route for") && error.contains("[…]"));
        if masked.count() == count {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
    assert_nowhere(&daemon, PATH).await;
    daemon.stop().await;
    server.abort();
}
