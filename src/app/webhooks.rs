//! Runs the webhook endpoints: starts, changes and stops them to match the settings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretSlice;
use tokio::sync::{Mutex, watch};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{SecretError, WebhookSettings};
use crate::core::event::EventType;
use crate::error::chain;
use crate::random::RandomSource;
use crate::report::webhook::{
    Deliver, DeliveryStats, EndpointSettings, EndpointStopped, WebhookEndpoint, secrets_equal,
};
use crate::store::{self, CommitError, Store};

/// How often the backlog is checked while the stop waits for it.
const BACKLOG_CHECK: Duration = Duration::from_millis(50);

/// The secrets of each webhook by name, newest first. Webhooks whose secrets cannot be read are absent.
pub type WebhookSecrets = HashMap<Arc<str>, Vec<SecretSlice<u8>>>;

/// What reading the secrets of all webhooks found.
#[derive(Debug, Default)]
pub(super) struct ReadSecrets {
    /// Those that can be used.
    pub(super) read: WebhookSecrets,
    /// The webhooks whose secrets cannot be used.
    pub(super) unreadable: Vec<(Arc<str>, SecretError)>,
}

/// All configured endpoints, each with its own task.
pub(super) struct Webhooks {
    store: Store,
    sender: Arc<dyn Deliver>,
    random: RandomSource,
    cancel: CancellationToken,
    running: BTreeMap<Arc<str>, Running>,
    tasks: JoinSet<(Arc<str>, EndpointStopped)>,
    /// One lock per endpoint name. An endpoint that is added again starts when its previous task has ended, so that
    /// nothing is sent twice.
    locks: HashMap<Arc<str>, Arc<Mutex<()>>>,
}

struct Running {
    settings: watch::Sender<EndpointSettings>,
    cancel: CancellationToken,
    stats: Arc<DeliveryStats>,
}

impl Webhooks {
    /// No endpoints yet.
    pub(super) fn new(store: Store, sender: Arc<dyn Deliver>, random: RandomSource) -> Self {
        Self {
            store,
            sender,
            random,
            cancel: CancellationToken::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            locks: HashMap::new(),
        }
    }

    /// Matches the endpoints to the settings. Endpoints that stay count as reloaded; without readable secrets they keep
    /// their current ones.
    pub(super) async fn apply(
        &mut self,
        webhooks: &[WebhookSettings],
        mut secrets: WebhookSecrets,
        shutdown_timeout: Duration,
    ) -> Result<(), CommitError> {
        let endpoints = webhooks.iter().map(|webhook| store::OutboxEndpoint {
            name: Arc::clone(&webhook.name),
            events: EventType::ALL
                .iter()
                .copied()
                .filter(|event| webhook.events.matches(*event))
                .collect(),
            max_backlog: webhook.max_backlog.get() as u64,
        });
        self.store
            .sync_endpoints(endpoints.collect(), self.store.now())
            .await?;
        self.running.retain(|name, running| {
            let stays = webhooks.iter().any(|webhook| webhook.name == *name);
            if !stays {
                running.cancel.cancel();
            }
            stays
        });
        for webhook in webhooks {
            let secrets = secrets.remove(&webhook.name);
            match self.running.get_mut(&webhook.name) {
                Some(running) => {
                    let secrets = secrets.unwrap_or_else(|| running.settings.borrow().secrets.clone());
                    running
                        .settings
                        .send_replace(endpoint_settings(webhook, secrets, shutdown_timeout));
                }
                None => {
                    let settings = endpoint_settings(webhook, secrets.unwrap_or_default(), shutdown_timeout);
                    self.start(webhook, settings);
                }
            }
        }
        Ok(())
    }

    /// Applies new secrets. Returns the webhooks that keep earlier ones, because theirs cannot be read. One that never had
    /// a secret reports that by itself.
    pub(super) fn set_secrets(&self, found: ReadSecrets) -> Vec<(Arc<str>, SecretError)> {
        for (name, secrets) in found.read {
            let Some(running) = self.running.get(&name) else {
                continue;
            };
            if !secrets_equal(&running.settings.borrow().secrets, &secrets) {
                tracing::info!(endpoint = &*name, "the webhook secrets were replaced");
                running
                    .settings
                    .send_modify(|settings| settings.secrets = secrets);
            }
        }
        let mut kept = found.unreadable;
        kept.retain(|(name, _)| {
            let running = self.running.get(name);
            running.is_some_and(|running| !running.settings.borrow().secrets.is_empty())
        });
        kept
    }

