//! The task that owns one project. Its loop takes messages, decides, and starts what was decided.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::concerns::Concerns;
use super::groups::Groups;
use super::messages::{Deferred, DesiredChange, JobResult};
use super::project_discovery::{ProjectDiscovery, RequestNumber};
use super::requests::{EndedRequest, Requester, Requests};
use super::task_state::{ChangeLog, Checkpoints, KeyChecks, Reconciliation};
use super::watches::{WatchNumber, Watches};
use super::{PollingServices, PollingSettings};
use crate::ampersand::Fetch;
use crate::board::{ProjectQuery, ProjectView};
use crate::clock;
use crate::core::gate::{Gate, Saturation};
use crate::core::group::{GroupId, GroupRecord};
use crate::core::operation_kind::OperationKinds;
use crate::core::project_health::{Moment, ProjectContext, ProjectHealth};
use crate::error::chain;
use crate::store::{SourceEntry, Store, StoreReadError};

/// The number of messages of one kind that are taken in a row.
const BATCH: usize = 64;
/// The number of alarms that are handled in a row. All watches may be due at once.
const ALARMS: usize = 256;
/// A task that wakes up this late was suspended: the process was stopped, or the machine slept.
const SUSPENSION: Duration = Duration::from_secs(5);
/// The number of removed operations that are read at start to predict durations.
const HISTORY: u32 = 5_000;
/// The pause before a failed read or write of the state is retried.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// The channels of a project task.
#[derive(Debug)]
pub(super) struct TaskChannels {
    /// Changes of what the sources ask for.
    pub desired: mpsc::Receiver<DesiredChange>,
    pub questions: mpsc::Receiver<ProjectQuery>,
    pub settings: watch::Receiver<Arc<PollingSettings>>,
    pub view: watch::Sender<ProjectView>,
}

/// Polls the operations of one project, and owns the gate and the health of the project.
pub(super) struct ProjectTask<F> {
    pub name: Arc<str>,
    pub services: Arc<PollingServices<F>>,
    pub channels: TaskChannels,
    pub settings: Arc<PollingSettings>,
    /// The zero of steady time. It moves forward by the time in which the process was suspended.
    pub start: Instant,
    /// The zero of steady time by the wall clock that deadlines follow.
    pub wall_start: Timestamp,
    /// The time at which the task runs. The clocks are read once for all that is handled in a row.
    moment: Moment,
    /// When the task had to run again at the latest.
    planned: Duration,
    pub watches: Watches,
    pub groups: Groups,
    /// The operations that need attention.
    pub concerns: Concerns,
    /// The number of completed groups that are being recorded.
    pub recording_groups: usize,
    pub kinds: OperationKinds,
    pub gate: Gate<Requester>,
    pub health: ProjectHealth,
    pub requests: Requests,
    /// Commits and loads in progress.
    pub jobs: JoinSet<JobResult>,
    /// Whether a change of the project is being recorded. Later messages wait in `deferred`.
    pub is_recording: bool,
    pub deferred: VecDeque<Deferred>,
    /// The watches whose 403 waits for the answer of another watch.
    pub forbidden: Vec<WatchNumber>,
    pub reconciliation: Reconciliation,
    pub checkpoints: Checkpoints,
    pub changes: Option<ChangeLog>,
    pub key_checks: KeyChecks,
    /// `None` without rules, and until what was recorded is loaded.
    pub discovery: Option<ProjectDiscovery>,
    /// The number of the first request, if discovery starts again.
    pub first_discovery_request: RequestNumber,
    /// Whether readers have to be woken.
    pub is_view_changed: bool,
    pub has_reported_failing: bool,
    /// When polls were late last.
    pub last_late_poll: Option<Duration>,
    /// How long polls have been late.
    pub saturation: Saturation,
}

