//! Commits changes of state with their events, then reports the events. Nothing is reported before it is committed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::core::event::Event;
use crate::store::{CommitError, StateChange, Store};

/// Receives each event once it is recorded. It is called on the runtime's threads and must not block them.
pub type EventReporter = Box<dyn Fn(&Event) + Send + Sync>;

/// Records changes and reports their events.
#[derive(Clone)]
pub struct Recorder {
    store: Store,
    reporters: Arc<[EventReporter]>,
}

impl Recorder {
    /// Records in `store`, then calls `reporters` in their order.
    #[must_use]
    pub fn new(store: Store, reporters: Vec<EventReporter>) -> Self {
        Self {
            store,
            reporters: reporters.into(),
        }
    }

    /// Records a change of state and its events in one transaction, then reports the events. Do not drop the future: it may
    /// have recorded without reporting.
    ///
    /// # Errors
    /// When nothing was recorded. Then nothing is reported, and the caller must keep the old state.
    pub async fn record(&self, change: &StateChange) -> Result<(), CommitError> {
        self.store.commit(change).await?;
        for event in &change.events {
            self.reporters.iter().for_each(|report| report(event));
        }
        Ok(())
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The current time of the clock that dates records.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("store", &self.store)
            .field("reporters", &self.reporters.len())
            .finish()
    }
}
