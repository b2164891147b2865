//! Keeps a second daemon out of a state directory, and remembers whether the last one left in order.

use crate::error::chain;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The name of the file, which is not the database's: SQLite's own locks must stay free for the commands that read
/// the state beside the daemon.
pub(super) const FILE: &str = "lock";

/// The lock of a state directory, held until it is dropped or the process ends, however it ends.
///
/// The file has the process ID while a daemon runs, and after an orderly exit what the database was like then: an ID that
/// nobody's lock goes with shows a crash, another database shows that somebody else wrote to it.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
    last: Last,
}

/// How the last daemon left the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It was killed, or crashed, or refused the state.
    Unclean,
    /// In order, with the database like this; `None` after version 0.1, which does not say.
    Clean(Option<Print>),
}

/// What changes when somebody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Print {
    /// Of the file as it is now.
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

/// The clock of file systems moves in steps that are shorter than this.
const TICK: Duration = Duration::from_millis(20);

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it; its ID, if it can be read.
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
        // Whatever else is in there is no process ID either.
        let _ = (&mut file).take(64).read_to_string(&mut content);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(content.trim().parse().ok())),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let content = content.trim();
        let last = match Print::parse(content) {
            Some(print) => Last::Clean(Some(print)),
            None if content.is_empty() => Last::Clean(None),
            None => Last::Unclean,
        };
        let mut lock = Self { file, last };
        if let Err(error) = lock.sign() {
            // A full disk is no reason to stay down; the worst is an error without a process ID in it.
            tracing::warn!(
                error = chain(&error),
                "the process ID could not be written to the lock file"
            );
        }
        Ok(lock)
    }

    /// How the last daemon left the state.
    pub(super) fn last(&self) -> Last {
        self.last
    }

    /// The file itself: its identity shows whether it is still in its place.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Lets go after an orderly exit that left `database` closed.
    pub(super) fn release(mut self, database: &Path) -> io::Result<()> {
        // Else a write right after this one might leave the same time.
        thread::sleep(TICK);
        let line = match Print::of(database) {
            Ok(print) => format!("closed {} {}\n", print.size, print.modified),
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
    fn a_second_one_is_kept_out_and_told_who_is_in() {
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
        let print = Print::of(&database).unwrap();
        assert_eq!(
            DirLock::take(dir.path()).unwrap().last(),
            Last::Clean(Some(print))
        );
        // The last one was dropped without a release, as by a crash.
        let lock = DirLock::take(dir.path()).unwrap();
        assert_eq!(lock.last(), Last::Unclean);
        lock.release(&database).unwrap();
        std::fs::write(&database, "y").unwrap();
        assert_ne!(Print::of(&database).unwrap(), print);
    }
}
