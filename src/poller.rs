//! The task that polls one watch until it is over: sleep, pass the gate, fetch, decide, record.
//!
//! While it sleeps it holds no request, no buffer and no span, so that an idle watch costs little. It calls nobody
//! back: that it ended is what it has to say, and why stands in the watch.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::ampersand::Fetch;
use crate::board::Watched;
use crate::chance::Chance;
use crate::clock;
use crate::config::Poll;
use crate::core::event::EventType;
use crate::core::kind::Kinds;
use crate::core::watch::{Context, Next, Step, Watch};
use crate::project::{Attempt, Polled, Project, Unrecorded};
use crate::record::Recorder;
use crate::report::metrics::Metrics;
use crate::store::{Change, CommitError, Subject};

/// What all pollers share.
#[derive(Debug)]
pub struct Shared<F> {
    /// How answers are got.
    pub fetch: F,
    /// How what is to be told is recorded.
    pub recorder: Recorder,
    /// The poll settings in force; each poll looks anew.
    pub poll: watch::Receiver<Arc<Poll>>,
    /// Where chance comes from.
    pub chance: Chance,
    /// What is measured.
    pub metrics: Metrics,
    /// What the operations have in common.
    pub kinds: Kinds,
}

/// The poller of one watch.
#[derive(Debug)]
pub struct Poller<F> {
    shared: Arc<Shared<F>>,
    project: Arc<Project>,
    watched: Arc<Watched>,
    /// When the last observation was made, or watching began.
    observed: Instant,
    due: Instant,
    /// Observations in a row that could not be recorded.
    unrecorded: u32,
}

/// Why a poller stopped sleeping.
enum Wake {
    Due,
    GiveUp,
}

impl<F: Fetch> Poller<F> {
    /// A poller whose first poll falls due after `first`.
    #[must_use]
    pub fn new(
        shared: Arc<Shared<F>>,
        project: Arc<Project>,
        watched: Arc<Watched>,
        first: Duration,
    ) -> Self {
        let now = clock::instant();
        let due = now + first;
        // From here on, so that a poller that is never run shows.
        watched.pulse.sleep_until(due);
        Self {
            shared,
            project,
            watched,
            observed: now,
            due,
            unrecorded: 0,
        }
    }

