//! Changes of a project as a whole. Each is recorded before anything else is decided.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{Deferred, JobResult, Observation, PollResult, ProjectChange};
use super::project_task::ProjectTask;
use super::requests::Requester;
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::answer::Answer;
use crate::core::event::Event;
use crate::core::gate::Pass;
use crate::core::poller::DoubtedAnswer;
use crate::core::project_health::{AnswerScope, ProjectHealth};
use crate::store::{CommitError, StateChange, Subject};

/// Shorter failures are not logged.
const FAILING_REPORT: Duration = Duration::from_secs(5);

impl<F: Fetch> ProjectTask<F> {
    pub(super) fn record_project(
        &mut self,
        health: ProjectHealth,
        events: Vec<Event>,
        cause: Option<(PollResult, AnswerScope)>,
    ) {
        self.is_recording = true;
        let change = StateChange {
            subject: Subject::Project(Arc::clone(&self.name), Box::new(health.clone())),
            events,
        };
        let recorder = self.services.recorder.clone();
        let health = Box::new(health);
        let recording = async move {
            let result = recorder.record(&change).await;
            JobResult::Project {
                health,
                cause,
                result,
            }
        };
        self.jobs.spawn_on(recording, &self.services.background);
    }

    pub(super) fn project_recorded(
        &mut self,
        health: ProjectHealth,
        cause: Option<(PollResult, AnswerScope)>,
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
                let answered = cause.as_ref().map(|(answered, _)| answered);
                if let Some(probe) = answered.filter(|answered| answered.pass == Pass::Probe)
                    && let Some(slot) = self.watches.get(probe.number)
                {
                    kept.observe_lost_probe(&slot.watched.id, &self.context());
                }
                self.set_health(kept);
            }
        }
        self.is_view_changed = true;
        if let Some((answered, scope)) = cause
            && !self.departs_after_commit(answered.number)
        {
            self.publish_answer(&answered.answer);
            match result {
                Ok(()) => self.apply_answer(answered, scope),
                Err(error) => {
                    if answered.answer.is_operation() {
                        self.clear_failures(answered.number);
                    }
                    self.commit_failed(answered.number, &error);
                }
            }
        }
        while !self.is_recording {
            match self.deferred.pop_front() {
                None => return,
                Some(Deferred::Change(change)) => self.change_project(change),
                Some(Deferred::PollAnswered(answered)) => {
                    if !self.departs_after_commit(answered.number) {
                        self.poll_answered(answered);
                    }
                }
            }
        }
    }

    /// Applies the project's new health to the gate, and to the watches that wait because of a 403.
    pub(super) fn set_health(&mut self, health: ProjectHealth) {
        let now = self.now();
        self.is_view_changed |= self.health.unreachable_since() != health.unreachable_since()
            || self.health.rejected_since() != health.rejected_since()
            || self.health.pauses() != health.pauses();
        self.health = health;
        self.gate.set_restriction(self.health.restriction(), now);
        if self.forbidden.is_empty() || self.health.is_in_doubt() {
            return;
        }
        for number in std::mem::take(&mut self.forbidden) {
            let Some(slot) = self.watches.get_mut(number) else {
                continue;
            };
            let Some(doubt) = slot.poller.take_doubt() else {
                continue;
            };
            self.end_doubt(number, *doubt, now);
        }
    }

    /// Applies a doubted answer, now that the doubt about the credentials has ended.
    pub(super) fn end_doubt(&mut self, number: WatchNumber, doubt: DoubtedAnswer, now: Duration) {
        if self.health.has_credentials() {
            let answer = Observation::Answer(Box::new(doubt.answer), doubt.poll);
            self.decide(number, answer, None);
        } else {
            self.queue_again(number, doubt.poll, now);
        }
    }

    /// Ends an outage when no watch is left, and a doubt about the credentials when no other watch can resolve it.
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

    /// Requests whether the project exists, after an operation was not found and nothing proves it.
    pub(super) fn check_project_exists(&mut self) {
        let now = self.moment();
        if self.health.may_check_existence(now) {
            self.health.record_existence_check(now);
            self.gate.join(Requester::Project, now.steady);
        }
    }

    /// Applies a change, or defers it while another one is being recorded.
    pub(super) fn change_project(&mut self, change: ProjectChange) {
        if self.is_recording {
            self.deferred.push_back(Deferred::Change(change));
            return;
        }
        let mut health = self.health.clone();
        let events = match change {
            ProjectChange::ExistenceAnswered(ref answer) => health.observe_project(answer, &self.context()),
            ProjectChange::Throttled(wait, ref reason) => {
                health.throttle(wait, reason.as_deref(), &self.context());
                Vec::new()
            }
            ProjectChange::ProbeLost(ref operation) => {
                health.observe_lost_probe(operation, &self.context());
                Vec::new()
            }
            ProjectChange::AllRefused => health.observe_all_refused(&self.context()),
            // Requests of discovery show whether the outage lasts.
            ProjectChange::NoWatches if self.watches.polled() > 0 || self.discovery.is_some() => Vec::new(),
            ProjectChange::NoWatches => health.observe_no_watches(&self.context()),
            ProjectChange::Discovered(ref evidence, pass) => {
                health.observe_discovery(evidence, pass, &self.context())
            }
        };
        if events.is_empty() {
            self.set_health(health);
        } else {
            self.record_project(health, events, None);
        }
    }

    /// Logs once that polls fail, long before that is an event: an operator who starts the daemon with a wrong setting reads
    /// the log at once.
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
                    "polls fail; retrying; api.unreachable follows if none succeeds"
                );
            }
        } else if failing.is_zero() && std::mem::take(&mut self.has_reported_failing) {
            tracing::info!(project = &*self.name, "polls succeed again");
        }
    }
}
