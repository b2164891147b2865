//! The read model: what the page, the API, `status`, the metrics and the probes read.
//!
//! Each project task publishes a [`ProjectView`] and answers questions about its watches, in pages. No second copy of a
//! watch exists: what a page shows is copied when it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::core::gate::RequestLimits;
use crate::core::key_verdict::KeyVerdict;
use crate::core::phase::{Phase, PhaseCounts};
use crate::core::watch::Watch;
use crate::core::watch_list::{Labels, WatchKey};

/// The most watches of one page, and the most that are examined for one.
pub const PAGE: usize = 1_000;

/// A project as everything that shows it sees it.
#[derive(Debug, Clone)]
pub struct ProjectView {
    /// Its name.
    pub name: Arc<str>,
    /// The generation of the list that was applied last.
    pub generation: Option<u64>,
    /// Its watches by phase.
    pub phases: PhaseCounts,
    /// How often one of its pollers panicked.
    pub restarts: u64,
    /// How often the departure of removed watches could not be recorded.
    pub failed_removals: u64,
    /// The API as its requests see it.
    pub api: ApiView,
    /// The gate.
    pub gate: GateView,
    /// Whether polls start and end in time.
    pub poll_times: PollTimes,
}

/// The API as the requests of one project see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiView {
    /// The outage that was reported and has not ended.
    pub unreachable: Option<Timestamp>,
    /// The rejection of the credentials that was reported and has not ended.
    pub rejected: Option<Timestamp>,
    /// Whether any request was answered, if only that something is not found.
    pub was_answered: bool,
    /// The failed polls since the last answer.
    pub failing: Option<FailedPolls>,
    /// The pause that the API asked for.
    pub pause: Option<ApiPause>,
    /// What the last poll that did not succeed met.
    pub last_failure: Option<Arc<str>>,
}

/// Failed polls in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedPolls {
    /// When the first of them failed.
    pub since: Instant,
    /// How many there are.
    pub polls: u32,
}

/// A pause that the API asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiPause {
    /// When it ends.
    pub until: Instant,
    /// What the API said.
    pub reason: Arc<str>,
}

/// The gate of a project.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateView {
    /// The limits in force.
    pub limits: RequestLimits,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// How long the request that was let through last had waited, pauses aside.
    pub last_wait: Duration,
}

/// Whether polls start and end in time; written on every beat of the project task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollTimes {
    /// When the next poll is due that neither waits at the gate nor is in flight.
    pub next_due: Option<Instant>,
    /// Since when the oldest request is in flight.
    pub oldest_request: Option<Instant>,
}

impl ProjectView {
    /// A project of which nothing is known yet.
    #[must_use]
    pub fn new(name: Arc<str>, limits: RequestLimits) -> Self {
        Self {
            name,
            generation: None,
            phases: PhaseCounts::default(),
            restarts: 0,
            failed_removals: 0,
            api: ApiView::default(),
            gate: GateView {
                limits,
                waiting: 0,
                in_flight: 0,
                last_wait: Duration::ZERO,
            },
            poll_times: PollTimes::default(),
        }
    }
}

/// A copy of one watch.
#[derive(Debug, Clone)]
pub struct WatchView {
    /// Project and operation ID.
    pub key: WatchKey,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// The watch.
    pub watch: Watch,
}

/// Which watches are wanted.
#[derive(Debug, Clone, Default)]
pub struct WatchFilter {
    /// In one of these phases; none means any.
    pub phases: Vec<Phase>,
    /// With each of these labels; without a value, any value.
    pub labels: Vec<(String, Option<String>)>,
}

impl WatchFilter {
    /// Whether a watch is wanted.
    #[must_use]
    pub fn matches(&self, watch: &Watch, labels: &Labels) -> bool {
        (self.phases.is_empty() || self.phases.contains(&watch.phase()))
            && self.labels.iter().all(|(key, value)| {
                let mut labels = labels.iter();
                labels.any(|(of, has)| of == key && value.as_ref().is_none_or(|value| value == has))
            })
    }
}

