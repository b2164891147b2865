//! The control socket: a file that only its owner and root can connect to, so that no token is needed.

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

/// The name of the file.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The longest path that the address of a socket has room for, in bytes.
const MAX_PATH: usize = 107;
/// What the kernel keeps of an answer that its client does not read, in bytes.
const SEND_BUFFER: usize = 32 * 1024;
/// Tries to lock the folder, and the pause between them. Another daemon keeps the lock for milliseconds.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The path does not fit into the address of a socket.
    #[error(
        "the path {path} has {length} bytes, and a socket's path has at most {MAX_PATH}; use a shorter folder"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The folder is missing and cannot be created, or cannot be opened.
    #[error("cannot use the folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another daemon serves it.
    #[error("another process serves {path}; give each daemon a folder of its own")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{path} is not a socket; move it away")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// It is not known whether another daemon serves it.
    #[error("cannot find out whether another process serves {path}; if none does, remove the file")]
    Unknown {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system refuses the socket.
    #[error("cannot create {path}")]
    Create {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The control socket, and its file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: ControlFile,
}

/// The file of a control socket. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Serves the clients of a control socket.
#[derive(Debug)]
pub struct ControlListener(UnixListener);

impl ControlSocket {
    /// Listens on the control socket in `folder`, which is created with mode 0700 if it is missing. A file that no process
    /// serves any more is replaced. It blocks for a moment; call it within the runtime.
    ///
    /// # Errors
    /// [`ControlError`]; whatever has the name is left as it is.
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
        // Between the look at the old file and its replacement no other daemon may do the same.
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

    /// The socket and its file. The file is removed before the socket is closed, so that a new daemon finds either a
    /// socket that is served or none.
    #[must_use]
    pub fn split(self) -> (ControlListener, ControlFile) {
        (ControlListener(self.listener), self.file)
    }
}

impl ControlListener {
    /// How many event streams may be open at a time.
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
        // A connection does not inherit it. Without it the answer is the same, and takes more memory.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        Ok(stream)
    }
}

impl ControlFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let _lock = lock(folder)?;
        // Another daemon's file is left where it is.
        if identity(&self.path)? == self.identity {
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
                "the file of the control socket cannot be removed; the next start replaces it"
            ),
        }
    }
}

fn limits() -> ConnectionLimits {
    ConnectionLimits::of_control(open_files::limit())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Locks the folder against other daemons until the file is dropped. A file system without locks has none.
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
        "another process keeps it locked",
    ))
}

/// Removes the socket file of a daemon that has ended without removing it.
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
        // Its queue is full, but somebody listens.
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
    // Linux gives the file the mode of the socket, less the umask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let ready = || {
        // Where the umask takes rights away from the owner, too.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)
    };
    if let Err(error) = ready() {
        // Nobody can have connected, so that it is of no use to anybody.
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
        assert_eq!(identity(&path).unwrap(), first.file.identity);
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
        let room = MAX_PATH - folder.path().as_os_str().len() - CONTROL_SOCKET.len() - 2;
        let longest = folder.path().join("x".repeat(room));
        assert_eq!(longest.join(CONTROL_SOCKET).as_os_str().len(), MAX_PATH);
        bind(&longest).unwrap();
        let longer = folder.path().join("x".repeat(room + 1));
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
        assert_eq!(identity(&path).unwrap(), second.file.identity);
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
