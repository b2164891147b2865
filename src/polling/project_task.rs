//! The task that owns one project. Its loop has three beats: take messages, decide, start what was decided.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answers::Done;
use super::changes::ChangeLog;
use super::checkpoints::Checkpoints;
use super::key_checks::KeyChecks;
use super::listing::{Change, Listing};
use super::project_changes::HeldBack;
use super::requests::{Ended, Requester, Requests};
use super::watches::{Number, Watches};
use super::{PollingServices, PollingSettings};
use crate::ampersand::Fetch;
use crate::board::{ProjectQuery, ProjectView};
use crate::clock;
use crate::core::gate::Gate;
use crate::core::operation_kind::OperationKinds;
use crate::core::project_health::{Moment, ProjectContext, ProjectHealth};
use crate::error::chain;

/// This many of one kind of message are taken before the others have their turn.
const BATCH: usize = 64;
/// This many alarms are served before messages have their turn: all watches may be due at once.
const ALARMS: usize = 256;
/// A task that wakes up this much too late did not run in between: the process was stopped, or the machine slept.
const SUSPENSION: Duration = Duration::from_secs(5);
/// From this many of the operations that left the list the project learns at start how long others take.
const LEARNED_FROM: u32 = 5_000;
/// How long to wait before what the store could not do is tried again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// How a project task is reached.
#[derive(Debug)]
pub(super) struct Inlets {
    /// What is asked for.
    pub list: mpsc::Receiver<Change>,
    pub questions: mpsc::Receiver<ProjectQuery>,
    pub settings: watch::Receiver<Arc<PollingSettings>>,
    pub view: watch::Sender<ProjectView>,
}

pub(super) struct ProjectTask<F> {
    pub name: Arc<str>,
    pub shared: Arc<PollingServices<F>>,
    pub inlets: Inlets,
    pub settings: Arc<PollingSettings>,
    /// What steady time counts from. It moves on by the time in which the process did not run.
    pub start: Instant,
    /// When the next beat was due at the latest.
    planned: Duration,
    pub watches: Watches,
    pub kinds: OperationKinds,
    pub gate: Gate<Requester>,
    pub health: ProjectHealth,
    pub requests: Requests,
    /// What is being recorded or loaded.
    pub jobs: JoinSet<Done>,
    /// Whether a change of the project is being recorded. What came after it waits in `held_back`.
    pub is_recording: bool,
    pub held_back: VecDeque<HeldBack>,
    /// Those that wait for the answer of another watch.
    pub doubters: Vec<Number>,
    pub listing: Listing,
    pub checkpoints: Checkpoints,
    pub changes: Option<ChangeLog>,
    pub key_checks: KeyChecks,
    /// Whether the view has to be announced.
    pub is_view_changed: bool,
    pub has_reported_failing: bool,
    /// When the gate last could not keep up.
    pub saturated: Option<Duration>,
}

/// What woke the task.
enum Woken {
    Request(Ended),
    Job(Result<Done, JoinError>),
    List(Change),
    ProjectQuery(ProjectQuery),
    Settings,
    Alarm,
}

