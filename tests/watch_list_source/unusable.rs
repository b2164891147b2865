//! A file that can be read and of which nothing can be used leaves the list before active.

use super::*;

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_good_list_stays_active() {
    let mut fixture = Fixture::with_list("one\ntwo\n").await;
    for (content, reason) in [
        (utf16("one\ntwo\n"), "it is not text"),
        (b"customer=acme\na/b\n".to_vec(), "none of its lines can be used"),
        (vec![0; 8], "it is not text"),
    ] {
        fs::write(&fixture.path, content).unwrap();
        let is_refused = |snapshot: &WatchListSnapshot| {
            let problem = snapshot.problem.as_ref();
            problem.is_some_and(|problem| problem.to_string().contains(reason))
        };
        let snapshot = fixture.until(is_refused).await;
        assert_eq!(ids(&snapshot), ["one", "two"]);
        assert!(!snapshot.has_only_rejected_lines() && !snapshot.is_awaited());
        assert!(snapshot.file().unwrap().rejected_total > 0);
    }
    fixture.wait_for_checks(20).await;
    assert_eq!(fixture.log.count("last good one stays active"), 3);
    assert_eq!(fixture.snapshots.borrow().generation, 1);
    let good = fixture.snapshots.borrow().last_success;

    // A reload does not make it good.
    let number = fixture.handle.reload();
    let snapshot = fixture.until(|snapshot| snapshot.reloads == number).await;
    assert_eq!((snapshot.last_success, ids(&snapshot).len()), (good, 2));

    fs::write(&fixture.path, utf16("\u{feff}one\r\nthree a=\"b c\"\r\n")).unwrap();
    fixture.next_list_is(&["one", "three"]).await;
    assert!(fixture.snapshots.borrow().refused.is_none());
    assert_eq!(fixture.log.count("watch list readable again"), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_list_before_it_is_awaited_and_its_lines_are_named() {
    let mut fixture = Fixture::start(|folder| fs::write(folder.join("watch.list"), "a/b\n# c\n").unwrap());
    let snapshot = fixture.problem().await;
    assert!(snapshot.is_checked && snapshot.list.is_none() && snapshot.has_only_rejected_lines());
    assert_eq!(fixture.log.count("line=1 column=2 "), 1);
    assert_eq!(fixture.log.count("waiting for it"), 1);
    assert_eq!(snapshot.log_rejected_lines(&fixture.path), 1);
    assert_eq!(fixture.log.count("line=1 column=2 "), 2);
    fs::write(&fixture.path, "ok\n").unwrap();
    fixture.next_list_is(&["ok"]).await;
}

#[tokio::test(start_paused = true)]
async fn repeated_lines_and_unusable_deadlines_are_named_and_not_rejected() {
    let mut fixture = Fixture::with_list("one\ntwo deadline=soon\none\n").await;
    assert_eq!(fixture.log.count("line of the watch list rejected"), 0);
    for (line, level) in [
        ("line of the watch list repeats an operation", " INFO "),
        ("deadline in the watch list ignored", " WARN "),
    ] {
        let [found] = &fixture.log.lines_with(line)[..] else {
            panic!("one line expected: {line}");
        };
        assert!(found.contains(level), "{found}");
    }
    assert_eq!(fixture.log.count("rejected=0 repeated=1"), 1);
    append(&fixture.path, "two\n");
    fixture
        .until(|snapshot| snapshot.file().unwrap().repeated_total == 2)
        .await;
    assert_eq!(fixture.log.count("repeats an operation"), 2, "each is named once");
}
