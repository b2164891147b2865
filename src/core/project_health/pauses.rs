//! The pauses that the API asks for.

use std::sync::Arc;
use std::time::Duration;

use super::{Moment, ProjectContext};

/// The pauses that the API asks for, as they are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiPauses {
    /// When the first of them began.
    pub since: Moment,
    /// When the current one ends, or the last one has ended, on the monotonic clock.
    pub until: Duration,
    /// The API's last reason.
    pub reason: Arc<str>,
}

/// The pauses of a project.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pauses {
    until: Option<Duration>,
    /// Pauses of unknown length since the last success.
    unknown: u32,
    /// The first pause since the last success.
    first: Option<Moment>,
    /// The pauses since the last other answer.
    streak: Option<Box<Streak>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Streak {
    since: Moment,
    reason: Arc<str>,
}

impl Pauses {
    /// Adds a pause. Returns the start of the first one since the last success.
    pub fn add(&mut self, wait: Option<Duration>, reason: Option<&str>, cx: &ProjectContext<'_>) -> Moment {
        let now = cx.now.steady;
        let first = *self.first.get_or_insert(cx.now);
        let before = self.streak.take();
        let since = before.as_ref().map_or(cx.now, |streak| streak.since);
        let reason = reason
            .map(Arc::from)
            .or_else(|| before.map(|streak| streak.reason));
        let reason = reason.unwrap_or_else(|| Arc::from("too many requests"));
        self.streak = Some(Box::new(Streak { since, reason }));
        let wait = match wait.filter(|wait| !wait.is_zero()) {
            // The watch polls again right after the pause, so a pause must not be shorter than the minimum interval.
            Some(wait) => wait.min(cx.max_retry_after).max(cx.schedule.shortest()),
            // Polls that were in flight together get the same pause; they do not extend it.
            None if self.until.is_some_and(|until| until > now) => return first,
            None => {
                self.unknown = self.unknown.saturating_add(1);
                cx.schedule.after_attempts(self.unknown)
            }
        };
        self.until = self.until.max(Some(now.saturating_add(wait)));
        first
    }

    /// Another answer ends them, unless it belongs to a request from before the current one.
    pub fn end(&mut self, now: Moment) {
        if self.until.is_none_or(|until| until <= now.steady) {
            self.streak = None;
        }
    }

    /// A poll succeeded.
    pub fn succeed(&mut self) {
        self.unknown = 0;
        self.first = None;
    }

    /// No operation is polled any more.
    pub fn forget(&mut self) {
        self.first = None;
        self.streak = None;
    }

    /// When the last one ends, on the monotonic clock.
    pub fn until(&self) -> Option<Duration> {
        self.until
    }

    /// They are shown until the API answers otherwise.
    pub fn shown(&self) -> Option<ApiPauses> {
        let streak = self.streak.as_ref()?;
        Some(ApiPauses {
            since: streak.since,
            until: self.until?,
            reason: Arc::clone(&streak.reason),
        })
    }
}
