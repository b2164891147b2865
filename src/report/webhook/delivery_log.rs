//! What the log says of deliveries. The URL and what is sent are never told.

use std::error::Error;

use tracing::{debug, error, info, warn};

use super::outbox_worker::AttemptInFlight;
use super::send::DeliveryAttempt;
use crate::core::delivery::{DeliveryDecision, EndpointChange};
use crate::error::chain;

/// One attempt, at debug; a dead letter at error.
pub(super) fn attempt(
    endpoint: &str,
    underway: &AttemptInFlight,
    attempt: &DeliveryAttempt,
    verdict: DeliveryDecision,
) {
    let event = underway.event_type.as_str();
    let event_id = &underway.event_id;
    // A subject is the project and, if it is about one, the operation; no operation ID has a slash.
    let (project, operation_id) = underway
        .subject
        .rsplit_once('/')
        .unwrap_or((&underway.subject, ""));
    let number = underway.attempts.saturating_add(1);
    match verdict {
        DeliveryDecision::Delivered => {
            debug!(
                endpoint,
                event,
                event_id,
                project,
                operation_id,
                attempt = number,
                "webhook event delivered"
            );
        }
        DeliveryDecision::Retry { after, counts } => {
            debug!(
                endpoint,
                event,
                event_id,
                project,
                operation_id,
                attempt = number,
                counts,
                error = attempt.error.as_str(),
                retry_seconds = after.as_secs(),
                "webhook event not delivered, it will be sent again"
            );
        }
        DeliveryDecision::Dead => {
            error!(
                endpoint,
                event,
                event_id,
                project,
                operation_id,
                attempt = number,
                error = attempt.error.as_str(),
                "webhook event given up and kept as a dead letter; to send it again: \
                 backfill-watch replay --event {event_id} --endpoint {endpoint}"
            );
        }
    }
}

/// A change in how the endpoint does.
pub(super) fn news(endpoint: &str, news: EndpointChange, reason: &str) {
    match news {
        EndpointChange::Failing => {
            warn!(
                endpoint,
                error = reason,
                "webhook endpoint fails; its events wait and are sent again"
            );
        }
        EndpointChange::Disabled => {
            warn!(
                endpoint,
                error = reason,
                "webhook endpoint wants no more events, so that none is sent until a reload; its events wait"
            );
        }
        EndpointChange::Recovered => info!(endpoint, "webhook endpoint accepts events again"),
    }
}

/// There is nothing to sign with.
pub(super) fn no_secret(endpoint: &str) {
    error!(
        endpoint,
        "webhook endpoint has no secret, so that nothing is sent to it; write one into its secret file"
    );
}

/// The outbox cannot be read, or refuses an outcome.
pub(super) fn store_error(endpoint: &str, error: &dyn Error) {
    error!(
        endpoint,
        error = chain(error),
        "webhook deliveries wait, because their records cannot be read or written; see to the state directory"
    );
}
