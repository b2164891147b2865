//! The scripted webhook receivers.

use std::sync::Arc;
use std::time::Duration;

use backfill_watch::core::delivery::AttemptOutcome;
use backfill_watch::report::webhook::{AttemptFuture, Deliver, DeliveryAttempt, WebhookMessage};
use secrecy::SecretSlice;
use url::Url;

use crate::scenario::{ENDPOINTS, ReceiverFault, seconds};
use crate::world::World;

/// What the daemon's events are sent to.
#[derive(Debug)]
pub struct Receivers(pub Arc<World>);

/// An attempt under way, until it is answered or dropped.
struct Underway<'a> {
    world: &'a World,
    endpoint: usize,
    id: &'a str,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.world.attempt_ends(self.endpoint, self.id);
    }
}

fn answered(status: u16, retry_after: Option<Duration>) -> AttemptOutcome {
    AttemptOutcome::Answered { status, retry_after }
}

impl Deliver for Receivers {
    fn attempt<'a>(
        &'a self,
        url: &'a Url,
        _: &'a [SecretSlice<u8>],
        message: WebhookMessage,
    ) -> AttemptFuture<'a> {
        Box::pin(async move {
            let world = &*self.0;
            world.alive().await;
            let host = url.host_str().unwrap_or_default();
            let endpoint = ENDPOINTS.iter().position(|name| host.starts_with(name)).unwrap();
            world.attempt_begins(endpoint, &message);
            let underway = Underway {
                world,
                endpoint,
                id: &message.id,
            };
            let (manner, latency) = world.receiver_draws(endpoint, &message.id);
            let latency = match manner {
                Some(ReceiverFault::TimesOut) => seconds(15),
                _ => latency,
            };
            tokio::time::sleep(latency).await;
            world.alive().await;
            let has_it = matches!(
                manner,
                None | Some(ReceiverFault::LostAnswer | ReceiverFault::Slow)
            );
            if has_it && world.receipt(endpoint, &message.id) {
                world.crash("after a receipt").await;
            }
            let outcome = match manner {
                None | Some(ReceiverFault::Slow) => answered(204, None),
                Some(ReceiverFault::Status(status)) => answered(status, None),
                Some(ReceiverFault::Busy(wait)) => answered(429, Some(seconds(wait))),
                Some(ReceiverFault::TimesOut) => AttemptOutcome::TimedOut,
                Some(ReceiverFault::NoAnswer | ReceiverFault::LostAnswer) => AttemptOutcome::NoAnswer,
            };
            world.attempt_outcome(endpoint, &message.id, outcome);
            drop(underway);
            let error = match outcome {
                AttemptOutcome::Answered { status: 204, .. } => String::new(),
                other => format!("{other:?}"),
            };
            DeliveryAttempt { outcome, error }
        })
    }
}
