//! The health of one project's API: reachable, credentials accepted, paused.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, ProjectAnswer};
use super::doubt::{Doubt, ProbeCandidate, ProbePriority};
use super::event::{ApiData, Event, EventType};
use super::gate::{CredentialsProbe, Pass, Restriction};
use super::schedule::ScheduleSettings;
use super::wall_time::WallTime;

mod discovery;

pub use discovery::DiscoveryEvidence;

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
    /// When the credentials were reported as rejected.
    rejected: Option<Timestamp>,
    /// Probes without success since then.
    probes: u32,
    /// When its watches were first grouped. Operations that had ended before are not reported as groups.
    #[serde(default)]
    groups_since: WallTime,
    #[serde(skip)]
    doubt: Option<Box<Doubt>>,
    #[serde(skip)]
    next_probe: Duration,
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
    paused_until: Option<Duration>,
    #[serde(skip)]
    throttles: u32,
    /// The first pause since the last success.
    #[serde(skip)]
    throttled: Option<Moment>,
    /// The pauses since the last other answer.
    #[serde(skip)]
    pauses: Option<Box<Pauses>>,
}

/// Pauses in a row that the API asked for.
#[derive(Debug, Clone, PartialEq)]
struct Pauses {
    since: Moment,
    reason: Arc<str>,
}

