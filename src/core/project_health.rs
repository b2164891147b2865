//! The health of one project's API: reachable, credentials accepted, paused.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, ProjectAnswer};
use super::doubt::{ProbeCandidate, ProbePriority};
use super::event::{ApiData, Event, EventType};
use super::gate::{Pass, Restriction};
use super::schedule::ScheduleSettings;
use super::wall_time::WallTime;

mod credentials;
mod discovery;
mod outage;
mod pauses;

use credentials::Credentials;
pub use discovery::DiscoveryEvidence;
pub use outage::{OutageClass, OutageReason};
pub use pauses::ApiPauses;
use pauses::Pauses;

/// How often the API may be asked whether a project exists.
const EXISTENCE_CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// A time on two clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Wall-clock time.
    pub wall: Timestamp,
    /// Time since the daemon started, on a monotonic clock.
    pub steady: Duration,
}

/// Input of a decision besides the answer.
#[derive(Debug, Clone, Copy)]
pub struct ProjectContext<'a> {
    /// The project's name.
    pub name: &'a str,
    /// The backoff of probes and pauses.
    pub schedule: &'a ScheduleSettings,
    /// How long all polls must fail before the API is reported unreachable.
    pub unreachable_after: Duration,
    /// Maximum length of a pause.
    pub max_retry_after: Duration,
    /// The number of unfinished watches of the project.
    pub watches: usize,
    /// Current time.
    pub now: Moment,
}

/// The health of a project's API. Skipped fields start again after a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectHealth {
    /// Start of the reported outage.
    unreachable: Option<Timestamp>,
    /// Why, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outage: Option<OutageReason>,
    #[serde(flatten)]
    credentials: Credentials,
    /// When its watches were first grouped. Operations that had ended before are not reported as groups.
    #[serde(default)]
    groups_since: WallTime,
    /// The first failed poll since the last success.
    #[serde(skip)]
    failing: Option<Moment>,
    #[serde(skip)]
    answered: Option<Duration>,
    /// When the API last proved that the project exists, and when that was last checked.
    #[serde(skip)]
    proven: Option<Duration>,
    #[serde(skip)]
    existence_checked: Option<Duration>,
    #[serde(skip)]
    pauses: Pauses,
}

/// The poll that an answer belongs to.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredPoll<'a> {
    /// The operation ID.
    pub operation: &'a str,
    /// How the request passed the gate.
    pub pass: Pass,
    /// Whether this operation was answered with 403 since it was last answered with 200.
    pub is_forbidden: bool,
}

/// What an answer concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AnswerScope {
    /// The polled watch.
    Watch,
    /// The whole project. The watch polls again when the project allows it.
    Project,
    /// Unknown until another watch is probed.
    Unclear,
}

impl ProjectHealth {
    /// The health as events show it, after the stored state was lost: start and reason of an outage and of a rejection.
    #[must_use]
    pub fn rebuilt(unreachable: Option<(Timestamp, String)>, rejected: Option<(Timestamp, String)>) -> Self {
        let (unreachable, reason) = unreachable.unzip();
        Self {
            unreachable,
            // The event does not name the class; most outages have this one.
            outage: reason.map(|reason| OutageReason::new(OutageClass::Failing, reason)),
            credentials: Credentials::rebuilt(rejected),
            ..Self::default()
        }
    }

    /// When its watches were first grouped.
    #[must_use]
    pub fn groups_since(&self) -> Option<Timestamp> {
        self.groups_since.get()
    }

    /// Its watches are grouped from `now` on.
    pub fn start_groups(&mut self, now: Timestamp) {
        if self.groups_since == WallTime::NONE {
            self.groups_since = now.into();
        }
    }

