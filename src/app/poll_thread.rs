//! The polling thread: its runtime runs the pollers and their connections, and nothing else.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A single-threaded runtime. Slow responses, long lists and signatures run elsewhere, so they cannot delay a poll.
/// Polls are also cheaper than on threads that share tasks.
#[derive(Debug)]
pub(super) struct PollThread {
    runtime: Handle,
    /// Dropped to end the thread.
    ending: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl PollThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ending, ends) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("poll".to_owned()).spawn(move || {
            // Returns when the sender is dropped.
            let _ = runtime.block_on(ends);
            // A DNS lookup may hang.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            runtime: handle,
            ending,
            thread,
        })
    }

    /// The runtime of the pollers.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Ends the thread and drops its tasks.
    pub(super) async fn end(self) {
        drop(self.ending);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the polling thread failed: this is a bug, please report it");
        }
    }
}
