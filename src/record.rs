//! The one door between deciding and telling: what is to be told is recorded first.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use crate::core::event::Event;
use crate::store::{Change, CommitError, Store};

/// What events are told to, as soon as they are recorded, each by each. It is called on the runtime's threads.
pub type Reporter = Box<dyn Fn(&Event) + Send + Sync>;

/// Records changes and hands their events on.
#[derive(Clone)]
pub struct Recorder {
    store: Store,
    reporters: Arc<[Reporter]>,
    /// Recording and telling go on to their end even when the poller that asked is taken off the list meanwhile:
    /// what is on disk is told.
    tasks: TaskTracker,
}

impl Recorder {
    /// Records in `store`, then tells `reporters`, in their order.
    #[must_use]
    pub fn new(store: Store, reporters: Vec<Reporter>) -> Self {
        Self {
            store,
            reporters: reporters.into(),
            tasks: TaskTracker::new(),
        }
    }

    /// Records a change of state with the events that tell it, in one transaction, then tells them.
    ///
    /// # Errors
    /// When it could not be recorded; then nothing is told, and whoever asked must not go on as if it were.
    pub async fn record(&self, change: Change) -> Result<(), CommitError> {
        let store = self.store.clone();
        let reporters = Arc::clone(&self.reporters);
        let recording = self.tasks.spawn(async move {
            store.commit(&change).await?;
            for event in &change.events {
                reporters.iter().for_each(|report| report(event));
            }
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

    /// Now, by the clock that dates what is recorded.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// Waits until everything under way is recorded and told. Nobody may record after that.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("store", &self.store)
            .field("reporters", &self.reporters.len())
            .finish_non_exhaustive()
    }
}
