//! Handles finished requests and jobs.

use std::sync::Arc;

use tokio::task::JoinError;

use super::PollingServices;
use super::messages::{Deferred, JobResult, Observation, PollResult, ProjectChange};
use super::project_task::ProjectTask;
use super::requests::{EndedRequest, RequestAnswer, RequestOutcome, Requester};
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::clock;
use crate::core::answer::Answer;
use crate::core::gate::Pass;
use crate::core::poller::{Addition, DoubtedAnswer, LeavingStep, PendingPoll, Poller};
use crate::core::project_health::{AnswerScope, AnsweredPoll};
use crate::core::watch_list::WatchKey;

/// Requests an operation.
pub(super) async fn send_poll<F: Fetch>(
    services: Arc<PollingServices<F>>,
    key: WatchKey,
    pass: Pass,
) -> RequestAnswer {
    if pass == Pass::Probe && services.fetch.refresh_key(&key.project).await {
        tracing::info!(project = &*key.project, "the API key was replaced");
    }
    let started = clock::instant();
    let answer = services.fetch.fetch(&key).await;
    services.metrics.record_poll(&answer, clock::instant() - started);
    tracing::debug!(
        project = &*key.project,
        operation_id = &*key.operation,
        outcome = answer.outcome(),
        probe = pass == Pass::Probe,
        "polled"
    );
    RequestAnswer::Poll(answer)
}

/// Requests what an event of an operation includes.
pub(super) async fn request_addition<F: Fetch>(
    services: Arc<PollingServices<F>>,
    key: WatchKey,
    addition: Addition,
) -> RequestAnswer {
    match addition {
        Addition::Logs(wanted) => RequestAnswer::Logs(services.fetch.last_lines(&key, wanted).await),
        Addition::Installation(path) => {
            RequestAnswer::Installation(services.fetch.installation(&key.project, &path).await)
        }
    }
}

/// Requests whether the project exists.
pub(super) async fn check_project_exists<F: Fetch>(
    services: Arc<PollingServices<F>>,
    name: Arc<str>,
) -> RequestAnswer {
    RequestAnswer::Project(services.fetch.project_exists(&name).await)
}

impl<F: Fetch> ProjectTask<F> {
    /// Handles a finished request.
    pub(super) fn request_ended(&mut self, ended: EndedRequest) {
        let EndedRequest {
            requester,
            pass,
            outcome,
        } = ended;
        self.gate.release(pass, self.now());
        if let (Requester::Watch(number), Pass::Probe, RequestOutcome::Aborted | RequestOutcome::Panicked(_)) =
            (requester, pass, &outcome)
            && let Some(slot) = self.watches.get(number)
        {
            let operation = Arc::clone(&slot.watched.id);
            self.change_project(ProjectChange::ProbeLost(operation));
        }
        match requester {
            Requester::Watch(number) => self.watch_request_ended(number, pass, outcome),
            Requester::Key => self.key_checked(outcome, pass),
            Requester::Discovery(number) => self.discovery_request_ended(number, pass, outcome),
            Requester::Project => {
                if let RequestOutcome::Answered(RequestAnswer::Project(answer)) = outcome {
                    self.change_project(ProjectChange::ExistenceAnswered(answer));
                }
            }
        }
    }

    fn watch_request_ended(&mut self, number: WatchNumber, pass: Pass, outcome: RequestOutcome) {
        let now = self.now();
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        if slot.poller.ended(LeavingStep::Request) {
            self.reconciliation.departing.push(number);
            return;
        }
        match (&slot.poller, outcome) {
            (Poller::Gathering(_), RequestOutcome::Answered(RequestAnswer::Logs(answer))) => {
                self.logs_answered(number, answer);
            }
            (Poller::Gathering(_), RequestOutcome::Answered(RequestAnswer::Installation(answer))) => {
                self.installation_answered(number, answer);
            }
            (Poller::Gathering(_), _) => self.finish_gathering(number),
            (
                Poller::Asking { poll, .. },
                RequestOutcome::Answered(RequestAnswer::Poll(Answer::Unprocessed(_))),
            ) if pass == Pass::Turn && !poll.is_repeated => {
                let poll = PendingPoll {
                    is_repeated: true,
                    ..*poll
                };
                let ticket = self.gate.join_front(Requester::Watch(number), now);
                slot.poller = Poller::Queued { ticket, poll };
                self.set_alarm_again(number);
            }
            (Poller::Asking { poll, .. }, RequestOutcome::Answered(RequestAnswer::Poll(answer))) => {
                let poll = *poll;
                self.poll_answered(PollResult {
                    number,
                    answer: Box::new(answer.of_repeated()),
                    poll,
                    pass,
                });
            }
            (_, RequestOutcome::Panicked(panic)) => self.panicked(number, &panic),
            // Aborted because the watch expired.
            _ => self.decide(number, Observation::Time, None),
        }
    }

