//! The state machine of one watch: what an answer means, which events it causes, and when to poll next.

use std::ops::Not;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::compact_duration::CompactDuration;
use super::deadline::Deadline;
use super::end_forecast::EndForecast;
use super::event::{Event, EventType};
use super::group::Membership;
use super::operation_kind::OperationKinds;
use super::phase::Phase;
use super::poll_budget::SavedPolls;
use super::progress::ProgressTracker;
use super::schedule::{Schedule, ScheduleSettings};
use super::wall_time::WallTime;
use super::watch_list::{Labels, WatchKey};
pub use super::watch_settings::WatchSettings;

mod answered;
mod data;
mod failure;
mod history;
mod missing;
mod operation_details;
mod outage;
mod overdue;
mod poll_streak;
mod rebuild;
mod reporter;
mod stall;

use operation_details::OperationDetails;
use overdue::DeadlineRecord;
use poll_streak::PollStreak;
use reporter::Reporter;
pub use stall::{NO_COUNT, Stall};

/// Polls in a row that must fail or be refused before an operation is unreachable, or be not found before it is gone.
const MIN_FAILED_POLLS: u32 = 3;
/// Retries of a rebuilt watch until an answer shows them: earlier retries are not reported again.
const UNKNOWN_ATTEMPTS: u64 = u64::MAX;

/// One watch, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    phase: Phase,
    /// Sequence number of the last event.
    sequence: u64,
    /// How often the watch was started again after it was finished.
    generation: u32,
    polls: u64,
    /// How long it has been watched.
    watched: CompactDuration,
    /// How long the operation ran, if the end was observed.
    #[serde(default)]
    lasted: Option<CompactDuration>,
    first_seen: WallTime,
    last_poll: WallTime,
    /// Time of the last answer for this operation.
    #[serde(default)]
    last_answer: WallTime,
    next_poll: WallTime,
    last_error: Option<Box<str>>,
    /// Shared with the copies that polls decide on, since it rarely changes.
    #[serde(rename = "facts")]
    details: Option<Arc<OperationDetails>>,
    attempts: u64,
    progress: ProgressTracker,
    schedule: Schedule,
    /// Boxed because most watches have no streak.
    missing: Option<Box<PollStreak>>,
    #[serde(rename = "trouble")]
    failing: Option<Box<PollStreak>>,
    /// Kept until the API answers with the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Box<PollStreak>>,
    /// Start of the last reported outage.
    unreachable: WallTime,
    /// Whether that outage has ended.
    #[serde(default, skip_serializing_if = "Not::not")]
    is_reachable_again: bool,
    /// Whether the API answered 403 since it last answered with the operation.
    #[serde(default, skip_serializing_if = "Not::not")]
    is_forbidden: bool,
    /// What is kept about deadlines; nothing for most watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadlines: Option<Box<DeadlineRecord>>,
    /// Polls in a row without the operation; saturates.
    #[serde(default)]
    unanswered: u8,
    /// The round of its group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    membership: Option<Membership>,
    /// Only time between two polls that returned the operation counts as observed.
    #[serde(skip)]
    last_poll_succeeded: bool,
}

/// Input of a decision besides the answer.
#[derive(Debug, Clone, Copy)]
pub struct WatchContext<'a> {
    /// Key of the watch.
    pub key: &'a WatchKey,
    /// Current labels of the watch.
    pub labels: &'a Labels,
    /// When the operation should be finished.
    pub deadline: Option<Deadline>,
    /// Settings for events.
    pub settings: &'a WatchSettings,
    /// Settings for the poll schedule.
    pub schedule: &'a ScheduleSettings,
    /// Kinds of the project's operations, with their history.
    pub kinds: &'a OperationKinds,
    /// Wall-clock time.
    pub now: Timestamp,
    /// Time since the previous observation or the start of the watch, on a monotonic clock.
    pub elapsed: Duration,
    /// The part of `elapsed` in which the project was paused or its credentials were rejected.
    pub blocked: Duration,
    /// A new random number from 0 to 1.
    pub random_fraction: f64,
    /// Time since the API last proved that the project exists. Only then a 404 means that the operation is gone.
    pub project_proven: Option<Duration>,
    /// Time since the API last answered with any operation of the project.
    pub project_answered: Option<Duration>,
    /// Whether all other unfinished watches of the project, at least one, are refused too. Then the project reports
    /// it.
    pub all_others_refused: bool,
}

