//! A change that removes nearly all entries removes them late, if they do not return.

use super::*;

/// The entries of the list that is replaced.
const ALL: usize = 20;

fn lines(entries: std::ops::Range<usize>) -> String {
    entries.map(|entry| format!("op-{entry}\n")).collect()
}

async fn with_all() -> Bench {
    Bench::with_list(&lines(0..ALL)).await
}

fn pending(snapshot: &WatchListSnapshot) -> usize {
    snapshot.pending_removal.map_or(0, |pending| pending.entries)
}

impl Bench {
    async fn until_pending(&mut self, entries: usize) -> Arc<WatchListSnapshot> {
        self.until(|snapshot| pending(snapshot) == entries).await
    }

    fn now(&self) -> Arc<WatchListSnapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}

#[tokio::test(start_paused = true)]
async fn an_emptied_file_removes_nothing_until_the_delay_has_passed() {
    let mut bench = with_all().await;
    fs::write(&bench.path, "").unwrap();
    let snapshot = bench.until_pending(ALL).await;
    assert_eq!(ids(&snapshot).len(), ALL);
    let of = snapshot.pending_removal.unwrap();
    let delay = of.due.duration_since(of.since);
    assert_eq!(Duration::try_from(delay).unwrap(), SHRINK_DELAY);
    let [line] = &bench.log.lines_with("lost most of its entries")[..] else {
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

    // Some looks before it is due.
    tokio::time::sleep(SHRINK_DELAY - REFRESH * 2).await;
    assert_eq!(ids(&bench.now()).len(), ALL);
    let snapshot = timeout(REFRESH * 4, bench.until_pending(0)).await.unwrap();
    assert!(ids(&snapshot).is_empty());
    assert_eq!(bench.log.count("did not return"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_again_slowly_removes_nothing() {
    let mut bench = with_all().await;
    fs::write(&bench.path, "").unwrap();
    bench.until_pending(ALL).await;
    for written in [1, 5, 12, ALL] {
        fs::write(&bench.path, lines(0..written)).unwrap();
        let snapshot = bench.until_pending(ALL - written).await;
        assert_eq!(ids(&snapshot).len(), ALL);
    }
    tokio::time::sleep(SHRINK_DELAY * 2).await;
    assert_eq!(ids(&bench.now()).len(), ALL);
    assert_eq!(bench.log.count("lost most of its entries"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_another_file_adds_applies_at_once() {
    let mut bench = with_all().await;
    fs::write(&bench.path, lines(100..102)).unwrap();
    let snapshot = bench.until_pending(ALL).await;
    assert_eq!(ids(&snapshot)[..2], ["op-100", "op-101"]);
    assert_eq!(ids(&snapshot).len(), ALL + 2);
    let snapshot = bench.until_pending(0).await;
    assert_eq!(ids(&snapshot), ["op-100", "op-101"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_removes_at_once_what_is_pending_and_what_just_left() {
    let mut bench = with_all().await;
    fs::write(&bench.path, lines(0..1)).unwrap();
    bench.until_pending(ALL - 1).await;
    let number = bench.handle.reload();
    let snapshot = bench.until(|snapshot| snapshot.reloads == number).await;
    assert_eq!((ids(&snapshot), pending(&snapshot)), (vec!["op-0".to_owned()], 0));

    fs::write(&bench.path, lines(0..ALL)).unwrap();
    bench
        .until(|snapshot| snapshot.list.as_ref().unwrap().entries.len() == ALL)
        .await;
    fs::write(&bench.path, "").unwrap();
    let number = bench.handle.reload();
    let snapshot = bench.until(|snapshot| snapshot.reloads == number).await;
    assert!(ids(&snapshot).is_empty());
    assert_eq!(bench.log.count("lost most of its entries"), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_while_the_file_is_away() {
    let mut bench = with_all().await;
    fs::write(&bench.path, "").unwrap();
    bench.until_pending(ALL).await;
    fs::remove_file(&bench.path).unwrap();
    bench.problem().await;
    tokio::time::sleep(SHRINK_DELAY * 2).await;
    assert_eq!(ids(&bench.now()).len(), ALL);

    fs::write(&bench.path, "").unwrap();
    bench.until(|snapshot| snapshot.problem.is_none()).await;
    tokio::time::sleep(SHRINK_DELAY - REFRESH * 2).await;
    assert_eq!(ids(&bench.now()).len(), ALL, "the delay begins again");
    bench.until_pending(0).await;
}

#[tokio::test(start_paused = true)]
async fn fewer_entries_or_fewer_removals_apply_at_once() {
    let mut bench = Bench::with_list(&lines(0..9)).await;
    fs::write(&bench.path, "").unwrap();
    bench.next_list_is(&[]).await;
    fs::write(&bench.path, lines(0..10)).unwrap();
    bench.until(|snapshot| snapshot.generation == 3).await;
    fs::write(&bench.path, lines(0..1)).unwrap();
    bench.next_list_is(&["op-0"]).await;
}
