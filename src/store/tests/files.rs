//! Files that are removed or replaced, and starts that are cancelled.

use tokio_util::sync::CancellationToken;

use super::damage::copy_of;
use super::*;

/// A state of some size, as a crash leaves it.
async fn large_state() -> TempDir {
    let dir = TempDir::new().unwrap();
    let (_store, threads) = Store::open(dir.path()).await.unwrap();
    threads.close().await.unwrap();
    let conn = Connection::open(dir.path().join("state.db")).unwrap();
    conn.execute_batch(
        "PRAGMA synchronous = off;
         CREATE TABLE padding (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         INSERT INTO padding (body) SELECT printf('%0300d', i * 7919 % 100003) FROM n;",
    )
    .unwrap();
    conn.close().unwrap();
    fs::write(dir.path().join("lock"), "4194304\n").unwrap();
    dir
}

#[tokio::test]
async fn a_start_is_cancelled_in_the_middle_of_the_check_and_leaves_nothing() {
    let dir = large_state().await;
    let stop = CancellationToken::new();
    let begin = clock::instant();
    let opening = Store::open_until(dir.path(), &stop);
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        stop.cancel();
        clock::instant()
    };
    let (opened, cancelled) = tokio::join!(opening, cancel);
    assert!(matches!(opened, Err(OpenError::Cancelled)), "{opened:?}");
    assert!(cancelled.elapsed() < Duration::from_secs(1));
    let until_cancelled = begin.elapsed();
    // Nobody has the lock, and the check begins again.
    let begin = clock::instant();
    let (_store, threads) = Store::open(dir.path()).await.unwrap();
    assert!(
        begin.elapsed() > until_cancelled,
        "the check was not long enough to be cancelled"
    );
    threads.close().await.unwrap();
}

#[tokio::test]
async fn an_opening_that_nobody_waits_for_ends() {
    let dir = large_state().await;
    let opening = Store::open(dir.path());
    tokio::time::timeout(Duration::from_millis(20), opening)
        .await
        .unwrap_err();
    let free = async {
        loop {
            match Store::open(dir.path()).await {
                Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                other => return other,
            }
        }
    };
    let (_store, threads) = tokio::time::timeout(Duration::from_secs(60), free)
        .await
        .unwrap()
        .unwrap();
    threads.close().await.unwrap();
}

#[tokio::test]
async fn a_program_that_keeps_it_locked_does_not_keep_a_start_from_being_cancelled() {
    let dir = large_state().await;
    let conn = Connection::open(dir.path().join("state.db")).unwrap();
    conn.execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE; UPDATE state SET probed = 1")
        .unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let begin = clock::instant();
    let opened = Store::open_until(dir.path(), &stop).await;
    assert!(matches!(opened, Err(OpenError::Cancelled)), "{opened:?}");
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn what_is_removed_while_it_is_open_is_noticed_and_not_written() {
    for name in ["", "state.db", "lock"] {
        let parent = TempDir::new().unwrap();
        let dir = parent.path().join("state");
        let (store, threads) = Store::open(&dir).await.unwrap();
        store
            .commit(&change("a", &[(EventType::Started, 1)]))
            .await
            .unwrap();
        let (place, aside) = (dir.join(name), parent.path().join("aside"));
        fs::rename(&place, &aside).unwrap();
        let noticed = async {
            while store.health().removed.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), noticed)
            .await
            .unwrap();
        assert!(!store.is_writable());
        let refused = store.commit(&change("b", &[(EventType::Started, 1)])).await;
        assert!(
            matches!(&refused, Err(error @ CommitError::Removed(_)) if error.is_retryable()),
            "{refused:?}"
        );
        // Another daemon may be at work there by now.
        if name.is_empty() {
            let (_store, other) = Store::open(&dir).await.unwrap();
            other.close().await.unwrap();
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::rename(&aside, &place).unwrap();
        let back = async {
            while store
                .commit(&change("c", &[(EventType::Started, 1)]))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
        assert_eq!(all_events(&store).await.len(), 2);
        threads.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_leaves_the_files_of_another_daemon_alone() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("state");
    let (store, threads) = Store::open(&dir).await.unwrap();
    store
        .commit(&change("a", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    fs::rename(&dir, parent.path().join("aside")).unwrap();
    let (other, of_other) = Store::open(&dir).await.unwrap();
    other
        .commit(&change("b", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    assert!(threads.close().await.is_err());
    let copy = copy_of(&dir);
    assert!(copy.path().join("state.db-wal").exists());
    assert_eq!(all_events(&other).await.len(), 1);
    of_other.close().await.unwrap();
    assert_eq!(
        StateReader::open(&dir)
            .unwrap()
            .events_after(None, 10, &EventLogFilter::default())
            .unwrap()
            .events
            .len(),
        1
    );
}
