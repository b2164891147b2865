//! A bounded queue in front of a writing thread, so that a slow reader delays no other task.

mod queue;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use queue::Priority;
use queue::Queue;

/// The most bytes in one call of the sink, unless a single entry is larger.
const BATCH: usize = 64 * 1024;

/// The handle of a queue and its thread. Clones are cheap.
#[derive(Debug)]
pub struct Spool<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// Wakes the thread when there are entries.
    filled: Condvar,
    /// Wakes [`Spool::flush`] when everything is written.
    drained: Condvar,
}

#[derive(Debug)]
struct State<T> {
    queue: Queue<T>,
    is_writing: bool,
}

impl<T> Clone for Spool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Spool<T> {
    /// Starts a thread of this name that passes entries to `sink`. The queue takes at most `capacity` bytes.
    ///
    /// The sink may block. Its second argument is the spool itself. The thread is never joined, because it may be blocked: it
    /// ends with the process.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(
        name: &str,
        capacity: usize,
        mut sink: impl FnMut(Vec<T>, &Self) + Send + 'static,
    ) -> io::Result<Self> {
        let spool = Self(Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(capacity),
                is_writing: false,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }));
        let of_thread = spool.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                sink(of_thread.next_batch(), &of_thread);
                of_thread.note_written();
            }
        })?;
        Ok(spool)
    }

    fn next_batch(&self) -> Vec<T> {
        let state = self
            .0
            .filled
            .wait_while(self.state(), |state| state.queue.is_empty());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        state.queue.take(BATCH)
    }

    fn note_written(&self) {
        let mut state = self.state();
        state.is_writing = false;
        if state.queue.is_empty() {
            self.0.drained.notify_all();
        }
    }
}

impl<T> Spool<T> {
    /// Adds an entry of `size` bytes. Returns false if the queue is full and the entry was dropped.
    pub fn push(&self, priority: Priority, size: usize, entry: T) -> bool {
        let is_accepted = self.state().queue.push(priority, size, entry);
        self.0.filled.notify_one();
        is_accepted
    }

    /// Waits until everything is written, for at most `limit`. Returns false after a timeout.
    pub fn flush(&self, limit: Duration) -> bool {
        let is_busy = |state: &mut State<T>| state.is_writing || !state.queue.is_empty();
        match self.0.drained.wait_timeout_while(self.state(), limit, is_busy) {
            Ok((_, waited)) => !waited.timed_out(),
            Err(_) => false,
        }
    }

    /// Whether no entry waits and none is being written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        !state.is_writing && state.queue.is_empty()
    }

    /// Whether entries wait beyond those that are being written.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.state().queue.is_empty()
    }

    /// The number of dropped entries.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.state().queue.dropped()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_blocked_sink_blocks_nobody_and_loses_nothing_that_fits() {
        let (release, released) = mpsc::channel::<()>();
        let (written, seen) = mpsc::channel();
        let spool = Spool::start("spool", 300, move |entries: Vec<u32>, _: &Spool<u32>| {
            let _ = released.recv();
            entries.into_iter().for_each(|entry| written.send(entry).unwrap());
        })
        .unwrap();
        assert!(spool.is_idle());
        assert!(spool.push(Priority::Ordinary, 1, 0));
        while spool.has_waiting() {
            thread::yield_now();
        }
        // The thread is blocked with the first; three of a hundred bytes fit.
        let accepted: Vec<u32> = (1..10)
            .filter(|n| spool.push(Priority::Ordinary, 100, *n))
            .collect();
        assert!(!accepted.is_empty() && accepted.len() <= 3, "{accepted:?}");
        assert_eq!(spool.dropped(), 9 - accepted.len() as u64);
        assert!(!spool.flush(Duration::from_millis(1)), "it is blocked");
        drop(release);
        assert!(spool.flush(LONG));
        let seen: Vec<u32> = seen.try_iter().collect();
        assert_eq!(seen[0], 0);
        assert_eq!(seen[1..], accepted);
        assert!(spool.is_idle());
    }
}
