//! The core of the daemon: polls, records and delivers. The API, watch list, sender and store are arguments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::webhooks::{ReadSecrets, WebhookSecrets, Webhooks};
use super::{join, limits, retention};
use crate::ampersand::Fetch;
use crate::board::Board;
use crate::config::{SecretError, Settings};
use crate::polling::{PollingServices, PollingSettings, Supervisor};
use crate::random::RandomSource;
use crate::record::{EventReporter, Recorder};
use crate::report::metrics::Metrics;
use crate::report::webhook::Deliver;
use crate::sources::api::ApiChange;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::Store;

/// The parts of a daemon.
pub struct DaemonParts<F> {
    /// Sends requests to the API.
    pub fetch: F,
    /// The runtime of the pollers.
    pub polling: Handle,
    /// Sends events to webhook receivers.
    pub sender: Arc<dyn Deliver>,
    /// The store, whose clock dates everything.
    pub store: Store,
    /// The watch list.
    pub list: watch::Receiver<Arc<WatchListSnapshot>>,
    /// What is asked for over HTTP.
    pub api: mpsc::Receiver<ApiChange>,
    /// The read model.
    pub board: Arc<Board>,
    /// The metrics.
    pub metrics: Metrics,
    /// Called with every recorded event.
    pub reporters: Vec<EventReporter>,
    /// The source of random numbers.
    pub random: RandomSource,
}

/// Polls the desired watches, records events and delivers them.
pub struct Daemon<F> {
    services: Arc<PollingServices<F>>,
    polling: watch::Sender<Arc<PollingSettings>>,
    retention: watch::Sender<Duration>,
    list: watch::Receiver<Arc<WatchListSnapshot>>,
    /// Taken by the supervisor.
    api: Option<mpsc::Receiver<ApiChange>>,
    store: Store,
    webhooks: Webhooks,
    cancel: CancellationToken,
    running: JoinSet<()>,
}

impl<F: Fetch> Daemon<F> {
    /// A daemon that does not poll yet. Deliveries that wait are sent.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn new(
        parts: DaemonParts<F>,
        settings: &Settings,
        secrets: WebhookSecrets,
    ) -> anyhow::Result<Self> {
        let store = parts.store;
        let webhooks = Webhooks::new(store.clone(), parts.sender, parts.random.clone());
        let services = Arc::new(PollingServices {
            fetch: parts.fetch,
            recorder: Recorder::new(store.clone(), parts.reporters),
            board: parts.board,
            random: parts.random,
            metrics: parts.metrics,
            polling: parts.polling,
            background: Handle::current(),
        });
        let mut daemon = Self {
            services,
            polling: watch::Sender::new(Arc::new(polling_settings(settings, &BTreeMap::new()))),
            retention: watch::Sender::new(settings.retention),
            list: parts.list,
            api: Some(parts.api),
            store,
            webhooks,
            cancel: CancellationToken::new(),
            running: JoinSet::new(),
        };
        daemon.apply_webhooks(settings, secrets).await?;
        Ok(daemon)
    }

    /// Starts polling.
    pub fn start(&mut self) {
        if let Some(api) = self.api.take() {
            let supervisor = Supervisor::new(
                Arc::clone(&self.services),
                self.list.clone(),
                api,
                self.polling.subscribe(),
            );
            self.running.spawn(supervisor.run(self.cancel.clone()));
        }
        self.running.spawn(retention::prune(
            self.store.clone(),
            self.retention.subscribe(),
            self.cancel.clone(),
        ));
    }

    /// Applies new settings.
    ///
    /// # Errors
    /// When the state cannot be read or written; then nothing is applied.
    pub async fn apply(&mut self, settings: &Settings, secrets: WebhookSecrets) -> anyhow::Result<()> {
        self.apply_webhooks(settings, secrets).await?;
        self.polling
            .send_modify(|polling| *polling = Arc::new(polling_settings(settings, &polling.projects)));
        self.retention.send_replace(settings.retention);
        Ok(())
    }

    /// Stops in order: polling first, then deliveries. With `deliver`, waits that long for the backlog.
    pub async fn stop(&mut self, deliver: Option<Duration>) {
        self.cancel.cancel();
        join(&mut self.running).await;
        if let Some(timeout) = deliver {
            self.webhooks.wait_until_delivered(timeout).await;
        }
        self.webhooks.stop().await;
    }

    /// Applies new webhook secrets. Returns the webhooks that keep earlier ones, because theirs cannot be read.
    pub(super) fn set_secrets(&self, secrets: ReadSecrets) -> Vec<(Arc<str>, SecretError)> {
        self.webhooks.set_secrets(secrets)
    }

    /// Notes that these projects have a new API key.
    pub fn keys_replaced(&self, projects: &[Arc<str>]) {
        if projects.is_empty() {
            return;
        }
        self.polling.send_modify(|polling| {
            let polling = Arc::make_mut(polling);
            for name in projects {
                tracing::info!(project = &**name, "the API key was replaced");
                if let Some(version) = polling.projects.get_mut(name) {
                    *version += 1;
                }
            }
        });
    }

    /// The API client.
    #[must_use]
    pub fn fetch(&self) -> &F {
        &self.services.fetch
    }

    /// Waits until the list was applied and all its watches are finished.
    pub fn finished(&self) -> impl Future<Output = ()> + use<F> {
        let board = Arc::clone(&self.services.board);
        let (mut list, mut polling) = (self.list.clone(), self.polling.subscribe());
        async move {
            let mut changed = board.changed();
            loop {
                changed.borrow_and_update();
                let snapshot = list.borrow_and_update().clone();
                let projects: Vec<_> = polling.borrow_and_update().projects.keys().cloned().collect();
                if snapshot.list.is_some() && board.is_finished(snapshot.generation, &projects) {
                    return;
                }
                tokio::select! {
                    Ok(()) = changed.changed() => {}
                    Ok(()) = list.changed() => {}
                    Ok(()) = polling.changed() => {}
                    // All senders are dropped, which happens only at a stop.
                    else => std::future::pending().await,
                }
            }
        }
    }

    /// The read model.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.services.board
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts, changes and stops endpoints to match the settings.
    async fn apply_webhooks(&mut self, settings: &Settings, secrets: WebhookSecrets) -> anyhow::Result<()> {
        let applied = self
            .webhooks
            .apply(&settings.webhooks, secrets, settings.shutdown_timeout)
            .await;
        applied.context("cannot record the webhooks in the state")?;
        self.services.metrics.set_endpoints(self.webhooks.stats());
        Ok(())
    }
}

fn polling_settings(settings: &Settings, key_versions: &BTreeMap<Arc<str>, u64>) -> PollingSettings {
    let projects = settings.ampersand.projects.iter().map(|project| {
        let version = key_versions.get(&project.name).copied().unwrap_or(0);
        (Arc::clone(&project.name), version)
    });
    PollingSettings {
        poll: settings.poll.clone(),
        limits: limits(&settings.ampersand),
        projects: projects.collect(),
        discovery: settings.discovery.clone(),
        groups: settings.groups.clone(),
        retention: settings.retention,
    }
}
