//! One watch's state machine: what an answer means, what is to be told, when to look again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure};
use super::budget::Savings;
use super::event::{Event, EventType, OperationData, ProgressData, RetryData};
use super::experience::Lesson;
use super::kind::Kinds;
use super::operation::{Operation, Status};
use super::outlook::Outlook;
use super::progress::{Change, Tracker};
use super::schedule::{Pace, Schedule};
use super::span::Span;
use super::wall_time::WallTime;
use super::watch_list::{Labels, WatchKey};

mod facts;
mod phase;

use facts::Facts;
pub use phase::Phase;

/// How many polls must have failed before an operation is told unreachable, and how many must have found nothing
/// before it is gone: one lost answer on a slow schedule is not an outage.
const ENOUGH: u32 = 3;

/// The settings of what is told and when (`[poll]`).
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// How long the count may stand still before the watch is stalled.
    pub stalled_after: Duration,
    /// How long all polls must fail before the operation or the API is told unreachable.
    pub unreachable_after: Duration,
    /// How long an operation must stay unknown to the API before it is gone.
    pub not_found_grace: Duration,
    /// How long to watch at all; `None` for as long as it takes.
    pub give_up_after: Option<Duration>,
    /// Statuses that count as running, besides `in_progress`.
    pub active_statuses: Vec<String>,
    /// Percentage points between two progress events, above 0, at most 100.
    pub progress_step: f64,
    /// Time between two progress events of an operation without an estimate.
    pub progress_interval: Duration,
}

/// One watch: everything that is remembered of it, and written to disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    phase: Phase,
    /// Of the last event.
    sequence: u64,
    /// How often the watch was started again after its end.
    generation: u32,
    polls: u64,
    /// For how long it has been watched.
    watched: Span,
    /// How long the operation ran, if it was seen to the end.
    #[serde(default)]
    lasted: Option<Span>,
    first_seen: WallTime,
    last_poll: WallTime,
    next_poll: WallTime,
    last_error: Option<Box<str>>,
    /// Shared with the copies that polls decide on: it hardly ever changes.
    facts: Option<Arc<Facts>>,
    attempts: u64,
    progress: Tracker,
    schedule: Schedule,
    /// Boxed, as most watches have no trouble.
    missing: Option<Box<Trouble>>,
    trouble: Option<Box<Trouble>>,
    /// Since when it has been told unreachable.
    unreachable: WallTime,
    /// Whether the last poll showed the operation: only time between two such polls counts as seen.
    #[serde(skip)]
    in_sight: bool,
}

/// A row of polls that met the same trouble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Trouble {
    since: Timestamp,
    lasted: Duration,
    polls: u32,
}

impl Trouble {
    /// One more poll met it; the first begins the row.
    fn met(row: &mut Option<Box<Self>>, now: Timestamp) -> &Self {
        let trouble = row.get_or_insert_with(|| {
            Box::new(Self {
                since: now,
                lasted: Duration::ZERO,
                polls: 0,
            })
        });
        trouble.polls = trouble.polls.saturating_add(1);
        trouble
    }
}

/// What surrounds an observation.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Which watch it is.
    pub key: &'a WatchKey,
    /// Its labels as the list has them now.
    pub labels: &'a Labels,
    /// What is told and when.
    pub rules: &'a Rules,
    /// How often to poll.
    pub pace: &'a Pace,
    /// What the operations that are watched have in common.
    pub kinds: &'a Kinds,
    /// The time on the wall.
    pub now: Timestamp,
    /// Time since the observation before (or since the watch began), by a clock that never steps.
    pub elapsed: Duration,
    /// How much of that the whole project was held back by a pause or by bad credentials.
    pub held: Duration,
    /// A number between 0 and 1, drawn anew.
    pub chance: f64,
    /// Whether a 404 speaks of this operation: not so while not one of the project's several watches was ever found.
    pub project_known: bool,
    /// How long ago any watch of the project was answered with an operation.
    pub project_answered: Option<Duration>,
}

/// What follows from an observation.
#[derive(Debug, PartialEq)]
#[must_use]
pub struct Step {
    /// What is to be told, in this order.
    pub events: Vec<Event>,
    /// What to do next.
    pub next: Next,
    /// The operation was not found through the grace time, but the project itself may be the one that is wrong.
    pub doubts_project: bool,
}

