//! The one door between deciding and telling: what is to be told is recorded first.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::RwLock;
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
    /// Read by each recording under way.
    underway: Arc<RwLock<()>>,
}

impl Recorder {
    /// Records in `store`, then tells `reporters`, in their order.
    #[must_use]
    pub fn new(store: Store, reporters: Vec<Reporter>) -> Self {
        Self {
            store,
            reporters: reporters.into(),
            tasks: TaskTracker::new(),
            underway: Arc::default(),
        }
    }

    /// Records a change of state with the events that tell it, in one transaction, then tells them.
    ///
    /// # Errors
    /// When it could not be recorded; then nothing is told, and whoever asked must not go on as if it were.
    pub async fn record(&self, change: Change) -> Result<(), CommitError> {
        self.record_then(change, |_| {}).await
    }

    /// As [`Recorder::record`]; calls `then` with whether it was recorded, before it is told, also when whoever asked
    /// has gone.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn record_then(
        &self,
        change: Change,
        then: impl FnOnce(bool) + Send + 'static,
    ) -> Result<(), CommitError> {
        let underway = Arc::clone(&self.underway).read_owned().await;
        let store = self.store.clone();
        let reporters = Arc::clone(&self.reporters);
        let recording = self.tasks.spawn(async move {
            let _underway = underway;
            let committed = store.commit(&change).await;
            then(committed.is_ok());
            committed?;
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

    /// Waits until everything that is being recorded now is on disk, or was refused: what is read after that is not
    /// behind what somebody recorded who has gone.
    pub async fn settled(&self) {
        drop(self.underway.write().await);
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
