//! Detects that files of an open state were removed or replaced. Writes to them would be lost.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The device and inode of a file.
type Identity = (u64, u64);

/// The files of an open state.
#[derive(Debug)]
pub(super) struct Presence {
    paths: Vec<WatchedPath>,
    /// Kept open, so that their inodes are not reused.
    _open: Vec<File>,
}

#[derive(Debug)]
struct WatchedPath {
    path: PathBuf,
    /// `None` until the file exists. SQLite creates its log when it needs it.
    identity: Option<Identity>,
}

impl Presence {
    /// Starts with the directory of `database`, the database, the files beside it, and the lock.
    pub(super) fn of(database: &Path, lock: (&Path, &File)) -> io::Result<Self> {
        let dir = database.parent().unwrap_or(Path::new("."));
        let mut open = Vec::new();
        let mut paths = Vec::new();
        for path in [dir, database] {
            let file = File::open(path)?;
            paths.push(WatchedPath {
                path: path.to_owned(),
                identity: Some(identity(&file.metadata()?)),
            });
            open.push(file);
        }
        paths.push(WatchedPath {
            path: lock.0.to_owned(),
            identity: Some(identity(&lock.1.metadata()?)),
        });
        for suffix in ["-wal", "-shm"] {
            let mut name = database.as_os_str().to_owned();
            name.push(suffix);
            paths.push(WatchedPath {
                path: PathBuf::from(name),
                identity: None,
            });
        }
        Ok(Self { paths, _open: open })
    }

    /// Describes a file that was removed or replaced.
    pub(super) fn missing(&mut self) -> Option<String> {
        self.paths.iter_mut().find_map(WatchedPath::missing)
    }
}

impl WatchedPath {
    fn missing(&mut self) -> Option<String> {
        let found = fs::metadata(&self.path).map(|metadata| identity(&metadata));
        let path = self.path.display();
        match (self.identity, found) {
            (Some(identity), Ok(found)) if identity == found => None,
            (Some(_), Ok(_)) => Some(format!("`{path}` was replaced by another file")),
            (Some(_), Err(error)) => Some(format!("`{path}` is gone ({error})")),
            (None, found) => {
                self.identity = found.ok();
                None
            }
        }
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_that_is_removed_or_replaced_is_noticed() {
        for (name, named) in [
            ("state.db", "state.db"),
            ("state.db-wal", "state.db-wal"),
            ("state.db-shm", "state.db-shm"),
            ("lock", "lock"),
            ("", "state"),
        ] {
            let parent = tempfile::tempdir().unwrap();
            let dir = parent.path().join("state");
            let fill = || {
                fs::create_dir(&dir).unwrap();
                for name in ["state.db", "state.db-wal", "state.db-shm", "lock"] {
                    fs::write(dir.join(name), "x").unwrap();
                }
            };
            fill();
            let lock = dir.join("lock");
            let file = File::open(&lock).unwrap();
            let mut presence = Presence::of(&dir.join("state.db"), (&lock, &file)).unwrap();
            assert_eq!(presence.missing(), None);
            let (place, aside) = (dir.join(name), parent.path().join("aside"));
            fs::rename(&place, &aside).unwrap();
            let gone = presence.missing().unwrap();
            assert!(gone.contains(named) && gone.contains("gone"), "{gone}");
            if name.is_empty() {
                fill();
            } else {
                fs::copy(&aside, &place).unwrap();
            }
            let replaced = presence.missing().unwrap();
            assert!(replaced.contains("replaced"), "{replaced}");
            if name.is_empty() {
                fs::remove_dir_all(&place).unwrap();
            }
            fs::rename(&aside, &place).unwrap();
            assert_eq!(presence.missing(), None, "it is back");
        }
    }
}
