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
use super::event::{Event, EventType, OperationData, ProgressData, RetryData, millis};
use super::group::Membership;
use super::history::HistorySample;
use super::installation::InstallationPath;
use super::operation::{Operation, Status};
use super::operation_kind::{OperationKind, OperationKinds};
use super::phase::Phase;
use super::poll_budget::SavedPolls;
use super::progress::{CountChange, ProgressContext, ProgressTracker, RetryAttempt};
use super::schedule::{Schedule, ScheduleSettings};
use super::wall_time::WallTime;
use super::watch_list::{Labels, WatchKey};
pub use super::watch_settings::WatchSettings;

mod failure;
mod operation_details;
mod outage;
mod overdue;
mod poll_streak;
mod rebuild;
mod reporter;

use operation_details::OperationDetails;
use overdue::DeadlineRecord;
use poll_streak::PollStreak;
use reporter::Reporter;

/// Polls in a row that must fail or be refused before an operation is unreachable, or be not found before it is gone.
const MIN_FAILED_POLLS: u32 = 3;

/// After this many polls in a row without the operation, its rate and estimated end are out of date.
const STALE_AFTER: u8 = 2;
/// Retries of a rebuilt watch until an answer shows them: earlier retries are not reported again.
const UNKNOWN_ATTEMPTS: u64 = u64::MAX;

/// One watch, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Why a watch is stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Start of the time without a rise; without a count, when the operation was first seen.
    pub since: Option<Timestamp>,
    /// `count unchanged` or `no count`.
    pub reason: &'static str,
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

impl Default for Watch {
    fn default() -> Self {
        Self {
            phase: Phase::Pending,
            sequence: 0,
            generation: 0,
            polls: 0,
            watched: CompactDuration::ZERO,
            lasted: None,
            first_seen: WallTime::NONE,
            last_poll: WallTime::NONE,
            last_answer: WallTime::NONE,
            next_poll: WallTime::NONE,
            last_error: None,
            details: None,
            attempts: 0,
            progress: ProgressTracker::default(),
            schedule: Schedule::default(),
            missing: None,
            failing: None,
            refused: None,
            unreachable: WallTime::NONE,
            is_reachable_again: false,
            is_forbidden: false,
            deadlines: None,
            unanswered: 0,
            membership: None,
            last_poll_succeeded: false,
        }
    }
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

    /// Why the watch is stalled; `None` if it is not.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        let last_poll = self.last_poll.get()?;
        (self.phase == Phase::Stalled).then(|| {
            if self.progress.has_count() {
                Stall {
                    since: self.progress.changed(last_poll),
                    reason: "count unchanged",
                }
            } else {
                Stall {
                    since: self.first_seen.get(),
                    reason: "no count",
                }
            }
        })
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

    /// The installation ID, if it is known.
    #[must_use]
    pub fn installation(&self) -> Option<&str> {
        let installation = self.details.as_deref().map(|details| &*details.installation_id);
        installation.filter(|id| !id.is_empty())
    }

    /// The integration ID, if it is known.
    #[must_use]
    pub fn integration(&self) -> Option<&str> {
        let integration = self
            .details
            .as_deref()
            .map(|details| &*details.kind.integration_id);
        integration.filter(|id| !id.is_empty())
    }

    /// The IDs under which the API serves the operation's installation, if they are known.
    #[must_use]
    pub fn installation_path(&self) -> Option<InstallationPath> {
        let installation = self.installation()?.to_owned();
        let integration = self.integration()?.to_owned();
        Some(InstallationPath {
            integration,
            installation,
        })
    }

    /// Whether the API did not know the operation at the last poll.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing.is_some()
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