    /// The counters of each endpoint.
    pub(super) fn stats(&self) -> HashMap<Arc<str>, Arc<DeliveryStats>> {
        self.running
            .iter()
            .map(|(name, running)| (Arc::clone(name), Arc::clone(&running.stats)))
            .collect()
    }

    /// Waits until the backlog is empty, at most `timeout`.
    pub(super) async fn wait_until_delivered(&self, timeout: Duration) {
        let deadline = clock::instant() + timeout;
        while self.backlog().await.iter().any(|(_, waiting)| *waiting > 0) && clock::instant() < deadline {
            tokio::time::sleep(BACKLOG_CHECK).await;
        }
    }

    /// Stops all endpoints; attempts in flight may end within `shutdown_timeout`. Logs what is left.
    pub(super) async fn stop(&mut self) {
        self.cancel.cancel();
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok((
                    endpoint,
                    EndpointStopped {
                        cut_short: 0,
                        unsettled: 0,
                    },
                )) => {
                    tracing::debug!(endpoint = &*endpoint, "endpoint stopped");
                }
                Ok((endpoint, EndpointStopped { cut_short, unsettled })) => tracing::warn!(
                    endpoint = &*endpoint,
                    cut_short,
                    unsettled,
                    "deliveries were interrupted; they are repeated after the next start"
                ),
                Err(error) => {
                    tracing::error!(
                        error = chain(&error),
                        "the task of an endpoint failed: this is a bug, please report it"
                    );
                }
            }
        }
        for (endpoint, waiting) in self.backlog().await {
            if waiting > 0 {
                tracing::warn!(
                    endpoint = &*endpoint,
                    waiting,
                    "undelivered events stay in the state; they are sent after the next start"
                );
            }
        }
    }

    async fn backlog(&self) -> Vec<(Arc<str>, u64)> {
        if self.running.is_empty() {
            return Vec::new();
        }
        match self.store.endpoint_stats().await {
            Ok(stats) => stats
                .into_iter()
                .map(|stats| (stats.name, stats.backlog))
                .collect(),
            Err(error) => {
                tracing::debug!(error = chain(&error), "cannot read the backlog");
                Vec::new()
            }
        }
    }

    fn start(&mut self, webhook: &WebhookSettings, settings: EndpointSettings) {
        let name = Arc::clone(&webhook.name);
        let (settings, receiver) = watch::channel(settings);
        let stats = Arc::<DeliveryStats>::default();
        let endpoint = WebhookEndpoint {
            name: Arc::clone(&name),
            store: self.store.clone(),
            sender: Arc::clone(&self.sender),
            random: self.random.clone(),
            settings: receiver,
            stats: Arc::clone(&stats),
        };
        let cancel = self.cancel.child_token();
        let running = Running {
            settings,
            cancel: cancel.clone(),
            stats,
        };
        self.locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        let lock = Arc::clone(self.locks.entry(Arc::clone(&name)).or_default());
        self.tasks.spawn({
            let name = Arc::clone(&name);
            async move {
                let stopped = match cancel.run_until_cancelled(lock.lock()).await {
                    Some(_lock) => endpoint.run(cancel.clone()).await,
                    None => EndpointStopped::default(),
                };
                (name, stopped)
            }
        });
        self.running.insert(name, running);
    }
}

fn endpoint_settings(
    webhook: &WebhookSettings,
    secrets: Vec<SecretSlice<u8>>,
    shutdown_timeout: Duration,
) -> EndpointSettings {
    EndpointSettings {
        url: webhook.url.clone(),
        secrets,
        max_in_flight: webhook.max_in_flight,
        shutdown_timeout,
    }
}

/// Reads the secrets of all webhooks.
pub(super) async fn read_secrets(webhooks: &[WebhookSettings]) -> ReadSecrets {
    let sources: Vec<_> = webhooks
        .iter()
        .map(|webhook| (Arc::clone(&webhook.name), webhook.secret.clone()))
        .collect();
    let reading = task::spawn_blocking(move || {
        let mut found = ReadSecrets::default();
        for (name, source) in sources {
            match source.read_webhook_secrets() {
                Ok(secrets) => {
                    let exposed = secrets.iter().map(|secret| secret.expose().to_vec());
                    found.read.insert(name, exposed.map(SecretSlice::from).collect());
                }
                Err(error) => found.unreadable.push((name, error)),
            }
        }
        found
    });
    reading.await.unwrap_or_default()
}
