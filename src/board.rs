//! The read model of the status page, the HTTP API, `status`, the metrics and the probes.
//!
//! Each project task publishes a [`ProjectView`] and answers queries about its watches in pages. Watches are copied only for
//! an answer.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::core::attention::ProjectAttention;
use crate::core::discovery::DiscoveryFailure;
use crate::core::event::{MissingObject, OperationData};
use crate::core::gate::RequestLimits;
use crate::core::group_state::{GroupCounts, GroupProgress, GroupState};
use crate::core::key_verdict::KeyVerdict;
use crate::core::phase::{Phase, PhaseCounts};
use crate::core::project_health::OutageReason;
use crate::core::search_text::SearchText;
use crate::core::source::Demand;
use crate::core::watch::Watch;
use crate::core::watch_list::{Labels, WatchKey};

/// The most watches of one page, and the most that are examined for one.
pub const PAGE: usize = 1_000;

/// The published state of a project.
#[derive(Debug, Clone)]
pub struct ProjectView {
    /// Its name.
    pub name: Arc<str>,
    /// The generation of the list that was applied last.
    pub generation: Option<u64>,
    /// Its watches by phase.
    pub phases: PhaseCounts,
    /// Its groups by state.
    pub groups: GroupCounts,
    /// How often removals from the watch list were not recorded.
    pub failed_removals: u64,
    /// The state of the API.
    pub api: ApiView,
    /// Discovery. `None` without rules.
    pub discovery: Option<DiscoveryView>,
    /// The gate.
    pub gate: GateView,
    /// Whether polls start and end in time.
    pub poll_times: PollTimes,
    /// What needs attention, besides an outage and rejected credentials.
    pub attention: ProjectAttention,
}

/// The state of the API, as the requests of one project observed it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiView {
    /// The start of the reported outage, if one lasts.
    pub unreachable: Option<Timestamp>,
    /// Why, as far as it is known.
    pub outage: Option<OutageReason>,
    /// When the credentials were rejected, if they still are.
    pub rejected: Option<Timestamp>,
    /// Why, as far as it is known.
    pub rejection: Option<Arc<str>>,
    /// When a request was last answered, including with an error status.
    pub last_answer: Option<Timestamp>,
    /// The failed polls since the last answer, if any.
    pub failing: Option<FailedPolls>,
    /// The pause that the API requested, if one lasts.
    pub pause: Option<ApiPause>,
    /// Why the last unsuccessful poll failed.
    pub last_failure: Option<Arc<str>>,
}

impl ApiView {
    /// Whether any request was answered, including with an error status.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        self.last_answer.is_some()
    }
}

/// Failed polls in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedPolls {
    /// When the first of them failed.
    pub since: Instant,
    /// Their number.
    pub polls: u32,
}

/// A pause that the API requested. It lasts until the API answers otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiPause {
    /// When it ends, or has ended.
    pub until: Instant,
    /// The reason that the API gave.
    pub reason: Arc<str>,
}

/// The discovery of a project.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryView {
    /// Known installations.
    pub installations: usize,
    /// Their objects that have a backfill and match a rule.
    pub objects: usize,
    /// When the installations were last listed.
    pub last_success: Option<Timestamp>,
    /// What cannot be read, after three failures in a row.
    pub failure: Option<DiscoveryFailure>,
    /// How long one pass through all objects takes, if that is too long.
    pub longest_pass: Option<Duration>,
    /// Rules that match no installation although there are some, by position in the project.
    pub unmatched_rules: Vec<usize>,
    /// Whether every object was asked for at least once, and everything that was found is recorded.
    pub has_completed_pass: bool,
}

/// The gate of a project.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateView {
    /// The current limits.
    pub limits: RequestLimits,
    /// Queued requests.
    pub waiting: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// How long the last admitted request had waited, without pauses.
    pub last_wait: Duration,
}

/// The times that show whether polls start and end in time. They are updated with each message of the project task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollTimes {
    /// When the next poll is due, of those that neither wait at the gate nor are in flight.
    pub next_due: Option<Instant>,
    /// The start of the oldest request in flight.
    pub oldest_request: Option<Instant>,
}

