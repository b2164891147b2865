//! Output written on its own thread.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::IS_INCOMPLETE;
use crate::spool::{Priority, Spool};
use crate::stdio::StandardStream;

/// The most bytes that wait for a blocked stream. More are an error.
const CAPACITY: usize = 8 * 1024 * 1024;
/// How long the end of a command waits for pending output.
const FLUSH: Duration = Duration::from_secs(10);

/// Writes in order, and never blocks the caller. Clones write to the same queue.
#[derive(Debug, Clone)]
pub struct Background {
    spool: Spool<(StandardStream, Vec<u8>)>,
    /// The first error of standard output.
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let failure = Arc::<Mutex<Option<io::Error>>>::default();
        let noted = Arc::clone(&failure);
        let spool = Spool::start(
            "output",
            CAPACITY,
            move |entries: Vec<(StandardStream, Vec<u8>)>, _| {
                for (stream, bytes) in entries {
                    if let (StandardStream::Stdout, Err(error)) = (stream, stream.write_all(&bytes)) {
                        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                        noted.get_or_insert(error);
                    }
                }
            },
        )?;
        Ok(Self { spool, failure })
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// When an earlier write to standard output failed, or the stream was blocked for too long.
    pub fn print(&self, stream: StandardStream, text: &str) -> io::Result<()> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &*failure {
            return Err(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => error.kind().into(),
            });
        }
        drop(failure);
        if text.is_empty() {
            return Ok(());
        }
        let bytes = text.as_bytes().to_vec();
        if self.spool.push(Priority::Important, bytes.len(), (stream, bytes)) {
            return Ok(());
        }
        IS_INCOMPLETE.store(true, Ordering::Relaxed);
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the reader was blocked for too long",
        ))
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.spool.is_idle()
    }

    /// Waits for pending output for a limited time. If it is too short, the exit code is not 0.
    pub fn flush(&self) {
        if !self.spool.flush(FLUSH) {
            IS_INCOMPLETE.store(true, Ordering::Relaxed);
        }
    }
}
