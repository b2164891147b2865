//! The thread that polls: its runtime has the pollers and their connections, and nothing else.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime of one thread. A page that takes long to make, a list of a million lines or a row of signatures holds up no poll,
/// and a poll is cheaper than on threads that share their tasks.
#[derive(Debug)]
pub(super) struct PollThread {
    runtime: Handle,
    /// It ends when this goes.
    ending: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl PollThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ending, ends) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("poll".to_owned()).spawn(move || {
            // Nothing is ever sent.
            let _ = runtime.block_on(ends);
            // A lookup of a name may hang.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            runtime: handle,
            ending,
            thread,
        })
    }

    /// Where pollers are to run.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Ends it, and drops what still runs there.
    pub(super) async fn end(self) {
        drop(self.ending);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the thread that polls ended badly: this is a bug, please report it");
        }
    }
}
