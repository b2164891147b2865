//! One project at work: its gate, what its watches have learned of it, and the one way to poll an operation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};
use tokio::time::Instant;

use crate::ampersand::Fetch;
use crate::ampersand::gate::{Gate, Limits, Permit};
use crate::clock;
use crate::config::Poll;
use crate::core::answer::Answer;
use crate::core::event::Event;
use crate::core::project::{self, Concerns, Context, Moment};
use crate::core::watch_list::WatchKey;
use crate::pulse::Pulse;
use crate::record::Recorder;
use crate::report::metrics::Metrics;
use crate::store::{Change, CommitError, Subject};

/// A gate that had kept up for this long before is worth a line again.
const SLOW_IS_TOLD_AGAIN_AFTER: Duration = Duration::from_mins(10);
/// Failures that pass sooner are not worth a line.
const FAILING_IS_TOLD_AFTER: Duration = Duration::from_secs(5);

/// One configured project.
#[derive(Debug)]
pub struct Project {
    /// Its name.
    pub name: Arc<str>,
    gate: Arc<Gate>,
    /// Held over a commit, so that what is told of a project comes in order; there is little to tell.
    state: Arc<Mutex<project::Project>>,
    watches: AtomicUsize,
    /// When a poll last stood in the gate's queue for too long.
    slow: std::sync::Mutex<Option<Instant>>,
    told_failing: AtomicBool,
    poll: watch::Receiver<Arc<Poll>>,
    recorder: Recorder,
    start: Instant,
}

/// The projects by name; a reload may add some.
#[derive(Debug, Default)]
pub struct Projects {
    projects: RwLock<HashMap<Arc<str>, Arc<Project>>>,
    bell: Arc<Notify>,
}

