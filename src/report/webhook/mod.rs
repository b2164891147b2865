//! Sends recorded events to webhook endpoints, signed and in order, until the receiver accepts them.
//!
//! Each endpoint has its own task, so a slow or dead one delays no other. The task reads due deliveries from the store
//! and records each outcome. Without a recorded outcome the event is sent again. [`core::delivery`](crate::core::delivery)
//! decides when and how often.

mod address;
mod attempt_in_flight;
mod delivery_log;
mod outbox_worker;
mod secrets;
mod send;
mod signature;
mod stats;

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::outbox_worker::OutboxWorker;
pub use self::send::{DeliveryAttempt, TimeLimits, WebhookMessage, WebhookSender, WebhookSenderError};
pub use self::stats::{DELAY_BOUNDS, DeliveryDelays, DeliveryOutcome, DeliveryStats, EndpointState};
use crate::core::delivery::EndpointTarget;
use crate::random::RandomSource;
use crate::store::Store;

/// Sends events: over HTTP, or by a script in tests.
pub trait Deliver: fmt::Debug + Send + Sync {
    /// Makes one attempt, signed with all `secrets`. If it is dropped, the receiver may still have the event.
    fn attempt<'a>(
        &'a self,
        url: &'a Url,
        secrets: &'a [SecretSlice<u8>],
        message: WebhookMessage,
    ) -> AttemptFuture<'a>;
}

/// A running attempt.
pub type AttemptFuture<'a> = Pin<Box<dyn Future<Output = DeliveryAttempt> + Send + 'a>>;

/// The settings of an endpoint that may change while it runs.
#[derive(Clone)]
pub struct EndpointSettings {
    /// Where events are sent. It may contain a secret and is never logged.
    pub url: Url,
    /// The signing secrets, newest first. Without secrets nothing is sent.
    pub secrets: Vec<SecretSlice<u8>>,
    /// The most attempts at a time.
    pub max_in_flight: NonZeroUsize,
    /// How long attempts in flight may continue after a stop.
    pub shutdown_timeout: Duration,
}

impl fmt::Debug for EndpointSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSettings")
            .field(
                "url",
                &format_args!("{}/…", self.url.origin().ascii_serialization()),
            )
            .field("secrets", &self.secrets.len())
            .field("max_in_flight", &self.max_in_flight)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .finish()
    }
}

/// Whether these are the same secrets in the same order.
#[must_use]
pub fn secrets_equal(before: &[SecretSlice<u8>], after: &[SecretSlice<u8>]) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(before, after)| before.expose_secret().ct_eq(after.expose_secret()).into())
}

impl EndpointSettings {
    fn target_after(&self, before: &Self) -> EndpointTarget {
        if self.url == before.url && secrets_equal(&self.secrets, &before.secrets) {
            EndpointTarget::Unchanged
        } else {
            EndpointTarget::Changed
        }
    }
}

/// An endpoint that can run.
#[derive(Debug)]
pub struct WebhookEndpoint {
    /// Its name in the settings.
    pub name: Arc<str>,
    /// The store of its deliveries.
    pub store: Store,
    /// Sends its events.
    pub sender: Arc<dyn Deliver>,
    /// Adds jitter to its waits.
    pub random: RandomSource,
    /// Its settings. Each new value counts as a reload, which enables a disabled endpoint.
    pub settings: watch::Receiver<EndpointSettings>,
    /// Its counters.
    pub stats: Arc<DeliveryStats>,
}

/// What was left when an endpoint stopped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct EndpointStopped {
    /// Attempts that were interrupted. Their events are sent again after the next start.
    pub cut_short: usize,
    /// Outcomes that were not recorded. Their events are sent again, although some were received.
    pub unsettled: usize,
}

impl WebhookEndpoint {
    /// Sends due events until `cancel` or until the store closes.
    pub async fn run(self, cancel: CancellationToken) -> EndpointStopped {
        OutboxWorker::new(self).run(cancel).await
    }
}