/// A question that a project task answers.
#[derive(Debug)]
pub enum ProjectQuery {
    /// For watches in the order of their IDs.
    Page {
        /// Only those with a higher ID.
        after: Option<Arc<str>>,
        /// Which of them.
        filter: Arc<WatchFilter>,
        /// At most this many, and at most [`PAGE`].
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<WatchPage>,
    },
    /// For one watch.
    One {
        /// Its operation ID.
        operation: Arc<str>,
        /// Where the answer goes.
        reply: oneshot::Sender<Option<WatchView>>,
    },
    /// To note changes from now on.
    StartChanges {
        /// Where that is confirmed.
        reply: oneshot::Sender<()>,
    },
    /// For what changed since this was asked last.
    Changes {
        /// At most this many; the rest follows when it is asked again.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<WatchChanges>,
    },
    /// Changes are not asked for any more.
    StopChanges,
    /// Whether the API accepts the project's key; a request that waits at the gate for its turn.
    Key {
        /// Where the answer goes.
        reply: oneshot::Sender<KeyVerdict>,
    },
}

/// A page of watches.
#[derive(Debug, Default)]
pub struct WatchPage {
    /// The watches.
    pub watches: Vec<WatchView>,
    /// After which ID to continue; `None` at the end.
    pub next: Option<Arc<str>>,
}

/// What became different.
#[derive(Debug, Default)]
pub struct WatchChanges {
    /// Watches that are new or have changed, those that changed the longest ago first.
    pub changed: Vec<WatchView>,
    /// Watches that are no longer there.
    pub removed: Vec<WatchKey>,
}

/// A project task does not answer: it is being restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the watches of project {project} cannot be read now; try again in some seconds")]
pub struct ProjectUnavailable {
    /// The project.
    pub project: Arc<str>,
}

/// How a project task is read.
#[derive(Debug, Clone)]
pub struct ProjectHandle {
    /// What it publishes.
    pub view: watch::Receiver<ProjectView>,
    /// What it answers.
    pub questions: mpsc::Sender<ProjectQuery>,
}

