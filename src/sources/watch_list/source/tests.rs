use std::cell::Cell;
use std::path::PathBuf;

use jiff::Timestamp;

use super::*;
use crate::core::event::{Event, EventType};
use crate::core::watch::Watch;
use crate::core::watch_list::{Labels, WatchKey};

fn settings(path: PathBuf) -> WatchListSettings {
    WatchListSettings {
        path,
        is_required: true,
        refresh: MAX_CONFIRM,
        shrink_delay: Duration::from_secs(30),
        projects: vec!["main".into()],
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_reported_after_the_limit_and_not_before() {
    let reported = Cell::new(false);
    report_late(sleep(LATE - Duration::from_millis(1)), LATE, || {
        reported.set(true)
    })
    .await;
    assert!(!reported.get());
    let answer = async {
        sleep(LATE + Duration::from_millis(1)).await;
        7
    };
    assert_eq!(report_late(answer, LATE, || reported.set(true)).await, 7);
    assert!(reported.get());
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_does_not_answer_keeps_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, "one").unwrap();
    let (mut source, handle) = WatchListSource::new(settings(path));
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unconfirmed
    );
    assert_eq!(source.check(RemovalMode::Guarded).await, StabilityChange::Applies);
    source.report_no_answer();
    let snapshot = Arc::clone(&handle.snapshots().borrow());
    assert!(matches!(
        snapshot.problem.as_deref(),
        Some(WatchListError::NoAnswer { .. })
    ));
    assert!(snapshot.list.is_some());
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unconfirmed
    );
    assert_eq!(source.check(RemovalMode::Guarded).await, StabilityChange::Applies);
    let snapshot = Arc::clone(&handle.snapshots().borrow());
    assert!(snapshot.problem.is_none());
    assert_eq!(snapshot.generation, 1, "the list is the one from before");
}

#[tokio::test(start_paused = true)]
async fn appended_lines_apply_at_once_and_other_changes_need_a_second_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, "one\n").unwrap();
    let (mut source, handle) = WatchListSource::new(settings(path.clone()));
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unconfirmed
    );
    assert_eq!(source.check(RemovalMode::Guarded).await, StabilityChange::Applies);
    for (content, verdict) in [
        ("one\ntwo\nthree\n", StabilityChange::Applies),
        // Half a line, and a list that is another one although it is longer.
        ("one\ntwo\nthree\nfo", StabilityChange::Unconfirmed),
        ("one\nzwo\nthree\nfour\n", StabilityChange::Unconfirmed),
        ("one\ntwo\n", StabilityChange::Unconfirmed),
    ] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(source.check(RemovalMode::Guarded).await, verdict, "{content:?}");
    }
    assert_eq!(handle.snapshots().borrow().generation, 2);
}

fn acme() -> Labels {
    vec![("customer".to_owned(), "acme".to_owned())]
}

/// A state that has these operations of `main` listed, and one of a project that is not configured.
async fn listed(ids: std::ops::Range<u32>) -> Store {
    let state = Store::in_memory();
    let labels = acme();
    let of = |project: &str, id: u32| WatchKey {
        project: project.into(),
        operation: format!("op-{id}").into(),
    };
    for key in ids.map(|id| of("main", id)).chain([of("gone", 1)]) {
        let watch = Watch::default();
        let data = watch.data(&key, &labels, Timestamp::UNIX_EPOCH);
        let event = Event::operation(
            &key,
            EventType::Started,
            "generation 0",
            Timestamp::UNIX_EPOCH,
            data,
        );
        let change = crate::store::StateChange {
            subject: crate::store::Subject::Watch(key, Box::new(watch)),
            events: vec![event],
        };
        state.commit(&change).await.unwrap();
    }
    state
}

async fn first_list(
    content: &str,
    state: &Store,
    delay: Duration,
) -> (WatchListSource, Arc<WatchListSnapshot>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, content).unwrap();
    let settings = WatchListSettings {
        shrink_delay: delay,
        ..settings(path)
    };
    let (source, handle) = WatchListSource::new(settings);
    let mut source = source.continuing(state.clone());
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unconfirmed
    );
    assert_eq!(source.check(RemovalMode::Guarded).await, StabilityChange::Applies);
    let snapshot = Arc::clone(&handle.snapshots().borrow());
    (source, snapshot)
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_emptied_during_a_stop_removes_nothing_at_once() {
    const DELAY: Duration = Duration::from_secs(30);
    let state = listed(0..20).await;
    for (content, delay, entries, pending) in [
        ("", DELAY, 20, 20),
        ("op-7 customer=other\nop-100\n", DELAY, 21, 19),
        ("op-1\nop-2\n", DELAY, 2, 0),
        ("", Duration::ZERO, 0, 0),
    ] {
        let (mut source, snapshot) = first_list(content, &state, delay).await;
        let list = snapshot.list.as_deref().unwrap();
        assert_eq!(list.entries.len(), entries, "{content:?}");
        assert_eq!(
            snapshot.pending_removal.map_or(0, |pending| pending.entries),
            pending,
            "{content:?}"
        );
        let file = parse(content.as_bytes(), &["main".into()]);
        for entry in &list.entries {
            let in_file = file.entries.iter().find(|other| other.key == entry.key);
            let labels = in_file.map_or_else(acme, |other| other.terms.labels.clone());
            assert_eq!(entry.terms.labels, labels, "{}", entry.key);
        }
        tokio::time::advance(DELAY).await;
        source.remove_due();
        let left = source.guard.list().entries.len();
        assert_eq!(left, entries - pending, "{content:?}");
    }
    let (_, snapshot) = first_list("", &listed(0..9).await, DELAY).await;
    assert!(snapshot.pending_removal.is_none(), "a short list shrinks at once");
}

/// `stat` cannot be made to hide a change on a usual file system, so the source is made to believe that it has
/// seen the new content already.
#[tokio::test(start_paused = true)]
async fn a_change_that_stat_does_not_show_is_found_after_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.list");
    std::fs::write(&path, "one").unwrap();
    let (mut source, handle) = WatchListSource::new(settings(path.clone()));
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unconfirmed
    );
    assert_eq!(source.check(RemovalMode::Guarded).await, StabilityChange::Applies);

    std::fs::write(&path, "two").unwrap();
    let hidden = file::check(&path, None, None).unwrap().unwrap();
    source.seen = Some(hidden.signature);
    tokio::time::advance(REREAD - Duration::from_millis(1)).await;
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unchanged
    );
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(
        source.check(RemovalMode::Guarded).await,
        StabilityChange::Unconfirmed
    );
    assert_eq!(source.check(RemovalMode::Guarded).await, StabilityChange::Applies);
    let list = handle.snapshots().borrow().list.clone().unwrap();
    assert_eq!(list.entries[0].key.to_string(), "main/two");
}
