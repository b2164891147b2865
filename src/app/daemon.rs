//! What the daemon does: polls what is listed, records, delivers. Without what is around it, which comes in as
//! arguments: where answers and lists come from, what sends and what stores.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::webhooks::{Secrets, Webhooks};
use super::{join, limits, upkeep};
use crate::ampersand::Fetch;
use crate::board::Board;
use crate::chance::Chance;
use crate::config::{Poll, Settings};
use crate::core::kind::Kinds;
use crate::poller::Shared;
use crate::project::{Project, Projects};
use crate::record::{Recorder, Reporter};
use crate::report::metrics::Metrics;
use crate::report::webhook::Deliver;
use crate::store::Store;
use crate::supervisor::{Standing, Supervisor};
use crate::watch_list::Snapshot;

/// What a daemon is made of.
pub struct Parts<F> {
    /// How answers are got.
    pub fetch: F,
    /// The runtime that the pollers are on.
    pub polling: Handle,
    /// What sends events to their receivers.
    pub sender: Arc<dyn Deliver>,
    /// What survives; also the clock that everything is dated by.
    pub store: Store,
    /// What is to be watched.
    pub list: watch::Receiver<Arc<Snapshot>>,
    /// Where every watch stands, for others to see.
    pub board: Arc<Board>,
    /// What is measured.
    pub metrics: Metrics,
    /// What events are told to, besides the endpoints.
    pub reporters: Vec<Reporter>,
    /// Where chance comes from.
    pub chance: Chance,
}

/// Polls what is listed, records, delivers.
pub struct Daemon<F> {
    shared: Arc<Shared<F>>,
    projects: Arc<Projects>,
    poll: watch::Sender<Arc<Poll>>,
    retention: watch::Sender<Duration>,
    board: Arc<Board>,
    store: Store,
    recorder: Recorder,
    webhooks: Webhooks,
    supervisor: Option<Supervisor<F>>,
    standing: watch::Receiver<Standing>,
    cancel: CancellationToken,
    running: JoinSet<()>,
}

impl<F: Fetch> Daemon<F> {
    /// A daemon that polls nothing yet. Its endpoints are sent what waits for them.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn new(parts: Parts<F>, settings: &Settings, secrets: Secrets) -> anyhow::Result<Self> {
        let store = parts.store;
        let recorder = Recorder::new(store.clone(), parts.reporters);
        let (poll, poll_receiver) = watch::channel(Arc::new(settings.poll.clone()));
        let projects = Arc::<Projects>::default();
        let webhooks = Webhooks::new(store.clone(), parts.sender, parts.chance.clone());
        let shared = Arc::new(Shared {
            fetch: parts.fetch,
            recorder: recorder.clone(),
            poll: poll_receiver,
            chance: parts.chance,
            metrics: parts.metrics,
            kinds: Kinds::default(),
        });
        let (supervisor, standing) = Supervisor::new(
            Arc::clone(&shared),
            store.clone(),
            Arc::clone(&projects),
            Arc::clone(&parts.board),
            parts.list,
            &parts.polling,
        );
        let mut daemon = Self {
            shared,
            projects,
            poll,
            retention: watch::Sender::new(settings.retention),
            board: parts.board,
            store,
            recorder,
            webhooks,
            supervisor: Some(supervisor),
            standing,
            cancel: CancellationToken::new(),
            running: JoinSet::new(),
        };
        daemon.add_projects(settings).await?;
        daemon.apply_webhooks(settings, secrets).await?;
        Ok(daemon)
    }

    /// Polls from now on.
    pub fn start(&mut self) {
        let Some(supervisor) = self.supervisor.take() else {
            return;
        };
        self.running.spawn(supervisor.run(self.cancel.clone()));
        self.running.spawn(upkeep::checkpoints(
            self.store.clone(),
            Arc::clone(&self.board),
            self.cancel.clone(),
        ));
        self.running.spawn(upkeep::prune(
            self.store.clone(),
            self.retention.subscribe(),
            self.cancel.clone(),
        ));
    }

    /// Other settings hold from now on.
    ///
    /// # Errors
    /// When the state cannot be read or written; then some of them may not hold.
    pub async fn apply(&mut self, settings: &Settings, secrets: Secrets) -> anyhow::Result<()> {
        self.poll.send_replace(Arc::new(settings.poll.clone()));
        self.retention.send_replace(settings.retention);
        self.add_projects(settings).await?;
        self.apply_webhooks(settings, secrets).await
    }

    /// Stops in order: first nothing new is decided, then what was decided is recorded and told; with `deliver`, what
    /// waits to be delivered is given that time first.
    pub async fn stop(&mut self, deliver: Option<Duration>) {
        self.cancel.cancel();
        join(&mut self.running).await;
        self.recorder.finish().await;
        if let Some(timeout) = deliver {
            self.webhooks.drain(timeout).await;
        }
        self.webhooks.stop().await;
        upkeep::checkpoint(&self.store, &self.board).await;
    }

    /// These webhook secrets are in place now.
    pub fn set_secrets(&self, secrets: Secrets) {
        self.webhooks.set_secrets(secrets);
    }

    /// These projects have a new API key in place.
    pub async fn keys_replaced(&self, projects: Vec<Arc<str>>) {
        for name in projects {
            tracing::info!(project = &*name, "a new API key is in place");
            if let Some(project) = self.projects.get(&name) {
                project.key_replaced().await;
            }
        }
    }

    /// How answers are got.
    #[must_use]
    pub fn fetch(&self) -> &F {
        &self.shared.fetch
    }

    /// How far the listed watches are.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Every watch as it stands.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// What survives.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a project of each that is configured and not there yet.
    async fn add_projects(&self, settings: &Settings) -> anyhow::Result<()> {
        let limits = limits(&settings.ampersand);
        for configured in &settings.ampersand.projects {
            if let Some(project) = self.projects.get(&configured.name) {
                project.gate().set_limits(limits);
                continue;
            }
            let state = self
                .store
                .load_project(&configured.name)
                .await
                .context("cannot read the state")?;
            let project = Project::new(
                Arc::clone(&configured.name),
                limits,
                state.unwrap_or_default(),
                self.poll.subscribe(),
                self.recorder.clone(),
                self.projects.bell(),
            );
            let (is_reachable, has_credentials) = project.health().await;
            self.shared
                .metrics
                .add_project(&configured.name, is_reachable, has_credentials);
            self.projects.insert(Arc::new(project));
        }
        Ok(())
    }

    /// Makes the endpoints be those of the settings.
    async fn apply_webhooks(&mut self, settings: &Settings, secrets: Secrets) -> anyhow::Result<()> {
        let applied = self
            .webhooks
            .apply(&settings.webhooks, secrets, settings.shutdown_timeout)
            .await;
        applied.context("the webhooks cannot be recorded in the state")?;
        self.shared.metrics.set_endpoints(self.webhooks.stats());
        Ok(())
    }
}