impl ProjectView {
    /// A project that has not published anything yet.
    #[must_use]
    pub fn new(name: Arc<str>, limits: RequestLimits) -> Self {
        Self {
            name,
            generation: None,
            phases: PhaseCounts::default(),
            groups: GroupCounts::default(),
            failed_removals: 0,
            api: ApiView::default(),
            discovery: None,
            gate: GateView {
                limits,
                waiting: 0,
                in_flight: 0,
                last_wait: Duration::ZERO,
            },
            poll_times: PollTimes::default(),
            attention: ProjectAttention::default(),
        }
    }
}

/// A copy of one watch.
#[derive(Debug, Clone)]
pub struct WatchView {
    /// Project and operation ID.
    pub key: WatchKey,
    /// What its sources ask for.
    pub demand: Demand,
    /// The watch.
    pub watch: Watch,
}

impl WatchView {
    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.demand.terms().labels
    }

    /// Its data as of `now`.
    #[must_use]
    pub fn data(&self, now: Timestamp) -> OperationData {
        let deadline = self.demand.terms().deadline;
        OperationData {
            deadline: deadline
                .and_then(|deadline| self.watch.deadline_time(&self.key.operation, deadline, now)),
            ..self.watch.data(&self.key, self.labels(), now)
        }
    }
}

/// A copy of what is known of one group.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// Its project.
    pub project: Arc<str>,
    /// The label that groups are formed by.
    pub label: Arc<str>,
    /// Its value.
    pub group: String,
    /// Whether it is complete, and how its last round ended.
    pub state: GroupState,
    /// The number of the current round, or of the last one if it is complete; 0 before the first.
    pub round: u32,
    /// All its watches by phase.
    pub phases: PhaseCounts,
    /// The watches of that round together. `None` if there are too many watches.
    pub progress: Option<GroupProgress>,
    /// Objects for which an operation is awaited.
    pub awaited: Vec<MissingObject>,
    /// Objects for which no operation was found in time.
    pub missing: Vec<MissingObject>,
}

/// A filter for groups.
#[derive(Debug, Clone, Default)]
pub struct GroupFilter {
    /// Only groups in one of these states. Empty for any.
    pub states: Vec<GroupState>,
    /// Only groups with this text in their name. `None` for any.
    pub text: Option<SearchText>,
}

impl GroupFilter {
    /// Whether a group matches.
    #[must_use]
    pub fn matches(&self, name: &str, state: GroupState) -> bool {
        (self.states.is_empty() || self.states.contains(&state))
            && self.text.as_ref().is_none_or(|text| text.is_in(&[name]))
    }
}

/// The project and the name of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKey {
    /// The project.
    pub project: Arc<str>,
    /// The value of the label that groups are formed by.
    pub group: Arc<str>,
}

/// A filter for watches.
#[derive(Debug, Clone, Default)]
pub struct WatchFilter {
    /// Only watches in one of these phases. Empty for any.
    pub phases: Vec<Phase>,
    /// Only watches with all these labels. `None` for any value.
    pub labels: Vec<(String, Option<String>)>,
    /// Only watches of one of these groups. Empty for any.
    pub groups: Vec<String>,
    /// Only watches with this text in their ID, project, labels, objects, installation or integration.
    pub text: Option<SearchText>,
}

/// What a filter reads of a watch.
#[derive(Debug)]
pub struct FilteredWatch<'a> {
    /// Its project.
    pub project: &'a str,
    /// Its operation ID.
    pub operation: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// The watch.
    pub watch: &'a Watch,
}

impl FilteredWatch<'_> {
    fn has_text(&self, text: &SearchText) -> bool {
        let mut labels = self.labels.iter();
        let mut objects = self.watch.objects().iter();
        text.is_in(&[self.operation])
            || text.is_in(&[self.project])
            || labels.any(|(key, value)| text.is_in(&[key, "=", value]))
            || objects.any(|object| text.is_in(&[object]))
            || self.watch.installation().is_some_and(|id| text.is_in(&[id]))
            || self.watch.integration().is_some_and(|id| text.is_in(&[id]))
    }
}

