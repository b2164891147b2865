//! What is written down and forgotten in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Watched};
use crate::error::chain;
use crate::store::Store;

/// How often what has changed without an event is written down.
const CHECKPOINT: Duration = Duration::from_mins(1);
/// Into no more parts is that divided, over the same time: pollers are not held up by many at once.
const CHECKPOINT_PARTS: usize = 240;
/// So many are not worth dividing.
const SMALLEST_PART: usize = 200;
/// How many watches are written down in one go at the end: the writer stays free for events in between.
const CHECKPOINT_BATCH: usize = 1_000;
/// How often what was kept long enough is forgotten.
const PRUNE: Duration = Duration::from_hours(1);
/// However short a time things are kept, they are not forgotten more often than this.
const SHORTEST_PRUNE: Duration = Duration::from_secs(1);

/// Writes down what has changed without an event: each watch once in [`CHECKPOINT`].
pub(super) async fn checkpoints(store: Store, board: Arc<Board>, cancel: CancellationToken) {
    let rounds = async {
        loop {
            let all = board.all();
            let parts = all.chunks(all.len().div_ceil(CHECKPOINT_PARTS).max(SMALLEST_PART));
            let pause = CHECKPOINT / u32::try_from(parts.len()).unwrap_or(u32::MAX).max(1);
            if all.is_empty() {
                tokio::time::sleep(pause).await;
            }
            for part in parts {
                tokio::time::sleep(pause).await;
                write(&store, &board, part).await;
            }
        }
    };
    cancel.run_until_cancelled(rounds).await;
}

/// Writes down all that has changed without an event.
pub(super) async fn checkpoint(store: &Store, board: &Board) {
    for batch in board.all().chunks(CHECKPOINT_BATCH) {
        write(store, board, batch).await;
    }
}

async fn write(store: &Store, board: &Board, batch: &[Arc<Watched>]) {
    let listed = batch.iter().filter(|watched| board.holds(watched));
    let changed: Vec<_> = listed
        .filter_map(|watched| Some((watched.key.clone(), watched.take_changed()?)))
        .collect();
    if changed.is_empty() {
        return;
    }
    if let Err(error) = store.checkpoint(changed).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a checkpoint could not be written"
        );
        batch.iter().for_each(|watched| watched.mark_changed());
    }
}

/// Forgets what was kept long enough: each hour, or as often as what is kept for less than that needs, and at once when
/// it is to be kept for another time.
pub(super) async fn prune(store: Store, mut retention: watch::Receiver<Duration>, cancel: CancellationToken) {
    loop {
        let keep = *retention.borrow_and_update();
        match cancel.run_until_cancelled(store.prune(store.now(), keep)).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(rows)) => tracing::debug!(rows, "forgot what was kept long enough"),
            Some(Err(error)) => tracing::debug!(error = chain(&error), "nothing could be forgotten"),
        }
        let pause = keep.clamp(SHORTEST_PRUNE, PRUNE);
        let other = tokio::time::timeout(pause, retention.wait_for(|new| *new != keep));
        match cancel.run_until_cancelled(other).await {
            Some(Ok(Ok(_)) | Err(_)) => {}
            // Stopped, or whoever tells of another retention is gone.
            None | Some(Ok(Err(_))) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;
    use crate::store::{Change, Subject};

    #[tokio::test(start_paused = true)]
    async fn another_retention_holds_at_once_and_a_short_one_is_kept_to() {
        let store = Store::in_memory();
        let (retention, receiver) = watch::channel(Duration::from_hours(24));
        let cancel = CancellationToken::new();
        let pruning = tokio::spawn(prune(store.clone(), receiver, cancel.clone()));
        let leave = async |operation: &str| {
            let key = WatchKey {
                project: "project".into(),
                operation: operation.into(),
            };
            let change = Change {
                subject: Subject::Watch(key.clone(), Box::<Watch>::default()),
                events: Vec::new(),
            };
            store.commit(&change).await.unwrap();
            let hour_ago = store.now() - Duration::from_hours(1);
            store.set_unlisted(vec![key.clone()], hour_ago).await.unwrap();
            key
        };
        let is_known =
            async |key: &WatchKey| !store.load(vec![key.clone()]).await.unwrap().watches.is_empty();

        let first = leave("first").await;
        tokio::time::sleep(PRUNE * 3).await;
        assert!(is_known(&first).await);
        retention.send_replace(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!is_known(&first).await);
        let second = leave("second").await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert!(is_known(&second).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_known(&second).await);
        cancel.cancel();
        pruning.await.unwrap();
    }
}
