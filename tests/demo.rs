//! The demo with its output in a file: complete, and stopped in the middle.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The demo, with temporary files in `folder`, under the settings of a daemon that is none of its business, and with a
/// proxy in the environment that leads nowhere.
fn start(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .arg("demo")
        .env_clear()
        .env("TMPDIR", folder)
        .env("BACKFILL_WATCH_POLL__MAX_INTERVAL", "nonsense")
        .env("BACKFILL_WATCH_WEBHOOK__URL", "https://somebody.example")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn it_finds_backfills_shows_every_fate_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = start(folder.path()).wait_with_output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let reported = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), reported.as_str()),
        (Some(0), ""),
        "{shown}"
    );
    for wanted in [
        "customer installs   gale             task",
        "the API answers     502",
        "the API answers     429",
        "→ operation.succeeded acme contact     2,400 in ",
        "→ operation.stalled   borealis deal",
        "→ operation.resumed   borealis deal",
        "→ operation.retried   cobalt ticket",
        "→ operation.failed    cobalt invoice   [invoice] REQUEST_LIMIT_EXCEEDED",
        "→ operation.succeeded gale task        12,000 in ",
        "→ group.completed     acme             succeeded, 2 operations in ",
        "→ group.completed     cobalt           failed, 2 operations in ",
        "→ group.completed     gale             succeeded, 1 operation in ",
        "4 customers installed, 7 backfills found without a watch list: 6 succeeded, 1 failed",
        "4 answered with 5xx and 1 throttled",
        " verified, 0 not",
        "backfill-watch run --state-dir ./state",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} is not in\n{shown}");
    }
    let events: Vec<&str> = shown.lines().filter(|line| line.contains('→')).collect();
    assert!(events.last().unwrap().contains("group.completed"), "{shown}");
    for once in [
        "operation.started",
        "operation.succeeded",
        "operation.failed",
        "group.completed",
    ] {
        let lines: Vec<&str> = events
            .iter()
            .copied()
            .filter(|line| line.contains(once))
            .collect();
        let name = |line: &&str| -> String {
            let rest = line.split(once).nth(1).unwrap_or_default();
            rest.trim_start().chars().take(16).collect()
        };
        let names: BTreeSet<String> = lines.iter().map(name).collect();
        assert_eq!(names.len(), lines.len(), "{once} is doubled in\n{shown}");
    }
    let completed = shown.matches("→ group.completed").count();
    assert_eq!(completed, 4, "{shown}");
    assert!(!shown.contains('\x1b'), "colours or bars in a file");
    assert!(is_empty(folder.path()));
}

#[test]
fn stopped_in_the_middle_it_ends_at_once_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = start(folder.path());
    let mut shown = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("operation.started") {
        line.clear();
        assert!(shown.read_line(&mut line).unwrap() > 0, "it ended too early");
    }
    assert!(!is_empty(folder.path()));
    let sent = Command::new("kill")
        .args(["-INT", &demo.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert!(!rest.contains("What you saw"), "{rest}");
    assert!(is_empty(folder.path()));
}
