//! The one door between deciding and telling: what is to be told is recorded first.

use tokio_util::task::TaskTracker;

use crate::report::tell::tell;
use crate::store::{Change, CommitError, Store};

/// Records changes and hands their events on.
#[derive(Debug, Clone)]
pub struct Recorder {
    store: Store,
    /// Recording and telling go on to their end even when the poller that asked is taken off the list meanwhile:
    /// what is on disk is told.
    tasks: TaskTracker,
}

impl Recorder {
    /// Records in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            tasks: TaskTracker::new(),
        }
    }

    /// Records a change of state with the events that tell it, in one transaction, then tells them.
    ///
    /// # Errors
    /// When it could not be recorded; then nothing is told, and whoever asked must not go on as if it were.
    pub async fn record(&self, change: Change) -> Result<(), CommitError> {
        let store = self.store.clone();
        let recording = self.tasks.spawn(async move {
            let events = change.events.clone();
            store.commit(change).await?;
            events.iter().for_each(tell);
            Ok(())
        });
        match recording.await {
            Ok(recorded) => recorded,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(CommitError::Closed),
            },
        }
    }

    /// Waits until everything under way is recorded and told. Nobody may record after that.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
