//! Checks on request whether the API accepts the project's key. The check passes the gate like a poll.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::PollingServices;
use super::messages::ProjectChange;
use super::project_task::ProjectTask;
use super::requests::{RequestAnswer, RequestOutcome, Requester};
use crate::ampersand::{Fetch, NO_OPERATION};
use crate::core::answer::Answer;
use crate::core::gate::Pass;
use crate::core::key_verdict::KeyVerdict;
use crate::core::watch_list::WatchKey;

/// Requests an operation that does not exist, which has no effect.
pub(super) async fn check_key<F: Fetch>(
    services: Arc<PollingServices<F>>,
    project: Arc<str>,
) -> RequestAnswer {
    let key = WatchKey::of(&project, &Arc::from(NO_OPERATION));
    RequestAnswer::Poll(services.fetch.fetch(&key).await)
}

impl<F: Fetch> ProjectTask<F> {
    /// Queues a check, or adds the caller to the one that is queued.
    pub(super) fn check_key(&mut self, reply: oneshot::Sender<KeyVerdict>) {
        if self.key_checks.callers.is_empty() {
            self.key_checks.is_repeated = false;
            self.gate.join(Requester::Key, self.now());
        }
        self.key_checks.callers.push(reply);
    }

    /// Answers the callers.
    pub(super) fn key_checked(&mut self, outcome: RequestOutcome, pass: Pass) {
        let RequestOutcome::Answered(RequestAnswer::Poll(answer)) = outcome else {
            // Callers see a closed channel.
            return self.key_checks.callers.clear();
        };
        if matches!(answer, Answer::Unprocessed(_))
            && pass == Pass::Turn
            && !std::mem::replace(&mut self.key_checks.is_repeated, true)
        {
            self.gate.join_front(Requester::Key, self.now());
            return;
        }
        if let Answer::Throttled { wait, reason } = &answer {
            self.change_project(ProjectChange::Throttled(*wait, Some(reason.clone())));
        }
        let verdict = KeyVerdict::from(answer);
        for caller in self.key_checks.callers.drain(..) {
            // A caller that left needs no answer.
            let _ = caller.send(verdict.clone());
        }
    }
}
