//! What everybody may know of the store at any time, and the log lines that go with it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Shared between handles and engine.
#[derive(Debug)]
pub(super) struct Status {
    changed: watch::Sender<u64>,
    writable: AtomicBool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            changed: watch::Sender::new(0),
            writable: AtomicBool::new(true),
        }
    }
}

impl Status {
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Notes how writing went; tells the first failure and the first success after it, not each.
    pub(super) fn note_write(&self, failure: Option<&str>) {
        let was_writable = self.writable.swap(failure.is_none(), Ordering::Relaxed);
        match failure {
            Some(reason) if was_writable => {
                tracing::error!(
                    reason,
                    "the state cannot be written; nothing is told until it can, and nothing is lost"
                );
            }
            None if !was_writable => tracing::info!("the state can be written again"),
            _ => {}
        }
    }
}
