//! A change that removes nearly all entries removes them late, if they do not return.

use super::*;

/// The entries of the list that is replaced.
const ALL: usize = 20;

fn lines(entries: std::ops::Range<usize>) -> String {
    entries.map(|entry| format!("op-{entry}\n")).collect()
}

async fn with_all() -> Fixture {
    Fixture::with_list(&lines(0..ALL)).await
}

fn pending(snapshot: &WatchListSnapshot) -> usize {
    snapshot.pending_removal.map_or(0, |pending| pending.entries)
}

impl Fixture {
    async fn until_pending(&mut self, entries: usize) -> Arc<WatchListSnapshot> {
        self.until(|snapshot| pending(snapshot) == entries).await
    }

    fn now(&self) -> Arc<WatchListSnapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}

#[tokio::test(start_paused = true)]
async fn an_emptied_file_removes_nothing_until_the_delay_has_passed() {
    let mut fixture = with_all().await;
    fs::write(&fixture.path, "").unwrap();
    let snapshot = fixture.until_pending(ALL).await;
    assert_eq!(ids(&snapshot).len(), ALL);
    let of = snapshot.pending_removal.unwrap();
    let delay = of.due.duration_since(of.since);
    assert_eq!(Duration::try_from(delay).unwrap(), SHRINK_DELAY);
    let [line] = &fixture.log.lines_with("lost most of its entries")[..] else {
        panic!("one line expected");
    };
    for part in [
        "WARN",
        "watch.list",
        " entries=0 entries_before=20 pending_removal=20 ",
        "delay_seconds=30",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }

    // Some checks before it is due.
    tokio::time::sleep(SHRINK_DELAY - REFRESH * 2).await;
    assert_eq!(ids(&fixture.now()).len(), ALL);
    let snapshot = timeout(REFRESH * 4, fixture.until_pending(0)).await.unwrap();
    assert!(ids(&snapshot).is_empty());
    assert_eq!(fixture.log.count("did not return"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_again_slowly_removes_nothing() {
    let mut fixture = with_all().await;
    fs::write(&fixture.path, "").unwrap();
    fixture.until_pending(ALL).await;
    for written in [1, 5, 12, ALL] {
        fs::write(&fixture.path, lines(0..written)).unwrap();
        let snapshot = fixture.until_pending(ALL - written).await;
        assert_eq!(ids(&snapshot).len(), ALL);
    }
    tokio::time::sleep(SHRINK_DELAY * 2).await;
    assert_eq!(ids(&fixture.now()).len(), ALL);
    assert_eq!(fixture.log.count("lost most of its entries"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_another_file_adds_applies_at_once() {
    let mut fixture = with_all().await;
    fs::write(&fixture.path, lines(100..102)).unwrap();
    let snapshot = fixture.until_pending(ALL).await;
    assert_eq!(ids(&snapshot)[..2], ["op-100", "op-101"]);
    assert_eq!(ids(&snapshot).len(), ALL + 2);
    let snapshot = fixture.until_pending(0).await;
    assert_eq!(ids(&snapshot), ["op-100", "op-101"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_removes_at_once_what_is_pending_and_what_just_left() {
    let mut fixture = with_all().await;
    fs::write(&fixture.path, lines(0..1)).unwrap();
    fixture.until_pending(ALL - 1).await;
    let number = fixture.handle.reload();
    let snapshot = fixture.until(|snapshot| snapshot.reloads == number).await;
    assert_eq!((ids(&snapshot), pending(&snapshot)), (vec!["op-0".to_owned()], 0));

    fs::write(&fixture.path, lines(0..ALL)).unwrap();
    fixture
        .until(|snapshot| snapshot.list.as_ref().unwrap().entries.len() == ALL)
        .await;
    fs::write(&fixture.path, "").unwrap();
    let number = fixture.handle.reload();
    let snapshot = fixture.until(|snapshot| snapshot.reloads == number).await;
    assert!(ids(&snapshot).is_empty());
    assert_eq!(fixture.log.count("lost most of its entries"), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_while_the_file_is_away() {
    let mut fixture = with_all().await;
    fs::write(&fixture.path, "").unwrap();
    fixture.until_pending(ALL).await;
    fs::remove_file(&fixture.path).unwrap();
    fixture.problem().await;
    tokio::time::sleep(SHRINK_DELAY * 2).await;
    assert_eq!(ids(&fixture.now()).len(), ALL);

    fs::write(&fixture.path, "").unwrap();
    fixture.until(|snapshot| snapshot.problem.is_none()).await;
    tokio::time::sleep(SHRINK_DELAY - REFRESH * 2).await;
    assert_eq!(ids(&fixture.now()).len(), ALL, "the delay begins again");
    fixture.until_pending(0).await;
}

#[tokio::test(start_paused = true)]
async fn fewer_entries_or_fewer_removals_apply_at_once() {
    let mut fixture = Fixture::with_list(&lines(0..9)).await;
    fs::write(&fixture.path, "").unwrap();
    fixture.next_list_is(&[]).await;
    fs::write(&fixture.path, lines(0..10)).unwrap();
    fixture.until(|snapshot| snapshot.generation == 3).await;
    fs::write(&fixture.path, lines(0..1)).unwrap();
    fixture.next_list_is(&["op-0"]).await;
}
