//! A folder that is gone when its owner is.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A new folder among the temporary files, for this user alone; removed with all it holds when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make() -> io::Result<Self> {
        let name = format!("backfill-watch-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Fails where something of that name exists, so that nobody can have laid a trap there.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A system that refuses this clears its temporary files by itself.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_gone_in_the_end() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::make().unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(Folder::make().is_err(), "somebody else's folder is not used");
        drop(folder);
        assert!(!path.exists());
    }
}
