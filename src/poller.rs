//! The poller of one watch until it is over: asleep a small value, awake a task that passes the gate, fetches, decides and
//! records.
//!
//! While it sleeps there is no request, no buffer, no span and no task, so that an idle watch costs little. It calls nobody
//! back: that it ended is what it has to say, and why stands in the watch.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

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
pub struct Poller {
    /// Whose operation it polls.
    pub project: Arc<Project>,
    /// What it polls.
    pub watched: Arc<Watched>,
    /// When the last observation was made, or watching began.
    pub observed: Instant,
    due: Instant,
    /// Observations in a row that could not be recorded.
    unrecorded: u32,
}

/// What a poller is woken for.
enum Wake {
    Poll,
    GiveUp,
}

impl Poller {
    /// A poller whose first poll falls due after `first`.
    #[must_use]
    pub fn new(project: Arc<Project>, watched: Arc<Watched>, first: Duration) -> Self {
        let now = clock::instant();
        let due = now + first;
        // From here on, so that a poller that is never run shows.
        watched.pulse.sleep_until(due);
        Self {
            project,
            watched,
            observed: now,
            due,
            unrecorded: 0,
        }
    }

    /// When it is to be woken, as the settings are now.
    #[must_use]
    pub fn wakes_at(&self, poll: &Poll) -> Instant {
        self.next_wake(poll).0
    }

    /// Does what it was woken for, or `called` to the gate for before that: itself, to sleep again, or `None` when the watch
    /// is over. Dropping the future at any point loses nothing that was recorded.
    pub async fn wake<F: Fetch>(
        mut self: Box<Self>,
        shared: Arc<Shared<F>>,
        called: bool,
    ) -> Option<Box<Self>> {
        let (at, wake) = self.next_wake(&shared.poll.borrow());
        let is_time = at <= clock::instant();
        if !is_time && !called {
            // Other settings came meanwhile.
            return Some(self);
        }
        self.watched.pulse.wait();
        let step = match wake {
            Wake::GiveUp if is_time => Box::pin(self.give_up(&shared)).await,
            Wake::GiveUp | Wake::Poll => self.poll_once(&shared).await,
        };
        match step {
            Ok(Next::Over) => return None,
            Ok(Next::PollAfter(wait)) => {
                self.unrecorded = 0;
                self.due = self.observed + wait;
            }
            Err(error) => {
                // The watch has not moved on, so the next poll finds the same again.
                self.unrecorded = self.unrecorded.saturating_add(1);
                let wait = shared.poll.borrow().pace.after_attempts(self.unrecorded);
                self.due = clock::instant() + wait;
                tracing::debug!(
                    project = &*self.watched.key.project,
                    operation_id = &*self.watched.key.operation,
                    error = &error as &dyn std::error::Error,
                    "an observation could not be recorded; the next poll finds it again"
                );
            }
        }
        Some(self)
    }

    fn next_wake(&self, poll: &Poll) -> (Instant, Wake) {
        // What could not be recorded is not tried again before it is due, the giving up included.
        let give_up = self.give_up_at(poll).map(|at| match self.unrecorded {
            0 => at,
            _ => at.max(self.due),
        });
        match give_up {
            Some(give_up) if give_up <= self.due => (give_up, Wake::GiveUp),
            _ => (self.due, Wake::Poll),
        }
    }

    fn give_up_at(&self, poll: &Poll) -> Option<Instant> {
        let left = self.watched.look(|watch| watch.expires_in(&poll.rules))?;
        self.observed.checked_add(left)
    }

    async fn poll_once<F: Fetch>(&mut self, shared: &Shared<F>) -> Result<Next, CommitError> {
        let key = &self.watched.key;
        let refused_before = self.watched.look(Watch::is_unreachable);
        let attempt = Attempt {
            key,
            refused_before,
            due: self.due,
            pulse: &self.watched.pulse,
            metrics: &shared.metrics,
        };
        // Boxed, as all that is large below: a task is made for each poll, and small ones are cheap to make.
        let polling = Box::pin(self.project.poll(&shared.fetch, &attempt));
        let give_up = self.give_up_at(&shared.poll.borrow());
        let polled = match give_up {
            None => polling.await,
            Some(give_up) => tokio::select! {
                biased;
                polled = polling => polled,
                () = sleep_until(give_up) => return Box::pin(self.give_up(shared)).await,
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
        let mut watch = Box::new(self.watched.look(Watch::clone));
        let mut step = self.decide(shared, &mut watch, Some(&polled));
        if let Some(failed) = step
            .events
            .iter_mut()
            .find(|event| event.event_type == EventType::Failed)
        {
            failed.attach_logs(Box::pin(shared.fetch.last_warnings(key)).await.into_lines());
        }
        let doubts_project = step.doubts_project;
        let settled = self.settle(shared, watch, step).await;
        if settled.is_err() && polled.answer.is_operation() {
            self.keep_sight();
        }
        let next = settled?;
        if next == Next::Over {
            self.watched.look(|watch| watch.teach(&shared.kinds));
        }
        if doubts_project {
            Box::pin(self.project.doubt()).await?;
        }
        Ok(next)
    }

    async fn give_up<F>(&mut self, shared: &Shared<F>) -> Result<Next, CommitError> {
        let mut watch = Box::new(self.watched.look(Watch::clone));
        let step = self.decide(shared, &mut watch, None);
        Ok(match self.settle(shared, watch, step).await? {
            Next::Over => Next::Over,
            // Other settings came meanwhile, and it is not the time yet.
            Next::PollAfter(_) => self.when_due(),
        })
    }

    /// The poll stays due when it was.
    fn when_due(&self) -> Next {
        Next::PollAfter(self.due.saturating_duration_since(self.observed))
    }

    fn decide<F>(&self, shared: &Shared<F>, watch: &mut Watch, polled: Option<&Polled>) -> Step {
        let poll = shared.poll.borrow().clone();
        let labels = self.watched.labels();
        let cx = Context {
            key: &self.watched.key,
            labels: &labels,
            rules: &poll.rules,
            pace: &poll.pace,
            kinds: &shared.kinds,
            now: shared.recorder.now(),
            elapsed: clock::instant() - self.observed,
            held: polled.map_or(Duration::ZERO, |polled| polled.held),
            chance: shared.chance.draw(),
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
    async fn settle<F>(
        &mut self,
        shared: &Shared<F>,
        watch: Box<Watch>,
        step: Step,
    ) -> Result<Next, CommitError> {
        let told = !step.events.is_empty();
        let observed = clock::instant();
        if told {
            let subject = Subject::Watch(self.watched.key.clone(), watch.clone());
            let events = step.events;
            Box::pin(shared.recorder.record(Change { subject, events })).await?;
        }
        self.watched.replace(*watch, told);
        self.observed = observed;
        Ok(step.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poller_that_sleeps_is_small() {
        assert!(size_of::<Poller>() <= 56, "{} bytes", size_of::<Poller>());
    }
}
