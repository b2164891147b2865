//! Invalid watch lists: the previous list stays active, or the lines that parse apply.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use backfill_watch::simulator::{Simulator, SimulatorConfig};
use backfill_watch::sources::watch_list::MAX_FILE_BYTES;

use crate::daemon_checks::MEMORY;
use crate::support::{Daemon, LogLine, Setup, lines_of, process_status, replace_file, until};

const LONG: &str = "op-600000-5000-s-long";
const MEBIBYTE: usize = 1024 * 1024;

/// What becomes of the list that is active.
#[derive(PartialEq)]
enum Then {
    /// It stays active.
    Stays,
    /// The lines that parse take its place.
    Applies,
}

/// Checks that the daemon needed the usual memory and the largest file once.
fn assert_memory_is_bounded(daemon: &Daemon) {
    let most = process_status(daemon.id(), "VmHWM");
    assert!(most < MEMORY + MAX_FILE_BYTES, "{most} bytes");
}

/// Replaces the list by what `spoil` makes, while the daemon runs and before it starts. Each time this is reported
/// with these words, the previous list stays active, and a good list is applied afterwards.
async fn survive(spoil: impl Fn(&Path), words: &str, then: Then) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&[LONG]);
    let path = setup.list_path();
    let daemon = setup.start();
    daemon.event_of(LONG, "operation.started").await;
    let reported = |line: &LogLine| line.to_string().contains(words);
    let replace = || {
        let new = path.with_extension("new");
        spoil(&new);
        fs::rename(&new, &path).or_else(|_| {
            // A folder does not take the place of a file by itself.
            fs::remove_file(&path)?;
            fs::rename(&new, &path)
        })
    };
    replace().unwrap();
    daemon.wait_for(words, reported).await;
    let polls = simulator.requests_of(LONG);
    until("polls go on", || simulator.requests_of(LONG) > polls + 3).await;
    if then == Then::Applies {
        daemon
            .event_of("op-200-100-s-beside", "operation.succeeded")
            .await;
    }
    remove(&path);
    replace_file(&path, &format!("{LONG}\nop-200-100-s-after\n"));
    daemon.event_of("op-200-100-s-after", "operation.succeeded").await;
    assert_eq!(
        daemon.log.events_by_operation()[LONG]
            .iter()
            .filter(|line| line["event"] == "operation.started")
            .count(),
        1
    );
    assert_memory_is_bounded(&daemon);

    let setup = daemon.stop().await;
    replace().unwrap();
    let daemon = setup.start();
    daemon.wait_for(words, reported).await;
    remove(&path);
    replace_file(&path, &format!("{LONG}\nop-200-100-s-again\n"));
    daemon.event_of("op-200-100-s-again", "operation.succeeded").await;
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
}

/// A file of these lines and, in between, so many bytes of others.
fn write_lines(path: &Path, line: &str, bytes: usize) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    writeln!(file, "{LONG}").unwrap();
    let line = format!("{line}\n");
    let block = line.repeat(MEBIBYTE.div_ceil(line.len()));
    for _ in 0..bytes.div_ceil(block.len()) {
        file.write_all(block.as_bytes()).unwrap();
    }
    writeln!(file, "op-200-100-s-beside").unwrap();
}

#[tokio::test]
async fn more_than_128_mebibytes() {
    let more = |path: &Path| write_lines(path, "# nothing", 129 * MEBIBYTE);
    survive(more, "it has more than 128 MiB", Then::Stays).await;
}

#[tokio::test]
async fn a_list_of_127_mebibytes_of_rubbish() {
    // Each of these lines is read, and wrong.
    let rubbish = |path: &Path| write_lines(path, &"= ".repeat(500), 127 * MEBIBYTE);
    survive(rubbish, "rejected", Then::Applies).await;
}

#[tokio::test]
async fn a_line_of_ten_mebibytes() {
    let long = |path: &Path| write_lines(path, &"a".repeat(10 * MEBIBYTE), 10 * MEBIBYTE);
    survive(long, "10485760 bytes", Then::Applies).await;
}

#[tokio::test]
async fn a_list_of_nuls() {
    let nuls = |path: &Path| {
        let mut content = format!("{LONG}\n\0\0\0\nop-200-100-s-beside\n").into_bytes();
        content.resize(MEBIBYTE, 0);
        fs::write(path, content).unwrap();
    };
    survive(nuls, "control character", Then::Applies).await;
}

