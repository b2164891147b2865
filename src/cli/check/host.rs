//! What `check` finds on this host besides files: the daemon and the directory of its state.

use std::io;

use super::super::daemon::Daemon;
use super::super::output::{self, Output, OutputError};
use super::super::{DaemonArgs, Failure, exit, format};
use crate::config::Settings;
use crate::error::RUN_AS_ROOT;
use crate::store::{OpenError, StateDirectory, check_directory};

const MIB: u64 = 1024 * 1024;

/// Prints whether a daemon runs. Settings are also checked before the first start, so none is no problem of theirs.
pub(super) async fn check_daemon(daemon: &DaemonArgs, out: &mut Output) -> Result<(), OutputError> {
    match Daemon::by_socket(daemon).await {
        Ok(daemon) => out.line(&format!("daemon: running ({})", daemon.place()))?,
        Err(error) => match error.downcast_ref() {
            Some(Failure { message, code }) if *code == exit::UNREACHABLE => {
                out.line(&format!("daemon: not running ({message})"))?;
            }
            _ => output::notice(&format!("warning: the daemon was not asked: {error:#}")),
        },
    }
    Ok(())
}

/// Prints whether the state can be written. Returns the exit code if not.
pub(super) fn check_state(settings: &Settings, out: &mut Output) -> Result<Option<u8>, OutputError> {
    let dir = settings.state_dir.display();
    match check_directory(&settings.state_dir) {
        Ok(StateDirectory::Writable { free }) => {
            let free = free.map_or_else(String::new, |free| {
                format!("{} MiB free in ", format::count(free / MIB))
            });
            out.line(&format!("state: writable ({free}{dir})"))?;
            Ok(None)
        }
        Ok(StateDirectory::Missing) => {
            out.line(&format!("state: none yet (the daemon creates {dir})"))?;
            Ok(None)
        }
        // The daemon may run as another user.
        Err(error) if is_forbidden(&error) => {
            output::notice(&format!(
                "warning: state not checked: this user may not write to {dir}; {RUN_AS_ROOT}, or as the daemon's user"
            ));
            Ok(None)
        }
        Err(error) => {
            output::error(&error.to_string());
            Ok(Some(exit::USAGE))
        }
    }
}

fn is_forbidden(error: &OpenError) -> bool {
    match error {
        OpenError::NotPermitted { .. } => true,
        OpenError::Directory { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}
