//! Whether the daemon is ready, and whether it is alive: what probes and the watchdog are told.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::board::Board;
use crate::clock;
use crate::core::watch_list::WatchKey;
use crate::pulse::Stuck;

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// State is loaded or the watch list not looked at yet.
    Starting,
    /// At work.
    Ready,
    /// It has been asked to stop.
    Stopping,
}

/// The health of the daemon.
#[derive(Debug)]
pub struct Health {
    board: Arc<Board>,
    stage: watch::Sender<Stage>,
    request_timeout_millis: AtomicU64,
}

/// A poller that makes the daemon sick.
#[derive(Debug)]
pub struct Sick {
    key: WatchKey,
    stuck: Stuck,
}

impl fmt::Display for Sick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stuck {
            Stuck::Late(late) => write!(
                f,
                "the poll of {} is {:.0} s late, and nothing holds it back",
                self.key,
                late.as_secs_f64()
            ),
            Stuck::Hung(hung) => write!(
                f,
                "the poll of {} has not ended for {:.0} s, in spite of its time limit",
                self.key,
                hung.as_secs_f64()
            ),
        }
    }
}

impl Health {
    /// The health of a daemon that starts.
    #[must_use]
    pub fn new(board: Arc<Board>, request_timeout: Duration) -> Self {
        let health = Self {
            board,
            stage: watch::Sender::new(Stage::Starting),
            request_timeout_millis: AtomicU64::new(0),
        };
        health.set_request_timeout(request_timeout);
        health
    }

    /// Requests end after this time from now on.
    pub fn set_request_timeout(&self, request_timeout: Duration) {
        let millis = u64::try_from(request_timeout.as_millis()).unwrap_or(u64::MAX);
        // Never shorter than before: a request that is under way keeps its own limit.
        self.request_timeout_millis.fetch_max(millis, Ordering::Relaxed);
    }

    /// The watch list was looked at: the daemon is at work, unless it is stopping already.
    pub fn set_ready(&self) {
        self.stage.send_if_modified(|stage| {
            let is_starting = *stage == Stage::Starting;
            if is_starting {
                *stage = Stage::Ready;
            }
            is_starting
        });
    }

    /// The daemon stops.
    pub fn set_stopping(&self) {
        self.stage.send_replace(Stage::Stopping);
    }

    /// Where the daemon is in its life.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Tells changes of the stage.
    #[must_use]
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether due polls get started and finished.
    ///
    /// # Errors
    /// Names a poll that does not. Slow answers of the API, a closed gate and a slow disk are none.
    pub fn check(&self) -> Result<(), Sick> {
        if self.stage() == Stage::Stopping {
            // Polls are dropped; what is left to do has its own time limit.
            return Ok(());
        }
        let now = clock::instant();
        let request_timeout = Duration::from_millis(self.request_timeout_millis.load(Ordering::Relaxed));
        let sick = self.board.find(|watched| {
            let stuck = watched.pulse.stuck(now, request_timeout)?;
            Some(Sick {
                key: watched.key.clone(),
                stuck,
            })
        });
        sick.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Watched;
    use crate::core::watch::Watch;

    fn health() -> (Health, Arc<Watched>) {
        let key = WatchKey {
            project: "p".into(),
            operation: "a".into(),
        };
        let watched = Arc::new(Watched::new(key, Arc::default(), Watch::default()));
        let board = Arc::new(Board::default());
        board.insert(Arc::clone(&watched));
        (Health::new(board, Duration::from_secs(10)), watched)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_poller_is_named_until_the_daemon_stops() {
        let (health, watched) = health();
        let asking = watched.pulse.ask(clock::instant());
        assert!(health.check().is_ok());
        tokio::time::advance(Duration::from_secs(30)).await;
        let sick = health.check().unwrap_err().to_string();
        assert!(sick.contains("p/a") && sick.contains("30 s"), "{sick}");
        health.set_request_timeout(Duration::from_secs(11));
        assert!(health.check().is_ok());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(health.check().is_err());
        health.set_stopping();
        assert!(health.check().is_ok());
        drop(asking);
    }

    #[test]
    fn nobody_is_ready_again_who_stops() {
        let (health, _) = health();
        assert_eq!(health.stage(), Stage::Starting);
        health.set_ready();
        assert_eq!(health.stage(), Stage::Ready);
        health.set_stopping();
        health.set_ready();
        assert_eq!(health.stage(), Stage::Stopping);
    }
}
