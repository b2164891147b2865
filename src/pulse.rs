//! What a poller does at the moment, and whether that is healthy: the daemon lives as long as due polls get started
//! and finished.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How late a poll that nothing holds back may start.
const LATE: Duration = Duration::from_secs(30);
/// How many request time-outs a poll may outlive.
const TIMEOUTS: u32 = 3;

/// Written by the poller of one watch, read by whoever asks for the daemon's health.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Doing>);

#[derive(Debug, Clone, Copy, Default)]
enum Doing {
    /// Nothing that could be late: it waits for the gate or for the disk, or has ended.
    #[default]
    Waiting,
    /// It sleeps until a poll is due.
    Due(Instant),
    /// It has asked the API.
    Asking(Instant),
}

/// What is wrong with a poller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// A poll is due since this long, and neither gate nor pause holds it back.
    Late(Duration),
    /// A poll is under way since this long.
    Hung(Duration),
}

impl Pulse {
    /// The poller sleeps until `due`.
    pub fn sleep_until(&self, due: Instant) {
        *self.doing() = Doing::Due(due);
    }

    /// The poller is awake; whatever it waits for is not its own doing.
    pub fn wait(&self) {
        *self.doing() = Doing::Waiting;
    }

    /// The API is asked from `now` until the guard is dropped.
    pub fn ask(&self, now: Instant) -> Asking<'_> {
        *self.doing() = Doing::Asking(now);
        Asking(self)
    }

    /// Until when the poller sleeps, if it does.
    #[must_use]
    pub fn sleeps_until(&self) -> Option<Instant> {
        match *self.doing() {
            Doing::Due(due) => Some(due),
            Doing::Waiting | Doing::Asking(_) => None,
        }
    }

    /// What is wrong with the poller `now`, if requests end after `request_timeout`.
    #[must_use]
    pub fn stuck(&self, now: Instant, request_timeout: Duration) -> Option<Stuck> {
        match *self.doing() {
            Doing::Waiting => None,
            Doing::Due(due) => {
                let late = now.saturating_duration_since(due);
                (late >= LATE).then_some(Stuck::Late(late))
            }
            Doing::Asking(since) => {
                let asking = now.saturating_duration_since(since);
                (asking >= request_timeout.saturating_mul(TIMEOUTS)).then_some(Stuck::Hung(asking))
            }
        }
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, the API is being asked.
#[derive(Debug)]
#[must_use]
pub struct Asking<'a>(&'a Pulse);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_poll_that_nothing_holds_back_may_be_30_seconds_late() {
        let now = clock::instant();
        let pulse = Pulse::default();
        assert_eq!(pulse.stuck(now + 3600 * SECOND, SECOND), None);
        pulse.sleep_until(now);
        assert_eq!(pulse.stuck(now + 30 * SECOND - MILLI, SECOND), None);
        assert_eq!(
            pulse.stuck(now + 30 * SECOND, SECOND),
            Some(Stuck::Late(30 * SECOND))
        );
        pulse.wait();
        assert_eq!(pulse.stuck(now + 3600 * SECOND, SECOND), None);
    }

    #[test]
    fn a_poll_may_last_three_time_outs() {
        let now = clock::instant();
        let pulse = Pulse::default();
        let asking = pulse.ask(now);
        assert_eq!(pulse.stuck(now + 30 * SECOND - MILLI, 10 * SECOND), None);
        assert_eq!(
            pulse.stuck(now + 30 * SECOND, 10 * SECOND),
            Some(Stuck::Hung(30 * SECOND))
        );
        drop(asking);
        assert_eq!(pulse.stuck(now + 30 * SECOND, 10 * SECOND), None);
    }
}
