//! The search for a control socket.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::{DaemonArgs, TIMEOUT};
use crate::cli::{Failure, exit};
use crate::config::{
    DEFAULT_PATH, DaemonLocation, DaemonTarget, Environment, Overrides, Settings, control_folders,
};
use crate::http::CONTROL_SOCKET;

/// A control socket that is there and cannot be opened.
#[derive(Debug)]
pub(super) struct Unusable {
    path: PathBuf,
    error: io::Error,
}

impl Unusable {
    fn explain(&self) -> String {
        let owner = match self.path.symlink_metadata() {
            Ok(metadata) if metadata.uid() != 0 => format!(" or as user {}", metadata.uid()),
            _ => String::new(),
        };
        format!(
            "cannot open the control socket {}: {}; run this as root, for example with sudo,{owner} or name another \
             daemon with --state-dir",
            self.path.display(),
            self.error
        )
    }

    pub(super) fn failure(&self) -> Failure {
        Failure {
            message: self.explain(),
            code: exit::USAGE,
        }
    }
}

/// What the search for a control socket found.
pub(super) struct Search {
    /// The socket.
    pub(super) found: Option<PathBuf>,
    /// One that is there and cannot be opened.
    pub(super) unusable: Option<Unusable>,
    /// Where it was looked for.
    pub(super) folders: Vec<PathBuf>,
}

/// Finds the first control socket that is served. An explicit `listen` wins, so that none is looked for.
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
    };
    if listen.is_some() {
        return (search, located);
    }
    let is_other = |file: &Path| environment.absolute(file) != Path::new(DEFAULT_PATH);
    let meant = match args.state_dir.is_some() || args.config.as_deref().is_some_and(is_other) {
        true => DaemonTarget::Named,
        false => DaemonTarget::Default,
    };
    search.folders = control_folders(&environment, meant, &located.state_dir);
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
            // Its queue is full.
            io::ErrorKind::WouldBlock => {
                search.found = Some(path);
                break;
            }
            // There is none, it is left over, or its path is too long for one.
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::InvalidInput => {}
            _ if search.unusable.is_none() => search.unusable = Some(Unusable { path, error }),
            _ => {}
        }
    }
    (search, located)
}

pub(super) fn searched(folders: &[PathBuf]) -> String {
    let folders: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    format!("no {CONTROL_SOCKET} is served in {}", folders.join(", "))
}

/// What makes the search doubtful.
pub(super) fn remark(located: &DaemonLocation) -> &'static str {
    match &located.errors {
        Some(_) => "; the settings have errors, which `backfill-watch check` shows",
        None => "",
    }
}