    /// Applies the answer of a poll.
    pub fn observe(
        &mut self,
        poll: AnsweredPoll<'_>,
        answer: &Answer,
        cx: &ProjectContext<'_>,
    ) -> (AnswerScope, Vec<Event>) {
        let mut events = Vec::new();
        let pass = poll.pass;
        if !matches!(answer, Answer::Throttled { .. }) {
            self.pauses.end(cx.now);
        }
        let scope = match answer {
            Answer::Operation(_) => {
                self.succeed(pass, cx, &mut events);
                AnswerScope::Watch
            }
            Answer::NotFound(_) | Answer::Refused(_) => {
                if self.is_in_doubt() {
                    // It does not show whether the key is accepted for existing operations.
                    self.credentials.record_undecided(poll.operation, pass, cx);
                } else {
                    self.accept(pass, cx, &mut events);
                }
                AnswerScope::Watch
            }
            Answer::Unauthorized(reason) => {
                self.reject(pass, reason, cx, &mut events);
                AnswerScope::Project
            }
            Answer::Forbidden(reason) => self.credentials.forbid(poll, cx).unwrap_or_else(|| {
                self.reject(pass, reason, cx, &mut events);
                AnswerScope::Project
            }),
            Answer::Throttled { wait, reason } => {
                self.observe_throttled(*wait, reason, cx, &mut events);
                self.credentials.record_undecided(poll.operation, pass, cx);
                AnswerScope::Project
            }
            Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                self.observe_failed(failure, cx, &mut events);
                self.credentials.record_undecided(poll.operation, pass, cx);
                AnswerScope::Watch
            }
        };
        (scope, events)
    }

    /// A probe ended without an answer, or its answer could not be recorded: the next one waits too.
    pub fn observe_lost_probe(&mut self, operation: &str, cx: &ProjectContext<'_>) {
        self.credentials.record_undecided(operation, Pass::Probe, cx);
    }

    /// Records that the API is being asked whether the project exists.
    pub fn record_existence_check(&mut self, now: Moment) {
        self.existence_checked = Some(now.steady);
    }

    /// Applies the answer to that request.
    pub fn observe_project(&mut self, answer: &ProjectAnswer, cx: &ProjectContext<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        match answer {
            ProjectAnswer::Exists => {
                self.proven = Some(cx.now.steady);
                self.pauses.end(cx.now);
            }
            ProjectAnswer::Missing(reason) => self.report_missing(reason, cx, &mut events),
            ProjectAnswer::Throttled { wait, reason } => {
                self.throttle(*wait, Some(reason), cx);
            }
            ProjectAnswer::Unprocessed(_) | ProjectAnswer::Unknown(_) => {}
        }
        events
    }

    /// Applies the throttling of a request. Returns the start of the first pause since the last success.
    pub fn throttle(
        &mut self,
        wait: Option<Duration>,
        reason: Option<&str>,
        cx: &ProjectContext<'_>,
    ) -> Moment {
        if self.unreachable.is_none() {
            // The API answered, so earlier failures are no outage.
            self.failing = None;
        }
        self.pauses.add(wait, reason, cx)
    }

    /// Reports that the API repeatedly refuses every watched operation: the project or its settings are wrong.
    pub fn observe_all_refused(&mut self, cx: &ProjectContext<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let reason = format!("the API refuses all {} watched operations repeatedly", cx.watches);
        self.report_unreachable(cx.now.wall, OutageClass::AllRefused, &reason, cx, &mut events);
        events
    }

    /// Ends an outage when no operation of the project is polled any more.
    pub fn observe_no_watches(&mut self, cx: &ProjectContext<'_>) -> Vec<Event> {
        self.failing = None;
        self.pauses.forget();
        self.outage = None;
        let since = self.unreachable.take();
        let reason = "no operation of the project is polled any more";
        let event = since.map(|since| api(EventType::ApiReachable, since, reason, cx));
        event.into_iter().collect()
    }

    /// The API key was replaced: the next probe may be sent at once.
    pub fn replace_key(&mut self, now: Moment) {
        self.credentials.probe_at_once(now);
    }

    /// Takes over from `next` what is true although its events could not be recorded: answers, proofs and pauses.
    pub fn keep_reachability(&mut self, next: &Self) {
        self.failing = next.failing;
        self.answered = next.answered;
        self.proven = next.proven;
        self.pauses.clone_from(&next.pauses);
    }

    /// Drops a doubt about the credentials when no other watch can resolve it.
    pub fn drop_doubt(&mut self) {
        self.credentials.drop_doubt();
    }

    /// Time since the API last proved that the project exists.
    #[must_use]
    pub fn time_since_proof(&self, now: Moment) -> Option<Duration> {
        self.proven.map(|at| now.steady.saturating_sub(at))
    }

    /// Whether the API may be asked now whether the project exists: at most once a minute.
    #[must_use]
    pub fn may_check_existence(&self, now: Moment) -> bool {
        self.existence_checked
            .is_none_or(|at| now.steady.saturating_sub(at) >= EXISTENCE_CHECK_INTERVAL)
    }

    /// How long polls have failed without a success; zero if the last one succeeded.
    #[must_use]
    pub fn failing_time(&self, now: Moment) -> Duration {
        self.failing
            .map_or(Duration::ZERO, |since| now.steady.saturating_sub(since.steady))
    }

    /// Whether no outage is reported.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.unreachable.is_none()
    }

    /// Whether the credentials are not reported as rejected.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.credentials.rejected().is_none()
    }

    /// Start of the reported outage.
    #[must_use]
    pub fn unreachable_since(&self) -> Option<Timestamp> {
        self.unreachable
    }

    /// Why the API is reported unreachable, while it is.
    #[must_use]
    pub fn outage(&self) -> Option<&OutageReason> {
        self.outage.as_ref().filter(|_| self.unreachable.is_some())
    }

    /// Why the API rejects the credentials, while it does.
    #[must_use]
    pub fn rejection(&self) -> Option<&Arc<str>> {
        self.credentials.rejection()
    }

    /// When the credentials were reported as rejected.
    #[must_use]
    pub fn rejected_since(&self) -> Option<Timestamp> {
        self.credentials.rejected()
    }

    /// The pauses that the API asks for, until it answers otherwise.
    #[must_use]
    pub fn pauses(&self) -> Option<ApiPauses> {
        self.pauses.shown()
    }

    /// Whether another watch's answer is needed to interpret a 403.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.credentials.doubt().is_some()
    }

    /// The priority of a watch as the next probe of the credentials.
    pub fn probe_priority(&self, candidate: &ProbeCandidate<'_>) -> ProbePriority {
        match self.credentials.doubt() {
            Some(doubt) => doubt.priority(candidate),
            None => ProbePriority::Rejected(Reverse(candidate.polled)),
        }
    }

    /// Time since the API last answered with an operation.
    #[must_use]
    pub fn time_since_answer(&self, now: Moment) -> Option<Duration> {
        self.answered.map(|at| now.steady.saturating_sub(at))
    }

    /// How the gate must restrict polls.
    #[must_use]
    pub fn restriction(&self) -> Restriction {
        Restriction {
            paused_until: self.pauses.until(),
            probing: self.credentials.probing(),
        }
    }

    fn succeed(&mut self, pass: Pass, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        self.proven = Some(cx.now.steady);
        self.failing = None;
        self.pauses.succeed();
        self.answered = Some(cx.now.steady);
        self.accept(pass, cx, events);
        self.outage = None;
        if let Some(since) = self.unreachable.take() {
            events.push(api(EventType::ApiReachable, since, "polls succeed again", cx));
        }
    }

    /// The API accepted the credentials.
    fn accept(&mut self, pass: Pass, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        if let Some(since) = self.credentials.accept(pass) {
            let reason = "the API key is accepted again";
            events.push(api(EventType::CredentialsAccepted, since, reason, cx));
        }
    }

    fn reject(&mut self, pass: Pass, reason: &str, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        if self.credentials.reject(pass, reason, cx) {
            events.push(api(EventType::CredentialsRejected, cx.now.wall, reason, cx));
        }
    }

    fn observe_throttled(
        &mut self,
        wait: Option<Duration>,
        reason: &str,
        cx: &ProjectContext<'_>,
        events: &mut Vec<Event>,
    ) {
        let since = self.throttle(wait, Some(reason), cx);
        if cx.now.steady.saturating_sub(since.steady) >= cx.max_retry_after {
            self.report_unreachable(since.wall, OutageClass::Throttled, reason, cx, events);
        }
    }

    fn observe_failed(&mut self, failure: &Failure, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        let since = *self.failing.get_or_insert(cx.now);
        if cx.now.steady.saturating_sub(since.steady) >= cx.unreachable_after {
            self.report_unreachable(since.wall, OutageClass::Failing, &failure.reason, cx, events);
        }
    }

    fn report_missing(&mut self, reason: &str, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        self.report_unreachable(cx.now.wall, OutageClass::ProjectMissing, reason, cx, events);
    }

    fn report_unreachable(
        &mut self,
        since: Timestamp,
        class: OutageClass,
        reason: &str,
        cx: &ProjectContext<'_>,
        events: &mut Vec<Event>,
    ) {
        let is_new = self.unreachable.is_none();
        // A failure of another class does not replace the cause.
        if is_new || self.outage.as_ref().is_none_or(|known| known.class == class) {
            self.outage = Some(OutageReason::new(class, reason));
        }
        if is_new {
            self.unreachable = Some(since);
            let reason = class.event_reason(reason);
            events.push(api(EventType::ApiUnreachable, since, &reason, cx));
        }
    }
}

fn api(event_type: EventType, since: Timestamp, reason: &str, cx: &ProjectContext<'_>) -> Event {
    let data = ApiData {
        project: cx.name.to_owned(),
        since,
        reason: reason.to_owned(),
    };
    Event::api(event_type, cx.now.wall, data)
}

#[cfg(test)]
mod tests;
