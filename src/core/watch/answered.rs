//! What an answer with the operation means.

use std::sync::Arc;
use std::time::Duration;

use super::operation_details::OperationDetails;
use super::{Reporter, UNKNOWN_ATTEMPTS, Watch, WatchContext};
use crate::core::event::{Event, EventType, RetryData, millis};
use crate::core::operation::{Operation, Status};
use crate::core::phase::Phase;
use crate::core::progress::{CountChange, ProgressContext, RetryAttempt};
use crate::core::wall_time::WallTime;
use crate::core::watch_settings::WatchSettings;

impl Watch {
    /// The API answered with the operation.
    pub(super) fn observe_operation(
        &mut self,
        operation: &Operation,
        cx: &WatchContext<'_>,
        events: &mut Vec<Event>,
    ) {
        let previous = self.details.as_ref().map(|details| details.status.clone());
        let previous_poll_succeeded = std::mem::replace(&mut self.last_poll_succeeded, true);
        self.clear_failures();
        self.last_answer = cx.now.into();
        if self.first_seen == WallTime::NONE {
            self.first_seen = cx.now.into();
        }
        let details = self.details.as_deref();
        if !details.is_some_and(|details| details.is_of(operation)) {
            self.details = Some(Arc::new(OperationDetails::of(operation)));
        }
        let metadata = operation.metadata.as_ref();
        let retry = metadata.and_then(|metadata| metadata.retry.as_ref());
        let retried = self.count_attempts(retry.and_then(|retry| retry.attempts));
        let context = ProgressContext {
            now: cx.now,
            observed_for: if previous_poll_succeeded {
                cx.elapsed.saturating_sub(cx.blocked)
            } else {
                Duration::ZERO
            },
            attempt: if retried.is_some() {
                RetryAttempt::New
            } else {
                RetryAttempt::Same
            },
            settings: cx.settings,
        };
        let progress = metadata.and_then(|metadata| metadata.progress.as_ref());
        let change = self.progress.observe(progress, &context);

        let mut reporter = Reporter {
            events,
            previous: previous.as_ref(),
            cx,
        };
        if let Some(since) = self.outage() {
            self.is_reachable_again = true;
            reporter.report(self, EventType::Reachable, &millis(since), |data| {
                data.since = Some(since);
            });
        }
        if let Some(attempts) = retried {
            let occurrence = self.retry_occurrence(attempts);
            reporter.report(self, EventType::Retried, &occurrence, |data| {
                data.retry = Some(RetryData { attempts });
            });
        }
        let Some((event_type, phase)) = end_of(&operation.status, cx.settings) else {
            self.observe_running(change, &mut reporter);
            return;
        };
        self.phase = phase;
        self.schedule.end(cx.schedule);
        // It ended between the last two polls: half of the time is the best guess.
        self.lasted = previous_poll_succeeded.then(|| self.age(cx.now).saturating_sub(cx.elapsed / 2).into());
        let occurrence = self.occurrence();
        reporter.report(self, event_type, &occurrence, |_| ());
    }

    /// Notes how often the platform has retried. Returns the number if it is to be reported.
    fn count_attempts(&mut self, attempts: Option<u64>) -> Option<u64> {
        if self.attempts == UNKNOWN_ATTEMPTS {
            self.attempts = attempts.unwrap_or(0);
        }
        let attempts = attempts.filter(|attempts| *attempts > self.attempts)?;
        self.attempts = attempts;
        // Retries from before the operation was first seen are not reported.
        (self.phase != Phase::Pending).then_some(attempts)
    }

    /// The operation runs: it may have started, stalled, resumed or progressed.
    fn observe_running(&mut self, change: CountChange, reporter: &mut Reporter<'_, '_>) {
        let settings = reporter.cx.settings;
        if self.phase == Phase::Pending {
            self.phase = Phase::Running;
            let occurrence = self.occurrence();
            reporter.report(self, EventType::Started, &occurrence, |_| ());
        }
        if self.phase == Phase::Stalled && change == CountChange::Rose {
            self.phase = Phase::Running;
            // The resume belongs to the stall that was reported last.
            let occurrence = self.stall_occurrence();
            reporter.report(self, EventType::Resumed, &occurrence, |_| ());
        } else if self.phase == Phase::Running && self.is_count_unchanged(settings) {
            self.phase = Phase::Stalled;
            self.progress.mark_stall();
            let occurrence = self.stall_occurrence();
            let stall = self.stall();
            reporter.report(self, EventType::Stalled, &occurrence, |data| {
                data.since = stall.and_then(|stall| stall.since);
                data.reason = stall.map(|stall| stall.reason.to_owned());
            });
        }
        if self.phase == Phase::Running
            && let Some(occurrence) = self.progress.report(settings)
        {
            let occurrence = format!("{} {occurrence}", self.occurrence());
            reporter.report(self, EventType::Progress, &occurrence, |_| ());
        }
    }

    fn retry_occurrence(&self, attempts: u64) -> String {
        // Version 0.1 left the generation out.
        match self.generation {
            0 => format!("attempt {attempts}"),
            _ => format!("{} attempt {attempts}", self.occurrence()),
        }
    }
}

/// The event and the phase of a status that ends the operation.
fn end_of(status: &Status, settings: &WatchSettings) -> Option<(EventType, Phase)> {
    match status {
        Status::Success => Some((EventType::Succeeded, Phase::Succeeded)),
        Status::Failure => Some((EventType::Failed, Phase::Failed)),
        Status::InProgress => None,
        Status::Other(status) if settings.active_statuses.contains(status) => None,
        Status::Other(_) => Some((EventType::Ended, Phase::Ended)),
    }
}
