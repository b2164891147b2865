//! Log lines about deliveries. They never contain the URL or the body.

use std::error::Error;

use tracing::{debug, error, info, warn};

use super::attempt_in_flight::AttemptInFlight;
use super::send::DeliveryAttempt;
use crate::core::delivery::{DeliveryDecision, EndpointChange};
use crate::core::text::one_line;
use crate::error::chain;

/// The longest label and value of a group in a line, in bytes.
const MAX_GROUP: usize = 300;

/// Logs an attempt: a dead letter as error, anything else as debug.
pub(super) fn attempt(
    endpoint: &str,
    in_flight: &AttemptInFlight,
    attempt: &DeliveryAttempt,
    decision: DeliveryDecision,
) {
    let event = in_flight.event_type.as_str();
    let event_id = &in_flight.event_id;
    // A subject is `PROJECT/`, `PROJECT/OPERATION` or `PROJECT//LABEL=VALUE`; project names have no slash.
    let (project, subject) = in_flight
        .subject
        .split_once('/')
        .unwrap_or((&in_flight.subject, ""));
    let group = subject.strip_prefix('/');
    let operation_id = if group.is_some() { "" } else { subject };
    let group = group.map(|group| one_line(group, MAX_GROUP));
    let number = in_flight.attempts.saturating_add(1);
    match decision {
        DeliveryDecision::Delivered => {
            debug!(
                endpoint,
                event,
                event_id,
                project,
                operation_id,
                group,
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
                group,
                attempt = number,
                counts,
                error = attempt.error.as_str(),
                retry_seconds = after.as_secs(),
                "webhook event not delivered; it will be sent again"
            );
        }
        DeliveryDecision::Dead => {
            error!(
                endpoint,
                event,
                event_id,
                project,
                operation_id,
                group,
                attempt = number,
                error = attempt.error.as_str(),
                "webhook event is now a dead letter; to send it again: \
                 backfill-watch replay --event {event_id} --endpoint {endpoint}"
            );
        }
    }
}

/// Logs a change of the endpoint's health.
pub(super) fn health_change(endpoint: &str, change: EndpointChange, reason: &str) {
    match change {
        EndpointChange::Failing => {
            warn!(
                endpoint,
                error = reason,
                "webhook endpoint fails; its events wait and are retried"
            );
        }
        EndpointChange::Disabled => {
            warn!(
                endpoint,
                error = reason,
                "webhook endpoint answered 410 Gone; sending stops until the next reload"
            );
        }
        EndpointChange::Recovered => info!(endpoint, "webhook endpoint accepts events again"),
    }
}

/// Logs that the endpoint has no secret.
pub(super) fn no_secret(endpoint: &str) {
    error!(
        endpoint,
        "webhook endpoint has no secret, so nothing is sent; write one into its secret file"
    );
}

/// Logs that the outbox cannot be read or written.
pub(super) fn store_error(endpoint: &str, error: &dyn Error) {
    error!(
        endpoint,
        error = chain(error),
        "webhook deliveries wait: cannot read or write their state; check state_dir"
    );
}