    /// When the operation started: when it was created, or first seen.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        let created = self.details.as_deref().and_then(|details| details.create_time);
        created.or(self.first_seen.get())
    }

    /// The objects that the operation reads, as far as they are known.
    #[must_use]
    pub fn objects(&self) -> &[String] {
        self.details
            .as_deref()
            .map_or(&[], |details| &details.kind.objects)
    }

    /// When the end of a finished watch was observed.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.last_poll.get().filter(|_| self.phase.is_finished())
    }

    /// Whether the operation was created before `time`, and its first answer showed that it was finished.
    #[must_use]
    pub fn was_finished_before(&self, time: Timestamp) -> bool {
        let created = self.details.as_deref().and_then(|details| details.create_time);
        let was_answered_once = self.first_seen != WallTime::NONE && self.first_seen == self.last_answer;
        let has_ended = matches!(self.phase, Phase::Succeeded | Phase::Failed | Phase::Ended);
        has_ended && was_answered_once && created.is_some_and(|created| created < time)
    }

    /// Ends all failure streaks. Used when a poll returned the operation but its events could not be recorded.
    pub fn clear_failures(&mut self) {
        self.missing = None;
        self.failing = None;
        self.refused = None;
        self.is_forbidden = false;
        self.unanswered = 0;
    }

    /// Shares its kind with other watches, unless it is already shared since `before`.
    pub fn share(&mut self, before: Option<&Self>, kinds: &mut OperationKinds) {
        let shared = before.and_then(|before| before.details.as_ref());
        if let Some(details) = &mut self.details
            && !shared.is_some_and(|shared| Arc::ptr_eq(shared, details))
        {
            kinds.share(&mut Arc::make_mut(details).kind);
        }
    }

    /// Adds a finished watch to the history of its kind.
    pub fn add_to_history(&self, kinds: &mut OperationKinds) {
        // Saved polls of a watch that was read from the state may have been used before the restart.
        if self.last_poll_succeeded && self.phase.is_finished() {
            kinds.add_saved_polls(self.schedule.unused());
        }
        if let Some((kind, sample)) = self.history_sample() {
            kinds.add_sample(kind, sample);
        }
    }

    /// The history sample of a succeeded watch.
    #[must_use]
    pub fn history_sample(&self) -> Option<(&Arc<OperationKind>, HistorySample)> {
        match (self.phase, &self.details, self.lasted) {
            (Phase::Succeeded, Some(details), Some(lasted)) => {
                let sample = HistorySample {
                    duration: lasted.get(),
                    records: self.progress.records(),
                };
                Some((&details.kind, sample))
            }
            _ => None,
        }
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

    /// How long the operation has run: since `createTime`, but at least since it was first watched.
    fn age(&self, now: Timestamp) -> Duration {
        let created = self.details.as_deref().and_then(|details| details.create_time);
        let since = created.and_then(|created| Duration::try_from(now.duration_since(created)).ok());
        since.unwrap_or_default().max(self.watched.get())
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
        let mut events = Vec::new();
        let mut doubts_project = false;
        let next = match answer {
            Answer::Operation(operation) => {
                self.last_error = None;
                self.observe_operation(operation, cx, &mut events);
                (!self.phase.is_finished()).then(|| self.next_wait(cx))
            }
            Answer::NotFound(reason) => {
                self.last_error = Some(reason.as_str().into());
                doubts_project = self.observe_not_found(reason, cx, &mut events);
                (!self.phase.is_finished()).then(|| self.next_plain_wait(cx))
            }
            Answer::Refused(reason) | Answer::Forbidden(reason) => {
                self.last_error = Some(reason.as_str().into());
                self.is_forbidden |= matches!(answer, Answer::Forbidden(_));
                self.observe_refused(reason, cx, &mut events);
                Some(self.next_plain_wait(cx))
            }
            Answer::Unauthorized(reason) | Answer::Throttled { reason, .. } => {
                self.last_error = Some(reason.as_str().into());
                self.last_poll_succeeded = false;
                Some(self.schedule.after_failure(cx.schedule, cx.random_fraction))
            }
            Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                self.last_error = Some(failure.reason.as_str().into());
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

    /// Progress as of the last poll, which was at `now`.
    #[must_use]
    pub fn progress(&self, now: Timestamp) -> Option<ProgressData> {
        let mut data = self.progress.data(now, self.phase)?;
        if self.phase == Phase::Stalled || self.unanswered >= STALE_AFTER {
            data.records_per_second = None;
            data.estimated_end_time = None;
        }
        Some(data)
    }

    /// Data of the operation as of the last poll, which was at `now`, for events, pages and the HTTP API.
    #[must_use]
    pub fn data(&self, key: &WatchKey, labels: &Labels, now: Timestamp) -> OperationData {
        let details = self.details.as_deref();
        let kind = details.map(|details| &details.kind);
        OperationData {
            project: key.project.to_string(),
            project_id: kind
                .map(|kind| kind.project_id.clone())
                .filter(|id| !id.is_empty()),
            operation_id: key.operation.to_string(),
            installation_id: details
                .map(|details| details.installation_id.to_string())
                .filter(|id| !id.is_empty()),
            integration_id: kind
                .map(|kind| kind.integration_id.clone())
                .filter(|id| !id.is_empty()),
            objects: kind.map(|kind| kind.objects.clone()).unwrap_or_default(),
            status: details.map(|details| details.status.as_str().to_owned()),
            previous_status: None,
            phase: self.phase.as_str(),
            sequence: self.sequence,
            progress: self.progress(now),
            labels: Event::labels(labels),
            create_time: details.and_then(|details| details.create_time),
            deadline: None,
            observed_time: self.last_answer(),
            retry: None,
            since: None,
            reason: None,
            result: details.and_then(|details| details.result.as_deref().map(str::to_owned)),
            duration_seconds: None,
            logs: Vec::new(),
            health_status: None,
            connection_status: None,
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

    fn observe_operation(&mut self, operation: &Operation, cx: &WatchContext<'_>, events: &mut Vec<Event>) {
        let previous = self.status();
        let observed_for = if self.last_poll_succeeded {
            cx.elapsed.saturating_sub(cx.blocked)
        } else {
            Duration::ZERO
        };
        let previous_poll_succeeded = std::mem::replace(&mut self.last_poll_succeeded, true);
        self.unanswered = 0;
        self.last_answer = cx.now.into();
        if self.first_seen == WallTime::NONE {
            self.first_seen = cx.now.into();
        }
        self.missing = None;
        self.failing = None;
        self.refused = None;
        self.is_forbidden = false;
        if !self
            .details
            .as_deref()
            .is_some_and(|details| details.is_of(operation))
        {
            self.details = Some(Arc::new(OperationDetails::of(operation)));
        }
        let metadata = operation.metadata.as_ref();
        let attempts = metadata
            .and_then(|metadata| metadata.retry.as_ref())
            .and_then(|retry| retry.attempts);
        if self.attempts == UNKNOWN_ATTEMPTS {
            self.attempts = attempts.unwrap_or(0);
        }
        let attempts = attempts.filter(|attempts| *attempts > self.attempts);
        self.attempts = attempts.unwrap_or(self.attempts);
        // Retries from before the operation was first seen are not reported.
        let retried = attempts.filter(|_| self.phase != Phase::Pending);
        let context = ProgressContext {
            now: cx.now,
            observed_for,
            attempt: if retried.is_some() {
                RetryAttempt::New
            } else {
                RetryAttempt::Same
            },
            settings: cx.settings,
        };
        let change = self
            .progress
            .observe(metadata.and_then(|metadata| metadata.progress.as_ref()), &context);
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
        let ending = match &operation.status {
            Status::Success => Some((EventType::Succeeded, Phase::Succeeded)),
            Status::Failure => Some((EventType::Failed, Phase::Failed)),
            Status::InProgress => None,
            Status::Other(status) if cx.settings.active_statuses.contains(status) => None,
            Status::Other(_) => Some((EventType::Ended, Phase::Ended)),
        };
        if let Some((event_type, phase)) = ending {
            self.phase = phase;
            self.schedule.end(cx.schedule);
            // It ended between the last two polls: half of the time is the best guess.
            self.lasted =
                previous_poll_succeeded.then(|| self.age(cx.now).saturating_sub(cx.elapsed / 2).into());
            let occurrence = self.occurrence();
            reporter.report(self, event_type, &occurrence, |_| ());
            return;
        }

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
        } else if self.phase == Phase::Running && self.is_count_unchanged(cx.settings) {
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
            && let Some(occurrence) = self.progress.report(cx.settings)
        {
            let occurrence = format!("{} {occurrence}", self.occurrence());
            reporter.report(self, EventType::Progress, &occurrence, |_| ());
        }
    }

    /// Whether the count, or its absence, has lasted for the configured time.
    fn is_count_unchanged(&self, settings: &WatchSettings) -> bool {
        let limit = if self.progress.has_count() {
            Some(settings.stalled_after)
        } else {
            settings.silent_after
        };
        limit.is_some_and(|limit| self.progress.unchanged() >= limit)
    }

    /// The API does not know the operation. Returns true if it would be gone, but the project may be missing instead.
    fn observe_not_found(&mut self, reason: &str, cx: &WatchContext<'_>, events: &mut Vec<Event>) -> bool {
        self.last_poll_succeeded = false;
        self.last_answer = cx.now.into();
        self.failing = None;
        PollStreak::interrupt(&mut self.refused);
        let missing = PollStreak::count_poll(&mut self.missing, cx.now);
        if missing.polls < MIN_FAILED_POLLS || missing.lasted < cx.settings.not_found_grace {
            return false;
        }
        if cx.project_proven.is_none_or(|ago| ago >= missing.lasted) {
            return true;
        }
        let since = missing.since;
        self.phase = Phase::Gone;
        let occurrence = self.occurrence();
        Reporter {
            events,
            previous: None,
            cx,
        }
        .report(self, EventType::Gone, &occurrence, |data| {
            data.since = Some(since);
            data.reason = Some(reason.to_owned());
        });
        false
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

    /// Seconds from `createTime` to `now`; without it, from when the operation was first seen or first watched.
    fn duration_seconds(&self, now: Timestamp) -> f64 {
        let created = self.details.as_deref().and_then(|details| details.create_time);
        let seconds = match created.or(self.first_seen.get()) {
            Some(begin) => now.duration_since(begin).as_secs_f64(),
            None => self.watched.get().as_secs_f64(),
        };
        (seconds.max(0.0) * 1000.0).round() / 1000.0
    }

    fn status(&self) -> Option<Status> {
        self.details.as_ref().map(|details| details.status.clone())
    }

    /// Identifies the start and the end of the current generation; part of the event ID.
    fn occurrence(&self) -> String {
        occurrence_of(self.generation)
    }

    fn stall_occurrence(&self) -> String {
        format!("{} {}", self.occurrence(), self.progress.stall_occurrence())
    }

    fn retry_occurrence(&self, attempts: u64) -> String {
        // Version 0.1 left the generation out.
        match self.generation {
            0 => format!("attempt {attempts}"),
            _ => format!("{} attempt {attempts}", self.occurrence()),
        }
    }
}

/// Identifies the start and the end of a generation; part of the event ID.
fn occurrence_of(generation: u32) -> String {
    format!("generation {generation}")
}

#[cfg(test)]
mod tests;
