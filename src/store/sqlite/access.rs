//! Finds the file of a state that this process may not use, so that an error names it and its owner.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::open_error::{FILE, OpenError};
use crate::store::lock;

/// The first file of the state that this user may not read and write, if any.
pub(in crate::store) fn refused(dir: &Path) -> Option<OpenError> {
    let files = [
        lock::FILE.to_owned(),
        FILE.to_owned(),
        format!("{FILE}-wal"),
        format!("{FILE}-shm"),
    ];
    let both = Access::READ_OK | Access::WRITE_OK;
    let folder = std::iter::once((dir.to_owned(), both | Access::EXEC_OK));
    let mut paths = folder.chain(files.map(|name| (dir.join(name), both)));
    // Without opening it: closing a second descriptor of the file would release SQLite's locks.
    let (file, _) = paths.find(|(path, wanted)| access(path, *wanted) == Err(Errno::ACCESS))?;
    let metadata = file.metadata().ok()?;
    let user = rustix::process::geteuid().as_raw();
    Some(OpenError::NotPermitted {
        file,
        owner: name(metadata.uid()),
        mode: metadata.mode() & 0o7777,
        runs_as: name(user),
        user,
        dir: dir.to_owned(),
    })
}

/// A user for messages. Most other IDs have no name on this host.
fn name(user: u32) -> String {
    match user {
        0 => "root".to_owned(),
        user => format!("user {user}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_may_be_used_is_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refused(dir.path()).is_none());
        assert!(refused(&dir.path().join("missing")).is_none());
        let file = dir.path().join(FILE);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        let found = refused(dir.path()).map(|error| error.to_string());
        // Modes do not bind root.
        if rustix::process::geteuid().is_root() {
            assert_eq!(found, None);
            return;
        }
        let message = found.unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert!(message.contains(&format!("`{}`", file.display())), "{message}");
        assert!(
            message.contains(&format!("belongs to user {user} (mode 400)")),
            "{message}"
        );
    }
}
