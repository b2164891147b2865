//! The webhook endpoints that run: started, changed and stopped as the settings say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::Webhook;
use crate::core::event::EventType;
use crate::error::chain;
use crate::report::webhook::{DeliveryStats, Endpoint, EndpointSettings, Sender, Stopped, TimeLimits};
use crate::store::{self, CommitError, Store};

/// How often to look whether everything was delivered, while that is waited for.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Every configured endpoint, each with its task.
pub(super) struct Webhooks {
    store: Store,
    sender: Sender,
    cancel: CancellationToken,
    running: HashMap<Arc<str>, Running>,
    tasks: JoinSet<(Arc<str>, Stopped)>,
}

struct Running {
    configured: Webhook,
    settings: watch::Sender<EndpointSettings>,
    cancel: CancellationToken,
    stats: Arc<DeliveryStats>,
}

impl Webhooks {
    /// No endpoint yet.
    pub(super) async fn new(store: Store) -> anyhow::Result<Self> {
        let sender = task::spawn_blocking(|| Sender::new(TimeLimits::default())).await??;
        Ok(Self {
            store,
            sender,
            cancel: CancellationToken::new(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        })
    }

    /// Makes the endpoints be those of the settings. Each that stays counts as reloaded.
    pub(super) async fn apply(
        &mut self,
        webhooks: &[Webhook],
        shutdown_timeout: Duration,
    ) -> Result<(), CommitError> {
        let endpoints = webhooks.iter().map(|webhook| store::Endpoint {
            name: Arc::clone(&webhook.name),
            events: EventType::ALL
                .iter()
                .copied()
                .filter(|event| webhook.events.matches(*event))
                .collect(),
            max_backlog: webhook.max_backlog.get() as u64,
        });
        self.store
            .sync_endpoints(endpoints.collect(), clock::wall())
            .await?;
        self.running.retain(|name, running| {
            let stays = webhooks.iter().any(|webhook| webhook.name == *name);
            if !stays {
                running.cancel.cancel();
            }
            stays
        });
        for webhook in webhooks {
            let secrets = read_secrets(webhook).await;
            match self.running.get_mut(&webhook.name) {
                Some(running) => {
                    let secrets = secrets.unwrap_or_else(|| running.settings.borrow().secrets.clone());
                    running.configured = webhook.clone();
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

    /// Looks whether secrets were rotated.
    pub(super) async fn refresh_secrets(&self) {
        for running in self.running.values() {
            let Some(secrets) = read_secrets(&running.configured).await else {
                continue;
            };
            if !same(&running.settings.borrow().secrets, &secrets) {
                tracing::info!(
                    endpoint = &*running.configured.name,
                    "new webhook secrets are in place"
                );
                running
                    .settings
                    .send_modify(|settings| settings.secrets = secrets);
            }
        }
    }

    /// What each endpoint's outcomes are counted in.
    pub(super) fn stats(&self) -> HashMap<Arc<str>, Arc<DeliveryStats>> {
        self.running
            .iter()
            .map(|(name, running)| (Arc::clone(name), Arc::clone(&running.stats)))
            .collect()
    }

    /// Waits until nothing is left to deliver, but no longer than `timeout`.
    pub(super) async fn drain(&self, timeout: Duration) {
        let deadline = clock::instant() + timeout;
        while self.backlog().await.iter().any(|(_, waiting)| *waiting > 0) && clock::instant() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Ends all attempts, those under way within the time that the settings give them, and names what is left.
    pub(super) async fn stop(&mut self) {
        self.cancel.cancel();
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok((
                    endpoint,
                    Stopped {
                        cut_short: 0,
                        unsettled: 0,
                    },
                )) => {
                    tracing::debug!(endpoint = &*endpoint, "endpoint stopped");
                }
                Ok((endpoint, Stopped { cut_short, unsettled })) => tracing::warn!(
                    endpoint = &*endpoint,
                    cut_short,
                    unsettled,
                    "deliveries were cut short; they are sent again after the next start"
                ),
                Err(error) => {
                    tracing::error!(%error, "an endpoint's task ended badly: this is a bug, please report it");
                }
            }
        }
        for (endpoint, waiting) in self.backlog().await {
            if waiting > 0 {
                tracing::warn!(
                    endpoint = &*endpoint,
                    waiting,
                    "events wait on disk to be delivered after the next start"
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
                tracing::debug!(error = chain(&error), "the backlog could not be read");
                Vec::new()
            }
        }
    }

    fn start(&mut self, webhook: &Webhook, settings: EndpointSettings) {
        let name = Arc::clone(&webhook.name);
        let (settings, receiver) = watch::channel(settings);
        let stats = Arc::<DeliveryStats>::default();
        let endpoint = Endpoint {
            name: Arc::clone(&name),
            store: self.store.clone(),
            sender: self.sender.clone(),
            settings: receiver,
            stats: Arc::clone(&stats),
        };
        let cancel = self.cancel.child_token();
        let running = Running {
            configured: webhook.clone(),
            settings,
            cancel: cancel.clone(),
            stats,
        };
        self.tasks.spawn({
            let name = Arc::clone(&name);
            async move { (name, endpoint.run(cancel).await) }
        });
        self.running.insert(name, running);
    }
}

fn endpoint_settings(
    webhook: &Webhook,
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

/// The secrets that stand there now; `None` while they cannot be read, and then those before stay.
async fn read_secrets(webhook: &Webhook) -> Option<Vec<SecretSlice<u8>>> {
    let source = webhook.secret.clone();
    match task::spawn_blocking(move || source.read_webhook_secrets())
        .await
        .ok()?
    {
        Ok(secrets) => Some(
            secrets
                .iter()
                .map(|secret| SecretSlice::from(secret.expose().to_vec()))
                .collect(),
        ),
        Err(error) => {
            tracing::debug!(
                endpoint = &*webhook.name,
                error = chain(&error),
                "the webhook secrets cannot be read"
            );
            None
        }
    }
}

fn same(before: &[SecretSlice<u8>], after: &[SecretSlice<u8>]) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(before, after)| before.expose_secret() == after.expose_secret())
}
