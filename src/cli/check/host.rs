//! What `check` finds on this host besides files: the daemon and the directory of its state.

use std::io;

use serde_json::Value;

use super::super::daemon::Daemon;
use super::super::output::{self, Output, OutputError};
use super::super::{DaemonArgs, Failure, exit, format};
use crate::config::Settings;
use crate::core::text::one_line;
use crate::error::RUN_AS_ROOT;
use crate::store::{OpenError, StateDirectory, check_directory};

const MIB: u64 = 1024 * 1024;
/// The longest text of the daemon in a line, in bytes.
const MAX_TEXT: usize = 1_000;

/// What the running daemon reports about its state.
#[derive(Debug, Default)]
pub(super) struct ReportedState {
    /// Its errors, one line each.
    errors: Vec<String>,
}

impl ReportedState {
    /// The errors about the state in an attention list.
    fn of(attention: &[Value]) -> Self {
        let is_of_state = |entry: &&Value| {
            let kind = entry["kind"].as_str().unwrap_or_default();
            kind.starts_with("state_") && entry["severity"] == "error"
        };
        let line = |entry: &Value| {
            let member = |name: &str| one_line(entry[name].as_str().unwrap_or_default(), MAX_TEXT);
            format!(
                "the running daemon reports: {} To do: {}",
                member("message"),
                member("action")
            )
        };
        Self {
            errors: attention.iter().filter(is_of_state).map(line).collect(),
        }
    }
}

/// Prints whether a daemon runs. Settings are also checked before the first start, so none is no problem of theirs.
pub(super) async fn check_daemon(
    daemon: &DaemonArgs,
    out: &mut Output,
) -> Result<ReportedState, OutputError> {
    match Daemon::by_socket_after_check(daemon).await {
        Ok(daemon) => {
            out.line(&format!("daemon: running ({})", daemon.place()))?;
            match daemon.list("/api/attention", "attention").await {
                Ok((attention, _)) => return Ok(ReportedState::of(&attention)),
                Err(error) => output::notice(&format!(
                    "warning: the daemon was not asked about its state: {error:#}"
                )),
            }
        }
        Err(error) => match error.downcast_ref() {
            Some(Failure { message, code }) if *code == exit::UNREACHABLE => {
                out.line(&format!("daemon: not running ({message})"))?;
            }
            _ => output::notice(&format!("warning: the daemon was not asked: {error:#}")),
        },
    }
    Ok(ReportedState::default())
}

/// Prints whether the state can be written. Returns the exit code if not. The daemon knows more than its directory shows.
pub(super) fn check_state(
    settings: &Settings,
    reported: &ReportedState,
    out: &mut Output,
) -> Result<Option<u8>, OutputError> {
    if !reported.errors.is_empty() {
        for error in &reported.errors {
            output::error(error);
        }
        return Ok(Some(exit::USAGE));
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_the_daemon_about_its_state_count() {
        let entry = |kind: &str, severity: &str| json!({"kind": kind, "severity": severity, "message": "Nothing is recorded.", "action": "restore the files"});
        let attention = [
            entry("state_removed", "error"),
            entry("state_damaged", "warning"),
            entry("api_unreachable", "error"),
        ];
        assert_eq!(
            ReportedState::of(&attention).errors,
            ["the running daemon reports: Nothing is recorded. To do: restore the files"]
        );
        assert!(ReportedState::of(&attention[1..]).errors.is_empty());
    }
}
