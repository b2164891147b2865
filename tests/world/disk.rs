//! A disk that is slow, full, or gone in the middle of a commit, under the store's own engine in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backfill_watch::store::{
    Accepted, CommitError, Engine, EventLogFilter, MemoryEngine, ReadRequest, Store, StoreReadError,
    WriteRequest,
};
use tokio::sync::watch;

use crate::world::{Commit, World};

/// The disk of one run of the daemon. Its content survives the run.
#[derive(Debug)]
pub struct Disk {
    world: Arc<World>,
    memory: Arc<MemoryEngine>,
    /// Writes come to the disk one after the other.
    queue: tokio::sync::Mutex<()>,
    /// One channel each, so that those who wait are woken in an order that the seed alone decides.
    hints: Mutex<Vec<watch::Sender<u64>>>,
}

impl Disk {
    pub fn new(world: Arc<World>, memory: Arc<MemoryEngine>) -> Self {
        Self {
            world,
            memory,
            queue: tokio::sync::Mutex::new(()),
            hints: Mutex::new(Vec::new()),
        }
    }

    /// Reports to the world what is on disk now, from a write that was requested at `asked`.
    async fn show(&self, asked: Duration) {
        let store = Store::new(Arc::clone(&self.memory) as Arc<dyn Engine>, self.world.wall());
        loop {
            let after = self.world.shown();
            let page = store
                .events_after(after, 1000, EventLogFilter::default())
                .await
                .unwrap();
            let more = page.more;
            self.world.committed(page.events, page.next, asked);
            if !more {
                return;
            }
        }
    }
}

impl Engine for Disk {
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError> {
        Box::pin(async move {
            let asked = self.world.now();
            let turn = self.queue.lock().await;
            let (before, after) = self.world.disk_latency();
            tokio::time::sleep(before).await;
            self.world.alive().await;
            let commit = self.world.commit_begins();
            match commit {
                Commit::Refused => {
                    self.world.note(|| "disk full".to_owned());
                    return Err(CommitError::Unwritable("the disk is full".to_owned()));
                }
                Commit::CrashBefore => self.world.crash("before a commit").await,
                Commit::CrashAfter | Commit::Written => {}
            }
            let count = *self.memory.changed().borrow();
            self.memory.write(request).await?;
            let has_events = *self.memory.changed().borrow() != count;
            if has_events {
                self.show(asked).await;
            }
            if commit == Commit::CrashAfter {
                self.world.crash("after a commit").await;
            }
            if has_events {
                let mut hints = self.hints.lock().unwrap();
                hints.retain(|hint| !hint.is_closed());
                for hint in hints.iter() {
                    hint.send_modify(|count| *count += 1);
                }
            }
            drop(turn);
            tokio::time::sleep(after).await;
            Ok(())
        })
    }

    fn read(&self, request: ReadRequest) -> Accepted<'_, StoreReadError> {
        Box::pin(async move {
            self.world.alive().await;
            self.memory.read(request).await
        })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        let (hint, receiver) = watch::channel(0);
        self.hints.lock().unwrap().push(hint);
        receiver
    }

    fn is_writable(&self) -> bool {
        self.world.is_disk_writable()
    }
}
