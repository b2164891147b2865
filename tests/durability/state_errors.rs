//! State that cannot be written, read or shared: it is reported, and nothing is lost.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};
use tempfile::TempDir;

use crate::event_log::{assert_delivered, assert_gapless, by_operation, events, types};
use crate::support::{Daemon, Setup, report, text, until};
use crate::verifying_receiver::VerifyingReceiver;

/// A small file system for the state of a test. Dropping it unmounts it.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, with a printed line, where this user cannot mount anything. Without the program `mount`, the test is
    /// skipped, which CI does not allow.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(folder.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "mount: {error}");
                skip(&error.to_string())
            }
        }
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Fills the disk.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    fn free_space(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn make_read_only(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.folder.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn skip<T>(why: &str) -> Option<T> {
    report(&format!("skipped, nothing can be mounted here: {}", why.trim()));
    None
}

/// Twenty operations that end while nothing can be written are reported when it can be again.
async fn nothing_is_lost_while_writing_fails(
    setup: Setup,
    make_fail: impl FnOnce(&Daemon),
    repair: impl FnOnce(&Daemon),
) {
    const COUNT: u64 = 20;
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let inbox = VerifyingReceiver::open(0);
    let ids: Vec<String> = (0..COUNT).map(|i| format!("op{i}")).collect();
    let life = |i: u64| Duration::from_millis(3_000 + i * 50);
    for (id, i) in ids.iter().zip(0..) {
        simulator.add_waiting(SimulatedOperation::new(id, life(i), 10_000));
    }
    let setup = setup.set("ampersand.base_url", &simulator.base_url()).list(&ids);
    let daemon = inbox.subscribe(setup).start();
    until("all to have started", || {
        daemon.log.count("operation.started") == ids.len()
    })
    .await;
    make_fail(&daemon);
    let failing = |line: &crate::support::LogLine| line["level"] == "ERROR" && line["reason"].is_string();
    let reported = daemon.wait_for("that the state cannot be written", failing).await;
    let message = reported["message"].as_str().unwrap();
    assert!(message.contains("the state cannot be written"), "{message}");
    until("polls of all after their end", || {
        ids.iter().zip(0..).all(|(id, i)| {
            let polls = simulator.instants_of(id);
            polls.last().unwrap().duration_since(polls[0]) > life(i) + Duration::from_millis(500)
        })
    })
    .await;
    assert_eq!(
        daemon.log.count("operation.succeeded"),
        0,
        "nothing is reported before it is recorded"
    );
    assert_eq!(daemon.log.lines(failing).len(), 1, "reported once");
    repair(&daemon);
    daemon
        .wait_for("that the state can be written", |line| {
            line["message"] == "the state can be written again"
        })
        .await;
    until("the end of all", || {
        daemon.log.count("operation.succeeded") == ids.len()
    })
    .await;
    let ended = || {
        let messages = inbox.messages();
        let endings = messages
            .iter()
            .filter(|message| message.event_type() == "operation.succeeded");
        endings.count()
    };
    until("the end of all at the receiver", || ended() == ids.len()).await;
    let setup = daemon.stop().await;
    let log = events(&setup).await;
    assert_gapless(&log);
    assert_delivered(&log, &inbox);
    for (operation, events) in by_operation(&log) {
        let types = types(&events);
        assert_eq!(types.first(), Some(&"operation.started"), "{operation}");
        assert_eq!(types.last(), Some(&"operation.succeeded"), "{operation}");
    }
}

/// Settings whose API is not there, for daemons that never come to ask it.
fn without_api() -> Setup {
    Setup::polling("http://127.0.0.1:9/v1")
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.state_dir().display().to_string();
    let setup = without_api().set("state_dir", &state);
    nothing_is_lost_while_writing_fails(setup, |_| disk.fill(), |_| disk.free_space()).await;
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_loses_nothing() {
    let limit = |daemon: &Daemon, soft: &str| {
        let status = Command::new("prlimit")
            .args(["--pid", &daemon.id().to_string(), &format!("--fsize={soft}:")])
            .status();
        assert!(status.unwrap().success());
    };
    let setup = without_api();
    nothing_is_lost_while_writing_fails(
        setup,
        |daemon| limit(daemon, "16384"),
        |daemon| limit(daemon, "unlimited"),
    )
    .await;
}

/// A state of one operation that has succeeded, left in order.
async fn filled(setup: Setup) -> Setup {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = setup
        .set("ampersand.base_url", &simulator.base_url())
        .list(&["op-200-100-s-a"])
        .start();
    daemon.event("operation.succeeded").await;
    daemon.stop().await
}

/// The daemon does not start, and reports these words.
async fn assert_refused(setup: &Setup, words: &[&str]) {
    let output = setup.run_with("run", &[]).await;
    let reported = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{reported}");
    for words in words {
        assert!(reported.contains(words), "{words:?} in: {reported}");
    }
    for technical in ["panicked", "Err(", "Some(", "src/"] {
        assert!(!reported.contains(technical), "{reported}");
    }
}

#[tokio::test]
async fn a_full_disk_at_the_start_is_reported_and_does_no_harm() {
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.state_dir().display().to_string();
    disk.fill();
    let setup = without_api().set("state_dir", &state).list(&["op-200-100-s-a"]);
    assert_refused(&setup, &["full"]).await;
    let checked = setup.run_with("check", &[]).await;
    let reported = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2), "{reported}");
    assert!(
        reported.contains(&format!(
            "error: cannot use the state directory `{state}`: its disk is full"
        )),
        "{reported}"
    );
    disk.free_space();
    let setup = filled(setup).await;
    let before = events(&setup).await;

    // With an existing state the daemon runs, and waits for disk space.
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    disk.fill();
    let daemon = setup
        .set("ampersand.base_url", &simulator.base_url())
        .list(&["op-200-100-s-a", "op-200-100-s-b"])
        .start();
    daemon
        .wait_for("that the state cannot be written", |line| {
            line["level"] == "ERROR"
                && line["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains("full"))
        })
        .await;
    disk.free_space();
    daemon.event("operation.succeeded").await;
    let log = events(&daemon.stop().await).await;
    assert_eq!(log[..before.len()], before);
    assert_gapless(&log);
    assert_eq!(
        simulator.requests_of("op-200-100-s-a"),
        0,
        "finished, and neither polled nor reported again"
    );
}

#[tokio::test]
async fn a_read_only_state_directory_is_reported_and_can_be_read() {
    if let Some(disk) = SmallDisk::mount() {
        let state = disk.state_dir().display().to_string();
        let setup = filled(without_api().set("state_dir", &state)).await;
        let log = events(&setup).await;
        disk.make_read_only();
        assert_refused(&setup, &[&state, "read-only"]).await;
        let checked = setup.run_with("check", &[]).await;
        let reported = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{reported}");
        assert!(
            reported.contains("it is on a read-only file system"),
            "{reported}"
        );
        assert_eq!(events(&setup).await, log);
    }

    let setup = filled(without_api()).await;
    let state = state_of(&setup);
    let log = events(&setup).await;
    fs::set_permissions(&state, Permissions::from_mode(0o555)).unwrap();
    for file in fs::read_dir(&state).unwrap() {
        fs::set_permissions(file.unwrap().path(), Permissions::from_mode(0o444)).unwrap();
    }
    // Modes do not bind root.
    if File::create(state.join("mine")).is_err() {
        assert_refused(
            &setup,
            &[&state.display().to_string(), "change its owner or its mode"],
        )
        .await;
        assert_eq!(events(&setup).await, log);
    }
    fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
}

fn state_of(setup: &Setup) -> PathBuf {
    setup.folder().join("state")
}

/// The files of the state, without those that every start changes: the lock, the index of SQLite's log, and an empty
/// log.
fn files(state: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(state).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| !file.ends_with("lock") && !file.ends_with("state.db-shm"))
        .map(|file| (file.clone(), fs::read(&file).unwrap()))
        .filter(|(_, content)| !content.is_empty())
        .collect()
}

/// Neither the daemon nor the commands beside it take this state, and all leave it as it is.
async fn assert_unchanged(setup: &Setup, words: &[&str]) {
    let state = state_of(setup);
    let before = files(&state);
    for _ in 0..2 {
        assert_refused(setup, words).await;
        assert!(files(&state) == before, "the files were changed");
    }
    let file = state.join("state.db").display().to_string();
    for (command, arguments) in [("events", &[][..]), ("replay", &["--dead-letters"])] {
        let output = setup.run_with(command, arguments).await;
        let reported = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {reported}");
        assert!(reported.contains(&file), "{command}: {reported}");
        assert!(files(&state) == before, "{command} changed the files");
    }
}

#[tokio::test]
async fn a_file_that_is_no_state_is_left_as_it_is() {
    let setup = filled(without_api()).await;
    let file = state_of(&setup).join("state.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..100].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let name = file.display().to_string();
    assert_unchanged(
        &setup,
        &[&name, "damaged", "it was not changed", "restore a backup"],
    )
    .await;
}

#[tokio::test]
async fn a_damaged_file_is_found_after_a_crash_and_left_as_it_is() {
    let setup = filled(without_api()).await;
    let state = state_of(&setup);
    let file = state.join("state.db");
    let mut bytes = fs::read(&file).unwrap();
    // All but the first page, which has the schema.
    bytes[4096..].fill(0x5a);
    fs::write(&file, &bytes).unwrap();
    // As a crash leaves it.
    fs::write(state.join("lock"), "1\n").unwrap();
    let before = files(&state);
    for _ in 0..2 {
        let name = file.display().to_string();
        assert_refused(
            &setup,
            &[&name, "damaged", "it was not changed", "restore a backup"],
        )
        .await;
        assert!(files(&state) == before, "the files were changed");
    }
}

#[tokio::test]
async fn a_state_of_a_newer_version_is_left_as_it_is() {
    let setup = filled(without_api()).await;
    let file = state_of(&setup).join("state.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let name = file.display().to_string();
    assert_unchanged(
        &setup,
        &[&name, "newer backfill-watch", "99", "it was not changed"],
    )
    .await;
}

#[tokio::test]
async fn a_second_daemon_is_refused_with_the_name_of_the_first() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = Setup::new(&simulator)
        .list(&["op-60000-100000-s-a"])
        .set("poll.progress_step", "1")
        .start();
    daemon.event("operation.started").await;
    let process = format!("process {}", daemon.id());
    let state = state_of(daemon.setup()).display().to_string();
    assert_refused(
        daemon.setup(),
        &["in use", &process, &state, "`state_dir` of its own"],
    )
    .await;
    // The first daemon continues, and the next one can start after it ends, also after a crash.
    daemon.event("operation.progress").await;
    let setup = daemon.kill().await;
    let daemon = setup.start();
    daemon.event("operation.progress").await;
    let log = events(&daemon.stop().await).await;
    assert_gapless(&log);
}
