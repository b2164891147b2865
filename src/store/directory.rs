//! Whether a state directory can be written, without writing to it.

use std::io;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::sqlite::{self, OpenError};

/// Less free space than this is a full disk: SQLite could not extend its log.
const FULL: u64 = 1024 * 1024;

/// The state directory of a daemon.
#[derive(Debug, PartialEq, Eq)]
pub enum StateDirectory {
    /// It can be written, and its disk has this many free bytes.
    Writable {
        /// The free bytes, if the system reports them.
        free: Option<u64>,
    },
    /// It does not exist. The daemon creates it.
    Missing,
}

/// Checks that this user can write to a state directory and that its disk is not full.
///
/// # Errors
/// Why a daemon of this user could not use it.
pub fn check_directory(dir: &Path) -> Result<StateDirectory, OpenError> {
    let failed = |source: io::Error| OpenError::Directory {
        dir: dir.to_owned(),
        source,
    };
    let is_missing = match dir.metadata() {
        Ok(metadata) if !metadata.is_dir() => return Err(failed(io::ErrorKind::NotADirectory.into())),
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
    };
    if !is_missing && let Some(error) = sqlite::refused(dir) {
        return Err(error);
    }
    // A missing one is created in the nearest folder above it, perhaps by a package or by systemd.
    let existing = dir.ancestors().find(|folder| folder.is_dir()).unwrap_or(dir);
    match access(existing, Access::WRITE_OK) {
        Err(error) if !is_missing || error == rustix::io::Errno::ROFS => return Err(failed(error.into())),
        _ => {}
    }
    let free = statvfs(existing)
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
        .ok();
    match (free, is_missing) {
        (Some(free), _) if free < FULL => Err(failed(io::ErrorKind::StorageFull.into())),
        (_, true) => Ok(StateDirectory::Missing),
        (free, false) => Ok(StateDirectory::Writable { free }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_a_missing_one_and_a_file_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let found = check_directory(dir.path()).unwrap();
        assert!(matches!(found, StateDirectory::Writable { free: Some(free) } if free >= FULL));
        let missing = dir.path().join("state/of/mine");
        assert_eq!(check_directory(&missing).unwrap(), StateDirectory::Missing);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("state")] {
            let message = check_directory(&path).unwrap_err().to_string();
            assert!(message.contains("is not a directory"), "{message}");
        }
    }
}
