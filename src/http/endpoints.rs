//! `/api/webhooks`: the state and backlog of each webhook endpoint.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::HttpService;
use super::params::NoParams;
use super::problem::{Problem, json};
use crate::core::event::millis;
use crate::report::webhook::EndpointState;
use crate::store::{EndpointStats, OldestDelivery};

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
    /// The waiting event that was recorded first.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<OldestView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error_time: Option<String>,
}

/// Without the members of the event while its row is damaged.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct OldestView {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    /// Absent for an event about a group or the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    recorded_time: String,
    attempts: u32,
    /// Absent when it is due at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_time: Option<String>,
}

impl From<OldestDelivery> for OldestView {
    fn from(delivery: OldestDelivery) -> Self {
        let mut view = Self {
            recorded_time: millis(delivery.recorded),
            attempts: delivery.attempts,
            next_attempt_time: delivery.next_attempt.map(millis),
            ..Self::default()
        };
        let Some(event) = delivery.event else { return view };
        view.event = Some(event.id);
        view.r#type = Some(event.event_type.as_str());
        view.project = Some(event.project);
        let group = event
            .subject
            .as_deref()
            .and_then(|subject| subject.strip_prefix('/'));
        match group.and_then(|label| label.split_once('=')) {
            Some((_, value)) => view.group = Some(value.to_owned()),
            None => view.operation_id = event.subject,
        }
        view
    }
}

impl EndpointView {
    fn new(stats: EndpointStats, state: Option<EndpointState>) -> Self {
        Self {
            state: state.map(EndpointState::as_str),
            name: stats.name.to_string(),
            backlog: stats.backlog,
            dead_letters: stats.dead_letters,
            oldest: stats.oldest.map(OldestView::from),
            last_success_time: stats.last_success.map(millis),
            last_error: stats.last_error,
            last_error_time: stats.last_error_time.map(millis),
        }
    }
}

pub(super) async fn list(_: NoParams, State(service): State<Arc<HttpService>>) -> Result<Response, Problem> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::event::EventType;
    use crate::store::OldestEvent;

    #[test]
    fn the_oldest_event_names_its_operation_or_group() {
        let oldest = |subject: Option<&str>| {
            let view = OldestView::from(OldestDelivery {
                recorded: "2026-11-23T11:48:00Z".parse().unwrap(),
                attempts: 2,
                next_attempt: None,
                event: Some(OldestEvent {
                    id: "evt_1".to_owned(),
                    event_type: EventType::GroupCompleted,
                    project: "p".to_owned(),
                    subject: subject.map(str::to_owned),
                }),
            });
            let mut view = serde_json::to_value(view).unwrap();
            let members = view.as_object_mut().unwrap();
            for shared in ["event", "type", "project", "recordedTime", "attempts"] {
                members.remove(shared).unwrap();
            }
            view
        };
        assert_eq!(oldest(Some("op-1")), json!({"operationId": "op-1"}));
        assert_eq!(oldest(Some("/group=a=b")), json!({"group": "a=b"}));
        assert_eq!(oldest(None), json!({}));
    }
}
