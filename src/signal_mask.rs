//! The signal mask, which a process inherits from its parent.

use nix::sys::signal::{SigSet, Signal};

/// Unblocks the signals that stop or reload the daemon. Call it before any thread starts: threads inherit the mask.
///
/// # Errors
/// The system's error; the signals may then stay blocked.
pub fn unblock() -> std::io::Result<()> {
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .collect();
    signals.thread_unblock().map_err(Into::into)
}