/// All projects.
#[derive(Debug)]
pub struct Board {
    /// Never held across an await.
    ports: RwLock<BTreeMap<Arc<str>, ProjectHandle>>,
    changed: watch::Sender<()>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            ports: RwLock::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Board {
    /// A project is read through `port` from now on.
    pub fn attach(&self, name: Arc<str>, port: ProjectHandle) {
        self.write().insert(name, port);
        self.announce();
    }

    /// A project is no longer there.
    pub fn detach(&self, name: &str) {
        self.write().remove(name);
        self.announce();
    }

    /// A view has changed by more than its pulse and its gate.
    pub fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Changes when a view changed by more than its pulse and its gate, or a project came or went.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Every project, by name.
    #[must_use]
    pub fn projects(&self) -> Vec<ProjectView> {
        self.read()
            .values()
            .map(|port| port.view.borrow().clone())
            .collect()
    }

    /// All watches by phase.
    #[must_use]
    pub fn phases(&self) -> PhaseCounts {
        self.read().values().map(|port| port.view.borrow().phases).sum()
    }

    /// Whether the list of that generation was applied in these projects and all its watches are finished.
    #[must_use]
    pub fn is_finished(&self, generation: u64, projects: &[Arc<str>]) -> bool {
        let ports = self.read();
        projects.iter().all(|name| {
            ports.get(name).is_some_and(|port| {
                let view = port.view.borrow();
                view.generation == Some(generation) && view.phases.total() == view.phases.finished()
            })
        })
    }

    /// How often the departure of removed watches could not be recorded.
    #[must_use]
    pub fn failed_removals(&self) -> u64 {
        self.read()
            .values()
            .map(|port| port.view.borrow().failed_removals)
            .sum()
    }

    /// A page of watches, in the order of project and operation ID, and where to continue.
    ///
    /// # Errors
    /// When a project task does not answer.
    pub async fn page(
        &self,
        after: Option<&WatchKey>,
        projects: &[String],
        filter: &Arc<WatchFilter>,
        limit: usize,
    ) -> Result<(Vec<WatchView>, Option<WatchKey>), ProjectUnavailable> {
        let mut found = Vec::new();
        for (project, port) in self.ports(projects) {
            let mut after = match after {
                Some(after) if *after.project > *project => continue,
                Some(after) if after.project == project => Some(Arc::clone(&after.operation)),
                _ => None,
            };
            loop {
                let page = port
                    .ask(&project, |reply| ProjectQuery::Page {
                        after: after.take(),
                        filter: Arc::clone(filter),
                        limit: limit + 1 - found.len(),
                        reply,
                    })
                    .await?;
                found.extend(page.watches);
                if found.len() > limit {
                    found.truncate(limit);
                    let next = found.last().map(|view| view.key.clone());
                    return Ok((found, next));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok((found, None))
    }

    /// Every watch that `filter` matches, page by page.
    ///
    /// # Errors
    /// When a project task does not answer.
    pub async fn all(&self, filter: WatchFilter) -> Result<Vec<WatchView>, ProjectUnavailable> {
        let mut all = Vec::new();
        let mut after: Option<WatchKey> = None;
        let filter = Arc::new(filter);
        loop {
            let (page, next) = self.page(after.as_ref(), &[], &filter, PAGE).await?;
            all.extend(page);
            if next.is_none() {
                return Ok(all);
            }
            after = next;
        }
    }

    /// The watches of that operation ID, of one project or of all.
    ///
    /// # Errors
    /// When a project task does not answer.
    pub async fn find(
        &self,
        operation: &str,
        project: Option<&str>,
    ) -> Result<Vec<WatchView>, ProjectUnavailable> {
        let mut found = Vec::new();
        for (name, port) in self.ports(&[]) {
            if project.is_none_or(|project| *project == *name) {
                let operation = Arc::from(operation);
                found.extend(
                    port.ask(&name, |reply| ProjectQuery::One { operation, reply })
                        .await?,
                );
            }
        }
        Ok(found)
    }

    /// Changes are noted from now on, if they were not before.
    pub async fn start_changes(&self) {
        for (name, port) in self.ports(&[]) {
            // A project that is being restarted notes them when it is asked for them.
            let _ = port
                .ask(&name, |reply| ProjectQuery::StartChanges { reply })
                .await;
        }
    }

    /// What changed since this was asked last, at most about `limit` watches of each project; the rest is there when asked
    /// again. There is one reader of changes.
    pub async fn changes(&self, limit: usize) -> WatchChanges {
        let mut all = WatchChanges::default();
        for (name, port) in self.ports(&[]) {
            // A project that is being restarted is read again by its next changes.
            if let Ok(changes) = port
                .ask(&name, |reply| ProjectQuery::Changes { limit, reply })
                .await
            {
                all.changed.extend(changes.changed);
                all.removed.extend(changes.removed);
            }
        }
        all
    }

    /// Changes are not read any more.
    pub fn stop_changes(&self) {
        for (_, port) in self.ports(&[]) {
            // With a full queue they stop at the next call.
            let _ = port.questions.try_send(ProjectQuery::StopChanges);
        }
    }

    /// Asks the API whether it accepts the key of that project.
    pub fn check_key(
        &self,
        project: &Arc<str>,
    ) -> impl Future<Output = Result<KeyVerdict, ProjectUnavailable>> + use<> {
        let (project, port) = (Arc::clone(project), self.read().get(project).cloned());
        async move {
            match port {
                Some(port) => port.ask(&project, |reply| ProjectQuery::Key { reply }).await,
                None => Err(ProjectUnavailable { project }),
            }
        }
    }

    fn ports(&self, projects: &[String]) -> Vec<(Arc<str>, ProjectHandle)> {
        let ports = self.read();
        let wanted = ports
            .iter()
            .filter(|(name, _)| projects.is_empty() || projects.iter().any(|project| **project == ***name));
        wanted
            .map(|(name, port)| (Arc::clone(name), port.clone()))
            .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Arc<str>, ProjectHandle>> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Arc<str>, ProjectHandle>> {
        self.ports.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProjectHandle {
    async fn ask<T>(
        &self,
        project: &Arc<str>,
        question: impl FnOnce(oneshot::Sender<T>) -> ProjectQuery,
    ) -> Result<T, ProjectUnavailable> {
        let unavailable = || ProjectUnavailable {
            project: Arc::clone(project),
        };
        let (reply, answer) = oneshot::channel();
        let asked = self.questions.send(question(reply)).await;
        asked.map_err(|_| unavailable())?;
        answer.await.map_err(|_| unavailable())
    }
}
