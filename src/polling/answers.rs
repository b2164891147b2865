//! What ended: a request with its answer, or what was being recorded or loaded.

use std::sync::Arc;

use tokio::task::JoinError;

use super::PollingServices;
use super::decisions::Observation;
use super::project_changes::{HeldBack, ProjectChange};
use super::project_task::ProjectTask;
use super::requests::{Ended, Outcome, Reply, Requester};
use super::watches::Number;
use crate::ampersand::Fetch;
use crate::clock;
use crate::core::answer::Answer;
use crate::core::gate::Pass;
use crate::core::poller::{Addition, DoubtedAnswer, LeavingStep, PendingDecision, PendingPoll, Poller};
use crate::core::project_health::{AnswerScope, ProjectHealth};
use crate::core::watch_list::WatchKey;
use crate::store::CommitError;

/// What was recorded or loaded, or could not be.
#[derive(Debug)]
pub(super) enum Done {
    /// A change of a watch.
    Watch {
        number: Number,
        decided: Box<PendingDecision>,
        result: Result<(), CommitError>,
    },
    /// A change of the project, and the answer that it came from.
    Project {
        health: Box<ProjectHealth>,
        then: Option<(Answered, AnswerScope)>,
        result: Result<(), CommitError>,
    },
    Loaded(super::listing::Loaded),
    Departed(super::listing::Departed),
    Checkpointed {
        numbers: Vec<Number>,
        result: Result<(), CommitError>,
    },
}

/// An answer to a poll.
#[derive(Debug)]
pub(super) struct Answered {
    pub number: Number,
    pub answer: Box<Answer>,
    pub poll: PendingPoll,
    pub pass: Pass,
}

/// Asks for an operation.
pub(super) async fn send_poll<F: Fetch>(shared: Arc<PollingServices<F>>, key: WatchKey, pass: Pass) -> Reply {
    if pass == Pass::Probe && shared.fetch.refresh_key(&key.project).await {
        tracing::info!(project = &*key.project, "a new API key is in place");
    }
    let started = clock::instant();
    let answer = ask(&shared, &key).await;
    shared.metrics.record_poll(&answer, clock::instant() - started);
    tracing::debug!(
        project = &*key.project,
        operation_id = &*key.operation,
        outcome = answer.outcome(),
        probe = pass == Pass::Probe,
        "polled"
    );
    Reply::Answer(answer)
}

/// Sends the request for an operation.
pub(super) async fn ask<F: Fetch>(shared: &PollingServices<F>, key: &WatchKey) -> Answer {
    shared.fetch.fetch(key).await
}

/// Asks for what an event of an operation adds.
pub(super) async fn addition<F: Fetch>(
    shared: Arc<PollingServices<F>>,
    key: WatchKey,
    addition: Addition,
) -> Reply {
    match addition {
        Addition::Logs(wanted) => Reply::Logs(shared.fetch.last_lines(&key, wanted).await),
        Addition::Installation(path) => {
            Reply::Installation(shared.fetch.installation(&key.project, &path).await)
        }
    }
}

/// Asks whether the project exists.
pub(super) async fn project<F: Fetch>(shared: Arc<PollingServices<F>>, name: Arc<str>) -> Reply {
    Reply::Project(shared.fetch.project_exists(&name).await)
}

impl<F: Fetch> ProjectTask<F> {
    /// A request has ended.
    pub(super) fn request_ended(&mut self, ended: Ended) {
        let Ended {
            requester,
            pass,
            outcome,
        } = ended;
        self.gate.release(pass, self.now());
        match requester {
            Requester::Watch(number) => self.watch_request_ended(number, pass, outcome),
            Requester::Key => self.key_checked(outcome, pass),
            Requester::Project => {
                if let Outcome::Reply(Reply::Project(answer)) = outcome {
                    self.change_project(ProjectChange::Answered(answer));
                }
            }
        }
    }