impl WatchFilter {
    /// Whether a watch matches. The label `by` has its group.
    #[must_use]
    pub fn matches(&self, filtered: &FilteredWatch<'_>, by: &str) -> bool {
        let FilteredWatch { labels, watch, .. } = filtered;
        let is_in_group = || {
            let mut labels = labels.iter();
            labels.any(|(key, value)| key == by && self.groups.contains(value))
        };
        (self.phases.is_empty() || self.phases.contains(&watch.phase()))
            && self.labels.iter().all(|(key, value)| {
                let mut labels = labels.iter();
                labels.any(|(of, has)| of == key && value.as_ref().is_none_or(|value| value == has))
            })
            && (self.groups.is_empty() || is_in_group())
            && self.text.as_ref().is_none_or(|text| filtered.has_text(text))
    }
}

/// A query that a project task answers.
#[derive(Debug)]
pub enum ProjectQuery {
    /// Requests a page of watches, in the order of their operation IDs.
    Page {
        /// Only watches with a higher operation ID.
        after: Option<Arc<str>>,
        /// Only watches that match.
        filter: Arc<WatchFilter>,
        /// The most watches, up to [`PAGE`].
        limit: usize,
        /// The channel for the answer.
        reply: oneshot::Sender<Page<WatchView>>,
    },
    /// Requests a page of groups, in the order of their names.
    Groups {
        /// Only groups with a higher name.
        after: Option<Arc<str>>,
        /// Only groups that match.
        filter: Arc<GroupFilter>,
        /// The most groups, up to [`PAGE`].
        limit: usize,
        /// The channel for the answer.
        reply: oneshot::Sender<Page<GroupView>>,
    },
    /// Requests one watch.
    One {
        /// Its operation ID.
        operation: Arc<str>,
        /// The channel for the answer.
        reply: oneshot::Sender<Option<WatchView>>,
    },
    /// Starts to collect changes.
    StartChanges {
        /// The channel for the confirmation.
        reply: oneshot::Sender<()>,
    },
    /// Requests the changes since the last such query.
    Changes {
        /// The most watches. The rest follows in the next answer.
        limit: usize,
        /// The channel for the answer.
        reply: oneshot::Sender<WatchChanges>,
    },
    /// Stops to collect changes.
    StopChanges,
    /// Checks whether the API accepts the project's key. The request passes the gate.
    Key {
        /// The channel for the answer.
        reply: oneshot::Sender<KeyVerdict>,
    },
}

/// A page of watches or groups.
#[derive(Debug)]
pub struct Page<T> {
    /// The watches or groups.
    pub items: Vec<T>,
    /// The operation ID or the group after which the next page starts. `None` at the end.
    pub next: Option<Arc<str>>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// The changes since the last query.
#[derive(Debug, Default)]
pub struct WatchChanges {
    /// Watches that are new or have changed, in the order of their first change.
    pub changed: Vec<WatchView>,
    /// Watches that were removed.
    pub removed: Vec<WatchKey>,
}

/// A project task does not answer, because it is being restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the watches of project {project} cannot be read now; try again in some seconds")]
pub struct ProjectUnavailable {
    /// The project.
    pub project: Arc<str>,
}

/// The channels to read a project task.
#[derive(Debug, Clone)]
pub struct ProjectHandle {
    /// Its published state.
    pub view: watch::Receiver<ProjectView>,
    /// Its queue of queries.
    pub questions: mpsc::Sender<ProjectQuery>,
}

/// All projects.
#[derive(Debug)]
pub struct Board {
    /// Never locked across an await.
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
    /// Adds a project, or replaces its channels.
    pub fn attach(&self, name: Arc<str>, port: ProjectHandle) {
        self.write().insert(name, port);
        self.announce();
    }

    /// Removes a project.
    pub fn detach(&self, name: &str) {
        self.write().remove(name);
        self.announce();
    }

    /// Wakes the readers after a change other than of poll times and gate.
    pub fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Changes when a project was added, removed or changed, except for poll times and gate.
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

    /// All groups by state.
    #[must_use]
    pub fn group_counts(&self) -> GroupCounts {
        self.read().values().map(|port| port.view.borrow().groups).sum()
    }