impl Projects {
    /// The project of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Project>> {
        self.read().get(name).cloned()
    }

    /// Those whose gate calls a sleeping poller.
    #[must_use]
    pub fn calling(&self) -> Vec<Arc<Project>> {
        let projects = self.read();
        let calling = projects.values().filter(|project| project.gate.is_calling());
        calling.cloned().collect()
    }

    /// What every gate rings when it calls a sleeping poller.
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Adds a project.
    pub fn insert(&self, project: Arc<Project>) {
        let mut projects = self.projects.write().unwrap_or_else(PoisonError::into_inner);
        projects.insert(Arc::clone(&project.name), project);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Arc<str>, Arc<Project>>> {
        self.projects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One poll that is due.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The operation.
    pub key: &'a WatchKey,
    /// Whether the operation is told unreachable already.
    pub refused_before: bool,
    /// When the poll fell due.
    pub due: Instant,
    /// Where it is told what the poll does.
    pub pulse: &'a Pulse,
    /// Where it is measured.
    pub metrics: &'a Metrics,
}

/// What an answer means for the project could not be recorded.
#[derive(Debug)]
pub struct Unrecorded {
    /// Why not.
    pub error: CommitError,
    /// Whether the answer was the operation, all the same.
    pub seen: bool,
}

/// An answer that concerns the watch it was asked for.
#[derive(Debug)]
pub struct Polled {
    /// What the poll met.
    pub answer: Answer,
    /// How long the project was held back before.
    pub held: Duration,
    /// Whether a 404 speaks of the operation rather than of the project.
    pub project_known: bool,
    /// How long ago any watch of the project was answered with an operation.
    pub project_answered: Option<Duration>,
}

impl Project {
    /// A project that goes on from `state`. It rings `bell` when it calls a sleeping poller.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        limits: Limits,
        state: project::Project,
        poll: watch::Receiver<Arc<Poll>>,
        recorder: Recorder,
        bell: Arc<Notify>,
    ) -> Self {
        let start = clock::instant();
        let gate = Gate::new(limits, start, bell);
        gate.set_hold(state.hold());
        Self {
            name,
            gate: Arc::new(gate),
            state: Arc::new(Mutex::new(state)),
            watches: AtomicUsize::new(0),
            slow: std::sync::Mutex::new(None),
            told_failing: AtomicBool::new(false),
            poll,
            recorder,
            start,
        }
    }

    /// Its gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How many of its watches are polled.
    pub async fn set_watches(&self, watches: usize) {
        self.watches.store(watches, Ordering::Relaxed);
        if watches <= 1 && self.gate.is_probing() {
            // Nobody is left whose answer could settle a doubt that the last watch raised.
            let mut state = self.state.lock().await;
            state.drop_doubt();
            self.gate.set_hold(state.hold());
        }
    }

    /// One of its watches was answered with an operation before this start: the project is what it is taken for.
    pub async fn was_known(&self) {
        self.state.lock().await.recognise();
    }

    /// A new API key is in place: if the old one was rejected, the next probe goes out at once.
    pub async fn key_replaced(&self) {
        let mut state = self.state.lock().await;
        state.replace_key(self.moment());
        self.gate.set_hold(state.hold());
    }

    /// Polls an operation: waits for the gate as often as the project asks for it, until there is an answer that
    /// concerns the watch; `None` if it was called to the gate before it was due, as a probe, and there is nothing to
    /// probe any more. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When an answer that concerns the project could not be recorded.
    pub async fn poll<F: Fetch>(
        &self,
        fetch: &F,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Polled>, Unrecorded> {
        let key = attempt.key;
        let mut held = Duration::ZERO;
        let mut is_first = true;
        let mut is_repeated = false;
        loop {
            let permit = self.gate.admit(&key.operation).await;
            if is_first && !permit.is_probe() && clock::instant() < attempt.due {
                return Ok(None);
            }
            held += permit.held;
            self.mind_queue(permit.queued);
            attempt.metrics.gate_wait(permit.queued);
            if permit.is_probe() && fetch.refresh_key(&key.project).await {
                tracing::info!(project = &*self.name, "a new API key is in place");
            }
            let started = clock::instant();
            if std::mem::take(&mut is_first) {
                let lag = started.saturating_duration_since(attempt.due);
                attempt.metrics.poll_lag(lag.saturating_sub(held));
            }
            let asking = attempt.pulse.ask(started);
            let answer = fetch.fetch(key).await;
            drop(asking);
            let answer = if is_repeated { answer.of_repeated() } else { answer };
            attempt.metrics.poll(&answer, clock::instant() - started);
            tracing::debug!(
                project = &*self.name,
                operation_id = &*key.operation,
                outcome = answer.outcome(),
                probe = permit.is_probe(),
                "polled"
            );
            if matches!(answer, Answer::Unprocessed(_)) {
                is_repeated = true;
                continue;
            }
            let observed = self.observe(key, &answer, &permit, attempt.refused_before).await;
            let observed = observed.map_err(|error| Unrecorded {
                error,
                seen: answer.is_operation(),
            });
            match observed? {
                Concerns::Watch => return Ok(Some(self.polled(answer, held).await)),
                Concerns::Project => {}
                Concerns::Unclear => {
                    drop(permit);
                    let since = clock::instant();
                    self.gate.doubt_resolved(&key.operation).await;
                    held += clock::instant() - since;
                    if self.state.lock().await.has_credentials() {
                        return Ok(Some(self.polled(answer, held).await));
                    }
                }
            }
        }
    }

    /// An operation was not found through its grace time while none of the project's several ever was.
    ///
    /// # Errors
    /// When that could not be recorded.
    pub async fn doubt(&self) -> Result<(), CommitError> {
        let poll = self.poll.borrow().clone();
        let state = Arc::clone(&self.state).lock_owned().await;
        let mut next = state.clone();
        let events = next.doubt(&self.context(&poll));
        self.advance(state, next, events).await
    }

    /// What is known of it now: whether its API is reachable, and whether its credentials are good.
    pub async fn health(&self) -> (bool, bool) {
        let state = self.state.lock().await;
        (state.is_reachable(), state.has_credentials())
    }

    async fn observe(
        &self,
        key: &WatchKey,
        answer: &Answer,
        permit: &Permit<'_>,
        refused_before: bool,
    ) -> Result<Concerns, CommitError> {
        let poll = self.poll.borrow().clone();
        let state = Arc::clone(&self.state).lock_owned().await;
        let mut next = state.clone();
        let cx = self.context(&poll);
        let (concerns, events) = next.observe(&key.operation, answer, permit.is_probe(), refused_before, &cx);
        self.mind_failures(&next, answer, &cx);
        self.advance(state, next, events).await?;
        Ok(concerns)
    }

    /// Moves on to `next`, with the gate.
    async fn advance(
        &self,
        mut state: OwnedMutexGuard<project::Project>,
        next: project::Project,
        events: Vec<Event>,
    ) -> Result<(), CommitError> {
        if events.is_empty() {
            self.gate.set_hold(next.hold());
            *state = next;
            return Ok(());
        }
        // Boxed: it is rare, and else each poll would be as large.
        Box::pin(self.record(state, next, events)).await
    }

    /// Records what is to be told; only then does the project move on, and its gate with it: also when the poller that
    /// brought the answer was taken off the list meanwhile, or the same would be told once more.
    async fn record(
        &self,
        mut state: OwnedMutexGuard<project::Project>,
        next: project::Project,
        events: Vec<Event>,
    ) -> Result<(), CommitError> {
        let subject = Subject::Project(Arc::clone(&self.name), next.clone());
        let gate = Arc::clone(&self.gate);
        let move_on = move |recorded| {
            if recorded {
                gate.set_hold(next.hold());
                *state = next;
            } else {
                state.keep_reach(&next);
            }
        };
        self.recorder
            .record_then(Change { subject, events }, move_on)
            .await
    }

    async fn polled(&self, answer: Answer, held: Duration) -> Polled {
        let state = self.state.lock().await;
        Polled {
            answer,
            held,
            project_known: state.is_known(self.watches.load(Ordering::Relaxed)),
            project_answered: state.answered_ago(self.moment()),
        }
    }

    /// Says so once when polls fail for a while, long before that is an event: whoever just started the daemon with a
    /// wrong setting is looking at the log now.
    fn mind_failures(&self, state: &project::Project, answer: &Answer, cx: &Context<'_>) {
        let failing = state.failing_for(cx.now);
        if let Answer::Failed(failure) = answer
            && failing >= FAILING_IS_TOLD_AFTER
            && state.is_reachable()
        {
            if !self.told_failing.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    project = &*self.name,
                    reason = failure.reason,
                    unreachable_after_seconds = cx.unreachable_after.as_secs_f64(),
                    "polls fail; they are retried, and if none succeeds this will be api.unreachable"
                );
            }
        } else if failing.is_zero() && self.told_failing.swap(false, Ordering::Relaxed) {
            tracing::info!(project = &*self.name, "polls succeed again");
        }
    }

    /// Says so once when the gate cannot keep up, and again only after it could for a while.
    fn mind_queue(&self, queued: Duration) {
        if queued <= self.poll.borrow().pace.longest() / 2 {
            return;
        }
        let now = clock::instant();
        let before = self
            .slow
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(now);
        if before.is_some_and(|before| now - before < SLOW_IS_TOLD_AGAIN_AFTER) {
            return;
        }
        let watches = self.watches.load(Ordering::Relaxed);
        let limits = self.gate.limits();
        tracing::warn!(
            project = &*self.name,
            watches,
            max_requests_per_second = limits.per_second,
            max_concurrent_requests = limits.concurrent,
            queued_seconds = queued.as_secs_f64(),
            seconds_per_round = watches as f64 / limits.per_second,
            "the gate cannot keep up: polls come later than poll.max_interval, evenly for all watches; raise \
             ampersand.max_requests_per_second (or max_concurrent_requests), or poll.max_interval"
        );
    }

    fn context<'a>(&'a self, poll: &'a Poll) -> Context<'a> {
        Context {
            name: &self.name,
            pace: &poll.pace,
            unreachable_after: poll.rules.unreachable_after,
            max_retry_after: poll.max_retry_after,
            watches: self.watches.load(Ordering::Relaxed),
            now: self.moment(),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            wall: self.recorder.now(),
            steady: clock::instant() - self.start,
        }
    }
}
