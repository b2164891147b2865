//! The lock of a state directory. It keeps a second daemon out, and records whether the last one closed the state.

use crate::error::chain;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The name of the file. It is not the database, because commands that run beside the daemon need SQLite's locks.
pub(super) const FILE: &str = "lock";

/// The lock of a state directory, until it is dropped or the process ends.
///
/// While a daemon runs, the file contains its process ID. After an orderly exit it contains the size and time of the
/// database. A process ID without a lock shows a crash, and a different size or time shows that another program wrote.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
    last: Last,
}

/// How the last daemon left the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It was killed, it crashed, or it refused the state.
    Unclean,
    /// It closed the state with this fingerprint. `None` after version 0.1, which records none.
    Clean(Option<Fingerprint>),
}

/// The size and time of a file, which change with each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Fingerprint {
    /// The current fingerprint of the file.
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.len(),
            modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (size, modified) = text.strip_prefix("closed ")?.split_once(' ')?;
        Some(Self {
            size: size.parse().ok()?,
            modified: modified.parse().ok()?,
        })
    }
}

/// Longer than one tick of a file system's clock.
const TICK: Duration = Duration::from_millis(20);

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has the lock. Its ID, if it can be read.
    Held(Option<u32>),
    Io(io::Error),
}

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(LockError::Io)?;
        let locked = file.try_lock();
        let mut content = String::new();
        // The file may contain anything.
        let _ = (&mut file).take(64).read_to_string(&mut content);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(content.trim().parse().ok())),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let content = content.trim();
        let last = match Fingerprint::parse(content) {
            Some(fingerprint) => Last::Clean(Some(fingerprint)),
            None if content.is_empty() => Last::Clean(None),
            None => Last::Unclean,
        };
        let mut lock = Self { file, last };
        if let Err(error) = lock.sign() {
            // A full disk must not prevent the start. Only an error message lacks the process ID.
            tracing::warn!(error = chain(&error), "process ID not written to the lock file");
        }
        Ok(lock)
    }

    /// How the last daemon left the state.
    pub(super) fn last(&self) -> Last {
        self.last
    }

    /// The open file. Its identity shows whether the path still names it.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Records that `database` was closed in order, and releases the lock.
    pub(super) fn release(mut self, database: &Path) -> io::Result<()> {
        // Without a pause, a write right after this one could leave the same time.
        thread::sleep(TICK);
        let line = match Fingerprint::of(database) {
            Ok(fingerprint) => format!("closed {} {}\n", fingerprint.size, fingerprint.modified),
            Err(_) => String::new(),
        };
        self.write(&line)
    }

    fn sign(&mut self) -> io::Result<()> {
        self.write(&format!("{}\n", std::process::id()))
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
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
    fn a_second_one_is_refused_with_the_owner_of_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("state.db");
        std::fs::write(&database, "x").unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        assert_eq!(lock.last(), Last::Clean(None));
        match DirLock::take(dir.path()) {
            Err(LockError::Held(Some(pid))) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        lock.release(&database).unwrap();
        let fingerprint = Fingerprint::of(&database).unwrap();
        assert_eq!(
            DirLock::take(dir.path()).unwrap().last(),
            Last::Clean(Some(fingerprint))
        );
        // The last one was dropped without a release, as after a crash.
        let lock = DirLock::take(dir.path()).unwrap();
        assert_eq!(lock.last(), Last::Unclean);
        lock.release(&database).unwrap();
        std::fs::write(&database, "y").unwrap();
        assert_ne!(Fingerprint::of(&database).unwrap(), fingerprint);
    }
}