    /// Polls until the watch is over. Dropping the future at any point loses nothing that was recorded.
    // An `async fn` would keep the poller twice, once as its argument.
    #[expect(clippy::manual_async_fn, reason = "smaller, and there is one for each watch")]
    pub fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            loop {
                self.watched.pulse.sleep_until(self.due);
                let woken = self.sleep().await;
                self.watched.pulse.wait();
                let step = match woken {
                    // Boxed: what asks and records is large, and is there only while it is under way.
                    Wake::GiveUp => Box::pin(self.give_up()).await,
                    Wake::Due => Box::pin(self.poll_once()).await,
                };
                match step {
                    Ok(Next::Over) => return,
                    Ok(Next::PollAfter(wait)) => {
                        self.unrecorded = 0;
                        self.due = self.observed + wait;
                    }
                    Err(error) => {
                        // The watch has not moved on, so the next poll finds the same again.
                        self.unrecorded = self.unrecorded.saturating_add(1);
                        let wait = self.shared.poll.borrow().pace.after_attempts(self.unrecorded);
                        self.due = clock::instant() + wait;
                        tracing::debug!(
                            project = &*self.watched.key.project,
                            operation_id = &*self.watched.key.operation,
                            error = &error as &dyn std::error::Error,
                            "an observation could not be recorded; the next poll finds it again"
                        );
                    }
                }
            }
        }
    }

    /// What this keeps while it waits is what each idle watch costs.
    async fn sleep(&self) -> Wake {
        loop {
            let (until, wake) = self.next_wake();
            if timeout_at(until, self.project.gate().summoned()).await.is_err() {
                return wake;
            }
            // Called before it is due, to be the next probe; a stale call is slept on.
            if self.project.gate().is_probing() {
                return Wake::Due;
            }
        }
    }

    fn next_wake(&self) -> (Instant, Wake) {
        // What could not be recorded is not tried again before it is due, the giving up included.
        let give_up = self.give_up_at().map(|at| match self.unrecorded {
            0 => at,
            _ => at.max(self.due),
        });
        match give_up {
            Some(give_up) if give_up <= self.due => (give_up, Wake::GiveUp),
            _ => (self.due, Wake::Due),
        }
    }

    fn give_up_at(&self) -> Option<Instant> {
        let poll = self.shared.poll.borrow();
        let left = self.watched.look(|watch| watch.expires_in(&poll.rules))?;
        self.observed.checked_add(left)
    }

    async fn poll_once(&mut self) -> Result<Next, CommitError> {
        let key = &self.watched.key;
        let refused_before = self.watched.look(Watch::is_unreachable);
        let attempt = Attempt {
            key,
            refused_before,
            due: self.due,
            pulse: &self.watched.pulse,
            metrics: &self.shared.metrics,
        };
        let polling = self.project.poll(&self.shared.fetch, &attempt);
        let polled = match self.give_up_at() {
            None => polling.await,
            Some(give_up) => tokio::select! {
                biased;
                polled = polling => polled,
                () = sleep_until(give_up) => return self.give_up().await,
            },
        };
        let polled = match polled {
            Ok(Some(polled)) => polled,
            Ok(None) => return Ok(self.when_due()),
            Err(Unrecorded { error, seen }) => {
                if seen {
                    self.keep_sight();
                }
                return Err(error);
            }
        };
        let mut watch = self.watched.look(Watch::clone);
        let mut step = self.decide(&mut watch, Some(&polled));
        if let Some(failed) = step
            .events
            .iter_mut()
            .find(|event| event.event_type == EventType::Failed)
        {
            failed.attach_logs(self.shared.fetch.last_warnings(key).await);
        }
        let doubts_project = step.doubts_project;
        let settled = self.settle(watch, step).await;
        if settled.is_err() && polled.answer.is_operation() {
            self.keep_sight();
        }
        let next = settled?;
        if doubts_project {
            self.project.doubt().await?;
        }
        Ok(next)
    }

    async fn give_up(&mut self) -> Result<Next, CommitError> {
        let mut watch = self.watched.look(Watch::clone);
        let step = self.decide(&mut watch, None);
        Ok(match self.settle(watch, step).await? {
            Next::Over => Next::Over,
            // Other settings came meanwhile, and it is not the time yet.
            Next::PollAfter(_) => self.when_due(),
        })
    }

    /// The poll stays due when it was.
    fn when_due(&self) -> Next {
        Next::PollAfter(self.due.saturating_duration_since(self.observed))
    }

    fn decide(&self, watch: &mut Watch, polled: Option<&Polled>) -> Step {
        let poll = self.shared.poll.borrow().clone();
        let labels = self.watched.labels();
        let cx = Context {
            key: &self.watched.key,
            labels: &labels,
            rules: &poll.rules,
            pace: &poll.pace,
            kinds: &self.shared.kinds,
            now: self.shared.recorder.now(),
            elapsed: clock::instant() - self.observed,
            held: polled.map_or(Duration::ZERO, |polled| polled.held),
            chance: self.shared.chance.draw(),
            project_known: polled.is_none_or(|polled| polled.project_known),
            project_answered: polled.and_then(|polled| polled.project_answered),
        };
        match polled {
            Some(polled) => watch.observe(&polled.answer, &cx),
            None => watch.give_up(&cx),
        }
    }

    /// What the poll showed could not be recorded; that it showed the operation is true all the same.
    fn keep_sight(&self) {
        let mut stood = self.watched.look(Watch::clone);
        stood.keep_sight();
        self.watched.replace(stood, false);
    }

    /// Records what is to be told; only then does the watch move on.
    async fn settle(&mut self, watch: Watch, step: Step) -> Result<Next, CommitError> {
        let told = !step.events.is_empty();
        let observed = clock::instant();
        if told {
            let subject = Subject::Watch(self.watched.key.clone(), Box::new(watch.clone()));
            let events = step.events;
            self.shared.recorder.record(Change { subject, events }).await?;
        }
        self.watched.replace(watch, told);
        self.observed = observed;
        Ok(step.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ampersand::ApiFetch;

    fn size_of_outcome<T, R>(_: impl FnOnce(T) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_poller_that_sleeps_is_small() {
        let size = size_of_outcome(Poller::<ApiFetch>::run);
        // With 104 bytes of tokio's own, a task is three blocks of 128 bytes.
        assert!(size <= 280, "{size} bytes");
    }
}
