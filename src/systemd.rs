//! Notifies systemd: ready, reloading, stopping, status and watchdog.
//!
//! Without systemd all of this does nothing. Messages never block: a message that does not fit into the socket is dropped,
//! except that `READY=1` is repeated.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::core::phase::PhaseCounts;
use crate::error::chain;
use crate::health::{Health, Stage};
use crate::report::attention::AttentionList;

/// How often the status text is checked.
const STATUS: Duration = Duration::from_secs(2);
/// The extension of the start timeout that each request asks for.
const EXTENSION: Duration = Duration::from_secs(60);
/// How often the extension is requested.
const EXTEND: Duration = Duration::from_secs(15);
/// The environment variable with the socket of the service manager.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Whether the last `READY=1` did not fit into the socket.
static READY_IS_DUE: AtomicBool = AtomicBool::new(false);
/// Whether an error of the socket was logged.
static ERROR_IS_LOGGED: AtomicBool = AtomicBool::new(false);

/// Runs a part of the start that may take long, such as the check of the state, and extends the start timeout while it runs.
pub async fn while_starting<T>(part: impl Future<Output = T>) -> T {
    tokio::select! {
        done = part => done,
        never = extend_start_timeout() => match never {},
    }
}

async fn extend_start_timeout() -> Infallible {
    let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
    loop {
        tokio::time::sleep(EXTEND).await;
        notify(&[
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("reading the state"),
        ]);
    }
}

/// Notifies that settings and watch list are being reloaded.
pub fn notify_reloading() {
    READY_IS_DUE.store(false, Ordering::Relaxed);
    // Without the time, newer versions of systemd treat the reload as failed.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => {
            notify(&[NotifyState::Reloading, now]);
        }
        Err(error) => tracing::debug!(
            error = chain(&error),
            "service manager not notified of the reload"
        ),
    }
}

/// Notifies that the daemon is ready, or that a reload is complete.
pub fn notify_ready() {
    let is_sent = notify(&[NotifyState::Ready]);
    READY_IS_DUE.store(!is_sent, Ordering::Relaxed);
}

/// Sends the daemon's stage, status and watchdog messages until `closing`.
pub async fn send_notifications(
    health: Arc<Health>,
    board: Arc<Board>,
    attention: Arc<AttentionList>,
    closing: CancellationToken,
) {
    let sending = async {
        tokio::join!(
            send_stages(&health),
            send_status(&health, &board, &attention),
            send_watchdog(&health)
        )
    };
    closing.run_until_cancelled(sending).await;
}

async fn send_stages(health: &Health) {
    let mut stages = health.stages();
    loop {
        match *stages.borrow_and_update() {
            Stage::Starting => {}
            Stage::Ready => notify_ready(),
            Stage::Stopping => {
                notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
            }
        }
        if stages.changed().await.is_err() {
            return;
        }
    }
}

async fn send_status(health: &Health, board: &Board, attention: &AttentionList) {
    if std::env::var_os(NOTIFY_SOCKET).is_none() {
        return;
    }
    let mut sent = String::new();
    loop {
        if health.stage() == Stage::Ready {
            if READY_IS_DUE.load(Ordering::Relaxed) {
                notify_ready();
            }
            let now = status(board.phases(), attention.last_errors());
            if now != sent && notify(&[NotifyState::Status(&now)]) {
                sent = now;
            }
        }
        tokio::time::sleep(STATUS).await;
    }
}

/// The status text: the errors of the attention list, then the listed operations by phase.
fn status(phases: PhaseCounts, errors: usize) -> String {
    let operations = operations(phases);
    match errors {
        0 => operations,
        1 => format!("1 error, see `backfill-watch status`; {operations}"),
        errors => format!("{errors} errors, see `backfill-watch status`; {operations}"),
    }
}

fn operations(phases: PhaseCounts) -> String {
    let listed = phases.total();
    if listed == 0 {
        return "the watch list is empty".to_owned();
    }
    let counts: Vec<String> = phases
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(phase, count)| format!("{count} {phase}"))
        .collect();
    let plural = if listed == 1 { "operation" } else { "operations" };
    format!("{listed} {plural} listed: {}", counts.join(", "))
}

async fn send_watchdog(health: &Health) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut was_alive = true;
    loop {
        let alive = health.check_patiently().await;
        match &alive {
            Ok(()) => {
                notify(&[NotifyState::Watchdog]);
            }
            Err(unhealthy) if was_alive => {
                tracing::error!(
                    reason = %unhealthy,
                    "the daemon is stuck; systemd restarts it; this is a bug, please report it"
                );
            }
            Err(_) => {}
        }
        was_alive = alive.is_ok();
        tokio::time::sleep(limit / 3).await;
    }
}

/// Sends without blocking. Returns false if the socket is full, so that the caller can repeat it.
fn notify(state: &[NotifyState<'_>]) -> bool {
    let Some(socket) = std::env::var_os(NOTIFY_SOCKET).filter(|socket| !socket.is_empty()) else {
        return true;
    };
    let mut message = String::new();
    for line in state {
        // Writing to a string cannot fail.
        let _ = writeln!(message, "{line}");
    }
    match send(&socket, message.as_bytes()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => {
            if !ERROR_IS_LOGGED.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    socket = %socket.display(),
                    error = chain(&error),
                    "service manager not notified; check NOTIFY_SOCKET"
                );
            }
            true
        }
    }
}

fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = address(socket)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message, &address)?;
    Ok(())
}

/// A path, or the name of an abstract socket after `@`.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the address must start with / or @",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::phase::Phase;

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        let address = |text: &str| address(OsStr::new(text));
        let path = address("/run/notify").unwrap();
        assert_eq!(path.as_pathname(), Some(std::path::Path::new("/run/notify")));
        let name = address("@a/b").unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"a/b"[..]));
        for unusable in ["", "notify", "vsock:2:1", "/a\0b"] {
            assert!(address(unusable).is_err(), "{unusable:?}");
        }
    }

    #[test]
    fn a_full_socket_blocks_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let error = loop {
            if let Err(error) = send(path.as_os_str(), b"STATUS=x") {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(manager);
    }

    #[test]
    fn the_status_names_phases_that_occur() {
        let counts = |phases: &[Phase]| {
            let mut counts = PhaseCounts::default();
            phases.iter().for_each(|phase| counts.add(*phase));
            status(counts, 0)
        };
        assert_eq!(counts(&[]), "the watch list is empty");
        assert_eq!(counts(&[Phase::Running]), "1 operation listed: 1 running");
        let mixed = [Phase::Failed, Phase::Running, Phase::Running, Phase::Running];
        assert_eq!(counts(&mixed), "4 operations listed: 3 running, 1 failed");
        let empty = "see `backfill-watch status`; the watch list is empty";
        for (errors, text) in [
            (1, format!("1 error, {empty}")),
            (2, format!("2 errors, {empty}")),
        ] {
            assert_eq!(status(PhaseCounts::default(), errors), text);
        }
    }
}