    /// Handles a finished job.
    pub(super) fn job_ended(&mut self, joined: Result<JobResult, JoinError>) {
        match joined {
            Ok(JobResult::Watch {
                number,
                decided,
                result,
            }) => self.watch_recorded(number, *decided, result),
            Ok(JobResult::Project {
                health,
                cause,
                result,
            }) => self.project_recorded(*health, cause, result),
            Ok(JobResult::Group {
                number,
                id,
                record,
                result,
            }) => self.group_recorded(number, id, record, result),
            Ok(JobResult::Loaded(loaded)) => self.loaded(loaded),
            Ok(JobResult::Departed(departed)) => self.departed(departed),
            Ok(JobResult::Expired(expired)) => self.source_entries_expired(expired),
            Ok(JobResult::DiscoveryLoaded(loaded)) => self.discovery_loaded(loaded),
            Ok(JobResult::Discovered(recorded)) => self.discovery_recorded(recorded),
            Ok(JobResult::Checkpointed { numbers, result }) => self.checkpointed(&numbers, result),
            // The watch of the job is unknown, so the whole project restarts from its recorded state.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("jobs are never aborted"),
            },
        }
    }

    /// Applies a poll's answer to the project first, then to its watch.
    pub(super) fn poll_answered(&mut self, result: PollResult) {
        if self.is_recording {
            self.start_recording(result.number);
            self.deferred.push_back(Deferred::PollAnswered(result));
            return;
        }
        let Some(slot) = self.watches.get(result.number) else {
            return;
        };
        let mut health = self.health.clone();
        let (scope, events) = health.observe(
            AnsweredPoll {
                operation: &slot.watched.id,
                pass: result.pass,
                is_forbidden: slot.watched.watch.is_forbidden(),
            },
            &result.answer,
            &self.context(),
        );
        self.report_failing(&health, &result.answer);
        if events.is_empty() {
            self.set_health(health);
            self.publish_answer(&result.answer);
            self.apply_answer(result, scope);
        } else {
            self.start_recording(result.number);
            self.record_project(health, events, Some((result, scope)));
        }
    }

    /// Makes the poller wait for a commit.
    pub(super) fn start_recording(&mut self, number: WatchNumber) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.poller = Poller::Recording;
        }
        self.watches.set_alarm(number, None);
    }

    /// Starts the departure of a watch that was removed during its commit. Returns false if it was not removed.
    pub(super) fn departs_after_commit(&mut self, number: WatchNumber) -> bool {
        let Some(slot) = self.watches.get_mut(number) else {
            return true;
        };
        let departs = slot.poller.ended(LeavingStep::Commit);
        if departs {
            self.reconciliation.departing.push(number);
        }
        departs
    }

    /// Applies an answer to its watch, unless it concerns the project.
    pub(super) fn apply_answer(&mut self, result: PollResult, scope: AnswerScope) {
        let PollResult {
            number, answer, poll, ..
        } = result;
        match scope {
            AnswerScope::Watch => self.decide(number, Observation::Answer(answer, poll), None),
            AnswerScope::Project => self.queue_again(number, poll, self.now()),
            AnswerScope::Unclear => {
                let doubt = DoubtedAnswer {
                    answer: *answer,
                    poll,
                };
                self.doubt(number, doubt);
            }
        }
    }

    /// Makes a watch wait until the doubt about the credentials has ended.
    pub(super) fn doubt(&mut self, number: WatchNumber, doubt: DoubtedAnswer) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.poller = Poller::Doubting(Box::new(doubt));
            self.forbidden.push(number);
            self.set_alarm_again(number);
        }
    }
}
