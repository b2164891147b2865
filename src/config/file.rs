//! Reading small text files: settings, secrets, certificates.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It does not exist.
    #[error("there is no such file")]
    Missing,
    /// The path is a folder.
    #[error("it is a directory, not a file")]
    Directory,
    /// The path is a pipe, a socket or a device, which could block or never end.
    #[error("it is not a regular file")]
    NotRegular,
    /// The operating system refused.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// The file is too large.
    #[error("it is larger than {max} bytes")]
    TooLarge {
        /// The largest accepted size, in bytes.
        max: usize,
    },
    /// The file is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// The folder has too many files.
    #[error("it has more than {max} files")]
    TooMany {
        /// The most files that are read.
        max: usize,
    },
}

impl FileError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Missing => "create the file, or correct the path",
            Self::Directory | Self::NotRegular => "use the path of a regular file",
            Self::Unreadable(_) => {
                "give the user that runs backfill-watch read permission for the file and its folders"
            }
            Self::TooLarge { .. } => "check that the path is that of the right file",
            Self::TooMany { .. } => "remove or merge some of them",
            Self::NotUtf8 => "check that the path is that of the right file, and save it as UTF-8",
        }
    }
}

/// Reads a text file of at most `max` bytes.
pub(super) fn read_text(path: &Path, max: usize) -> Result<String, FileError> {
    let refused = |error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => FileError::Missing,
        ErrorKind::IsADirectory => FileError::Directory,
        _ => FileError::Unreadable(error),
    };
    // Checked before the file is opened, because opening a pipe waits for its other end.
    let metadata = path.metadata().map_err(refused)?;
    if metadata.is_dir() {
        return Err(FileError::Directory);
    }
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = File::open(path).map_err(refused)?;
    // One byte more than allowed, to detect a larger file.
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() > max {
        return Err(FileError::TooLarge { max });
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit_and_explains_failures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert!(matches!(read_text(&path, 4), Err(FileError::Missing)));
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        assert!(matches!(read_text(&path, 3), Err(FileError::TooLarge { max: 3 })));
        assert!(matches!(
            read_text(&path.join("below"), 4),
            Err(FileError::Missing)
        ));
        assert!(matches!(read_text(folder.path(), 4), Err(FileError::Directory)));
        assert!(matches!(
            read_text(Path::new("/dev/null"), 4),
            Err(FileError::NotRegular)
        ));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read_text(&path, 4), Err(FileError::NotUtf8)));
    }
}
