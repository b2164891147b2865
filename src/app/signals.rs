//! The signals that the daemon handles.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Sent to a process that writes beyond `RLIMIT_FSIZE`. The number is the same on all Linux architectures but MIPS.
const SIGXFSZ: i32 = 25;

/// A signal that stops the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// `SIGINT`, as Ctrl-C sends it.
    Interrupt,
    /// `SIGTERM`.
    Terminate,
}

impl StopSignal {
    /// The exit code of a process that this signal ended: 128 plus the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// The signal's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// A received signal.
pub(super) enum Received {
    /// `SIGHUP`: read settings, secrets and the watch list again.
    Reload,
    /// Stop the daemon.
    Stop(StopSignal),
}

/// The signals that the daemon handles.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    /// Handled so that a write beyond the file size limit is an error and does not end the process.
    _file_size: Signal,
}

impl Signals {
    /// Handles the signals from now on.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.hangup.recv() => Received::Reload,
            _ = self.interrupt.recv() => Received::Stop(StopSignal::Interrupt),
            _ = self.terminate.recv() => Received::Stop(StopSignal::Terminate),
        }
    }

    /// The next stop signal.
    pub(super) async fn stop(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }
}
