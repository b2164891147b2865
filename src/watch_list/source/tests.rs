use std::cell::Cell;
use std::path::PathBuf;

use super::*;

fn settings(path: PathBuf) -> SourceSettings {
    SourceSettings {
        path,
        refresh: MAX_CONFIRM,
        shrink_delay: Duration::from_secs(30),
        projects: vec!["main".into()],
    }
}

#[tokio::test(start_paused = true)]
async fn lateness_is_told_after_the_limit_and_not_before() {
    let told = Cell::new(false);
    late_told(sleep(LATE - Duration::from_millis(1)), LATE, || told.set(true)).await;
    assert!(!told.get());
    let answer = async {
        sleep(LATE + Duration::from_millis(1)).await;
        7
    };
    assert_eq!(late_told(answer, LATE, || told.set(true)).await, 7);
    assert!(told.get());
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_does_not_answer_keeps_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, "one").unwrap();
    let (mut source, handle) = WatchListSource::new(settings(path));
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Wait);
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Holds);
    source.tell_late();
    let snapshot = Arc::clone(&handle.snapshots().borrow());
    assert!(matches!(
        snapshot.problem.as_deref(),
        Some(ReadError::NoAnswer { .. })
    ));
    assert!(snapshot.list.is_some());
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Wait);
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Holds);
    let snapshot = Arc::clone(&handle.snapshots().borrow());
    assert!(snapshot.problem.is_none());
    assert_eq!(snapshot.generation, 1, "the list is the one from before");
}

#[tokio::test(start_paused = true)]
async fn whole_lines_that_are_appended_hold_at_once_and_all_else_wants_a_second_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, "one\n").unwrap();
    let (mut source, handle) = WatchListSource::new(settings(path.clone()));
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Wait);
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Holds);
    for (content, verdict) in [
        ("one\ntwo\nthree\n", Verdict::Holds),
        // Half a line, and a list that is another one although it is longer.
        ("one\ntwo\nthree\nfo", Verdict::Wait),
        ("one\nzwo\nthree\nfour\n", Verdict::Wait),
        ("one\ntwo\n", Verdict::Wait),
    ] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(source.look(Removals::Guarded).await, verdict, "{content:?}");
    }
    assert_eq!(handle.snapshots().borrow().generation, 2);
}

/// `stat` cannot be made to hide a change on a usual file system, so the source is made to believe that it has
/// seen the new content already.
#[tokio::test(start_paused = true)]
async fn a_change_that_stat_does_not_show_is_found_after_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, "one").unwrap();
    let (mut source, handle) = WatchListSource::new(settings(path.clone()));
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Wait);
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Holds);

    std::fs::write(&path, "two").unwrap();
    let hidden = file::look(&path, None, None).unwrap().unwrap();
    source.seen = Some(hidden.signature);
    tokio::time::advance(REREAD - Duration::from_millis(1)).await;
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Same);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Wait);
    assert_eq!(source.look(Removals::Guarded).await, Verdict::Holds);
    let list = handle.snapshots().borrow().list.clone().unwrap();
    assert_eq!(list.entries[0].key.to_string(), "main/two");
}