    /// Whether these projects have applied the list of that generation, discovery asked for every object once, all watches
    /// are finished, and all groups are complete.
    #[must_use]
    pub fn is_finished(&self, generation: u64, projects: &[Arc<str>]) -> bool {
        let ports = self.read();
        projects.iter().all(|name| {
            ports.get(name).is_some_and(|port| {
                let view = port.view.borrow();
                view.generation == Some(generation)
                    && view.phases.total() == view.phases.finished()
                    && view.groups.of(GroupState::Running) == 0
                    && view
                        .discovery
                        .as_ref()
                        .is_none_or(|discovery| discovery.has_completed_pass)
            })
        })
    }

    /// How often removals from the watch list were not recorded.
    #[must_use]
    pub fn failed_removals(&self) -> u64 {
        self.read()
            .values()
            .map(|port| port.view.borrow().failed_removals)
            .sum()
    }

    /// A page of watches in the order of project and operation ID, and the key after which the next page starts.
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
        let after = after.map(|key| (&key.project, &key.operation));
        let query = |after, limit, reply| ProjectQuery::Page {
            after,
            filter: Arc::clone(filter),
            limit,
            reply,
        };
        let (found, has_more) = self.items(after, projects, limit, query).await?;
        let next = found.last().filter(|_| has_more).map(|view| view.key.clone());
        Ok((found, next))
    }

    /// A page of groups in the order of project and name, and the group after which the next page starts.
    ///
    /// # Errors
    /// When a project task does not answer.
    pub async fn groups(
        &self,
        after: Option<&GroupKey>,
        projects: &[String],
        filter: &Arc<GroupFilter>,
        limit: usize,
    ) -> Result<(Vec<GroupView>, Option<GroupKey>), ProjectUnavailable> {
        let after = after.map(|key| (&key.project, &key.group));
        let query = |after, limit, reply| ProjectQuery::Groups {
            after,
            filter: Arc::clone(filter),
            limit,
            reply,
        };
        let (found, has_more) = self.items(after, projects, limit, query).await?;
        let next = found.last().filter(|_| has_more).map(|view| GroupKey {
            project: Arc::clone(&view.project),
            group: Arc::from(&*view.group),
        });
        Ok((found, next))
    }

    /// Items of these projects after a project and a name in it, at most `limit`, and whether more follow.
    async fn items<T>(
        &self,
        after: Option<(&Arc<str>, &Arc<str>)>,
        projects: &[String],
        limit: usize,
        query: impl Fn(Option<Arc<str>>, usize, oneshot::Sender<Page<T>>) -> ProjectQuery,
    ) -> Result<(Vec<T>, bool), ProjectUnavailable> {
        let mut found = Vec::new();
        for (project, port) in self.ports(projects) {
            let mut after = match after {
                Some((of, _)) if **of > *project => continue,
                Some((of, name)) if *of == project => Some(Arc::clone(name)),
                _ => None,
            };
            loop {
                let left = limit + 1 - found.len();
                let page = port.ask(&project, |reply| query(after.take(), left, reply));
                let page = page.await?;
                found.extend(page.items);
                if found.len() > limit {
                    found.truncate(limit);
                    return Ok((found, true));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok((found, false))
    }

    /// Every watch that matches, read page by page.
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

    /// The watches with this operation ID, in one project or in all.
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

    /// Starts to collect changes.
    pub async fn start_changes(&self) {
        for (name, port) in self.ports(&[]) {
            // A project that is being restarted starts with the first query for changes.
            let _ = port
                .ask(&name, |reply| ProjectQuery::StartChanges { reply })
                .await;
        }
    }

    /// The changes since the last call: at most `limit` watches of each project. The next call returns the rest. There is
    /// one reader of changes.
    pub async fn changes(&self, limit: usize) -> WatchChanges {
        let mut all = WatchChanges::default();
        for (name, port) in self.ports(&[]) {
            // A project that is being restarted answers the next call.
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

    /// Stops to collect changes.
    pub fn stop_changes(&self) {
        for (_, port) in self.ports(&[]) {
            // With a full queue, the next call stops it.
            let _ = port.questions.try_send(ProjectQuery::StopChanges);
        }
    }

    /// Checks whether the API accepts the key of a project.
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
