//! What changes a project as a whole: recorded before anything else is decided.

use std::sync::Arc;
use std::time::Duration;

use super::answers::{Answered, Done};
use super::decisions::Observation;
use super::project_task::ProjectTask;
use super::requests::Requester;
use crate::ampersand::Fetch;
use crate::core::answer::{Answer, ProjectAnswer};
use crate::core::event::Event;
use crate::core::project_health::{AnswerScope, ProjectHealth};
use crate::store::{CommitError, StateChange, Subject};

/// Failures that pass sooner are not worth a line.
const FAILING_REPORT: Duration = Duration::from_secs(5);

/// What waits until a change of the project is recorded.
#[derive(Debug)]
pub(super) enum HeldBack {
    Answered(Answered),
    Change(ProjectChange),
}

/// What changes a project besides answers.
#[derive(Debug)]
pub(super) enum ProjectChange {
    /// The API was asked whether the project exists.
    Answered(ProjectAnswer),
    /// A request other than a poll was throttled, with this time to wait.
    Throttled(Option<Duration>),
    /// The API refuses all of several operations repeatedly.
    AllRefused,
    /// No operation is polled any more.
    NoWatches,
}

impl<F: Fetch> ProjectTask<F> {
    pub(super) fn record_project(
        &mut self,
        health: ProjectHealth,
        events: Vec<Event>,
        then: Option<(Answered, AnswerScope)>,
    ) {
        self.is_recording = true;
        let change = StateChange {
            subject: Subject::Project(Arc::clone(&self.name), health.clone()),
            events,
        };
        let recorder = self.shared.recorder.clone();
        let health = Box::new(health);
        let recording = async move {
            let result = recorder.record(&change).await;
            Done::Project { health, then, result }
        };
        self.jobs.spawn_on(recording, &self.shared.background);
    }

    pub(super) fn project_recorded(
        &mut self,
        health: ProjectHealth,
        then: Option<(Answered, AnswerScope)>,
        result: Result<(), CommitError>,
    ) {
        self.is_recording = false;
        let now = self.now();
        self.gate.reopen(now);
        match &result {
            Ok(()) => self.set_health(health),
            Err(_) => {
                let mut kept = self.health.clone();
                kept.keep_reachability(&health);
                self.set_health(kept);
            }
        }
        self.is_view_changed = true;
        if let Some((answered, concerns)) = then
            && !self.departs_after_commit(answered.number)
        {
            self.publish_answer(&answered.answer);
            match result {
                Ok(()) => self.conclude(answered, concerns),
                Err(error) => {
                    if answered.answer.is_operation() {
                        self.clear_failures(answered.number);
                    }
                    self.unrecorded(answered.number, &error);
                }
            }
        }
        while !self.is_recording {
            match self.held_back.pop_front() {
                None => return,
                Some(HeldBack::Change(change)) => self.change_project(change),
                Some(HeldBack::Answered(answered)) => {
                    if !self.departs_after_commit(answered.number) {
                        self.answered(answered);
                    }
                }
            }
        }
    }

    /// The project moves on, and with it the gate and those that wait for another watch's answer.
    pub(super) fn set_health(&mut self, health: ProjectHealth) {
        let now = self.now();
        self.is_view_changed |= self.health.unreachable_since() != health.unreachable_since()
            || self.health.rejected_since() != health.rejected_since();
        self.health = health;
        self.gate.set_restriction(self.health.restriction(), now);
        if self.doubters.is_empty() || self.health.is_in_doubt() {
            return;
        }
        for number in std::mem::take(&mut self.doubters) {
            let Some(slot) = self.watches.get_mut(number) else {
                continue;
            };
            let Some(doubt) = slot.poller.take_doubt() else {
                continue;
            };
            if self.health.has_credentials() {
                self.decide(number, Observation::Answer(Box::new(doubt.answer), doubt.poll));
            } else {
                self.queue_again(number, doubt.poll, now);
            }
        }
    }

    /// With a single watch there is no other whose answer could resolve a doubt about the credentials, and without any
    /// an outage has no cause.
    pub(super) fn watches_changed(&mut self) {
        if self.watches.polled() == 0 && self.health.unreachable_since().is_some() {
            self.change_project(ProjectChange::NoWatches);
        }
        if self.watches.polled() <= 1 && self.health.is_in_doubt() {
            let mut health = self.health.clone();
            health.drop_doubt();
            self.set_health(health);
        }
    }

    /// An operation is not found, and nothing proves that the project exists: the API is asked for that.
    pub(super) fn ask_for_project(&mut self) {
        let now = self.moment();
        if self.health.may_check_existence(now) {
            self.health.record_existence_check(now);
            self.gate.join(Requester::Project, now.steady);
        }
    }

    /// The project changes by what no poll says by itself.
    pub(super) fn change_project(&mut self, change: ProjectChange) {
        if self.is_recording {
            self.held_back.push_back(HeldBack::Change(change));
            return;
        }
        let mut health = self.health.clone();
        let events = match change {
            ProjectChange::Answered(ref answer) => health.observe_project(answer, &self.context()),
            ProjectChange::Throttled(wait) => {
                health.throttle(wait, &self.context());
                Vec::new()
            }
            ProjectChange::AllRefused => health.observe_all_refused(&self.context()),
            ProjectChange::NoWatches if self.watches.polled() > 0 => Vec::new(),
            ProjectChange::NoWatches => health.observe_no_watches(&self.context()),
        };
        if events.is_empty() {
            self.set_health(health);
        } else {
            self.record_project(health, events, None);
        }
    }

    /// Reports once when polls fail for a while, long before that is an event: the operator who just started the daemon
    /// with a wrong setting reads the log now.
    pub(super) fn report_failing(&mut self, health: &ProjectHealth, answer: &Answer) {
        let failing = health.failing_time(self.moment());
        if let Answer::Failed(failure) = answer
            && failing >= FAILING_REPORT
            && health.is_reachable()
        {
            if !std::mem::replace(&mut self.has_reported_failing, true) {
                tracing::warn!(
                    project = &*self.name,
                    reason = failure.reason,
                    unreachable_after_seconds = self.settings.poll.watch.unreachable_after.as_secs_f64(),
                    "polls fail; they are retried, and if none succeeds this will be api.unreachable"
                );
            }
        } else if failing.is_zero() && std::mem::take(&mut self.has_reported_failing) {
            tracing::info!(project = &*self.name, "polls succeed again");
        }
    }
}
