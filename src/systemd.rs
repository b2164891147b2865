//! What systemd is told: that the daemon is ready, reloads, stops, how it fares, and that it is alive.
//!
//! Where systemd did not start the daemon, all of this does nothing. Messages never block: one that the service manager
//! has no room for is lost, except that `READY=1` is repeated.

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

/// How often the status text is looked at.
const STATUS: Duration = Duration::from_secs(2);
/// How much longer the start may take, told again well before it is over.
const EXTENSION: Duration = Duration::from_secs(60);
/// How often that is told.
const EXTEND: Duration = Duration::from_secs(15);
/// What names the socket of the service manager.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Whether the last `READY=1` had no room in the socket.
static READY_IS_DUE: AtomicBool = AtomicBool::new(false);
/// Whether the log names the error of the socket already.
static ERROR_IS_LOGGED: AtomicBool = AtomicBool::new(false);

/// Waits for a part of the start that may take long, such as checking the state after a crash.
pub async fn while_starting<T>(part: impl Future<Output = T>) -> T {
    tokio::select! {
        done = part => done,
        never = ask_for_time() => match never {},
    }
}

async fn ask_for_time() -> Infallible {
    let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
    loop {
        tokio::time::sleep(EXTEND).await;
        notify(&[
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("reading the state"),
        ]);
    }
}

/// Settings and watch list are being read anew.
pub fn notify_reloading() {
    READY_IS_DUE.store(false, Ordering::Relaxed);
    // Without the time, newer versions take the reload for failed.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => {
            notify(&[NotifyState::Reloading, now]);
        }
        Err(error) => tracing::debug!(
            error = chain(&error),
            "the service manager is not notified of the reload"
        ),
    }
}

/// They have been.
pub fn notify_ready() {
    let is_sent = notify(&[NotifyState::Ready]);
    READY_IS_DUE.store(!is_sent, Ordering::Relaxed);
}

/// Tells each change of the daemon's stage and status, and that it is alive, until `closing`.
pub async fn send_notifications(health: Arc<Health>, board: Arc<Board>, closing: CancellationToken) {
    let informing = async {
        tokio::join!(
            tell_stages(&health),
            tell_status(&health, &board),
            tell_alive(&health)
        )
    };
    closing.run_until_cancelled(informing).await;
}

async fn tell_stages(health: &Health) {
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

async fn tell_status(health: &Health, board: &Board) {
    if std::env::var_os(NOTIFY_SOCKET).is_none() {
        return;
    }
    let mut told = String::new();
    loop {
        if health.stage() == Stage::Ready {
            if READY_IS_DUE.load(Ordering::Relaxed) {
                notify_ready();
            }
            let now = status(board.phases());
            if now != told && notify(&[NotifyState::Status(&now)]) {
                told = now;
            }
        }
        tokio::time::sleep(STATUS).await;
    }
}

/// The listed operations by phase, in words.
fn status(phases: PhaseCounts) -> String {
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

async fn tell_alive(health: &Health) {
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
            Err(sick) if was_alive => {
                tracing::error!(
                    reason = %sick,
                    "the daemon is stuck: systemd will restart it; this is a bug, please report it"
                );
            }
            Err(_) => {}
        }
        was_alive = alive.is_ok();
        tokio::time::sleep(limit / 3).await;
    }
}

/// Sends without blocking. False when the socket has no room now, so that the same may be sent later.
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
                    "the service manager cannot be notified; check NOTIFY_SOCKET"
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
            "an address begins with / or @",
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
            status(counts)
        };
        assert_eq!(counts(&[]), "the watch list is empty");
        assert_eq!(counts(&[Phase::Running]), "1 operation listed: 1 running");
        let mixed = [Phase::Failed, Phase::Running, Phase::Running, Phase::Running];
        assert_eq!(counts(&mixed), "4 operations listed: 3 running, 1 failed");
    }
}
