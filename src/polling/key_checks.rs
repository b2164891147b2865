//! Whether the API accepts the project's key, asked by a person. The request passes the gate like any other.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::PollingServices;
use super::project_changes::ProjectChange;
use super::project_task::ProjectTask;
use super::requests::{Outcome, Reply, Requester};
use crate::ampersand::{Fetch, NO_OPERATION};
use crate::core::answer::Answer;
use crate::core::gate::Pass;
use crate::core::key_verdict::KeyVerdict;
use crate::core::watch_list::WatchKey;

/// Those who ask, and the one request that answers all of them.
#[derive(Debug, Default)]
pub(super) struct KeyChecks {
    askers: Vec<oneshot::Sender<KeyVerdict>>,
    is_repeated: bool,
}

/// Asks for an operation that does not exist, which has no effect.
pub(super) async fn check_key<F: Fetch>(shared: Arc<PollingServices<F>>, project: Arc<str>) -> Reply {
    let key = WatchKey {
        project,
        operation: Arc::from(NO_OPERATION),
    };
    Reply::Answer(super::answers::ask(&shared, &key).await)
}

impl<F: Fetch> ProjectTask<F> {
    /// Somebody asks whether the key is good.
    pub(super) fn check_key(&mut self, reply: oneshot::Sender<KeyVerdict>) {
        if self.key_checks.askers.is_empty() {
            self.key_checks.is_repeated = false;
            self.gate.join(Requester::Key, self.now());
        }
        self.key_checks.askers.push(reply);
    }

    /// The API was asked.
    pub(super) fn key_checked(&mut self, outcome: Outcome, pass: Pass) {
        let answer = match outcome {
            Outcome::Reply(Reply::Answer(answer)) => answer,
            // Those who ask find nobody at the other end.
            _ => return self.key_checks.askers.clear(),
        };
        if matches!(answer, Answer::Unprocessed(_))
            && pass == Pass::Turn
            && !std::mem::replace(&mut self.key_checks.is_repeated, true)
        {
            self.gate.join_front(Requester::Key, self.now());
            return;
        }
        if let Answer::Throttled { wait, .. } = &answer {
            self.change_project(ProjectChange::Throttled(*wait));
        }
        let verdict = KeyVerdict::from(answer);
        for asker in self.key_checks.askers.drain(..) {
            // One who has gone needs no answer.
            let _ = asker.send(verdict.clone());
        }
    }
}