/// The pauses that the API asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiPauses {
    /// When the first of them began.
    pub since: Moment,
    /// When the current one ends, or the last one has ended, on the monotonic clock.
    pub until: Duration,
    /// The API's last reason.
    pub reason: Arc<str>,
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
    /// The health as events show it, after the stored state was lost.
    #[must_use]
    pub fn rebuilt(unreachable: Option<Timestamp>, rejected: Option<Timestamp>) -> Self {
        Self {
            unreachable,
            rejected,
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
            self.end_pauses(cx.now);
        }
        let scope = match answer {
            Answer::Operation(_) => {
                self.succeed(pass, cx, &mut events);
                AnswerScope::Watch
            }
            Answer::NotFound(_) | Answer::Refused(_) => {
                if self.doubt.is_some() {
                    // It does not show whether the key is accepted for existing operations.
                    self.observe_undecided(poll.operation, pass, cx);
                } else {
                    self.accept(pass, cx, &mut events);
                }
                AnswerScope::Watch
            }
            Answer::Unauthorized(reason) => {
                self.reject(pass, reason, cx, &mut events);
                AnswerScope::Project
            }
            Answer::Forbidden(reason) => self.forbid(poll, reason, cx, &mut events),
            Answer::Throttled { wait, reason } => {
                self.observe_throttled(*wait, reason, cx, &mut events);
                self.observe_undecided(poll.operation, pass, cx);
                AnswerScope::Project
            }
            Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                self.observe_failed(failure, cx, &mut events);
                self.observe_undecided(poll.operation, pass, cx);
                AnswerScope::Watch
            }
        };
        (scope, events)
    }

    /// A probe ended without an answer, or its answer could not be recorded: the next one waits too.
    pub fn observe_lost_probe(&mut self, operation: &str, cx: &ProjectContext<'_>) {
        self.observe_undecided(operation, Pass::Probe, cx);
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
                self.end_pauses(cx.now);
            }
            ProjectAnswer::Missing(reason) => self.report_missing(reason, cx, &mut events),
            ProjectAnswer::Throttled { wait, reason } => self.throttle(*wait, Some(reason), cx),
            ProjectAnswer::Unprocessed(_) | ProjectAnswer::Unknown(_) => {}
        }
        events
    }

    /// Applies the throttling of a request other than a poll.
    pub fn throttle(&mut self, wait: Option<Duration>, reason: Option<&str>, cx: &ProjectContext<'_>) {
        self.throttled.get_or_insert(cx.now);
        self.pause(wait, reason, cx);
    }

    /// Reports that the API repeatedly refuses every watched operation: the project or its settings are wrong.
    pub fn observe_all_refused(&mut self, cx: &ProjectContext<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let reason = format!("the API refuses all {} watched operations repeatedly", cx.watches);
        self.report_unreachable(cx.now.wall, &reason, cx, &mut events);
        events
    }

    /// Ends an outage when no operation of the project is polled any more.
    pub fn observe_no_watches(&mut self, cx: &ProjectContext<'_>) -> Vec<Event> {
        self.failing = None;
        self.throttled = None;
        self.pauses = None;
        let since = self.unreachable.take();
        let reason = "no operation of the project is polled any more";
        let event = since.map(|since| api(EventType::ApiReachable, since, reason, cx));
        event.into_iter().collect()
    }

    /// The API key was replaced: the next probe may be sent at once.
    pub fn replace_key(&mut self, now: Moment) {
        self.probes = 0;
        self.next_probe = now.steady;
    }

    /// Takes over from `next` what is true although its events could not be recorded: answers, proofs and pauses.
    pub fn keep_reachability(&mut self, next: &Self) {
        self.failing = next.failing;
        self.answered = next.answered;
        self.proven = next.proven;
        self.paused_until = next.paused_until;
        self.throttles = next.throttles;
        self.throttled = next.throttled;
        self.pauses.clone_from(&next.pauses);
    }

    /// Drops a doubt about the credentials when no other watch can resolve it.
    pub fn drop_doubt(&mut self) {
        self.doubt = None;
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
        self.rejected.is_none()
    }

    /// Start of the reported outage.
    #[must_use]
    pub fn unreachable_since(&self) -> Option<Timestamp> {
        self.unreachable
    }

    /// When the credentials were reported as rejected.
    #[must_use]
    pub fn rejected_since(&self) -> Option<Timestamp> {
        self.rejected
    }

    /// End of the pause that the API asked for, on the monotonic clock.
    #[must_use]
    pub fn paused_until(&self) -> Option<Duration> {
        self.paused_until
    }

    /// The pauses that the API asks for, until it answers otherwise.
    #[must_use]
    pub fn pauses(&self) -> Option<ApiPauses> {
        let pauses = self.pauses.as_ref()?;
        Some(ApiPauses {
            since: pauses.since,
            until: self.paused_until?,
            reason: Arc::clone(&pauses.reason),
        })
    }

    /// Another answer ends the pauses, unless it belongs to a request from before the current one.
    fn end_pauses(&mut self, now: Moment) {
        if self.pauses.is_some() && self.paused_until.is_none_or(|until| until <= now.steady) {
            self.pauses = None;
        }
    }

    /// Whether another watch's answer is needed to interpret a 403.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// The priority of a watch as the next probe of the credentials.
    pub fn probe_priority(&self, candidate: &ProbeCandidate<'_>) -> ProbePriority {
        match &self.doubt {
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
        let probing = (self.rejected.is_some() || self.doubt.is_some()).then_some(CredentialsProbe {
            not_before: self.next_probe,
        });
        Restriction {
            paused_until: self.paused_until,
            probing,
        }
    }

    fn succeed(&mut self, pass: Pass, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        self.proven = Some(cx.now.steady);
        self.failing = None;
        self.throttles = 0;
        self.throttled = None;
        self.answered = Some(cx.now.steady);
        self.accept(pass, cx, events);
        if let Some(since) = self.unreachable.take() {
            events.push(api(EventType::ApiReachable, since, "polls succeed again", cx));
        }
    }

    /// The API accepted the credentials.
    fn accept(&mut self, pass: Pass, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        self.doubt = None;
        // An answer to a request from before the rejection proves nothing about the current credentials.
        if pass == Pass::Probe
            && let Some(since) = self.rejected.take()
        {
            self.probes = 0;
            events.push(api(
                EventType::CredentialsAccepted,
                since,
                "the API key is accepted again",
                cx,
            ));
        }
    }

    fn reject(&mut self, pass: Pass, reason: &str, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        self.doubt = None;
        if self.rejected.is_none() {
            self.rejected = Some(cx.now.wall);
            self.probes = 0;
            events.push(api(EventType::CredentialsRejected, cx.now.wall, reason, cx));
            self.delay_probe(Pass::Probe, cx);
        } else {
            self.delay_probe(pass, cx);
        }
    }

    fn forbid(
        &mut self,
        poll: AnsweredPoll<'_>,
        reason: &str,
        cx: &ProjectContext<'_>,
        events: &mut Vec<Event>,
    ) -> AnswerScope {
        if self.rejected.is_none() && cx.watches > 1 {
            match &self.doubt {
                None if poll.is_forbidden => return AnswerScope::Watch,
                None => {
                    self.doubt = Some(Box::new(Doubt::new(poll.operation)));
                    self.probes = 0;
                    self.next_probe = cx.now.steady;
                    return AnswerScope::Unclear;
                }
                // The watch was removed and added again during its doubt.
                Some(doubt) if doubt.operation() == poll.operation => {
                    self.observe_undecided(poll.operation, poll.pass, cx);
                    return if self.doubt.is_some() {
                        AnswerScope::Unclear
                    } else {
                        AnswerScope::Watch
                    };
                }
                // Its own 403 in its turn shows nothing about another operation.
                Some(_) if poll.is_forbidden && poll.pass == Pass::Turn => return AnswerScope::Watch,
                Some(_) => {}
            }
        }
        self.reject(poll.pass, reason, cx, events);
        AnswerScope::Project
    }

    /// A probe decided nothing: the next one waits. A doubt ends after some of them.
    fn observe_undecided(&mut self, operation: &str, pass: Pass, cx: &ProjectContext<'_>) {
        self.delay_probe(pass, cx);
        if pass == Pass::Probe
            && self
                .doubt
                .as_mut()
                .is_some_and(|doubt| doubt.record_undecided(operation))
        {
            self.doubt = None;
        }
    }

    fn delay_probe(&mut self, pass: Pass, cx: &ProjectContext<'_>) {
        if pass == Pass::Probe {
            self.probes = self.probes.saturating_add(1);
            self.next_probe = cx
                .now
                .steady
                .saturating_add(cx.schedule.after_attempts(self.probes));
        }
    }

    fn pause(&mut self, wait: Option<Duration>, reason: Option<&str>, cx: &ProjectContext<'_>) {
        let before = self.pauses.take();
        let since = before.as_ref().map_or(cx.now, |pauses| pauses.since);
        let reason = reason
            .map(Arc::from)
            .or_else(|| before.map(|pauses| pauses.reason));
        let reason = reason.unwrap_or_else(|| Arc::from("too many requests"));
        self.pauses = Some(Box::new(Pauses { since, reason }));
        if self.unreachable.is_none() {
            // The API answered, so earlier failures are no outage.
            self.failing = None;
        }
        let paused = self.paused_until.is_some_and(|until| until > cx.now.steady);
        let wait = match wait.filter(|wait| !wait.is_zero()) {
            // The watch polls again right after the pause, so a pause must not be shorter than the minimum interval.
            Some(wait) => wait.min(cx.max_retry_after).max(cx.schedule.shortest()),
            // Polls that were in flight together get the same pause; they do not extend it.
            None if paused => return,
            None => {
                self.throttles = self.throttles.saturating_add(1);
                cx.schedule.after_attempts(self.throttles)
            }
        };
        let until = cx.now.steady.saturating_add(wait);
        self.paused_until = Some(self.paused_until.map_or(until, |before| before.max(until)));
    }

    fn observe_throttled(
        &mut self,
        wait: Option<Duration>,
        reason: &str,
        cx: &ProjectContext<'_>,
        events: &mut Vec<Event>,
    ) {
        self.pause(wait, Some(reason), cx);
        let since = *self.throttled.get_or_insert(cx.now);
        if cx.now.steady.saturating_sub(since.steady) >= cx.max_retry_after {
            self.report_unreachable(since.wall, reason, cx, events);
        }
    }

    fn observe_failed(&mut self, failure: &Failure, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        let since = *self.failing.get_or_insert(cx.now);
        if cx.now.steady.saturating_sub(since.steady) >= cx.unreachable_after {
            self.report_unreachable(since.wall, &failure.reason, cx, events);
        }
    }

    fn report_missing(&mut self, reason: &str, cx: &ProjectContext<'_>, events: &mut Vec<Event>) {
        let reason = format!(
            "the API does not know the project: {reason}; check the project's name, and that the API key belongs to it"
        );
        self.report_unreachable(cx.now.wall, &reason, cx, events);
    }

    fn report_unreachable(
        &mut self,
        since: Timestamp,
        reason: &str,
        cx: &ProjectContext<'_>,
        events: &mut Vec<Event>,
    ) {
        if self.unreachable.is_none() {
            self.unreachable = Some(since);
            events.push(api(EventType::ApiUnreachable, since, reason, cx));
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::answer::{Failure, FailureClass};
    use crate::core::doubt::MAX_PROBES;
    use crate::core::operation::{Operation, Status};

    struct Fixture {
        project: ProjectHealth,
        schedule: ScheduleSettings,
        watches: usize,
        now: Moment,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                project: ProjectHealth::default(),
                schedule: ScheduleSettings::DEFAULT,
                watches: 3,
                now: Moment {
                    wall: "2026-11-23T12:00:00Z".parse().unwrap(),
                    steady: Duration::ZERO,
                },
            }
        }

        fn context(&self) -> ProjectContext<'_> {
            ProjectContext {
                name: "p",
                schedule: &self.schedule,
                unreachable_after: Duration::from_mins(5),
                max_retry_after: Duration::from_mins(15),
                watches: self.watches,
                now: self.now,
            }
        }

        fn pass(&mut self, seconds: u64) {
            let elapsed = Duration::from_secs(seconds);
            self.now.steady += elapsed;
            self.now.wall = self.now.wall.checked_add(elapsed).unwrap();
        }

        fn meet(&mut self, operation: &str, answer: &Answer, pass: Pass) -> (AnswerScope, Vec<&'static str>) {
            let mut project = self.project.clone();
            let (scope, events) = project.observe(poll(operation, pass), answer, &self.context());
            self.project = project;
            (
                scope,
                events.iter().map(|event| event.event_type.as_str()).collect(),
            )
        }

        fn probe_in(&self) -> Option<u64> {
            let probing = self.project.restriction().probing?;
            Some(probing.not_before.saturating_sub(self.now.steady).as_secs())
        }

        fn paused_for(&self) -> Option<u64> {
            self.project
                .restriction()
                .paused_until
                .map(|until| until.saturating_sub(self.now.steady).as_secs())
        }
    }

    fn poll(operation: &str, pass: Pass) -> AnsweredPoll<'_> {
        AnsweredPoll {
            operation,
            pass,
            is_forbidden: false,
        }
    }

    fn found() -> Answer {
        Answer::Operation(Box::new(Operation::new("a", Status::InProgress)))
    }

    fn failed() -> Answer {
        Answer::Failed(Failure {
            class: FailureClass::ServerError,
            reason: "502".into(),
        })
    }

    fn unauthorized() -> Answer {
        Answer::Unauthorized("401".into())
    }

    fn forbidden() -> Answer {
        Answer::Forbidden("403".into())
    }

    fn throttled(seconds: Option<u64>) -> Answer {
        Answer::Throttled {
            wait: seconds.map(Duration::from_secs),
            reason: "429".into(),
        }
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn an_outage_is_reported_once_and_its_end_once() {
        let mut fixture = Fixture::new();
        assert_eq!(
            fixture.meet("a", &failed(), Pass::Turn),
            (AnswerScope::Watch, NOTHING.to_vec())
        );
        fixture.pass(299);
        assert_eq!(fixture.meet("b", &failed(), Pass::Turn).1, NOTHING);
        fixture.pass(1);
        assert_eq!(fixture.meet("c", &failed(), Pass::Turn).1, ["api.unreachable"]);
        assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, NOTHING);
        assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, ["api.reachable"]);
        assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, NOTHING);
    }

    #[test]
    fn pauses_last_until_the_api_answers_otherwise_after_them() {
        let mut fixture = Fixture::new();
        let begun = fixture.now;
        let pauses = |fixture: &Fixture| {
            let pauses = fixture.project.pauses()?;
            Some((pauses.since.steady, pauses.until, pauses.reason.to_string()))
        };
        let of = |until| Some((begun.steady, Duration::from_secs(until), "429".to_owned()));
        assert_eq!(pauses(&fixture), None);
        let _ = fixture.meet("a", &throttled(Some(40)), Pass::Turn);
        // It was in flight already.
        let _ = fixture.meet("b", &found(), Pass::Turn);
        assert_eq!(pauses(&fixture), of(40));
        fixture.pass(41);
        let _ = fixture.meet("a", &throttled(Some(40)), Pass::Turn);
        assert_eq!(pauses(&fixture), of(81));
        fixture.pass(40);
        for answer in [found(), failed(), unauthorized(), Answer::NotFound("404".into())] {
            let mut fixture = Fixture {
                project: fixture.project.clone(),
                now: fixture.now,
                ..Fixture::new()
            };
            let _ = fixture.meet("a", &answer, Pass::Turn);
            assert_eq!(pauses(&fixture), None, "{answer:?}");
        }
    }

    #[test]
    fn a_success_or_a_429_in_between_is_no_outage() {
        for answer in [found(), throttled(Some(1))] {
            let mut fixture = Fixture::new();
            let _ = fixture.meet("a", &failed(), Pass::Turn);
            fixture.pass(200);
            let _ = fixture.meet("b", &answer, Pass::Turn);
            fixture.pass(200);
            assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, NOTHING);
            fixture.pass(300);
            assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, ["api.unreachable"]);
        }
    }

    #[test]
    fn rejected_credentials_are_reported_once_and_probed_on_the_backoff_schedule() {
        let mut fixture = Fixture::new();
        assert_eq!(
            fixture.meet("a", &unauthorized(), Pass::Turn),
            (AnswerScope::Project, vec!["api.credentials_rejected"])
        );
        assert_eq!(
            fixture.meet("b", &unauthorized(), Pass::Turn),
            (AnswerScope::Project, NOTHING.to_vec())
        );
        assert_eq!(fixture.probe_in(), Some(2));
        fixture.pass(2);
        assert_eq!(fixture.meet("b", &unauthorized(), Pass::Probe).1, NOTHING);
        assert_eq!(fixture.probe_in(), Some(3));
        fixture.pass(3);
        let _ = fixture.meet("c", &failed(), Pass::Probe);
        assert_eq!(fixture.probe_in(), Some(4));
        assert_eq!(
            fixture.meet("a", &found(), Pass::Turn).1,
            NOTHING,
            "an answer from before the rejection lifts nothing"
        );
        fixture.project.replace_key(fixture.now);
        assert_eq!(fixture.probe_in(), Some(0));
        assert_eq!(
            fixture.meet("a", &Answer::NotFound("404".into()), Pass::Probe).1,
            ["api.credentials_accepted"]
        );
        assert_eq!(fixture.probe_in(), None);
    }

    #[test]
    fn a_403_is_the_operations_own_if_another_watch_is_answered() {
        let mut fixture = Fixture::new();
        assert_eq!(
            fixture.meet("a", &forbidden(), Pass::Turn),
            (AnswerScope::Unclear, NOTHING.to_vec())
        );
        assert_eq!(fixture.project.doubt.as_ref().unwrap().operation(), "a");
        assert_eq!(fixture.probe_in(), Some(0));
        assert_eq!(fixture.meet("b", &failed(), Pass::Probe).1, NOTHING);
        assert_eq!(fixture.probe_in(), Some(2), "a failed probe is no answer");
        assert_eq!(
            fixture.meet("b", &found(), Pass::Probe),
            (AnswerScope::Watch, NOTHING.to_vec())
        );
        assert_eq!(fixture.probe_in(), None);
    }

    #[test]
    fn a_403_is_the_projects_if_another_watch_is_refused_too_or_there_is_no_other() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &forbidden(), Pass::Turn);
        assert_eq!(
            fixture.meet("b", &forbidden(), Pass::Probe),
            (AnswerScope::Project, vec!["api.credentials_rejected"])
        );
        assert_eq!(
            fixture.meet("b", &found(), Pass::Probe).1,
            ["api.credentials_accepted"]
        );

        let mut fixture = Fixture::new();
        fixture.watches = 1;
        assert_eq!(
            fixture.meet("a", &forbidden(), Pass::Turn),
            (AnswerScope::Project, vec!["api.credentials_rejected"])
        );
    }

    #[test]
    fn an_operation_known_to_be_refused_raises_no_doubt_again() {
        let mut fixture = Fixture::new();
        let mut project = fixture.project.clone();
        let (scope, _) = project.observe(
            AnsweredPoll {
                is_forbidden: true,
                ..poll("a", Pass::Turn)
            },
            &forbidden(),
            &fixture.context(),
        );
        fixture.project = project;
        assert_eq!((scope, fixture.probe_in()), (AnswerScope::Watch, None));
    }

    #[test]
    fn a_pause_lasts_as_long_as_asked_but_not_longer_than_the_cap() {
        let mut fixture = Fixture::new();
        assert_eq!(
            fixture.meet("a", &throttled(Some(30)), Pass::Turn),
            (AnswerScope::Project, NOTHING.to_vec())
        );
        assert_eq!(fixture.paused_for(), Some(30));
        let _ = fixture.meet("b", &throttled(Some(10)), Pass::Turn);
        assert_eq!(
            fixture.paused_for(),
            Some(30),
            "a shorter wait does not cut a longer one"
        );
        let _ = fixture.meet("b", &throttled(Some(100_000)), Pass::Turn);
        assert_eq!(fixture.paused_for(), Some(900));
    }

    #[test]
    fn a_pause_is_not_shorter_than_the_shortest_interval() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &throttled(Some(1)), Pass::Turn);
        assert_eq!(fixture.paused_for(), Some(2));
    }

    #[test]
    fn an_answer_that_could_not_be_recorded_was_an_answer_all_the_same() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &failed(), Pass::Turn);
        fixture.pass(299);
        let mut unrecorded = fixture.project.clone();
        let _ = unrecorded.observe(poll("a", Pass::Turn), &found(), &fixture.context());
        fixture.project.keep_reachability(&unrecorded);
        fixture.pass(1);
        assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, NOTHING);
    }

    #[test]
    fn a_pause_is_kept_though_the_outage_that_it_became_could_not_be_recorded() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &throttled(Some(120)), Pass::Turn);
        fixture.pass(900);
        let mut unrecorded = fixture.project.clone();
        let (_, events) =
            unrecorded.observe(poll("a", Pass::Turn), &throttled(Some(120)), &fixture.context());
        assert_eq!(events.len(), 1);
        fixture.project.keep_reachability(&unrecorded);
        assert_eq!(fixture.paused_for(), Some(120));
        fixture.pass(120);
        assert_eq!(
            fixture.meet("a", &throttled(Some(120)), Pass::Turn).1,
            ["api.unreachable"]
        );
    }

    #[test]
    fn a_429_without_a_time_pauses_on_the_backoff_schedule() {
        let mut fixture = Fixture::new();
        for seconds in [2, 3, 4] {
            let _ = fixture.meet("a", &throttled(None), Pass::Turn);
            let _ = fixture.meet("b", &throttled(Some(0)), Pass::Turn);
            assert_eq!(fixture.paused_for(), Some(seconds));
            fixture.pass(5);
        }
        let _ = fixture.meet("a", &found(), Pass::Turn);
        let _ = fixture.meet("a", &throttled(None), Pass::Turn);
        assert_eq!(fixture.paused_for(), Some(2));
    }

    #[test]
    fn a_probe_that_decides_nothing_is_repeated_with_backoff_and_the_third_ends_the_doubt() {
        let undecided = [
            Answer::NotFound("404".into()),
            Answer::Refused("422".into()),
            failed(),
            throttled(Some(1)),
        ];
        for answer in undecided {
            let mut fixture = Fixture::new();
            let _ = fixture.meet("a", &forbidden(), Pass::Turn);
            for seconds in [2, 3] {
                assert_eq!(fixture.meet("b", &answer, Pass::Turn).1, NOTHING);
                assert_eq!(fixture.meet("b", &answer, Pass::Probe).1, NOTHING);
                assert!(fixture.project.is_in_doubt());
                assert_eq!(fixture.probe_in(), Some(seconds));
                fixture.pass(seconds);
            }
            assert_eq!(fixture.meet("c", &answer, Pass::Probe).1, NOTHING);
            assert_eq!(fixture.probe_in(), None);
            assert!(fixture.project.has_credentials());
        }
    }

    #[test]
    fn a_probe_without_an_answer_is_repeated_with_backoff_too() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &unauthorized(), Pass::Turn);
        let mut project = fixture.project.clone();
        project.observe_lost_probe("b", &fixture.context());
        fixture.project = project;
        assert_eq!(fixture.probe_in(), Some(3));
        assert!(!fixture.project.has_credentials());
    }

    #[test]
    fn a_403_that_an_operation_has_of_its_own_decides_no_doubt_in_its_turn() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &forbidden(), Pass::Turn);
        let of = |pass| AnsweredPoll {
            is_forbidden: true,
            ..poll("b", pass)
        };
        let mut project = fixture.project.clone();
        let (scope, _) = project.observe(of(Pass::Turn), &forbidden(), &fixture.context());
        assert_eq!(scope, AnswerScope::Watch);
        assert!(project.is_in_doubt());
        let (scope, events) = project.observe(of(Pass::Probe), &forbidden(), &fixture.context());
        assert_eq!(scope, AnswerScope::Project);
        assert_eq!(events.len(), 1);
    }

    /// An answer to a probe, or none.
    fn probe_answer() -> impl Strategy<Value = Option<Answer>> {
        prop_oneof![
            1 => Just(Some(found())),
            4 => Just(Some(Answer::NotFound("404".into()))),
            2 => Just(Some(Answer::Refused("422".into()))),
            2 => Just(Some(unauthorized())),
            4 => Just(Some(forbidden())),
            4 => Just(Some(failed())),
            2 => Just(Some(throttled(None))),
            1 => Just(None),
        ]
    }

    proptest! {
        #[test]
        fn while_only_probes_pass_each_watch_has_its_turn(
            watches in 2_usize..8,
            is_doubt: bool,
            answers in prop::collection::vec(probe_answer(), 1..60),
        ) {
            let mut fixture = Fixture { watches, ..Fixture::new() };
            let names: Vec<String> = (0..watches).map(|number| number.to_string()).collect();
            let first = if is_doubt { forbidden() } else { unauthorized() };
            let _ = fixture.meet("0", &first, Pass::Turn);
            let (mut polled, mut probes, mut probes_of_doubt) = (vec![0; watches], 0, 0);
            for answer in answers {
                if fixture.project.restriction().probing.is_none() {
                    break;
                }
                let doubted = fixture.project.doubt.as_ref().map(|doubt| doubt.operation().to_owned());
                let candidates = (0..watches).filter(|number| doubted.as_deref() != Some(&*names[*number]));
                let probe = candidates
                    .max_by_key(|number| fixture.project.probe_priority(&ProbeCandidate {
                        operation: &names[*number],
                        polled: Duration::from_secs(polled[*number]),
                        is_forbidden: false,
                        is_answered: *number % 2 == 0,
                        is_of_other_installation: *number % 3 == 0,
                        last_answer: None,
                    }))
                    .unwrap();
                probes += 1;
                probes_of_doubt += usize::from(doubted.is_some());
                prop_assert!(probes_of_doubt <= MAX_PROBES, "the doubt does not end");
                polled[probe] = probes;
                fixture.pass(60);
                match answer {
                    Some(answer) => {
                        let (scope, _) = fixture.meet(&names[probe], &answer, Pass::Probe);
                        prop_assert!(scope != AnswerScope::Unclear, "two doubts at once");
                    }
                    None => {
                        let mut project = fixture.project.clone();
                        project.observe_lost_probe(&names[probe], &fixture.context());
                        fixture.project = project;
                    }
                }
                // A doubt, if there was one, and one round of all watches.
                let longest = (watches + MAX_PROBES) as u64;
                prop_assert!(polled.iter().all(|last| probes - last <= longest), "{polled:?} after {probes}");
            }
        }
    }

    #[test]
    fn pauses_without_a_success_for_as_long_as_the_longest_may_last_are_an_outage() {
        let mut fixture = Fixture::new();
        for _ in 0..3 {
            assert_eq!(fixture.meet("a", &throttled(Some(299)), Pass::Turn).1, NOTHING);
            fixture.pass(299);
        }
        fixture.pass(3);
        assert_eq!(
            fixture.meet("a", &throttled(Some(299)), Pass::Turn).1,
            ["api.unreachable"]
        );
        assert_eq!(fixture.meet("a", &throttled(Some(299)), Pass::Turn).1, NOTHING);
        assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, ["api.reachable"]);
        assert_eq!(fixture.meet("a", &throttled(Some(299)), Pass::Turn).1, NOTHING);
    }

    #[test]
    fn an_outage_ends_with_the_last_operation_that_is_polled() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &failed(), Pass::Turn);
        fixture.pass(300);
        assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, ["api.unreachable"]);
        let mut project = fixture.project.clone();
        let events = project.observe_no_watches(&fixture.context());
        assert_eq!(events[0].event_type, EventType::ApiReachable);
        assert!(project.observe_no_watches(&fixture.context()).is_empty());
    }

    #[test]
    fn a_project_that_the_api_does_not_know_is_reported_once_until_it_answers() {
        let mut fixture = Fixture::new();
        let mut project = fixture.project.clone();
        assert!(project.may_check_existence(fixture.now));
        project.record_existence_check(fixture.now);
        assert!(!project.may_check_existence(fixture.now));
        let missing = ProjectAnswer::Missing("404 Not Found".into());
        assert_eq!(project.observe_project(&missing, &fixture.context()).len(), 1);
        assert_eq!(project.observe_project(&missing, &fixture.context()).len(), 0);
        assert_eq!(project.time_since_proof(fixture.now), None);
        fixture.project = project;
        assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, ["api.reachable"]);
        assert_eq!(
            fixture.project.time_since_proof(fixture.now),
            Some(Duration::ZERO)
        );
        fixture.pass(60);
        assert!(fixture.project.may_check_existence(fixture.now));
        let _ = fixture
            .project
            .clone()
            .observe_project(&ProjectAnswer::Exists, &fixture.context());
        assert_eq!(
            fixture.project.time_since_proof(fixture.now),
            Some(Duration::from_mins(1))
        );
    }

    #[test]
    fn a_request_other_than_a_poll_that_is_throttled_pauses_the_project() {
        let mut fixture = Fixture::new();
        let mut project = fixture.project.clone();
        project.throttle(Some(Duration::from_secs(30)), None, &fixture.context());
        fixture.project = project;
        assert_eq!(fixture.paused_for(), Some(30));
    }

    #[test]
    fn reported_states_survive_being_stored() {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &unauthorized(), Pass::Turn);
        fixture.project = serde_json::from_str(&serde_json::to_string(&fixture.project).unwrap()).unwrap();
        assert_eq!(fixture.meet("a", &unauthorized(), Pass::Probe).1, NOTHING);
        assert_eq!(
            fixture.meet("a", &found(), Pass::Probe).1,
            ["api.credentials_accepted"]
        );
    }
}
