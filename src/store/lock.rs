//! Keeps a second daemon out of a state directory, and remembers whether the last one left in order.

use crate::error::chain;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The name of the file, which is not the database's: SQLite's own locks must stay free for the commands that read
/// the state beside the daemon.
const FILE: &str = "lock";

/// The lock of a state directory, held until it is dropped or the process ends, however it ends.
///
/// The file holds the process ID while a daemon runs and nothing after an orderly exit, so an ID that nobody's lock
/// goes with tells of a crash.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
    unclean: bool,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it; its ID, if it can be read.
    Held(Option<u32>),
    Io(io::Error),
}

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(FILE))
            .map_err(LockError::Io)?;
        let locked = file.try_lock();
        let mut content = String::new();
        // Whatever else is in there is no process ID either.
        let _ = (&mut file).take(32).read_to_string(&mut content);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(content.trim().parse().ok())),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let mut lock = Self {
            file,
            unclean: !content.trim().is_empty(),
        };
        if let Err(error) = lock.sign() {
            // A full disk is no reason to stay down; the worst is an error without a process ID in it.
            tracing::warn!(
                error = chain(&error),
                "the process ID could not be written to the lock file"
            );
        }
        Ok(lock)
    }

    /// Whether whoever held it last did not come to [`DirLock::release`].
    pub(super) fn was_unclean(&self) -> bool {
        self.unclean
    }

    /// Lets go after an orderly exit.
    pub(super) fn release(self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()
    }

    fn sign(&mut self) -> io::Result<()> {
        let line = format!("{}\n", std::process::id());
        self.file.rewind()?;
        self.file.write_all(line.as_bytes())?;
        self.file.set_len(line.len() as u64)?;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_kept_out_and_told_who_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        assert!(!lock.was_unclean());
        match DirLock::take(dir.path()) {
            Err(LockError::Held(Some(pid))) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        lock.release().unwrap();
        assert!(!DirLock::take(dir.path()).unwrap().was_unclean());
        // The last one was dropped without a release, as by a crash.
        assert!(DirLock::take(dir.path()).unwrap().was_unclean());
    }
}
