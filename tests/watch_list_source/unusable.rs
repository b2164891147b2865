//! A file that can be read and of which nothing can be used leaves the list before active.

use super::*;

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_good_list_stays_active() {
    let mut bench = Bench::with_list("one\ntwo\n").await;
    for (content, reason) in [
        (utf16("one\ntwo\n"), "it is not text"),
        (b"customer=acme\na/b\n".to_vec(), "none of its lines can be used"),
        (vec![0; 8], "it is not text"),
    ] {
        fs::write(&bench.path, content).unwrap();
        let is_refused = |snapshot: &WatchListSnapshot| {
            let problem = snapshot.problem.as_ref();
            problem.is_some_and(|problem| problem.to_string().contains(reason))
        };
        let snapshot = bench.until(is_refused).await;
        assert_eq!(ids(&snapshot), ["one", "two"]);
        assert!(!snapshot.has_only_rejected_lines() && !snapshot.is_awaited());
        assert!(snapshot.file().unwrap().rejected_total > 0);
    }
    bench.let_it_look(20).await;
    assert_eq!(bench.log.count("last good one stays active"), 3);
    assert_eq!(bench.snapshots.borrow().generation, 1);
    let good = bench.snapshots.borrow().last_success;

    // A reload does not make it good.
    let number = bench.handle.reload();
    let snapshot = bench.until(|snapshot| snapshot.reloads == number).await;
    assert_eq!((snapshot.last_success, ids(&snapshot).len()), (good, 2));

    fs::write(&bench.path, utf16("\u{feff}one\r\nthree a=\"b c\"\r\n")).unwrap();
    bench.next_list_is(&["one", "three"]).await;
    assert!(bench.snapshots.borrow().refused.is_none());
    assert_eq!(bench.log.count("can be read again"), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_list_before_it_is_awaited_and_its_lines_are_named() {
    let mut bench = Bench::start(|folder| fs::write(folder.join("watch.list"), "a/b\n# c\n").unwrap());
    let snapshot = bench.problem().await;
    assert!(snapshot.looked && snapshot.list.is_none() && snapshot.has_only_rejected_lines());
    assert_eq!(bench.log.count("line=1 column=2 "), 1);
    assert_eq!(bench.log.count("waiting for it"), 1);
    assert_eq!(snapshot.name_rejected_lines(&bench.path), 1);
    assert_eq!(bench.log.count("line=1 column=2 "), 2);
    fs::write(&bench.path, "ok\n").unwrap();
    bench.next_list_is(&["ok"]).await;
}

#[tokio::test(start_paused = true)]
async fn repeated_lines_and_unusable_deadlines_are_named_and_not_rejected() {
    let mut bench = Bench::with_list("one\ntwo deadline=soon\none\n").await;
    assert_eq!(bench.log.count("line of the watch list rejected"), 0);
    for (line, level) in [
        ("line of the watch list repeats an operation", " INFO "),
        ("deadline in the watch list ignored", " WARN "),
    ] {
        let [found] = &bench.log.lines_with(line)[..] else {
            panic!("one line expected: {line}");
        };
        assert!(found.contains(level), "{found}");
    }
    assert_eq!(bench.log.count("rejected=0 repeated=1"), 1);
    append(&bench.path, "two\n");
    bench
        .until(|snapshot| snapshot.file().unwrap().repeated_total == 2)
        .await;
    assert_eq!(bench.log.count("repeats an operation"), 2, "each is named once");
}
