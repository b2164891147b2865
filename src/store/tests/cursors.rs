//! Cursors over restarts, restored backups and the removal of old events.

use super::damage::copy_of;
use super::*;

async fn record(dir: &Path, operations: &[&str]) -> Cursor {
    let (store, threads) = Store::open(dir).await.unwrap();
    for operation in operations {
        store
            .commit(&change(operation, &[(EventType::Started, 1)]))
            .await
            .unwrap();
    }
    let end = store.end_of_log().await.unwrap();
    assert_eq!(
        all_events(&store).await.last().map(|event| event.cursor.clone()),
        Some(end.clone())
    );
    threads.close().await.unwrap();
    end
}

async fn after(dir: &Path, cursor: &Cursor) -> Result<usize, EventsError> {
    let (store, threads) = Store::open(dir).await.unwrap();
    let cursor: Cursor = cursor.to_string().parse().unwrap();
    let page = store
        .events_after(Some(cursor), 100, EventLogFilter::default())
        .await;
    threads.close().await.unwrap();
    page.map(|page| page.events.len())
}

#[tokio::test]
async fn a_cursor_outlives_restarts_and_names_its_start() {
    let dir = TempDir::new().unwrap();
    let first = record(dir.path(), &["a", "b"]).await;
    // A start that records nothing is none.
    assert_eq!(record(dir.path(), &[]).await, first);
    let second = record(dir.path(), &["c"]).await;
    assert_ne!(first.start, second.start);
    assert_eq!(after(dir.path(), &first).await.unwrap(), 1);
    assert_eq!(after(dir.path(), &second).await.unwrap(), 0);
}

#[tokio::test]
async fn a_restored_backup_refuses_cursors_of_what_it_does_not_have() {
    let dir = TempDir::new().unwrap();
    let before = record(dir.path(), &["a", "b"]).await;
    let backup = copy_of(dir.path());
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    store
        .commit(&change("c", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    // Made while the daemon runs, as a file system snapshot is.
    let snapshot = copy_of(dir.path());
    for operation in ["d", "e"] {
        store
            .commit(&change(operation, &[(EventType::Started, 1)]))
            .await
            .unwrap();
    }
    let lost = store.end_of_log().await.unwrap();
    threads.close().await.unwrap();
    let later = record(dir.path(), &["f"]).await;

    for restored in [backup, snapshot] {
        let dir = restored.path();
        for cursor in [&lost, &later] {
            assert!(matches!(after(dir, cursor).await, Err(EventsError::Foreign)));
        }
        record(dir, &["v", "w", "x", "y", "z"]).await;
        // Now there are such rows, and they are others.
        for cursor in [&lost, &later] {
            assert!(matches!(after(dir, cursor).await, Err(EventsError::Foreign)));
        }
        assert!(after(dir, &before).await.unwrap() >= 5);
    }
}

#[tokio::test]
async fn a_reader_that_is_up_to_date_stays_so_when_old_events_go() {
    let dir = TempDir::new().unwrap();
    for operation in ["a", "b", "c"] {
        record(dir.path(), &[operation]).await;
    }
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    let end = store.end_of_log().await.unwrap();
    let behind = all_events(&store).await[1].cursor.clone();
    let keys = ["a", "b", "c"].map(key).to_vec();
    store.set_unlisted(keys, now() - 2 * HOUR).await.unwrap();
    assert!(store.prune(now(), HOUR).await.unwrap() > 0);
    assert_eq!(all_events(&store).await, []);
    threads.close().await.unwrap();
    assert_eq!(after(dir.path(), &end).await.unwrap(), 0);
    assert!(matches!(
        after(dir.path(), &behind).await,
        Err(EventsError::Expired)
    ));
    record(dir.path(), &["d"]).await;
    assert_eq!(after(dir.path(), &end).await.unwrap(), 1);
}
