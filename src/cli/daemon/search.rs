//! The search for a control socket.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::TIMEOUT;
use crate::cli::{DaemonArgs, Failure, exit};
use crate::config::{
    DEFAULT_PATH, DaemonLocation, DaemonTarget, Environment, Overrides, Settings, control_folders,
};
use crate::error::RUN_AS_ROOT;
use crate::http::CONTROL_SOCKET;

/// A control socket that cannot be opened.
#[derive(Debug)]
pub(super) struct UnusableSocket {
    path: PathBuf,
    error: io::Error,
}

impl UnusableSocket {
    pub(super) fn failure(&self) -> Failure {
        let owner = match self.path.symlink_metadata() {
            Ok(metadata) if metadata.uid() != 0 => format!(" or as user {}", metadata.uid()),
            _ => String::new(),
        };
        Failure {
            message: format!(
                "cannot open the control socket {}: {}; {RUN_AS_ROOT},{owner} or use --state-dir of another daemon",
                self.path.display(),
                self.error
            ),
            code: exit::USAGE,
        }
    }
}

/// The result of the search for a control socket.
pub(super) struct Search {
    /// A socket that is served.
    pub(super) found: Option<PathBuf>,
    /// The first one that cannot be opened.
    pub(super) unusable: Option<UnusableSocket>,
    /// The folders that were searched.
    pub(super) folders: Vec<PathBuf>,
    /// A socket that no process serves.
    left_over: Option<PathBuf>,
}

/// Finds the first control socket that is served. With an explicit `listen` none is searched.
pub(super) async fn search(args: &DaemonArgs, listen: Option<&str>) -> (Search, DaemonLocation) {
    let environment = Environment::capture();
    let overrides = Overrides {
        listen: listen.map(str::to_owned),
        state_dir: args.state_dir.clone(),
        ..Overrides::default()
    };
    let located = Settings::locate(args.config.as_deref(), &environment, &overrides);
    let mut search = Search {
        found: None,
        unusable: None,
        folders: Vec::new(),
        left_over: None,
    };
    if listen.is_some() {
        return (search, located);
    }
    let is_other = |file: &Path| environment.absolute(file) != Path::new(DEFAULT_PATH);
    let target = match args.state_dir.is_some() || args.config.as_deref().is_some_and(is_other) {
        true => DaemonTarget::Named,
        false => DaemonTarget::Default,
    };
    search.folders = control_folders(&environment, target, &located.state_dir);
    for folder in &search.folders {
        let path = folder.join(CONTROL_SOCKET);
        let error = match tokio::time::timeout(TIMEOUT, UnixStream::connect(&path)).await {
            Ok(Ok(_)) => {
                search.found = Some(path);
                break;
            }
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        match error.kind() {
            // The queue of a served socket is full.
            io::ErrorKind::WouldBlock => {
                search.found = Some(path);
                break;
            }
            io::ErrorKind::ConnectionRefused => search.left_over = search.left_over.or(Some(path)),
            // It does not exist, or its path is too long.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {}
            _ if search.unusable.is_none() => search.unusable = Some(UnusableSocket { path, error }),
            _ => {}
        }
    }
    (search, located)
}

impl Search {
    /// Why no control socket was found, for errors.
    pub(super) fn describe(&self) -> String {
        if let Some(path) = &self.left_over {
            let path = path.display();
            return format!("the daemon of {path} was killed or crashed, its log has the last lines");
        }
        let folders = self.folders.iter().map(|folder| folder.display().to_string());
        let folders: Vec<_> = folders.collect();
        format!("no {CONTROL_SOCKET} in {}", folders.join(", "))
    }
}

/// A note for errors if the settings that guided the search have errors.
pub(super) fn error_note(located: &DaemonLocation) -> &'static str {
    match &located.errors {
        Some(_) => "; the settings have errors, see `backfill-watch check`",
        None => "",
    }
}