/// The result of an observation.
#[derive(Debug, PartialEq)]
#[must_use]
pub struct Decision {
    /// Events to report, in this order.
    pub events: Vec<Event>,
    /// What to do next.
    pub next: NextStep,
    /// The operation was not found for the whole grace time, but the project may be missing instead.
    pub doubts_project: bool,
}

/// What a poller does after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Poll again after this time.
    PollAfter(Duration),
    /// Nothing: the watch is finished.
    Finished,
    /// What it did before: there was no poll.
    Unchanged,
}

impl Watch {
    /// The phase of the watch.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The sequence number of its last event; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The number of polls.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// Time of the last poll.
    #[must_use]
    pub fn last_poll(&self) -> Option<Timestamp> {
        self.last_poll.get()
    }

    /// Time of the last answer for this operation. A failed poll is not an answer.
    #[must_use]
    pub fn last_answer(&self) -> Option<Timestamp> {
        // Version 0.1 did not store it.
        let last_poll = || self.last_poll.get().filter(|_| self.last_error.is_none());
        self.last_answer.get().or_else(last_poll)
    }

    /// Time of the next poll, if it is known.
    #[must_use]
    pub fn next_poll(&self) -> Option<Timestamp> {
        self.next_poll.get()
    }

    /// The error of the last poll, if it had one.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Time until the watch expires; `None` for never.
    #[must_use]
    pub fn expires_in(&self, settings: &WatchSettings) -> Option<Duration> {
        settings
            .give_up_after
            .map(|limit| limit.saturating_sub(self.watched.get()))
    }

    /// Continues after `downtime` without polls. It counts for `give_up_after` only.
    pub fn resume(&mut self, downtime: Duration) {
        self.watched.extend(downtime);
        self.last_poll_succeeded = false;
    }

    /// Whether the last poll returned the operation.
    #[must_use]
    pub fn last_poll_succeeded(&self) -> bool {
        self.last_poll_succeeded
    }

