//! Every way of replacing the watch list file, with real files and paused time. The file is checked while a test waits.
//!
//! With a paused clock, checks are faster than the ticks of the file system's clock. So helpers change files and return
//! when `stat` shows the change.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backfill_watch::core::watch_list::WatchList;
use backfill_watch::sources::watch_list::{
    MAX_FILE_BYTES, WatchListError, WatchListHandle, WatchListSettings, WatchListSnapshot, WatchListSource,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

mod shrinking;
mod unusable;

const REFRESH: Duration = Duration::from_millis(250);
const SHRINK_DELAY: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(120);

struct Fixture {
    folder: TempDir,
    path: PathBuf,
    handle: WatchListHandle,
    snapshots: watch::Receiver<Arc<WatchListSnapshot>>,
    log: Log,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _logging: tracing::subscriber::DefaultGuard,
}

impl Fixture {
    /// A source of the file `watch.list`, with `prepare` done in its folder before it starts.
    fn start(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let path = folder.path().join("watch.list");
        let log = Log::default();
        let logging = tracing::subscriber::set_default(
            tracing_subscriber::fmt()
                .without_time()
                .with_ansi(false)
                .with_writer(log.clone())
                .finish(),
        );
        let (source, handle) = WatchListSource::new(settings(path.clone(), &["main", "staging"]));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(source.run(cancel.clone()));
        let snapshots = handle.snapshots();
        Self {
            folder,
            path,
            handle,
            snapshots,
            log,
            cancel,
            task,
            _logging: logging,
        }
    }

    /// As [`Fixture::start`], with a file of this content, once it is applied.
    async fn with_list(content: &str) -> Self {
        let mut fixture = Self::start(|folder| fs::write(folder.join("watch.list"), content).unwrap());
        fixture.until(|snapshot| snapshot.generation == 1).await;
        fixture
    }

    async fn until(&mut self, condition: impl FnMut(&WatchListSnapshot) -> bool) -> Arc<WatchListSnapshot> {
        let mut condition = condition;
        let found = timeout(DEADLINE, self.snapshots.wait_for(|snapshot| condition(snapshot)))
            .await
            .expect("the condition comes true in time");
        Arc::clone(&found.expect("the source runs"))
    }

    /// Waits for the next list, which must be this one: nothing else may have been applied before it.
    async fn next_list_is(&mut self, expected: &[&str]) {
        let next = self.snapshots.borrow().generation + 1;
        let snapshot = self.until(|snapshot| snapshot.generation >= next).await;
        assert_eq!(snapshot.generation, next);
        assert_eq!(ids(&snapshot), expected);
        assert!(snapshot.problem.is_none());
    }

    async fn problem(&mut self) -> Arc<WatchListSnapshot> {
        self.until(|snapshot| snapshot.problem.is_some()).await
    }

    /// Call it just after a check. Waits for half of the time to the next.
    async fn between_two_checks(&self) {
        tokio::time::sleep(REFRESH / 2).await;
    }

    /// Waits for so many checks. The time to the next one is the same before and after.
    async fn wait_for_checks(&self, checks: u32) {
        tokio::time::sleep(REFRESH * checks).await;
    }
}

fn settings(path: PathBuf, projects: &[&str]) -> WatchListSettings {
    WatchListSettings {
        path,
        is_required: true,
        refresh: REFRESH,
        shrink_delay: SHRINK_DELAY,
        projects: projects.iter().map(|name| Arc::from(*name)).collect(),
    }
}

fn ids(snapshot: &WatchListSnapshot) -> Vec<String> {
    let list: &WatchList = snapshot.list.as_ref().expect("a list was applied");
    list.entries
        .iter()
        .map(|entry| entry.key.operation.to_string())
        .collect()
}

/// Does `change`, again and again, until `stat` shows that something happened.
fn changing(path: &Path, mut change: impl FnMut()) {
    let shown = || {
        let found = fs::metadata(path).unwrap();
        (
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime_nsec(),
        )
    };
    let before = shown();
    for _ in 0..10_000_000 {
        change();
        if shown() != before {
            return;
        }
    }
    panic!("stat does not show the change of {}", path.display());
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The log's lines, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains(part))
            .map(str::to_owned)
            .collect()
    }

    fn count(&self, part: &str) -> usize {
        self.lines_with(part).len()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_file_is_read_at_start_and_ready_means_applied() {
    let mut fixture = Fixture::start(|folder| fs::write(folder.join("watch.list"), "one a=1\ntwo").unwrap());
    let snapshot = fixture.until(|snapshot| snapshot.is_checked).await;
    assert_eq!(ids(&snapshot), ["one", "two"]);
    assert!(snapshot.last_success.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_a_list_of_nothing() {
    let mut fixture = Fixture::with_list("").await;
    assert!(ids(&fixture.snapshots.borrow()).is_empty());
    append(&fixture.path, "one\n");
    fixture.next_list_is(&["one"]).await;
    fs::write(&fixture.path, "").unwrap();
    fixture.next_list_is(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn an_append_in_place_is_applied() {
    let mut fixture = Fixture::with_list("one\n").await;
    append(&fixture.path, "two\n");
    fixture.next_list_is(&["one", "two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_in_place_is_applied_within_a_second_even_at_the_same_length() {
    let mut fixture = Fixture::with_list("one\n").await;
    let path = fixture.path.clone();
    changing(&path, || fs::write(&path, "two\n").unwrap());
    let soon = timeout(Duration::from_secs(1), fixture.next_list_is(&["two"]));
    soon.await.expect("applied within a second");
}

#[tokio::test(start_paused = true)]
async fn a_rename_over_it_is_applied_even_with_size_and_time_kept() {
    let mut fixture = Fixture::with_list("one\n").await;
    let other = fixture.folder.path().join("other");
    fs::write(&other, "two\n").unwrap();
    let modified = fs::metadata(&fixture.path).unwrap().modified().unwrap();
    let file = OpenOptions::new().write(true).open(&other).unwrap();
    file.set_modified(modified).unwrap();
    fs::rename(&other, &fixture.path).unwrap();
    fixture.next_list_is(&["two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_swap_of_a_config_map_is_applied() {
    let version = |folder: &Path, name: &str, content: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("watch.list"), content).unwrap();
        symlink(name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let mut fixture = Fixture::start(|folder| {
        version(folder, "..2026_1", "one\n");
        symlink("..data/watch.list", folder.join("watch.list")).unwrap();
    });
    fixture.next_list_is(&["one"]).await;
    for (name, old, id) in [("..2026_2", "..2026_1", "two"), ("..2026_3", "..2026_2", "six")] {
        version(fixture.folder.path(), name, &format!("{id}\n"));
        fs::remove_dir_all(fixture.folder.path().join(old)).unwrap();
        fixture.next_list_is(&[id]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_caught_half_written_is_not_applied() {
    let mut fixture = Fixture::with_list("one\n").await;
    fixture.between_two_checks().await;
    fs::write(&fixture.path, "one\ntwo\nthr").unwrap();
    // This check finds the half; the next would apply it.
    fixture.wait_for_checks(1).await;
    append(&fixture.path, "ee\n");
    fixture.next_list_is(&["one", "two", "three"]).await;
}

/// The counterpart of the test above: it would notice a source that does not check in between.
#[tokio::test(start_paused = true)]
async fn half_a_file_that_is_stable_for_two_checks_is_the_list() {
    let mut fixture = Fixture::with_list("one\n").await;
    fixture.between_two_checks().await;
    fs::write(&fixture.path, "one\ntwo\nthr").unwrap();
    fixture.wait_for_checks(2).await;
    assert_eq!(fixture.snapshots.borrow().generation, 2);
    append(&fixture.path, "ee\n");
    fixture.next_list_is(&["one", "two", "three"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_truncation_seen_by_one_check_removes_nothing() {
    let mut fixture = Fixture::with_list("one\n").await;
    fixture.between_two_checks().await;
    fs::write(&fixture.path, "").unwrap();
    fixture.wait_for_checks(1).await;
    fs::write(&fixture.path, "one\ntwo\n").unwrap();
    fixture.next_list_is(&["one", "two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_file_keeps_its_list_is_reported_once_and_comes_back() {
    let mut fixture = Fixture::with_list("one\n").await;
    fs::remove_file(&fixture.path).unwrap();
    let snapshot = fixture.problem().await;
    assert!(matches!(
        snapshot.problem.as_deref(),
        Some(WatchListError::Missing)
    ));
    assert_eq!(ids(&snapshot), ["one"]);
    fixture.wait_for_checks(20).await;
    assert_eq!(fixture.log.count("last good one stays active"), 1);

    fs::write(&fixture.path, "one\n").unwrap();
    let snapshot = fixture.until(|snapshot| snapshot.problem.is_none()).await;
    assert_eq!(snapshot.generation, 1, "the same list is no other list");
    assert_eq!(fixture.log.count("watch list readable again"), 1);

    fs::remove_file(&fixture.path).unwrap();
    fixture.problem().await;
    fs::write(&fixture.path, "two\n").unwrap();
    fixture.next_list_is(&["two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_missing_at_start_counts_as_checked_and_is_waited_for() {
    let mut fixture = Fixture::start(|_| {});
    let snapshot = fixture.until(|snapshot| snapshot.is_checked).await;
    assert!(snapshot.list.is_none() && snapshot.problem.is_some());
    fixture.wait_for_checks(20).await;
    assert_eq!(fixture.log.count("waiting for it"), 1);
    fs::write(&fixture.path, "one\n").unwrap();
    fixture.next_list_is(&["one"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_file_that_is_not_required_is_an_empty_list_until_there_is_one() {
    let mut fixture = Fixture::start(|_| {});
    fixture.until(|snapshot| snapshot.is_awaited()).await;
    let optional = WatchListSettings {
        is_required: false,
        ..settings(fixture.path.clone(), &["main"])
    };
    fixture.handle.apply_settings(optional.clone());
    let snapshot = fixture.until(|snapshot| snapshot.is_absent).await;
    assert!(ids(&snapshot).is_empty() && snapshot.problem.is_none() && !snapshot.is_awaited());
    fixture.wait_for_checks(20).await;
    let reload = fixture.handle.reload();
    fixture.until(|snapshot| snapshot.reloads == reload).await;
    assert_eq!(fixture.log.count("no watch list"), 1);
    assert_eq!(fixture.log.count("waiting for it"), 1);

    fs::write(&fixture.path, "one\n").unwrap();
    fixture.next_list_is(&["one"]).await;
    assert!(!fixture.snapshots.borrow().is_absent);
    // A list that was there and is gone is a problem, required or not.
    fs::remove_file(&fixture.path).unwrap();
    let snapshot = fixture.problem().await;
    assert_eq!(ids(&snapshot), ["one"]);
    assert!(!snapshot.is_absent && !snapshot.is_awaited());
}

#[tokio::test(start_paused = true)]
async fn a_missing_file_that_becomes_required_is_awaited() {
    let mut fixture = Fixture::start(|_| {});
    let required = settings(fixture.path.clone(), &["main"]);
    fixture.handle.apply_settings(WatchListSettings {
        is_required: false,
        ..required.clone()
    });
    fixture.until(|snapshot| snapshot.is_absent).await;
    fixture.handle.apply_settings(required);
    fixture.until(|snapshot| snapshot.is_awaited()).await;
    fs::write(&fixture.path, "one\n").unwrap();
    fixture.next_list_is(&["one"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_never_rests_counts_as_checked() {
    let mut fixture = Fixture::start(|folder| fs::write(folder.join("watch.list"), "a\n").unwrap());
    let mut snapshots = fixture.handle.snapshots();
    fixture.between_two_checks().await;
    let mut checks = 0;
    while !snapshots.borrow_and_update().is_checked {
        assert!(checks < 10, "still not checked");
        checks += 1;
        append(&fixture.path, "b");
        fixture.wait_for_checks(1).await;
    }
    assert_eq!(checks, 1, "two checks are enough");
    assert!(fixture.snapshots.borrow().list.is_none());
    fixture.next_list_is(&["a", "b"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_file_is_refused_without_being_opened() {
    let mut fixture = Fixture::with_list("one\n").await;
    let path = fixture.path.clone();
    let away = |path: &Path| fs::remove_file(path).unwrap();

    away(&path);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let snapshot = fixture.problem().await;
    assert!(matches!(
        snapshot.problem.as_deref(),
        Some(WatchListError::NotAFile("FIFO"))
    ));

    away(&path);
    fs::create_dir(&path).unwrap();
    let directory = |snapshot: &WatchListSnapshot| {
        matches!(
            snapshot.problem.as_deref(),
            Some(WatchListError::NotAFile("directory"))
        )
    };
    fixture.until(directory).await;

    fs::remove_dir(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    let device = |snapshot: &WatchListSnapshot| {
        matches!(
            snapshot.problem.as_deref(),
            Some(WatchListError::NotAFile("device"))
        )
    };
    fixture.until(device).await;

    away(&path);
    symlink("watch.list", &path).unwrap();
    let refused = |snapshot: &WatchListSnapshot| {
        matches!(snapshot.problem.as_deref(), Some(WatchListError::Refused { .. }))
    };
    fixture.until(refused).await;
    assert_eq!(ids(&fixture.snapshots.borrow()), ["one"]);
    assert_eq!(fixture.log.count("last good one stays active"), 4);

    away(&path);
    fs::write(&path, "two\n").unwrap();
    fixture.next_list_is(&["two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_over_the_limit_is_refused_as_a_whole() {
    let mut fixture = Fixture::with_list("one\n").await;
    let file = OpenOptions::new().write(true).open(&fixture.path).unwrap();
    file.set_len(MAX_FILE_BYTES + 1).unwrap();
    let snapshot = fixture.problem().await;
    assert!(matches!(
        snapshot.problem.as_deref(),
        Some(WatchListError::TooLarge)
    ));
    assert_eq!(ids(&snapshot), ["one"]);
    fs::write(&fixture.path, "two\n").unwrap();
    fixture.next_list_is(&["two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_applies_without_waiting_for_the_next_check() {
    let mut fixture = Fixture::with_list("one\n").await;
    let path = fixture.path.clone();
    fixture.handle.apply_settings(WatchListSettings {
        refresh: Duration::from_secs(3600),
        ..settings(path.clone(), &["main"])
    });
    let number = fixture.handle.reload();
    fixture.until(|snapshot| snapshot.reloads == number).await;

    fs::write(&path, "one\ntwo\n").unwrap();
    let number = fixture.handle.reload();
    let reloaded = fixture.until(|snapshot| snapshot.reloads == number);
    let snapshot = timeout(Duration::from_millis(100), reloaded).await.unwrap();
    assert_eq!(ids(&snapshot), ["one", "two"]);

    let number = fixture.handle.reload();
    let again = fixture.until(|snapshot| snapshot.reloads == number).await;
    assert_eq!(again.generation, snapshot.generation);
    assert!(again.last_success > snapshot.last_success);
    assert_eq!(fixture.log.count("nothing changed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_a_missing_file_is_carried_out_too() {
    let mut fixture = Fixture::with_list("one\n").await;
    let before = fixture.snapshots.borrow().last_success;
    fs::remove_file(&fixture.path).unwrap();
    let number = fixture.handle.reload();
    let snapshot = fixture.until(|snapshot| snapshot.reloads == number).await;
    assert!(snapshot.problem.is_some());
    assert_eq!(snapshot.last_success, before);
}

#[tokio::test(start_paused = true)]
async fn other_settings_take_effect_at_once() {
    let mut fixture = Fixture::with_list("one\ntwo project=prod\n").await;
    assert_eq!(ids(&fixture.snapshots.borrow()), ["one"]);
    fixture
        .handle
        .apply_settings(settings(fixture.path.clone(), &["prod", "main"]));
    fixture.next_list_is(&["one", "two"]).await;
    let list = fixture.snapshots.borrow().list.clone().unwrap();
    assert_eq!(list.entries[0].key.to_string(), "prod/one");

    let other = fixture.folder.path().join("other.list");
    fs::write(&other, "six\n").unwrap();
    fixture.handle.apply_settings(settings(other, &["prod", "main"]));
    fixture.next_list_is(&["six"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_line_is_reported_once_with_its_place() {
    let mut fixture = Fixture::with_list("one\nb/d a=1\n").await;
    let [line] = &fixture.log.lines_with("line of the watch list rejected")[..] else {
        panic!("one line expected");
    };
    for part in [
        "WARN",
        "watch.list",
        " line=2 column=2 ",
        "reason='/' cannot be part of an operation ID",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(fixture.log.count("watch list applied"), 1);

    append(&fixture.path, "two\nalso=bad\n");
    fixture.next_list_is(&["one", "two"]).await;
    let number = fixture.handle.reload();
    fixture.until(|snapshot| snapshot.reloads == number).await;
    assert_eq!(fixture.log.count("line=2 "), 1);
    assert_eq!(fixture.log.count("line=4 "), 1);
    assert_eq!(fixture.log.count("rejected=2"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_rubbish_does_not_flood_the_log() {
    let rubbish = "=\n".repeat(3000);
    let mut fixture = Fixture::start(|folder| fs::write(folder.join("watch.list"), rubbish).unwrap());
    let snapshot = fixture.problem().await;
    assert!(snapshot.has_only_rejected_lines());
    assert_eq!(fixture.log.count("line of the watch list rejected"), 20);
    assert_eq!(fixture.log.count("more=2980 rejected=3000"), 1);
    append(&fixture.path, "one\n");
    fixture.next_list_is(&["one"]).await;
    assert_eq!(fixture.log.count("line of the watch list rejected"), 20);
    assert_eq!(fixture.log.count("more="), 1);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_cancelled_and_goes_on_without_handles() {
    let Fixture {
        handle,
        mut snapshots,
        path,
        cancel,
        task,
        folder,
        ..
    } = Fixture::with_list("one\n").await;
    drop(handle);
    append(&path, "two\n");
    let two = snapshots.wait_for(|snapshot| snapshot.generation == 2);
    assert_eq!(
        ids(&timeout(DEADLINE, two).await.unwrap().unwrap()),
        ["one", "two"]
    );
    cancel.cancel();
    timeout(DEADLINE, task).await.unwrap().unwrap();
    drop(folder);
}
