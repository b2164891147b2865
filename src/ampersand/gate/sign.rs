//! What holds a project's polls back, on a sign that all of them can wait at.
//!
//! A watch channel of tokio wakes those who wait in no particular order; this wakes them in the order of their coming,
//! so that first come is first served after a pause, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::core::project::Hold;

#[derive(Debug, Default)]
pub(super) struct Sign {
    written: Mutex<Written>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Written {
    hold: Hold,
    version: u64,
}

/// Whoever reads the sign, and knows which version was seen last.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    sign: &'a Sign,
    seen: u64,
}

impl Sign {
    /// Writes `hold` on it; whether it said something else before.
    pub(super) fn write(&self, hold: Hold) -> bool {
        let mut written = self.written();
        if written.hold == hold {
            return false;
        }
        written.hold = hold;
        written.version += 1;
        drop(written);
        self.changed.notify_waiters();
        true
    }

    /// Looks at what it says.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Hold) -> T) -> T {
        look(&self.written().hold)
    }

    /// A reader who has seen what it says now.
    pub(super) fn reader(&self) -> Reader<'_> {
        let seen = self.written().version;
        Reader { sign: self, seen }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader<'_> {
    /// What it says now, which counts as seen.
    pub(super) fn see(&mut self) -> Hold {
        let written = self.sign.written();
        self.seen = written.version;
        written.hold.clone()
    }

    /// Whether it says something that was not seen.
    pub(super) fn has_changed(&self) -> bool {
        self.sign.written().version != self.seen
    }

    /// Waits until it says something that was not seen; that counts as seen from then on.
    pub(super) async fn changed(&mut self) {
        loop {
            // Called before the look: what is written after the look wakes this up.
            let notified = self.sign.changed.notified();
            if self.has_changed() {
                self.seen = self.sign.written().version;
                return;
            }
            notified.await;
        }
    }
}