    /// The round of its group that it belongs to, if it ever joined one.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.membership
    }

    /// Notes the round of its group that it belongs to. Returns whether that is a change.
    pub fn set_membership(&mut self, membership: Option<Membership>) -> bool {
        std::mem::replace(&mut self.membership, membership) != membership
    }

    /// Ends all failure streaks. Used when a poll returned the operation but its events could not be recorded.
    pub fn clear_failures(&mut self) {
        self.missing = None;
        self.failing = None;
        self.refused = None;
        self.is_forbidden = false;
        self.unanswered = 0;
    }

    /// Time until the next poll after an answer that shows the operation running.
    fn next_wait(&mut self, cx: &WatchContext<'_>) -> Duration {
        let forecast = if cx.schedule.adaptive {
            let details = self.details.as_deref();
            let statistics = details.map(|details| cx.kinds.statistics(&details.kind));
            self.progress
                .forecast(self.age(cx.now), statistics.unwrap_or_default())
        } else {
            EndForecast::UNKNOWN
        };
        cx.kinds.with_saved_polls(|saved| {
            self.schedule
                .after_answer(cx.schedule, forecast, cx.random_fraction, saved)
        })
    }

    /// Time until the next poll after an answer without an operation.
    fn next_plain_wait(&mut self, cx: &WatchContext<'_>) -> Duration {
        self.schedule.after_answer(
            cx.schedule,
            EndForecast::UNKNOWN,
            cx.random_fraction,
            &mut SavedPolls::default(),
        )
    }

    /// Starts a finished watch again. The sequence continues.
    pub fn start_again(&mut self) {
        *self = Self {
            sequence: self.sequence,
            generation: self.generation.saturating_add(1),
            polls: self.polls,
            unreachable: self.unreachable,
            is_reachable_again: true,
            deadlines: self.deadlines.take(),
            ..Self::default()
        };
    }

    /// Applies the answer of a poll.
    ///
    /// `Unauthorized` and `Throttled` concern the project; here they only let time pass. `Forbidden` is treated like
    /// `Refused`: the project has already decided that it concerns this operation.
    pub fn observe(&mut self, answer: &Answer, cx: &WatchContext<'_>) -> Decision {
        self.add_time(cx);
        self.last_answer = self.last_answer().into();
        self.polls = self.polls.saturating_add(1);
        self.last_poll = cx.now.into();
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_error = answer.reason().map(Box::from);
        let mut events = Vec::new();
        let mut doubts_project = false;
        let next = match answer {
            Answer::Operation(operation) => {
                self.observe_operation(operation, cx, &mut events);
                (!self.phase.is_finished()).then(|| self.next_wait(cx))
            }
            Answer::NotFound(reason) => {
                doubts_project = self.observe_not_found(reason, cx, &mut events);
                (!self.phase.is_finished()).then(|| self.next_plain_wait(cx))
            }
            Answer::Refused(reason) | Answer::Forbidden(reason) => {
                self.is_forbidden |= matches!(answer, Answer::Forbidden(_));
                self.observe_refused(reason, cx, &mut events);
                Some(self.next_plain_wait(cx))
            }
            Answer::Unauthorized(_) | Answer::Throttled { .. } => {
                self.last_poll_succeeded = false;
                Some(self.schedule.after_failure(cx.schedule, cx.random_fraction))
            }
            Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                self.observe_failed(failure, cx, &mut events);
                Some(self.schedule.after_failure(cx.schedule, cx.random_fraction))
            }
        };
        let next = match next {
            Some(_) if self.expires_in(cx.settings).is_some_and(|left| left.is_zero()) => {
                self.expire(cx, &mut events);
                NextStep::Finished
            }
            Some(wait) => {
                self.report_overdue(cx, &mut events);
                NextStep::PollAfter(wait)
            }
            None => NextStep::Finished,
        };
        self.next_poll = match next {
            NextStep::PollAfter(wait) => cx.now.checked_add(wait).ok().into(),
            NextStep::Finished | NextStep::Unchanged => WallTime::NONE,
        };
        Decision {
            events,
            next,
            doubts_project,
        }
    }

    /// Applies that time has passed without a poll: the watch expires, or its deadline passes.
    ///
    /// Unless it expires, the time since the last observation is left to the next one.
    pub fn observe_time(&mut self, cx: &WatchContext<'_>) -> Decision {
        let mut events = Vec::new();
        let next = if self
            .expires_in(cx.settings)
            .is_some_and(|left| left <= cx.elapsed)
        {
            self.add_time(cx);
            self.expire(cx, &mut events);
            self.next_poll = WallTime::NONE;
            NextStep::Finished
        } else {
            self.report_overdue(cx, &mut events);
            NextStep::Unchanged
        };
        Decision {
            events,
            next,
            doubts_project: false,
        }
    }

    fn add_time(&mut self, cx: &WatchContext<'_>) {
        self.watched.extend(cx.elapsed);
        self.progress.add_time(cx.elapsed);
        self.schedule.add_time(cx.elapsed);
        PollStreak::add_time(&mut self.missing, cx.elapsed);
        // While the project is blocked nothing is tried, so nothing has failed.
        let tried = cx.elapsed.saturating_sub(cx.blocked);
        PollStreak::add_time(&mut self.failing, tried);
        PollStreak::add_time(&mut self.refused, tried);
    }

    fn expire(&mut self, cx: &WatchContext<'_>, events: &mut Vec<Event>) {
        self.phase = Phase::Expired;
        let occurrence = self.occurrence();
        let since = cx.now.checked_sub(self.watched.get()).ok();
        let limit = SignedDuration::try_from(cx.settings.give_up_after.unwrap_or_default());
        let limit = limit.unwrap_or(SignedDuration::MAX);
        let mut reason = format!("the operation did not finish within poll.give_up_after ({limit:#})");
        if let Some(error) = self.last_error.as_deref() {
            reason = format!("{reason}; last error: {error}");
        }
        Reporter {
            events,
            previous: None,
            cx,
        }
        .report(self, EventType::Expired, &occurrence, |data| {
            data.since = since;
            data.reason = Some(reason);
        });
    }

    /// Identifies the start and the end of the current generation; part of the event ID.
    fn occurrence(&self) -> String {
        occurrence_of(self.generation)
    }
}

/// Identifies the start and the end of a generation; part of the event ID.
fn occurrence_of(generation: u32) -> String {
    format!("generation {generation}")
}

#[cfg(test)]
mod tests;