impl<F: Fetch> ProjectTask<F> {
    /// Runs the project until `cancel`.
    pub async fn run(
        name: Arc<str>,
        shared: Arc<PollingServices<F>>,
        inlets: Inlets,
        cancel: CancellationToken,
    ) {
        let starting = Self::load(name, shared, inlets);
        let Some(mut task) = cancel.run_until_cancelled(starting).await else {
            return;
        };
        let mut alarm = std::pin::pin!(sleep_until(task.start));
        loop {
            task.planned = task.beat();
            let deadline = task.start + task.planned;
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            let woken = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                ended = task.requests.next() => Woken::Request(ended),
                Some(joined) = task.jobs.join_next(), if !task.jobs.is_empty() => Woken::Job(joined),
                Some(change) = task.inlets.list.recv() => Woken::List(change),
                Some(question) = task.inlets.questions.recv() => Woken::ProjectQuery(question),
                Ok(()) = task.inlets.settings.changed() => Woken::Settings,
                () = &mut alarm => Woken::Alarm,
            };
            task.discount_suspension();
            match woken {
                Woken::Request(ended) => task.request_ended(ended),
                Woken::Job(joined) => task.job_ended(joined),
                Woken::List(change) => task.change(change),
                Woken::ProjectQuery(question) => task.answer_question(question),
                Woken::Settings => task.apply_settings(),
                Woken::Alarm => {}
            }
        }
        task.stop().await;
    }

    /// Reads what the store has of the project; tries again until it can be read.
    async fn load(name: Arc<str>, shared: Arc<PollingServices<F>>, mut inlets: Inlets) -> Self {
        let store = shared.recorder.store();
        let mut has_failed = false;
        let health = loop {
            match store.load_project(&name).await {
                Ok(health) => break health.unwrap_or_default(),
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::error!(
                            project = &*name,
                            error = chain(&error),
                            "the state of the project cannot be read; its operations are not polled; trying again"
                        );
                    }
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        };
        let mut kinds = OperationKinds::default();
        match store.left(LEARNED_FROM).await {
            Ok(left) => left
                .iter()
                .rev()
                .for_each(|watch| watch.add_to_history(&mut kinds)),
            Err(error) => tracing::debug!(
                project = &*name,
                error = chain(&error),
                "the history of finished operations cannot be read"
            ),
        }
        let settings = inlets.settings.borrow_and_update().clone();
        let start = clock::instant();
        let mut task = Self {
            gate: Gate::new(settings.limits, health.restriction(), Duration::ZERO),
            name,
            shared,
            inlets,
            settings,
            start,
            planned: Duration::ZERO,
            watches: Watches::default(),
            kinds,
            health,
            requests: Requests::default(),
            jobs: JoinSet::new(),
            is_recording: false,
            held_back: VecDeque::new(),
            doubters: Vec::new(),
            listing: Listing::default(),
            checkpoints: Checkpoints::default(),
            changes: None,
            key_checks: KeyChecks::default(),
            is_view_changed: true,
            has_reported_failing: false,
            saturated: None,
        };
        task.publish();
        task
    }

    /// Time in which the process or the machine did not run counts for nothing: no poll is late and nothing stalls by it.
    fn discount_suspension(&mut self) {
        let late = self.now().saturating_sub(self.planned);
        if late > SUSPENSION {
            tracing::info!(
                project = &*self.name,
                seconds = late.as_secs_f64(),
                "the process did not run for a while; this time does not count"
            );
            self.start += late;
        }
    }

    /// Takes what is at hand, decides, starts what may start. Returns when the next beat is due at the latest.
    fn beat(&mut self) -> Duration {
        for _ in 0..BATCH {
            let Some(ended) = self.requests.try_next() else {
                break;
            };
            self.request_ended(ended);
        }
        for _ in 0..BATCH {
            let Some(joined) = self.jobs.try_join_next() else {
                break;
            };
            self.job_ended(joined);
        }
        // Answers may never run out, and the others must have their turn all the same.
        if let Ok(change) = self.inlets.list.try_recv() {
            self.change(change);
        }
        if let Ok(question) = self.inlets.questions.try_recv() {
            self.answer_question(question);
        }
        if self.inlets.settings.has_changed().unwrap_or(false) {
            self.apply_settings();
        }
        let now = self.now();
        for _ in 0..ALARMS {
            let Some(number) = self.watches.pop_alarm(now) else {
                break;
            };
            self.alarm(number, now);
        }
        let gate = self.admit(now);
        let load = self.load_listed(now);
        self.depart();
        let checkpoint = self.checkpoint(now);
        self.publish();
        [self.watches.next_alarm(), gate, load]
            .into_iter()
            .flatten()
            .fold(checkpoint, Duration::min)
    }

    /// Other settings apply from now on.
    fn apply_settings(&mut self) {
        let settings = self.inlets.settings.borrow_and_update().clone();
        let now = self.now();
        self.gate.set_limits(settings.limits, now);
        let key_version = |settings: &PollingSettings| settings.projects.get(&self.name).copied();
        if key_version(&settings) > key_version(&self.settings) {
            self.health.replace_key(self.moment());
            self.gate.set_restriction(self.health.restriction(), now);
        }
        self.settings = settings;
        self.is_view_changed = true;
    }

    /// What surrounds an answer, for the project.
    pub(super) fn context(&self) -> ProjectContext<'_> {
        let poll = &self.settings.poll;
        ProjectContext {
            name: &self.name,
            pace: &poll.schedule,
            unreachable_after: poll.watch.unreachable_after,
            max_retry_after: poll.max_retry_after,
            watches: self.watches.polled(),
            now: self.moment(),
        }
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            wall: self.shared.recorder.now(),
            steady: self.now(),
        }
    }

    /// Now, in steady time.
    pub(super) fn now(&self) -> Duration {
        clock::instant().saturating_duration_since(self.start)
    }
}
