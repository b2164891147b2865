//! Checks and reads the watch-list file. These functions block.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The most bytes a watch list may have.
pub const MAX_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// Opening a FIFO would wait for a writer. The path was a regular file before, but may have been replaced since.
const O_NONBLOCK: i32 = if cfg!(target_os = "linux") { 0o4000 } else { 0x4 };

/// Why the file cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum WatchListError {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// It is a directory, a FIFO, a device or a socket.
    #[error("it is a {0}, not a file")]
    NotAFile(&'static str),
    /// It has more than [`MAX_FILE_BYTES`].
    #[error("it has more than {} MiB", MAX_FILE_BYTES / 1024 / 1024)]
    TooLarge,
    /// Most of its lines have characters that do not occur in text.
    #[error("it is not text; save it as UTF-8, or as UTF-16 with a byte-order mark")]
    NotText,
    /// None of its lines parses, and they are neither blank nor comments.
    #[error("none of its lines can be used; {lines} are rejected")]
    NoLineParses {
        /// How many lines are rejected.
        lines: usize,
    },
    /// The file system does not answer, for example because the server of a network file system is down.
    #[error("the file system has not answered for {seconds} s")]
    NoAnswer {
        /// The time since the request.
        seconds: u64,
    },
    /// The system reported an error.
    #[error("cannot {doing} it")]
    Refused {
        /// The action: `find`, `open` or `read`.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl WatchListError {
    fn from_io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            // Also for a broken symlink, or a missing folder.
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Refused { doing, source },
        }
    }

    /// Whether both report the same problem.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Missing, Self::Missing)
            | (Self::TooLarge, Self::TooLarge)
            | (Self::NotText, Self::NotText)
            | (Self::NoLineParses { .. }, Self::NoLineParses { .. })
            | (Self::NoAnswer { .. }, Self::NoAnswer { .. }) => true,
            (Self::NotAFile(a), Self::NotAFile(b)) => a == b,
            (Self::Refused { doing: a, source: x }, Self::Refused { doing: b, source: y }) => {
                a == b && x.kind() == y.kind() && x.raw_os_error() == y.raw_os_error()
            }
            (
                Self::Missing
                | Self::NotAFile(_)
                | Self::TooLarge
                | Self::NotText
                | Self::NoLineParses { .. }
                | Self::NoAnswer { .. }
                | Self::Refused { .. },
                _,
            ) => false,
        }
    }
}

/// The result of `stat`, to detect changes without reading. Two writes of the same length within one tick of the file
/// system's clock have the same signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The content of the file, with its signature before it was read.
#[derive(Debug)]
pub struct Content {
    /// The signature before the read, so that the next check notices a later write.
    pub signature: Signature,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The fingerprint of the bytes.
    pub fingerprint: ContentFingerprint,
    /// Whether whole lines were appended to the previous content.
    pub appended: bool,
}

/// The fingerprint of a content. It also detects the content at the start of a longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentFingerprint {
    /// Its length in bytes.
    pub length: usize,
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// Whether its last line has an end.
    pub ends_line: bool,
}

/// Reads the file, and compares it with the content `before`. Returns `None` if it has the signature `known`.
///
/// # Errors
/// When it is no regular file, cannot be read, or is too large.
pub fn check(
    path: &Path,
    known: Option<Signature>,
    before: Option<ContentFingerprint>,
) -> Result<Option<Content>, WatchListError> {
    // Before opening it, because opening a device or a FIFO can have effects. Symlinks are followed.
    let metadata = std::fs::metadata(path).map_err(WatchListError::from_io("find"))?;
    check_kind(&metadata)?;
    if known == Some(Signature::of(&metadata)) {
        return Ok(None);
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(WatchListError::from_io("open"))?;
    // Again for the open file: the path may have been replaced.
    let metadata = file.metadata().map_err(WatchListError::from_io("find"))?;
    check_kind(&metadata)?;
    let bytes = read_bounded(&file, metadata.size())?;
    let (fingerprint, appended) = compare(&bytes, before);
    let signature = Signature::of(&metadata);
    Ok(Some(Content {
        signature,
        bytes,
        fingerprint,
        appended,
    }))
}

/// The fingerprint of `bytes`, and whether they are those of `before` with whole lines appended.
fn compare(bytes: &[u8], before: Option<ContentFingerprint>) -> (ContentFingerprint, bool) {
    // Line ends of UTF-16 are not detected: its second check only comes later.
    let is_utf16 = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF");
    let ends_line = !is_utf16 && bytes.last().is_none_or(|last| *last == b'\n');
    let mut hash = Sha256::new();
    let mut appended = false;
    let mut rest = bytes;
    if let Some(before) = before.filter(|before| before.ends_line && ends_line)
        && let Some((kept, more)) = bytes.split_at_checked(before.length)
    {
        hash.update(kept);
        appended = *hash.clone().finalize() == before.digest;
        rest = more;
    }
    hash.update(rest);
    let fingerprint = ContentFingerprint {
        length: bytes.len(),
        digest: hash.finalize().into(),
        ends_line,
    };
    (fingerprint, appended)
}

/// Reads the file once.
///
/// # Errors
/// When it is no regular file, cannot be read, or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, WatchListError> {
    let content = check(path, None, None)?;
    Ok(content.map(|content| content.bytes).unwrap_or_default())
}

fn check_kind(metadata: &Metadata) -> Result<(), WatchListError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return if metadata.size() > MAX_FILE_BYTES {
            Err(WatchListError::TooLarge)
        } else {
            Ok(())
        };
    }
    Err(WatchListError::NotAFile(if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }))
}

/// The size is a hint: the file may grow while it is read.
fn read_bounded(file: &File, size: u64) -> Result<Vec<u8>, WatchListError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(WatchListError::from_io("read"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(WatchListError::TooLarge);
    }
    Ok(bytes)
}
