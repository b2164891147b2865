//! Removes expired rows from the state, in the background.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::store::Store;

/// The longest interval.
const PRUNE: Duration = Duration::from_hours(1);
/// The shortest interval, however short the retention is.
const SHORTEST_PRUNE: Duration = Duration::from_secs(1);

/// Removes expired rows every hour, more often with a shorter retention, and when the retention changes.
pub(super) async fn prune(store: Store, mut retention: watch::Receiver<Duration>, cancel: CancellationToken) {
    loop {
        let keep = *retention.borrow_and_update();
        match cancel.run_until_cancelled(store.prune(store.now(), keep)).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(rows)) => tracing::debug!(rows, "expired rows removed from the state"),
            Some(Err(error)) => {
                tracing::debug!(error = chain(&error), "cannot remove expired rows from the state")
            }
        }
        let pause = keep.clamp(SHORTEST_PRUNE, PRUNE);
        let other = tokio::time::timeout(pause, retention.wait_for(|new| *new != keep));
        match cancel.run_until_cancelled(other).await {
            Some(Ok(Ok(_)) | Err(_)) => {}
            // Cancelled, or the sender was dropped.
            None | Some(Ok(Err(_))) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;
    use crate::store::{StateChange, Subject};

    #[tokio::test(start_paused = true)]
    async fn a_changed_retention_applies_at_once_and_a_short_one_is_exact() {
        let store = Store::in_memory();
        let (retention, receiver) = watch::channel(Duration::from_hours(24));
        let cancel = CancellationToken::new();
        let pruning = tokio::spawn(prune(store.clone(), receiver, cancel.clone()));
        let leave = async |operation: &str| {
            let key = WatchKey {
                project: "project".into(),
                operation: operation.into(),
            };
            let change = StateChange {
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
