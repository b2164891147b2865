//! Keeps one runner for each configured project, and gives it what the sources ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::messages::DesiredChange;
use super::runner::{DesiredList, Runner};
use super::{PollingServices, PollingSettings};
use crate::ampersand::Fetch;
use crate::core::source::Source;
use crate::error::chain;
use crate::sources::api::ApiChange;
use crate::sources::watch_list::WatchListSnapshot;

/// The pause before a failed write of the state is retried.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The changes over HTTP that may wait for one project. The client of each waits until it was applied.
const API_CHANGES: usize = 4;

/// Starts and stops the projects.
pub struct Supervisor<F> {
    services: Arc<PollingServices<F>>,
    list: watch::Receiver<Arc<WatchListSnapshot>>,
    api: mpsc::Receiver<ApiChange>,
    settings: watch::Receiver<Arc<PollingSettings>>,
    desired: DesiredList,
    projects: BTreeMap<Arc<str>, RunningProject>,
    runners: JoinSet<Arc<str>>,
    /// Whether the store knows which watches are listed.
    is_reconciled: bool,
    /// The removals that were not recorded so far.
    failed_removals: u64,
}

/// A running project. It has channels of its own, because the receivers of one channel are woken in random order.
struct RunningProject {
    desired: watch::Sender<DesiredList>,
    api: mpsc::Sender<DesiredChange>,
    settings: watch::Sender<Arc<PollingSettings>>,
    cancel: CancellationToken,
}

impl<F: Fetch> Supervisor<F> {
    /// A supervisor without projects. [`run`](Self::run) starts them.
    #[must_use]
    pub fn new(
        services: Arc<PollingServices<F>>,
        list: watch::Receiver<Arc<WatchListSnapshot>>,
        api: mpsc::Receiver<ApiChange>,
        settings: watch::Receiver<Arc<PollingSettings>>,
    ) -> Self {
        Self {
            services,
            list,
            api,
            settings,
            desired: None,
            projects: BTreeMap::new(),
            runners: JoinSet::new(),
            is_reconciled: false,
            failed_removals: 0,
        }
    }

    /// Runs the projects until `cancel`, then stops them.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changed = self.services.board.changed();
        loop {
            self.start_and_stop();
            if !self.distribute_list(&cancel).await {
                break;
            }
            let must_retry = !self.is_reconciled && self.desired.is_some();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(joined) = self.runners.join_next(), if !self.runners.is_empty() => self.ended(joined),
                // The senders are dropped only at a stop.
                Ok(()) = self.list.changed() => {}
                Ok(()) = self.settings.changed() => {}
                Some(change) = self.api.recv() => self.distribute_api_change(change, &cancel).await,
                Ok(()) = changed.changed() => self.check_failed_removals(),
                () = tokio::time::sleep(STORE_RETRY), if must_retry => {}
            }
        }
        for project in self.projects.values() {
            project.cancel.cancel();
        }
        while let Some(joined) = self.runners.join_next().await {
            self.ended(joined);
        }
    }

    /// Starts and stops projects until they match the settings.
    fn start_and_stop(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        for name in settings.projects.keys() {
            if !self.projects.contains_key(name) {
                self.start(name, &settings);
            }
        }
        for (name, project) in &self.projects {
            if settings.projects.contains_key(name) {
                project.settings.send_if_modified(|current| {
                    let is_new = !Arc::ptr_eq(current, &settings);
                    current.clone_from(&settings);
                    is_new
                });
            } else {
                project.cancel.cancel();
            }
        }
    }

    /// Starts one project.
    fn start(&mut self, name: &Arc<str>, settings: &Arc<PollingSettings>) {
        let (api, api_changes) = mpsc::channel(API_CHANGES);
        let project = RunningProject {
            desired: watch::Sender::new(self.desired.clone()),
            api,
            settings: watch::Sender::new(Arc::clone(settings)),
            cancel: CancellationToken::new(),
        };
        let runner = Runner {
            name: Arc::clone(name),
            services: Arc::clone(&self.services),
            desired: project.desired.subscribe(),
            api: api_changes,
            settings: project.settings.subscribe(),
            cancel: project.cancel.clone(),
        };
        self.projects.insert(Arc::clone(name), project);
        let name = Arc::clone(name);
        self.runners.spawn(async move {
            runner.run().await;
            name
        });
    }

    /// Handles the end of a runner. If its project is configured again by now, the next round starts it.
    fn ended(&mut self, joined: Result<Arc<str>, tokio::task::JoinError>) {
        match joined {
            Ok(name) => {
                self.projects.remove(&name);
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "project stopped unexpectedly; this is a bug, please report it"
                );
            }
        }
    }

    /// Gives the current list to the projects. Returns false when cancelled.
    async fn distribute_list(&mut self, cancel: &CancellationToken) -> bool {
        let snapshot = self.list.borrow_and_update().clone();
        let Some(list) = snapshot.list.clone() else {
            return true;
        };
        if !self.is_reconciled {
            // First, because the projects record new watches as listed.
            let listed = list.entries.iter().map(|entry| entry.key.clone()).collect();
            let store = self.services.recorder.store();
            let reconciling = store.reconcile_listed(listed, store.now());
            match cancel.run_until_cancelled(reconciling).await {
                None => return false,
                Some(Ok(())) => self.is_reconciled = true,
                Some(Err(error)) => tracing::debug!(
                    error = chain(&error),
                    "watch list not recorded in the state; retrying"
                ),
            }
        }
        let handed = self.desired.as_ref().map(|(generation, _)| *generation);
        if handed != Some(snapshot.generation) {
            self.desired = Some((snapshot.generation, list));
            for project in self.projects.values() {
                project.desired.send_replace(self.desired.clone());
            }
        }
        true
    }

    /// Gives each project its part of a change over HTTP. A project that is not running reads it from the state when it
    /// starts.
    async fn distribute_api_change(&self, change: ApiChange, cancel: &CancellationToken) {
        let ApiChange {
            set,
            withdrawn,
            applied,
        } = change;
        let mut parts: BTreeMap<Arc<str>, DesiredChange> = BTreeMap::new();
        let new_part = || DesiredChange {
            source: Source::Api,
            set: Vec::new(),
            withdrawn: Vec::new(),
            added_total: 0,
            generation: None,
            applied: Some(Arc::clone(&applied)),
        };
        for (key, terms) in set {
            let part = parts.entry(key.project).or_insert_with(new_part);
            part.added_total += 1;
            part.set.push((key.operation, terms));
        }
        for key in withdrawn {
            let part = parts.entry(key.project).or_insert_with(new_part);
            part.withdrawn.push(key.operation);
        }
        for (name, part) in parts {
            if let Some(project) = self.projects.get(&name) {
                // Fails only when the project stops.
                let _ = cancel.run_until_cancelled(project.api.send(part)).await;
            }
        }
    }

    /// Reconciles the list with the store again after a removal was not recorded.
    fn check_failed_removals(&mut self) {
        let unrecorded = self.services.board.failed_removals();
        if unrecorded != self.failed_removals {
            self.failed_removals = unrecorded;
            self.is_reconciled = false;
        }
    }
}
