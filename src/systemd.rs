//! What systemd is told: that the daemon is ready, reloads, stops, how it fares, and that it is alive.
//!
//! Where systemd did not start the daemon, all of this does nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::core::phase::PhaseCounts;
use crate::health::{Health, Stage};

/// How often the status text is looked at.
const STATUS: Duration = Duration::from_secs(2);
/// How much longer the start may take, told again well before it is over.
const EXTENSION: Duration = Duration::from_secs(60);
/// How often that is told.
const EXTEND: Duration = Duration::from_secs(15);

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
pub fn tell_reloading() {
    // Without the time, newer versions take the reload for failed.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the reload cannot be told to systemd"),
    }
}

/// They have been.
pub fn tell_ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells each change of the daemon's stage and status, and that it is alive, until `closing`.
pub async fn keep_informed(health: Arc<Health>, board: Arc<Board>, closing: CancellationToken) {
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
            Stage::Ready => tell_ready(),
            Stage::Stopping => notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]),
        }
        if stages.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_status(health: &Health, board: &Board) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut told = String::new();
    loop {
        if health.stage() == Stage::Ready {
            let now = status(board.phases());
            if now != told {
                notify(&[NotifyState::Status(&now)]);
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
        let alive = health.check();
        match &alive {
            Ok(()) => notify(&[NotifyState::Watchdog]),
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

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::phase::Phase;

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