    fn watch_request_ended(&mut self, number: Number, pass: Pass, outcome: Outcome) {
        let now = self.now();
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        if slot.poller.ended(LeavingStep::Request) {
            self.listing.departing.push(number);
            return;
        }
        match (&slot.poller, outcome) {
            (Poller::Gathering(_), Outcome::Reply(Reply::Logs(answer))) => self.logs_answered(number, answer),
            (Poller::Gathering(_), Outcome::Reply(Reply::Installation(answer))) => {
                self.installation_answered(number, answer);
            }
            (Poller::Gathering(_), _) => self.gathered(number),
            (Poller::Asking { poll, .. }, Outcome::Reply(Reply::Answer(Answer::Unprocessed(_))))
                if pass == Pass::Turn && !poll.is_repeated =>
            {
                let poll = PendingPoll {
                    is_repeated: true,
                    ..*poll
                };
                let ticket = self.gate.join_front(Requester::Watch(number), now);
                slot.poller = Poller::Queued { ticket, poll };
            }
            (Poller::Asking { poll, .. }, Outcome::Reply(Reply::Answer(answer))) => {
                let answer = answer.of_repeated();
                let answered = Answered {
                    number,
                    answer: Box::new(answer),
                    poll: *poll,
                    pass,
                };
                self.answered(answered);
            }
            (_, Outcome::Panicked(panic)) => self.panicked(number, &panic),
            // Aborted because its time to give up had come.
            _ => self.give_up(number),
        }
    }

    /// Something was recorded or loaded.
    pub(super) fn job_ended(&mut self, joined: Result<Done, JoinError>) {
        match joined {
            Ok(Done::Watch {
                number,
                decided,
                result,
            }) => self.watch_recorded(number, *decided, result),
            Ok(Done::Project { health, then, result }) => self.project_recorded(*health, then, result),
            Ok(Done::Loaded(loaded)) => self.loaded(loaded),
            Ok(Done::Departed(departed)) => self.departed(departed),
            Ok(Done::Checkpointed { numbers, result }) => self.checkpointed(&numbers, result),
            // Which watch it was for is lost, so the whole project starts again from what is recorded.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("jobs are never aborted"),
            },
        }
    }

    /// What an answer means for the project comes first.
    pub(super) fn answered(&mut self, answered: Answered) {
        if self.is_recording {
            self.start_recording(answered.number);
            self.held_back.push_back(HeldBack::Answered(answered));
            return;
        }
        let Some(slot) = self.watches.get(answered.number) else {
            return;
        };
        let is_refused = slot.watched.watch.is_forbidden();
        let mut health = self.health.clone();
        let (concerns, events) = health.observe(
            &slot.watched.id,
            &answered.answer,
            answered.pass == Pass::Probe,
            is_refused,
            &self.context(),
        );
        self.report_failing(&health, &answered.answer);
        if events.is_empty() {
            self.set_health(health);
            self.publish_answer(&answered.answer);
            self.conclude(answered, concerns);
        } else {
            self.start_recording(answered.number);
            self.record_project(health, events, Some((answered, concerns)));
        }
    }

    /// The poller waits until something is recorded.
    pub(super) fn start_recording(&mut self, number: Number) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.poller = Poller::Recording;
        }
        self.watches.set_alarm(number, None);
    }

    /// Whether the watch was removed while its commit was in flight; then it departs.
    pub(super) fn departs_after_commit(&mut self, number: Number) -> bool {
        let Some(slot) = self.watches.get_mut(number) else {
            return true;
        };
        let departs = slot.poller.ended(LeavingStep::Commit);
        if departs {
            self.listing.departing.push(number);
        }
        departs
    }

    /// The answer concerns the watch, the project, or it is not known yet which.
    pub(super) fn conclude(&mut self, answered: Answered, concerns: AnswerScope) {
        let Answered {
            number, answer, poll, ..
        } = answered;
        match concerns {
            AnswerScope::Watch => self.decide(number, Observation::Answer(answer, poll)),
            AnswerScope::Project => self.queue_again(number, poll, self.now()),
            AnswerScope::Unclear => {
                if let Some(slot) = self.watches.get_mut(number) {
                    slot.poller = Poller::Doubting(Box::new(DoubtedAnswer {
                        answer: *answer,
                        poll,
                    }));
                    self.doubters.push(number);
                    self.watches.set_alarm(number, self.expiry_time(number));
                }
            }
        }
    }
}
