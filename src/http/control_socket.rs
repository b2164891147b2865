//! The control socket: a Unix socket that only its owner and root can connect to, so it needs no token.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use axum::Router;
use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::listener::{Accept, BACKLOG, Serve, serve};
use crate::core::connections::ConnectionLimits;
use crate::error::chain;
use crate::open_files;

/// The file name of the socket.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The longest path of a Unix socket, in bytes.
const MAX_PATH: usize = 107;
/// The kernel's send buffer for a client that does not read, in bytes.
const SEND_BUFFER: usize = 32 * 1024;
/// Attempts to lock the folder, and the pause between them. Another daemon keeps the lock for milliseconds.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The path is too long for a socket address.
    #[error(
        "the path {path} has {length} bytes, but a socket path has at most {MAX_PATH}; use a shorter folder"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The folder is missing and cannot be created, or cannot be opened.
    #[error("cannot use the folder {folder}; check that it exists and is writable")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process listens on it.
    #[error("another process is using {path}; give each daemon its own folder")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The path is something other than a socket.
    #[error("{path} is not a socket; move it away")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The existing socket cannot be checked.
    #[error("cannot check whether another process is using {path}; if none is, remove the file")]
    Unknown {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The socket cannot be created.
    #[error("cannot create the socket {path}; check the permissions and the file system of its folder")]
    Create {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The control socket and its file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: ControlFile,
}

/// The file of a control socket. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlFile {
    path: PathBuf,
    /// `None` once the file is known to be deleted. A new file may have the same number.
    identity: Option<(u64, u64)>,
    /// The folder of the file.
    folder: (u64, u64),
}

/// Accepts the clients of a control socket.
#[derive(Debug)]
pub struct ControlListener(UnixListener);

impl ControlSocket {
    /// Listens on the control socket in `folder`, which is created with mode 0700 if it is missing. A socket file that no
    /// process listens on is replaced. Blocks briefly; must be called within the runtime.
    ///
    /// # Errors
    /// [`ControlError`]; an existing file is then left in place.
    pub fn bind(folder: &Path) -> Result<Self, ControlError> {
        let path = folder.join(CONTROL_SOCKET);
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            return Err(ControlError::TooLong { path, length });
        }
        let unusable = |source| ControlError::Folder {
            folder: folder.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(unusable)?;
        // No other daemon may check the old file between this check and the replacement.
        let _lock = lock(folder).map_err(unusable)?;
        remove_stale(&path)?;
        let failed = |source| ControlError::Create {
            path: path.clone(),
            source,
        };
        let listener = listen(&path).map_err(failed)?;
        let file = ControlFile::of(&path).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// The listener and the file. Drop the file first: a new daemon then finds either a live socket or none.
    #[must_use]
    pub fn split(self) -> (ControlListener, ControlFile) {
        (ControlListener(self.listener), self.file)
    }
}

impl ControlListener {
    /// The most event streams at a time.
    #[must_use]
    pub fn max_streams() -> usize {
        limits().regular.div_ceil(2)
    }
}

impl Serve for ControlListener {
    async fn serve(self, pages: Router, closing: CancellationToken) {
        serve(self.0, limits(), pages, closing).await;
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = UnixListener::accept(self).await?;
        // Connections do not inherit it. Best effort: without it, responses take more memory.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        Ok(stream)
    }
}

impl ControlFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: Some(identity(path)?),
            folder: identity(folder_of(path))?,
        })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was deleted, while its folder is still the same.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        let is_missing = identity(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        is_missing && identity(folder_of(&self.path)).is_ok_and(|folder| folder == self.folder)
    }

    /// From now on, a file at this path is not this one.
    pub fn set_deleted(&mut self) {
        self.identity = None;
    }

    fn remove(&self) -> io::Result<()> {
        if self.identity.is_none() {
            return Ok(());
        }
        let _lock = lock(folder_of(&self.path))?;
        // The file may belong to another daemon by now.
        if Some(identity(&self.path)?) == self.identity {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for ControlFile {
    fn drop(&mut self) {
        match self.remove() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(
                path = %self.path.display(),
                error = chain(&error),
                "the control socket file cannot be removed; the next start replaces it"
            ),
        }
    }
}

fn limits() -> ConnectionLimits {
    ConnectionLimits::of_control(open_files::limit())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Locks the folder against other daemons until the file is dropped. `None` on a file system without locks.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let folder = File::open(folder)?;
    for _ in 0..LOCK_TRIES {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        "another process keeps the folder locked",
    ))
}

/// Removes the socket file of a daemon that ended without removing it.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let unknown = |source| ControlError::Unknown {
        path: path.to_owned(),
        source,
    };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unknown(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ControlError::NotASocket {
            path: path.to_owned(),
        });
    }
    match connect(path) {
        Ok(()) => Err(ControlError::InUse {
            path: path.to_owned(),
        }),
        // Its queue is full, so a process listens.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ControlError::InUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| ControlError::Create {
                path: path.to_owned(),
                source,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unknown(error)),
    }
}

/// Connects without waiting.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Listens on a socket whose file never has another mode than 0600.
fn listen(path: &Path) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Linux gives the file the mode of the socket, minus the umask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let ready = || {
        // The umask may also remove rights of the owner.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)
    };
    if let Err(error) = ready() {
        // No client can have connected yet.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(folder: &Path) -> Result<ControlSocket, ControlError> {
        ControlSocket::bind(folder)
    }

    #[tokio::test]
    async fn it_is_created_for_its_owner_alone_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let socket = bind(&state).unwrap();
        let path = state.join(CONTROL_SOCKET);
        assert_eq!(path.symlink_metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(state.metadata().unwrap().mode() & 0o7777, 0o700);
        let (listener, file) = socket.split();
        drop(file);
        assert!(!path.exists());
        drop(listener);
    }

    #[tokio::test]
    async fn a_file_that_nobody_serves_is_replaced_and_one_that_is_served_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONTROL_SOCKET);
        drop(StdListener::bind(&path).unwrap());
        assert!(connect(&path).is_err());
        let first = bind(folder.path()).unwrap();
        connect(&path).unwrap();
        assert!(matches!(bind(folder.path()), Err(ControlError::InUse { .. })));
        assert_eq!(identity(&path).ok(), first.file.identity);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONTROL_SOCKET);
        fs::write(&path, "x").unwrap();
        assert!(matches!(
            bind(folder.path()),
            Err(ControlError::NotASocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[tokio::test]
    async fn a_path_has_at_most_107_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let space = MAX_PATH - folder.path().as_os_str().len() - CONTROL_SOCKET.len() - 2;
        let longest = folder.path().join("x".repeat(space));
        assert_eq!(longest.join(CONTROL_SOCKET).as_os_str().len(), MAX_PATH);
        bind(&longest).unwrap();
        let longer = folder.path().join("x".repeat(space + 1));
        assert!(matches!(
            bind(&longer),
            Err(ControlError::TooLong { length: 108, .. })
        ));
        assert!(!longer.exists());
    }

    #[tokio::test]
    async fn the_file_of_another_daemon_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONTROL_SOCKET);
        let first = bind(folder.path()).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(folder.path()).unwrap();
        drop(first);
        assert_eq!(identity(&path).ok(), second.file.identity);
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = bind(&file.join("below")).unwrap_err();
        assert!(matches!(error, ControlError::Folder { .. }), "{error}");
        assert!(chain(&error).contains("Not a directory"), "{}", chain(&error));
    }
}
