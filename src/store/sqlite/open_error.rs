//! Why a state cannot be opened, and what the steps of opening share.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::RUN_AS_ROOT;

/// The file name of the database.
pub(in crate::store) const FILE: &str = "state.db";

/// Why a state cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be created or written to.
    #[error("cannot use the state directory `{dir}`: {}", directory_advice(source))]
    Directory {
        /// The state directory.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// This user may not write to one of its files.
    #[error(
        "cannot use the state: `{file}` belongs to {owner} (mode {mode:o}), and this process runs as {runs_as}; change its owner or its mode, as with: chown -R {user} {dir}"
    )]
    NotPermitted {
        /// The file or directory.
        file: PathBuf,
        /// Its owner.
        owner: String,
        /// Its mode.
        mode: u32,
        /// The user of this process, as text.
        runs_as: String,
        /// The user of this process.
        user: u32,
        /// The state directory.
        dir: PathBuf,
    },
    /// Another daemon uses it.
    #[error(
        "the state directory `{dir}` is in use by another backfill-watch{}; stop that one, or give this one a `state_dir` of its own",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// The process ID of that daemon.
        pid: Option<u32>,
    },
    /// A newer program wrote it.
    #[error(
        "the state `{file}` was written by a newer backfill-watch (its version is {found}, this program supports up to {known}); it was not changed; use the newer program, or another `state_dir`"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The latest version that this program supports.
        known: i64,
    },
    /// An older program wrote it, and a command that only reads does not upgrade it.
    #[error(
        "the state `{file}` was written by an older backfill-watch (its version is {found}, this program's is {known}); start the daemon of this version once to upgrade it"
    )]
    Older {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The version of this program.
        known: i64,
    },
    /// It is not a state.
    #[error("`{file}` is not a state of backfill-watch; it was not changed; use another `state_dir`")]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// It is damaged.
    #[error(
        "the state `{file}` is damaged ({detail}); it was not changed; restore a backup, or move it and the files beside it away to start with an empty state"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The finding.
        detail: String,
    },
    /// This user may not read it, or not write to it.
    #[error(
        "cannot open the state `{file}`: {cause}; {run_as_root},{} or name another state with --state-dir",
        .owner.map(|owner| format!(" or as user {owner},")).unwrap_or_default(),
        run_as_root = RUN_AS_ROOT
    )]
    Forbidden {
        /// The file.
        file: PathBuf,
        /// The user ID of its owner, if known.
        owner: Option<u32>,
        /// The system's error. The message has it, so it is not the source.
        cause: io::Error,
    },
    /// There is no state, and a command that only reads does not create one.
    #[error("there is no state in `{dir}`; if the daemon uses another `state_dir`, name it with --state-dir")]
    Absent {
        /// The state directory.
        dir: PathBuf,
    },
    /// SQLite refuses for another reason.
    #[error("cannot open the state `{file}`: {words}")]
    Failed {
        /// The file.
        file: PathBuf,
        /// The reason.
        words: String,
    },
    /// Another program keeps it locked.
    #[error("cannot open the state `{file}`: {words}")]
    Busy {
        /// The file.
        file: PathBuf,
        /// The reason.
        words: String,
    },
    /// There is no space for the copy that an upgrade makes.
    #[error(
        "the state must be copied to `{copy}` before it is upgraded, and its disk has {free} of the {needed} bytes that this needs; free disk space and start again"
    )]
    NotEnoughSpace {
        /// The path of the copy.
        copy: PathBuf,
        /// The bytes that the copy and the upgrade need.
        needed: u64,
        /// The free bytes.
        free: u64,
    },
    /// The copy failed.
    #[error("cannot copy the state to `{copy}` before it is upgraded: {reason}")]
    Copy {
        /// The path of the copy.
        copy: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The start was cancelled before the state was open.
    #[error("the state was not opened: the start was cancelled")]
    Cancelled,
    /// A thread of the state cannot be started.
    #[error("cannot start a thread for the state")]
    Thread(#[source] io::Error),
}

fn directory_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "this user may not write to it; change its owner or its mode",
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is on a read-only file system; mount it writable, or set another `state_dir`"
        }
        io::ErrorKind::StorageFull => "its disk is full; free disk space",
        io::ErrorKind::QuotaExceeded => "this user's quota is used up; free disk space, or raise the quota",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a part of that path is not a directory; set another `state_dir`"
        }
        _ => "the system refuses it",
    }
}

/// Cancels the opening of a state.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(in crate::store) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn a_cause_is_named_once() {
        let error = OpenError::Forbidden {
            file: PathBuf::from("/s/state.db"),
            owner: Some(7),
            cause: io::ErrorKind::PermissionDenied.into(),
        };
        let text = chain(&error);
        assert_eq!(text.matches("permission denied").count(), 1, "{text}");
    }
}
