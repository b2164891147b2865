//! Signed callbacks: what is recorded for an endpoint is sent to it, in order, until it says that it has it.
//!
//! Each endpoint has a task of its own, so that a slow or dead one delays nobody else. The task reads what is due from
//! the store, a page at a time, and writes down what became of it; what is not written down is sent again. When and
//! how often is decided in [`core::delivery`](crate::core::delivery).

mod address;
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

/// How an endpoint's events get to its receiver: over HTTP, or in tests by a script.
pub trait Deliver: fmt::Debug + Send + Sync {
    /// Makes one attempt, signed with all of `secrets`. Dropping it breaks it off: the receiver may have the event.
    fn attempt<'a>(
        &'a self,
        url: &'a Url,
        secrets: &'a [SecretSlice<u8>],
        message: WebhookMessage,
    ) -> AttemptFuture<'a>;
}

/// One attempt under way.
pub type AttemptFuture<'a> = Pin<Box<dyn Future<Output = DeliveryAttempt> + Send + 'a>>;

/// What may change about an endpoint while it runs.
#[derive(Clone)]
pub struct EndpointSettings {
    /// Where events are sent to. It may hold a secret, and is never told.
    pub url: Url,
    /// The secrets that sign, newest first. Without any nothing is sent.
    pub secrets: Vec<SecretSlice<u8>>,
    /// How many attempts are under way at once at most.
    pub max_in_flight: NonZeroUsize,
    /// How long attempts under way may go on after the end was asked for.
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

/// One endpoint, ready to run.
#[derive(Debug)]
pub struct WebhookEndpoint {
    /// What it is known by.
    pub name: Arc<str>,
    /// Where its deliveries are recorded.
    pub store: Store,
    /// What sends them.
    pub sender: Arc<dyn Deliver>,
    /// What spreads its waits.
    pub random: RandomSource,
    /// Its settings. Each value sent counts as a reload, which gives a disabled endpoint its chance.
    pub settings: watch::Receiver<EndpointSettings>,
    /// Where its outcomes are counted.
    pub stats: Arc<DeliveryStats>,
}

/// How an endpoint's task ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct EndpointStopped {
    /// Attempts that were cut short. Their events are sent again after the next start.
    pub cut_short: usize,
    /// Outcomes that could not be written down. Their events are sent again, though some were received.
    pub unsettled: usize,
}

impl WebhookEndpoint {
    /// Sends what is due until `cancel`, or until the store closes.
    pub async fn run(self, cancel: CancellationToken) -> EndpointStopped {
        OutboxWorker::new(self).run(cancel).await
    }
}