#[tokio::test]
async fn a_list_in_another_encoding() {
    let utf16 = |mark: &str| -> Vec<u8> {
        let text = format!("{mark}{LONG}\r\nop-200-100-s-beside customer=Gäle\r\n");
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let unmarked = |path: &Path| fs::write(path, utf16("")).unwrap();
    survive(unmarked, "it is not text", Then::Stays).await;
    let marked = |path: &Path| fs::write(path, utf16("\u{feff}")).unwrap();
    survive(marked, "watch list applied", Then::Applies).await;
}

#[tokio::test]
async fn a_list_of_rejected_lines_only() {
    let rejected = |path: &Path| fs::write(path, "customer=acme\nop/1\n").unwrap();
    survive(rejected, "none of its lines can be used", Then::Stays).await;
}

/// As with a program that empties the file before it writes it, or a disk that fills up.
#[tokio::test]
async fn a_list_that_is_truncated() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids: Vec<String> = (0..20).map(|i| format!("op-600000-5000-s-{i:02}")).collect();
    let setup = Setup::new(&simulator).list(&ids);
    let path = setup.list_path();
    let daemon = setup.start();
    for id in &ids {
        daemon.event_of(id, "operation.started").await;
    }
    for left in ["", "op-600000"] {
        let shrunk = daemon.log.lines(|line| line["pending_removal"].is_number()).len();
        fs::write(&path, left).unwrap();
        until("the removal waits", || {
            daemon.log.lines(|line| line["pending_removal"].is_number()).len() > shrunk
        })
        .await;
        for id in &ids {
            let polls = simulator.requests_of(id);
            until("polls go on", || simulator.requests_of(id) > polls).await;
        }
        fs::write(&path, lines_of(&ids)).unwrap();
        let applied = |line: &LogLine| line["message"] == "watch list applied" && line["entries"] == 20;
        until("the list is whole again", || {
            daemon.log.lines(applied).len() > shrunk + 1
        })
        .await;
    }
    assert_eq!(
        daemon.log.count("operation.started"),
        20,
        "none was removed and added"
    );
    daemon.stop().await;
}

/// As a program does that empties the file while the daemon is stopped.
#[tokio::test]
async fn a_list_that_is_truncated_while_the_daemon_is_stopped() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids: Vec<String> = (0..20).map(|i| format!("op-600000-5000-s-{i:02}")).collect();
    let lines: Vec<String> = ids.iter().map(|id| format!("{id} customer=acme")).collect();
    let setup = Setup::new(&simulator)
        .set("poll.progress_step", "0.1")
        .list(&lines);
    let daemon = setup.start();
    for id in &ids {
        daemon.event_of(id, "operation.started").await;
    }
    let setup = daemon.stop().await;
    fs::write(setup.list_path(), "").unwrap();
    let daemon = setup.set("watch_list_shrink_delay", "6s").start();
    let delayed = daemon
        .wait_for("the removal to wait", |line| line["pending_removal"] == 20)
        .await;
    assert_eq!(
        (&delayed["entries"], &delayed["entries_before"]),
        (&0.into(), &20.into())
    );
    for id in &ids {
        let progress = daemon.event_of(id, "operation.progress").await;
        assert_eq!(progress["labels"], "customer=acme");
    }
    // What did not return is removed; the next start has nothing to wait for.
    daemon.wait_for("the removal", |line| line["removed"] == 20).await;
    assert_eq!(daemon.log.count("operation.started"), 0);
    let daemon = daemon.stop().await.start();
    daemon
        .wait_for("the list", |line| line["message"] == "watch list applied")
        .await;
    assert!(
        daemon
            .log
            .lines(|line| line["pending_removal"].is_number())
            .is_empty()
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_fifo() {
    let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    survive(fifo, "FIFO", Then::Stays).await;
}

#[tokio::test]
async fn a_directory() {
    survive(|path| fs::create_dir(path).unwrap(), "directory", Then::Stays).await;
}

#[tokio::test]
async fn a_loop_of_symlinks() {
    let ring = |path: &Path| symlink("watch.list", path).unwrap();
    survive(ring, "symbolic links", Then::Stays).await;
}