/// What a poller does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Poll again after this time.
    PollAfter(Duration),
    /// Nothing: the watch is over.
    Over,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            phase: Phase::Pending,
            sequence: 0,
            generation: 0,
            polls: 0,
            watched: Span::ZERO,
            lasted: None,
            first_seen: WallTime::NONE,
            last_poll: WallTime::NONE,
            next_poll: WallTime::NONE,
            last_error: None,
            facts: None,
            attempts: 0,
            progress: Tracker::default(),
            schedule: Schedule::default(),
            missing: None,
            trouble: None,
            unreachable: WallTime::NONE,
            in_sight: false,
        }
    }
}

impl Watch {
    /// Where the watch stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The sequence number of its last event; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often it was polled.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// When it was polled last.
    #[must_use]
    pub fn last_poll(&self) -> Option<Timestamp> {
        self.last_poll.get()
    }

    /// When it is due next, as far as is known.
    #[must_use]
    pub fn next_poll(&self) -> Option<Timestamp> {
        self.next_poll.get()
    }

    /// What the last poll met, if that was an error.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Whether it is told unreachable.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.unreachable != WallTime::NONE
    }

    /// How long until the watch expires.
    #[must_use]
    pub fn expires_in(&self, rules: &Rules) -> Option<Duration> {
        rules
            .give_up_after
            .map(|limit| limit.saturating_sub(self.watched.get()))
    }

    /// Goes on after `downtime` in which nobody watched: it counts towards giving up, and towards nothing else.
    pub fn resume(&mut self, downtime: Duration) {
        self.watched.extend(downtime);
        self.in_sight = false;
    }

    /// The operation was seen, though what it showed could not be recorded and is to be found again: it is neither
    /// missing nor in trouble.
    pub fn keep_sight(&mut self) {
        self.missing = None;
        self.trouble = None;
    }

    /// What is read back from the state has facts of its own; from now on it shares what it has in common with others.
    pub fn share(&mut self, kinds: &Kinds) {
        if let Some(facts) = &mut self.facts {
            let facts = Arc::make_mut(facts);
            facts.kind = kinds.with(&facts.kind.traits);
        }
    }

    /// Lets others of its kind learn from it, once it has succeeded: that is what they are expected to do.
    pub fn teach(&self, kinds: &Kinds) {
        // What was read back from the state is not in sight: others may have spent its savings already.
        if self.in_sight && self.phase.is_over() {
            kinds.savings().add(self.schedule.unused());
        }
        if let (Phase::Succeeded, Some(facts), Some(lasted)) = (self.phase, &self.facts, self.lasted) {
            let lesson = Lesson {
                lasted: lasted.get(),
                records: self.progress.records(),
            };
            kinds.learn(&facts.kind.traits, lesson);
        }
    }

    /// When to poll again after an answer that showed the operation running.
    fn sleep(&mut self, cx: &Context<'_>) -> Duration {
        let experience = self.facts.as_deref().map(|facts| facts.kind.experience());
        let outlook = self
            .progress
            .outlook(self.age(cx.now), &experience.unwrap_or_default());
        self.schedule
            .after_answer(cx.pace, outlook, cx.chance, &mut cx.kinds.savings())
    }

    /// When to poll again after an answer that says nothing of the operation.
    fn sleep_plainly(&mut self, cx: &Context<'_>) -> Duration {
        self.schedule
            .after_answer(cx.pace, Outlook::UNKNOWN, cx.chance, &mut Savings::default())
    }

    /// For how long it has run: since it was created, as far as clocks agree, else since it was first watched.
    fn age(&self, now: Timestamp) -> Duration {
        let created = self.facts.as_deref().and_then(|facts| facts.create_time);
        let since = created.and_then(|created| Duration::try_from(now.duration_since(created)).ok());
        since.unwrap_or_default().max(self.watched.get())
    }

    /// Whether the API ever answered with the operation.
    #[must_use]
    pub fn was_seen(&self) -> bool {
        self.facts.is_some()
    }

    /// Starts again after an end that may not have been one; events go on with the next number.
    pub fn start_again(&mut self) {
        *self = Self {
            sequence: self.sequence,
            generation: self.generation.saturating_add(1),
            polls: self.polls,
            ..Self::default()
        };
    }

    /// Takes in what a poll met.
    ///
    /// `Unauthorized` and `Throttled` are matters of the project: they teach nothing here but that time passed.
    /// `Forbidden` is taken as this operation's own, as `Refused` is: the project has looked into it before.
    pub fn observe(&mut self, answer: &Answer, cx: &Context<'_>) -> Step {
        self.pass(cx);
        self.polls = self.polls.saturating_add(1);
        self.last_poll = cx.now.into();
        let mut events = Vec::new();
        let mut doubts_project = false;
        let next = match answer {
            Answer::Operation(operation) => {
                self.last_error = None;
                self.see(operation, cx, &mut events);
                (!self.phase.is_over()).then(|| self.sleep(cx))
            }
            Answer::NotFound(reason) => {
                self.last_error = Some(reason.as_str().into());
                doubts_project = self.miss(reason, cx, &mut events);
                (!self.phase.is_over()).then(|| self.sleep_plainly(cx))
            }
            Answer::Refused(reason) | Answer::Forbidden(reason) => {
                self.last_error = Some(reason.as_str().into());
                self.in_sight = false;
                self.tell_unreachable(cx.now, reason, cx, &mut events);
                Some(self.sleep_plainly(cx))
            }
            Answer::Unauthorized(reason) | Answer::Throttled { reason, .. } => {
                self.last_error = Some(reason.as_str().into());
                self.in_sight = false;
                Some(self.schedule.after_failure(cx.pace, cx.chance))
            }
            Answer::Failed(failure) => {
                self.last_error = Some(failure.reason.as_str().into());
                self.fail(failure, cx, &mut events);
                Some(self.schedule.after_failure(cx.pace, cx.chance))
            }
        };
        let next = match next {
            Some(_) if self.expires_in(cx.rules).is_some_and(|left| left.is_zero()) => {
                self.expire(cx, &mut events);
                Next::Over
            }
            Some(wait) => Next::PollAfter(wait),
            None => Next::Over,
        };
        self.next_poll = match next {
            Next::PollAfter(wait) => cx.now.checked_add(wait).ok().into(),
            Next::Over => WallTime::NONE,
        };
        Step {
            events,
            next,
            doubts_project,
        }
    }

    /// Takes in that the time to give up has come, without a poll.
    pub fn give_up(&mut self, cx: &Context<'_>) -> Step {
        self.pass(cx);
        let mut events = Vec::new();
        let left = self.expires_in(cx.rules).unwrap_or(Duration::MAX);
        if !left.is_zero() {
            return Step {
                events,
                next: Next::PollAfter(left),
                doubts_project: false,
            };
        }
        self.expire(cx, &mut events);
        self.next_poll = WallTime::NONE;
        Step {
            events,
            next: Next::Over,
            doubts_project: false,
        }
    }

    /// How far the operation has come, as of `now`.
    #[must_use]
    pub fn progress(&self, now: Timestamp) -> Option<ProgressData> {
        self.progress.data(now, self.phase)
    }

    /// What is known of the operation `now`, as events, pages and the API of the daemon tell it.
    #[must_use]
    pub fn data(&self, key: &WatchKey, labels: &Labels, now: Timestamp) -> OperationData {
        let facts = self.facts.as_deref();
        let traits = facts.map(|facts| &facts.kind.traits);
        OperationData {
            project: key.project.to_string(),
            project_id: traits.map(|traits| traits.project_id.clone()),
            operation_id: key.operation.to_string(),
            installation_id: facts.map(|facts| facts.installation_id.to_string()),
            integration_id: traits.map(|traits| traits.integration_id.clone()),
            objects: traits.map(|traits| traits.objects.clone()).unwrap_or_default(),
            status: facts.map(|facts| facts.status.as_str().to_owned()),
            previous_status: None,
            phase: self.phase.as_str(),
            sequence: self.sequence,
            progress: self.progress(now),
            labels: labels.clone(),
            create_time: facts.and_then(|facts| facts.create_time),
            observed_time: now,
            retry: None,
            since: None,
            reason: None,
            result: facts.and_then(|facts| facts.result.as_deref().map(str::to_owned)),
            duration_seconds: None,
            logs: Vec::new(),
        }
    }

    fn pass(&mut self, cx: &Context<'_>) {
        self.watched.extend(cx.elapsed);
        self.progress.pass(cx.elapsed);
        self.schedule.pass(cx.elapsed);
        if let Some(missing) = &mut self.missing {
            missing.lasted = missing.lasted.saturating_add(cx.elapsed);
        }
        if let Some(trouble) = &mut self.trouble {
            // While the whole project waits, nothing is tried, and what is not tried has not failed.
            trouble.lasted = trouble.lasted.saturating_add(cx.elapsed.saturating_sub(cx.held));
        }
    }

    /// The API answered with the operation.
    fn see(&mut self, operation: &Operation, cx: &Context<'_>, events: &mut Vec<Event>) {
        let previous = self.status();
        let seen_for = if self.in_sight {
            cx.elapsed.saturating_sub(cx.held)
        } else {
            Duration::ZERO
        };
        let was_in_sight = std::mem::replace(&mut self.in_sight, true);
        self.missing = None;
        self.trouble = None;
        if !self.facts.as_deref().is_some_and(|facts| facts.are_of(operation)) {
            self.facts = Some(Arc::new(Facts::of(operation, cx.kinds)));
        }
        let metadata = operation.metadata.as_ref();
        let change = self
            .progress
            .look(metadata.and_then(|metadata| metadata.progress.as_ref()), seen_for);
        let mut teller = Teller {
            events,
            previous: previous.as_ref(),
            cx,
        };

        if let Some(since) = std::mem::replace(&mut self.unreachable, WallTime::NONE).get() {
            teller.tell(self, EventType::Reachable, &outage(since), |data| {
                data.since = Some(since)
            });
        }
        let attempts = metadata
            .and_then(|metadata| metadata.retry.as_ref())
            .and_then(|retry| retry.attempts);
        if let Some(attempts) = attempts.filter(|attempts| *attempts > self.attempts) {
            self.attempts = attempts;
            // What was retried before the operation was first seen is no news.
            if self.phase != Phase::Pending {
                teller.tell(self, EventType::Retried, &format!("attempt {attempts}"), |data| {
                    data.retry = Some(RetryData { attempts });
                });
            }
        }
        let ending = match &operation.status {
            Status::Success => Some((EventType::Succeeded, Phase::Succeeded)),
            Status::Failure => Some((EventType::Failed, Phase::Failed)),
            Status::InProgress => None,
            Status::Other(status) if cx.rules.active_statuses.contains(status) => None,
            Status::Other(_) => Some((EventType::Ended, Phase::Ended)),
        };
        if let Some((event_type, phase)) = ending {
            self.phase = phase;
            // It ended between the last two polls.
            self.lasted = was_in_sight.then(|| self.age(cx.now).saturating_sub(cx.elapsed / 2).into());
            let begin = operation.create_time.or(self.first_seen.get());
            let occurrence = self.occurrence();
            teller.tell(self, event_type, &occurrence, |data| {
                data.duration_seconds = begin.map(|begin| {
                    (cx.now.duration_since(begin).as_secs_f64().max(0.0) * 1000.0).round() / 1000.0
                });
            });
            return;
        }

        if self.phase == Phase::Pending {
            self.phase = Phase::Running;
            self.first_seen = cx.now.into();
            let occurrence = self.occurrence();
            teller.tell(self, EventType::Started, &occurrence, |_| ());
        }
        match (self.phase, change) {
            (Phase::Stalled, Change::Rose) => {
                self.phase = Phase::Running;
                // Which stall it was: the last one told.
                let occurrence = self.stall_occurrence();
                teller.tell(self, EventType::Resumed, &occurrence, |_| ());
            }
            (Phase::Running, Change::Same) if self.progress.unchanged() >= cx.rules.stalled_after => {
                self.phase = Phase::Stalled;
                self.progress.mark_stall();
                let occurrence = self.stall_occurrence();
                teller.tell(self, EventType::Stalled, &occurrence, |_| ());
            }
            _ => {}
        }
        if self.phase == Phase::Running
            && let Some(occurrence) = self
                .progress
                .tell(cx.rules.progress_step, cx.rules.progress_interval)
        {
            let occurrence = format!("{} {occurrence}", self.occurrence());
            teller.tell(self, EventType::Progress, &occurrence, |_| ());
        }
    }

    /// The API does not know the operation. True if that would be its end, were it not for doubts about the project.
    fn miss(&mut self, reason: &str, cx: &Context<'_>, events: &mut Vec<Event>) -> bool {
        self.in_sight = false;
        let missing = Trouble::met(&mut self.missing, cx.now);
        if missing.polls < ENOUGH || missing.lasted < cx.rules.not_found_grace {
            return false;
        }
        if !cx.project_known {
            return true;
        }
        let since = missing.since;
        self.phase = Phase::Gone;
        let occurrence = self.occurrence();
        Teller {
            events,
            previous: None,
            cx,
        }
        .tell(self, EventType::Gone, &occurrence, |data| {
            data.since = Some(since);
            data.reason = Some(reason.to_owned());
        });
        false
    }

    /// A poll failed.
    fn fail(&mut self, failure: &Failure, cx: &Context<'_>, events: &mut Vec<Event>) {
        self.in_sight = false;
        let trouble = Trouble::met(&mut self.trouble, cx.now);
        let others_are_answered = cx.project_answered.is_some_and(|ago| ago < trouble.lasted);
        if trouble.polls >= ENOUGH && trouble.lasted >= cx.rules.unreachable_after && others_are_answered {
            let since = trouble.since;
            self.tell_unreachable(since, &failure.reason, cx, events);
        }
    }

    fn tell_unreachable(
        &mut self,
        since: Timestamp,
        reason: &str,
        cx: &Context<'_>,
        events: &mut Vec<Event>,
    ) {
        if self.unreachable != WallTime::NONE {
            return;
        }
        self.unreachable = since.into();
        Teller {
            events,
            previous: None,
            cx,
        }
        .tell(self, EventType::Unreachable, &outage(since), |data| {
            data.since = Some(since);
            data.reason = Some(reason.to_owned());
        });
    }

    fn expire(&mut self, cx: &Context<'_>, events: &mut Vec<Event>) {
        self.phase = Phase::Expired;
        let occurrence = self.occurrence();
        let reason = self.last_error.as_deref().map(str::to_owned);
        Teller {
            events,
            previous: None,
            cx,
        }
        .tell(self, EventType::Expired, &occurrence, |data| {
            data.reason = reason;
        });
    }

    /// The API's status as last seen.
    fn status(&self) -> Option<Status> {
        self.facts.as_ref().map(|facts| facts.status.clone())
    }

    /// What tells the one start and the one end of this generation from those of others.
    fn occurrence(&self) -> String {
        format!("generation {}", self.generation)
    }

    fn stall_occurrence(&self) -> String {
        let (count, restarts) = self.progress.stalled_at();
        format!("{} restart {restarts} count {count}", self.occurrence())
    }
}

/// What tells one outage from another.
fn outage(since: Timestamp) -> String {
    super::event::millis(since)
}

/// Builds the events of one observation.
struct Teller<'a, 'b> {
    events: &'a mut Vec<Event>,
    previous: Option<&'a Status>,
    cx: &'a Context<'b>,
}

impl Teller<'_, '_> {
    fn tell(
        &mut self,
        watch: &mut Watch,
        event_type: EventType,
        occurrence: &str,
        fill: impl FnOnce(&mut OperationData),
    ) {
        watch.sequence = watch.sequence.saturating_add(1);
        let mut data = watch.data(self.cx.key, self.cx.labels, self.cx.now);
        data.previous_status = self.previous.map(|status| status.as_str().to_owned());
        if !event_type.is_ending() {
            data.result = None;
        }
        fill(&mut data);
        self.events.push(Event::operation(
            self.cx.key,
            event_type,
            occurrence,
            self.cx.now,
            data,
        ));
    }
}

#[cfg(test)]
mod tests;
