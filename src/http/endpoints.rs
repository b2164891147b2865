//! `/api/webhooks`: how the webhook endpoints fare.

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
    /// Whether it is sent what is due; not known of one that was taken out of the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Deliveries that wait.
    backlog: u64,
    /// Deliveries given up.
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

pub(super) async fn list(State(site): State<Arc<HttpService>>) -> Result<Response, Problem> {
    let stats = site.sources.store.endpoint_stats().await;
    let mut endpoints: Vec<EndpointView> = stats
        .map_err(|error| Problem::unreadable(&error))?
        .into_iter()
        .map(|stats| {
            let state = site.sources.metrics.endpoint_state(&stats.name);
            EndpointView::new(stats, state)
        })
        .collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(json(&EndpointList { endpoints }))
}