/// The reason why the task runs.
enum Wakeup {
    Request(EndedRequest),
    Job(Result<JobResult, JoinError>),
    Desired(DesiredChange),
    ProjectQuery(ProjectQuery),
    Settings,
    Alarm,
}

impl<F: Fetch> ProjectTask<F> {
    /// Runs the project until `cancel`.
    pub async fn run(
        name: Arc<str>,
        services: Arc<PollingServices<F>>,
        channels: TaskChannels,
        cancel: CancellationToken,
    ) {
        let starting = Self::load(name, services, channels);
        let Some(mut task) = cancel.run_until_cancelled(starting).await else {
            return;
        };
        let mut alarm = std::pin::pin!(sleep_until(task.start));
        task.read_clocks();
        loop {
            task.planned = task.process_pending();
            let deadline = task.start + task.planned;
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            let woken = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                ended = task.requests.next() => Wakeup::Request(ended),
                Some(joined) = task.jobs.join_next(), if !task.jobs.is_empty() => Wakeup::Job(joined),
                Some(change) = task.channels.desired.recv() => Wakeup::Desired(change),
                Some(question) = task.channels.questions.recv() => Wakeup::ProjectQuery(question),
                Ok(()) = task.channels.settings.changed() => Wakeup::Settings,
                () = &mut alarm => Wakeup::Alarm,
            };
            task.read_clocks();
            task.skip_suspended_time();
            match woken {
                Wakeup::Request(ended) => task.request_ended(ended),
                Wakeup::Job(joined) => task.job_ended(joined),
                Wakeup::Desired(change) => task.change(change),
                Wakeup::ProjectQuery(question) => task.answer_question(question),
                Wakeup::Settings => task.apply_settings(),
                Wakeup::Alarm => {}
            }
        }
        task.read_clocks();
        task.stop().await;
    }

    /// Reads the project's state, and retries until that succeeds.
    async fn load(name: Arc<str>, services: Arc<PollingServices<F>>, mut channels: TaskChannels) -> Self {
        let store = services.recorder.store();
        let mut has_failed = false;
        let ProjectRecord {
            health,
            groups,
            entries,
        } = loop {
            match load_state(store, &name).await {
                Ok(loaded) => break loaded,
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::error!(
                            project = &*name,
                            error = chain(&error),
                            "state of the project cannot be read; its operations are not polled; retrying"
                        );
                    }
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        };
        let mut kinds = OperationKinds::default();
        match store.recently_unlisted(HISTORY).await {
            Ok(left) => left
                .iter()
                .rev()
                .for_each(|watch| watch.add_to_history(&mut kinds)),
            Err(error) => tracing::debug!(
                project = &*name,
                error = chain(&error),
                "history of finished operations cannot be read; polls are scheduled without it"
            ),
        }
        let settings = channels.settings.borrow_and_update().clone();
        let groups = Groups::new(Arc::clone(&settings.groups.by), settings.groups.settle, groups);
        let start = clock::instant();
        let wall_start = services.recorder.now();
        let mut task = Self {
            gate: Gate::new(settings.limits, health.restriction(), Duration::ZERO),
            name,
            services,
            channels,
            settings,
            start,
            wall_start,
            moment: Moment {
                wall: wall_start,
                steady: Duration::ZERO,
            },
            planned: Duration::ZERO,
            watches: Watches::default(),
            groups,
            concerns: Concerns::default(),
            recording_groups: 0,
            kinds,
            health,
            requests: Requests::default(),
            jobs: JoinSet::new(),
            is_recording: false,
            deferred: VecDeque::new(),
            forbidden: Vec::new(),
            reconciliation: Reconciliation::default(),
            checkpoints: Checkpoints::default(),
            changes: None,
            key_checks: KeyChecks::default(),
            discovery: None,
            first_discovery_request: 0,
            is_view_changed: true,
            has_reported_failing: false,
            last_late_poll: None,
            saturation: Saturation::default(),
        };
        task.start_groups().await;
        task.reconciliation.added_total = entries.len();
        for entry in entries {
            task.set(entry.key.operation, entry.source, entry.terms);
        }
        task.apply_discovery_rules();
        task.reset_concerns();
        task.publish();
        task
    }

    /// Removes suspended time from steady time, so that it makes no poll late and stalls nothing.
    fn skip_suspended_time(&mut self) {
        let late = self.now().saturating_sub(self.planned);
        if late > SUSPENSION {
            tracing::info!(
                project = &*self.name,
                seconds = late.as_secs_f64(),
                "the process was suspended; this time does not count"
            );
            self.start += late;
            self.read_clocks();
        }
    }

    /// Handles pending messages and alarms, and starts what is due. Returns when to run again at the latest.
    fn process_pending(&mut self) -> Duration {
        self.follow_wall_clock();
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
        // Answers may never run out. They must not delay other messages.
        if let Ok(change) = self.channels.desired.try_recv() {
            self.change(change);
        }
        if let Ok(question) = self.channels.questions.try_recv() {
            self.answer_question(question);
        }
        if self.channels.settings.has_changed().unwrap_or(false) {
            self.apply_settings();
        }
        self.read_clocks();
        let now = self.now();
        for _ in 0..ALARMS {
            let Some(number) = self.watches.pop_alarm(now) else {
                break;
            };
            self.alarm(number, now);
        }
        let discovery = self.discover(now);
        let gate = self.admit(now);
        let load = self.load_listed(now);
        self.depart();
        let groups = self.complete_groups(now);
        let checkpoint = self.checkpoint(now);
        let failures = self.drop_old_failures(now);
        let delays = self.publish_delays(now);
        self.publish();
        [
            self.watches.next_alarm(),
            gate,
            load,
            groups,
            discovery,
            failures,
            delays,
        ]
        .into_iter()
        .flatten()
        .fold(checkpoint, Duration::min)
    }

    /// Applies new settings.
    fn apply_settings(&mut self) {
        let settings = self.channels.settings.borrow_and_update().clone();
        let now = self.now();
        self.gate.set_limits(settings.limits, now);
        let key_version = |settings: &PollingSettings| settings.projects.get(&self.name).copied();
        if key_version(&settings) > key_version(&self.settings) {
            self.health.replace_key(self.moment());
            self.gate.set_restriction(self.health.restriction(), now);
        }
        self.settings = settings;
        self.apply_group_settings();
        self.apply_discovery_rules();
        self.is_view_changed = true;
    }

    /// The context of a decision about the project.
    pub(super) fn context(&self) -> ProjectContext<'_> {
        let poll = &self.settings.poll;
        ProjectContext {
            name: &self.name,
            schedule: &poll.schedule,
            unreachable_after: poll.watch.unreachable_after,
            max_retry_after: poll.max_retry_after,
            watches: self.watches.polled(),
            now: self.moment(),
        }
    }

    fn read_clocks(&mut self) {
        self.moment = Moment {
            wall: self.services.recorder.now(),
            steady: clock::instant().saturating_duration_since(self.start),
        };
    }

    /// The current time on both clocks.
    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// The steady time.
    pub(super) fn now(&self) -> Duration {
        self.moment.steady
    }
}

/// The recorded state of a project.
struct ProjectRecord {
    health: ProjectHealth,
    /// The groups that completed a round.
    groups: BTreeMap<GroupId, GroupRecord>,
    /// What the HTTP API and discovery ask for.
    entries: Vec<SourceEntry>,
}

async fn load_state(store: &Store, name: &Arc<str>) -> Result<ProjectRecord, StoreReadError> {
    let health = store.load_project(name).await?.unwrap_or_default();
    let groups = store.load_groups(Arc::clone(name)).await?;
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = store.load_source_entries(Arc::clone(name), after).await?;
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(ProjectRecord {
        health,
        groups: groups.into_iter().collect(),
        entries,
    })
}
