//! The receivers of the documentation, in Python, TypeScript and Rust: the real daemon delivers to each of them.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use backfill_watch::clock;
use backfill_watch::simulator::{Simulator, SimulatorConfig};
use reqwest::StatusCode;
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use support::{DEADLINE, Setup, skip};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OPERATION: &str = "op-1000-500-s-contacts";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A receiver of the documentation that runs; dropping it ends it.
struct Receiver {
    child: Child,
    lines: mpsc::Receiver<String>,
    url: String,
    _folder: TempDir,
}

impl Receiver {
    /// Starts it in a folder of its own.
    async fn start(mut command: Command, folder: TempDir) -> Self {
        let mut child = command
            .env("WEBHOOK_SECRET", SECRET)
            .env("PORT", "0")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel(1_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.blocking_send(line);
            }
        });
        let mut receiver = Self {
            child,
            lines,
            url: String::new(),
            _folder: folder,
        };
        let line = receiver.line().await;
        receiver.url = format!("{}backfills", line.strip_prefix("listening on ").unwrap());
        receiver
    }

    /// The next line that it prints.
    async fn line(&mut self) -> String {
        timeout(DEADLINE, self.lines.recv()).await.unwrap().unwrap()
    }

    /// Sends it a request and returns its answer.
    async fn post(&self, id: &str, timestamp: i64, signature: &str, body: &str) -> StatusCode {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body.to_owned());
        request.send().await.unwrap().status()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A receiver starts with a webhook secret only: with an empty one, everybody could sign.
fn refuses_short_secrets(command: &mut Command) {
    for secret in ["", "whsec_", "whsec_c2hvcnQ="] {
        let mut child = command
            .env("WEBHOOK_SECRET", secret)
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that starts prints a line and runs on.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        assert_eq!(line, "", "started with the secret {secret:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("WEBHOOK_SECRET is not a webhook secret"),
            "{secret:?}: {errors}"
        );
    }
    command.stderr(Stdio::inherit());
}

async fn python() -> Option<Receiver> {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("python3 is missing; apt-get install python3");
    }
    let mut command = Command::new("python3");
    command.arg(root().join("docs/receivers/receiver.py"));
    refuses_short_secrets(&mut command);
    Some(Receiver::start(command, tempfile::tempdir().unwrap()).await)
}

/// Checks its types with the TypeScript compiler, then runs what that writes.
async fn typescript() -> Option<Receiver> {
    let Some(compiler) = find("tsc") else {
        return skip("tsc is missing; npm install --global typescript @types/node");
    };
    if find("node").is_none() {
        return skip("node is missing; apt-get install nodejs");
    }
    let packages = compiler.canonicalize().unwrap();
    let packages = packages
        .ancestors()
        .find(|folder| folder.ends_with("node_modules"));
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(&compiler)
        .args([
            "--strict",
            "--target",
            "es2022",
            "--module",
            "nodenext",
            "--types",
            "node",
            "--typeRoots",
        ])
        .arg(packages.unwrap().join("@types"))
        .arg("--outDir")
        .arg(folder.path())
        .arg(root().join("docs/receivers/receiver.ts"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let mut command = Command::new("node");
    command.arg(folder.path().join("receiver.js"));
    refuses_short_secrets(&mut command);
    Some(Receiver::start(command, folder).await)
}

async fn rust() -> Receiver {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--example", "receiver"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_backfill-watch"));
    let mut command = Command::new(binary.with_file_name("examples").join("receiver"));
    refuses_short_secrets(&mut command);
    Receiver::start(command, tempfile::tempdir().unwrap()).await
}

/// Finds a program on the path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The daemon delivers the events of an operation, then again; others send what must be refused.
async fn receives_what_the_daemon_sends_and_nothing_else(mut receiver: Receiver) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = Setup::new(&simulator)
        .set("webhook.url", &receiver.url)
        .variable("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)
        .list(&[OPERATION])
        .start();

    let started = receiver.line().await;
    let id = started.split(' ').nth(1).unwrap();
    assert_eq!(started, format!("accepted {id} operation.started {OPERATION}"));
    let succeeded = receiver.line().await;
    assert!(
        succeeded.ends_with(&format!("operation.succeeded {OPERATION}")),
        "{succeeded}"
    );

    let replay = daemon.setup().run_with("replay", &["--event", id]).await;
    assert!(replay.status.success());
    let repeated = receiver.line().await;
    assert_eq!(repeated, format!("duplicate {id} operation.started {OPERATION}"));

    let webhook = Webhook::new(SECRET).unwrap();
    let body =
        r#"{"type":"api.reachable","timestamp":"2026-11-23T11:49:05.120Z","data":{"project":"my-project"}}"#;
    let now = clock::wall().as_second();
    let sign = |webhook: &Webhook, timestamp: i64| webhook.sign("evt_1", timestamp, body.as_bytes()).unwrap();
    let signature = sign(&webhook, now);
    let other = sign(&Webhook::new(OTHER_SECRET).unwrap(), now);
    let old = now - 3_600;
    for (what, id, timestamp, signature, body) in [
        ("another secret", "evt_1", now, other.as_str(), body),
        (
            "another body",
            "evt_1",
            now,
            &signature,
            &body.replace("my-", "your-"),
        ),
        ("another ID", "evt_2", now, &signature, body),
        ("another time", "evt_1", now + 1, &signature, body),
        ("an old message", "evt_1", old, &sign(&webhook, old), body),
        ("no signature", "evt_1", now, "", body),
    ] {
        let status = receiver.post(id, timestamp, signature, body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}");
    }
    // While a secret is rotated there is a signature for each.
    let both = format!("{other} {signature}");
    assert_eq!(
        receiver.post("evt_1", now, &both, body).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(receiver.line().await.trim(), "accepted evt_1 api.reachable");

    daemon.stop().await;
    simulator.stop().await;
}

#[tokio::test]
async fn the_receiver_in_python() {
    if let Some(receiver) = python().await {
        receives_what_the_daemon_sends_and_nothing_else(receiver).await;
    }
}

#[tokio::test]
async fn the_receiver_in_typescript() {
    if let Some(receiver) = typescript().await {
        receives_what_the_daemon_sends_and_nothing_else(receiver).await;
    }
}

#[tokio::test]
async fn the_receiver_in_rust() {
    receives_what_the_daemon_sends_and_nothing_else(rust().await).await;
}
