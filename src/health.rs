//! Readiness and liveness of the daemon, for probes and the watchdog.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::board::{Board, PollTimes};
use crate::clock;

/// The stage of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The state is being loaded, or the watch list is not read yet.
    Starting,
    /// It polls.
    Ready,
    /// It stops.
    Stopping,
}

/// The health of the daemon.
#[derive(Debug)]
pub struct Health {
    board: Arc<Board>,
    stage: watch::Sender<Stage>,
    request_timeout_millis: AtomicU64,
}

/// How late a poll may start that waits for nothing.
const LATE: Duration = Duration::from_secs(30);
/// How long tasks may take to run again after a suspension of the process.
const CATCH_UP: Duration = Duration::from_millis(500);
/// How many request timeouts a poll may take.
const TIMEOUTS: u32 = 3;

/// A project whose polls do not start or do not end.
#[derive(Debug)]
pub struct StuckProject {
    project: Arc<str>,
    stuck: Stuck,
}

/// The problem with the polls of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// A poll has been due for this long, and waits neither for the gate nor for a pause.
    Late(Duration),
    /// A poll has been in flight for this long.
    Hung(Duration),
}

impl Stuck {
    fn of(times: PollTimes, now: Instant, request_timeout: Duration) -> Option<Self> {
        let late = times.next_due.map(|due| now.saturating_duration_since(due));
        let hung = times
            .oldest_request
            .map(|since| now.saturating_duration_since(since));
        let late = late.filter(|late| *late >= LATE).map(Self::Late);
        late.or_else(|| {
            let limit = request_timeout.saturating_mul(TIMEOUTS);
            hung.filter(|hung| *hung >= limit).map(Self::Hung)
        })
    }
}

impl fmt::Display for StuckProject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stuck {
            Stuck::Late(late) => write!(
                f,
                "a poll of project {} is {:.0} s late without a reason",
                self.project,
                late.as_secs_f64()
            ),
            Stuck::Hung(hung) => write!(
                f,
                "a poll of project {} has not ended for {:.0} s despite its timeout",
                self.project,
                hung.as_secs_f64()
            ),
        }
    }
}

impl Health {
    /// The health of a daemon that is starting.
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

    /// The read model that it uses.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Sets a new request timeout.
    pub fn set_request_timeout(&self, request_timeout: Duration) {
        let millis = u64::try_from(request_timeout.as_millis()).unwrap_or(u64::MAX);
        // Never shorter than before: a request in flight keeps its own timeout.
        self.request_timeout_millis.fetch_max(millis, Ordering::Relaxed);
    }

    /// Marks the daemon as ready after the watch list was read, unless it is stopping.
    pub fn set_ready(&self) {
        self.stage.send_if_modified(|stage| {
            let is_starting = *stage == Stage::Starting;
            if is_starting {
                *stage = Stage::Ready;
            }
            is_starting
        });
    }

    /// Marks the daemon as stopping.
    pub fn set_stopping(&self) {
        self.stage.send_replace(Stage::Stopping);
    }

    /// The current stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Subscribes to the stage.
    #[must_use]
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// As [`Health::check`], with one retry for a process that was just resumed.
    ///
    /// # Errors
    /// As [`Health::check`].
    pub async fn check_patiently(&self) -> Result<(), StuckProject> {
        if self.check().is_err() {
            tokio::time::sleep(CATCH_UP).await;
        }
        self.check()
    }

    /// Checks whether due polls start and end.
    ///
    /// # Errors
    /// Names a project whose polls do not. Slow answers of the API, a closed gate and a slow disk are no errors.
    pub fn check(&self) -> Result<(), StuckProject> {
        if self.stage() == Stage::Stopping {
            // Polls are aborted, and the rest of a stop has its own timeout.
            return Ok(());
        }
        let now = clock::instant();
        let request_timeout = Duration::from_millis(self.request_timeout_millis.load(Ordering::Relaxed));
        let unhealthy = self.board.projects().into_iter().find_map(|view| {
            let stuck = Stuck::of(view.poll_times, now, request_timeout)?;
            Some(StuckProject {
                project: view.name,
                stuck,
            })
        });
        unhealthy.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{ProjectHandle, ProjectView};
    use crate::core::gate::RequestLimits;
    use tokio::sync::mpsc;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    fn health() -> (Health, watch::Sender<ProjectView>) {
        let limits = RequestLimits {
            concurrent: 1,
            per_second: 1.0,
        };
        let (view, receiver) = watch::channel(ProjectView::new("p".into(), limits));
        let board = Arc::new(Board::default());
        let port = ProjectHandle {
            view: receiver,
            questions: mpsc::channel(1).0,
        };
        board.attach("p".into(), port);
        (Health::new(board, 10 * SECOND), view)
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_does_not_end_is_reported_until_the_daemon_stops() {
        let (health, view) = health();
        view.send_modify(|view| view.poll_times.oldest_request = Some(clock::instant()));
        assert!(health.check().is_ok());
        tokio::time::advance(30 * SECOND).await;
        let unhealthy = health.check().unwrap_err().to_string();
        assert!(
            unhealthy.contains("project p") && unhealthy.contains("30 s"),
            "{unhealthy}"
        );
        health.set_request_timeout(11 * SECOND);
        assert!(health.check().is_ok());
        tokio::time::advance(60 * SECOND).await;
        assert!(health.check().is_err());
        health.set_stopping();
        assert!(health.check().is_ok());
    }

    #[test]
    fn a_poll_may_be_30_seconds_late_and_last_three_time_outs() {
        let now = clock::instant();
        let due = PollTimes {
            next_due: Some(now),
            oldest_request: None,
        };
        assert_eq!(Stuck::of(due, now + 30 * SECOND - MILLI, SECOND), None);
        assert_eq!(
            Stuck::of(due, now + 30 * SECOND, SECOND),
            Some(Stuck::Late(30 * SECOND))
        );
        let asking = PollTimes {
            next_due: Some(now + 3600 * SECOND),
            oldest_request: Some(now),
        };
        assert_eq!(Stuck::of(asking, now + 30 * SECOND - MILLI, 10 * SECOND), None);
        assert_eq!(
            Stuck::of(asking, now + 30 * SECOND, 10 * SECOND),
            Some(Stuck::Hung(30 * SECOND))
        );
    }

    #[test]
    fn a_daemon_that_stops_does_not_become_ready_again() {
        let (health, _view) = health();
        assert_eq!(health.stage(), Stage::Starting);
        health.set_ready();
        assert_eq!(health.stage(), Stage::Ready);
        health.set_stopping();
        health.set_ready();
        assert_eq!(health.stage(), Stage::Stopping);
    }
}
