//! `/api/webhooks`: the state and backlog of each webhook endpoint.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::HttpService;
use super::problem::{Problem, json};
use crate::core::event::millis;
use crate::report::webhook::EndpointState;
use crate::store::EndpointStats;

#[derive(Serialize)]
struct EndpointList {
    endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointView {
    name: String,
    /// Absent for an endpoint that was removed from the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Waiting deliveries.
    backlog: u64,
    /// Deliveries that became dead letters.
    dead_letters: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_pending_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error_time: Option<String>,
}

impl EndpointView {
    fn new(stats: EndpointStats, state: Option<EndpointState>) -> Self {
        Self {
            state: state.map(EndpointState::as_str),
            name: stats.name.to_string(),
            backlog: stats.backlog,
            dead_letters: stats.dead_letters,
            oldest_pending_time: stats.oldest_pending.map(millis),
            last_success_time: stats.last_success.map(millis),
            last_error: stats.last_error,
            last_error_time: stats.last_error_time.map(millis),
        }
    }
}

pub(super) async fn list(State(service): State<Arc<HttpService>>) -> Result<Response, Problem> {
    let stats = service.data.store.endpoint_stats().await;
    let mut endpoints: Vec<EndpointView> = stats
        .map_err(|error| Problem::unreadable(&error))?
        .into_iter()
        .map(|stats| {
            let state = service.data.metrics.endpoint_state(&stats.name);
            EndpointView::new(stats, state)
        })
        .collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(json(&EndpointList { endpoints }))
}
