//! Keeps one runner for each configured project, and hands all of them the list that is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::runner::{Desired, Runner};
use super::{PollingServices, PollingSettings};
use crate::ampersand::Fetch;
use crate::error::chain;
use crate::watch_list::WatchListSnapshot;

/// How long to wait before what could not be recorded is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Starts and stops the projects.
pub struct Supervisor<F> {
    shared: Arc<PollingServices<F>>,
    list: watch::Receiver<Arc<WatchListSnapshot>>,
    settings: watch::Receiver<Arc<PollingSettings>>,
    desired: Desired,
    projects: BTreeMap<Arc<str>, Running>,
    runners: JoinSet<Arc<str>>,
    /// Whether the store knows which watches are not listed any more.
    is_reconciled: bool,
    /// The departures that could not be recorded so far.
    unrecorded_departures: u64,
}

/// A project that runs. It has channels of its own, since those who wait on one channel are woken in random order.
struct Running {
    desired: watch::Sender<Desired>,
    settings: watch::Sender<Arc<PollingSettings>>,
    cancel: CancellationToken,
}

impl<F: Fetch> Supervisor<F> {
    /// A supervisor that polls nothing yet.
    #[must_use]
    pub fn new(
        shared: Arc<PollingServices<F>>,
        list: watch::Receiver<Arc<WatchListSnapshot>>,
        settings: watch::Receiver<Arc<PollingSettings>>,
    ) -> Self {
        Self {
            shared,
            list,
            settings,
            desired: None,
            projects: BTreeMap::new(),
            runners: JoinSet::new(),
            is_reconciled: false,
            unrecorded_departures: 0,
        }
    }

    /// Supervises until `cancel`, then stops all projects.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changed = self.shared.board.changed();
        loop {
            self.start_and_stop();
            if !self.hand_list(&cancel).await {
                break;
            }
            let must_retry = !self.is_reconciled && self.desired.is_some();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(joined) = self.runners.join_next(), if !self.runners.is_empty() => self.ended(joined),
                // The sender is gone only at a stop.
                Ok(()) = self.list.changed() => {}
                Ok(()) = self.settings.changed() => {}
                Ok(()) = changed.changed() => self.notice_departures(),
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

    /// Makes the projects be those of the settings.
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

    /// Starts one project. What it watches it takes from the store and from the list.
    fn start(&mut self, name: &Arc<str>, settings: &Arc<PollingSettings>) {
        let project = Running {
            desired: watch::Sender::new(self.desired.clone()),
            settings: watch::Sender::new(Arc::clone(settings)),
            cancel: CancellationToken::new(),
        };
        let runner = Runner {
            name: Arc::clone(name),
            shared: Arc::clone(&self.shared),
            desired: project.desired.subscribe(),
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

    /// A project has stopped. If it was configured again meanwhile, the next round starts it.
    fn ended(&mut self, joined: Result<Arc<str>, tokio::task::JoinError>) {
        match joined {
            Ok(name) => {
                self.projects.remove(&name);
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "the runner of a project failed: this is a bug, please report it"
                );
            }
        }
    }

    /// Hands the list to the projects. False when cancelled meanwhile.
    async fn hand_list(&mut self, cancel: &CancellationToken) -> bool {
        let snapshot = self.list.borrow_and_update().clone();
        let Some(list) = snapshot.list.clone() else {
            return true;
        };
        if !self.is_reconciled {
            // Before the list is handed on: what it adds is recorded as listed after that.
            let listed = list.entries.iter().map(|entry| entry.key.clone()).collect();
            let store = self.shared.recorder.store();
            let reconciling = store.reconcile_listed(listed, store.now());
            match cancel.run_until_cancelled(reconciling).await {
                None => return false,
                Some(Ok(())) => self.is_reconciled = true,
                Some(Err(error)) => tracing::debug!(
                    error = chain(&error),
                    "what is listed could not be recorded; trying again"
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

    /// What left the list and could not be recorded as such is reconciled.
    fn notice_departures(&mut self) {
        let unrecorded = self.shared.board.unrecorded_departures();
        if unrecorded != self.unrecorded_departures {
            self.unrecorded_departures = unrecorded;
            self.is_reconciled = false;
        }
    }
}
