//! The JSON of a single operation: with the events that webhooks have not received.

use std::time::Duration;

use axum::response::Response;
use serde::Serialize;

use super::HttpService;
use super::operation_view::OperationView;
use super::problem::json;
use crate::board::WatchView;
use crate::core::event::millis;
use crate::error::chain;
use crate::store::{DeliveryState, OperationDelivery};

/// The most deliveries of one response.
const MAX_DELIVERIES: usize = 1_000;
/// How long the state may take to read them. The operation is answered without them.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct SingleOperation {
    #[serde(flatten)]
    operation: OperationView,
    /// Absent if the state cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<DeliveryView>>,
}

/// An event that an endpoint has not received.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryView {
    endpoint: String,
    /// Whether the endpoint was removed from the settings.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    endpoint_removed: bool,
    event: String,
    r#type: &'static str,
    sequence: u64,
    state: &'static str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl DeliveryView {
    fn new(delivery: OperationDelivery) -> Self {
        let (state, next_attempt) = match delivery.state {
            DeliveryState::Waiting { next_attempt } => ("waiting", next_attempt),
            DeliveryState::DeadLetter => ("dead_letter", None),
        };
        Self {
            endpoint: delivery.endpoint,
            endpoint_removed: delivery.is_endpoint_removed,
            event: delivery.event_id,
            r#type: delivery.event_type.as_str(),
            sequence: delivery.sequence,
            state,
            attempts: delivery.attempts,
            next_attempt_time: next_attempt.map(millis),
            last_attempt_time: delivery.last_attempt.map(millis),
            last_error: delivery.last_error,
        }
    }
}

/// The response for a single operation.
pub(super) async fn respond(service: &HttpService, view: &WatchView) -> Response {
    let undelivered = service.data.store.undelivered(&view.key, MAX_DELIVERIES);
    let deliveries = match tokio::time::timeout(STORE_TIMEOUT, undelivered).await {
        Ok(Ok(deliveries)) => Some(deliveries.into_iter().map(DeliveryView::new).collect()),
        Ok(Err(error)) => {
            tracing::debug!(id = %view.key, error = chain(&error), "deliveries of an operation cannot be read");
            None
        }
        Err(_) => {
            tracing::debug!(id = %view.key, "deliveries of an operation cannot be read in time");
            None
        }
    };
    json(&SingleOperation {
        operation: OperationView::of(view),
        deliveries,
    })
}
