//! `/api/projects`: whether each project can be polled, and how its requests and its discovery do.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::HttpService;
use super::params::NoParams;
use super::problem::{Problem, json};
use crate::board::{DiscoveryView, GateView, ProjectView};
use crate::clock;
use crate::core::discovery::DiscoveryFailure;
use crate::core::event::millis;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectList {
    projects: Vec<ProjectJson>,
    /// The watch list, if the file has been missing since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    awaited_watch_list: Option<String>,
}

/// One project as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectJson {
    name: String,
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable_since: Option<String>,
    credentials_valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_rejected_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_time: Option<String>,
    /// Why the last request failed, while requests fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_poll_time: Option<String>,
    /// The number of operations by phase, without zeros.
    operations: Map<String, Value>,
    /// The number of groups by state, without zeros.
    groups: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause: Option<PauseJson>,
    gate: GateJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<DiscoveryJson>,
}

/// A pause that the API asked for.
#[derive(Serialize)]
struct PauseJson {
    until: String,
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GateJson {
    max_concurrent_requests: usize,
    max_requests_per_second: f64,
    waiting: usize,
    in_flight: usize,
    last_wait_seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiscoveryJson {
    installations: usize,
    objects: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Now {
    wall: Timestamp,
    instant: Instant,
}

impl Now {
    /// The date of a moment on the monotonic clock that has not passed; otherwise the current one.
    fn date(self, at: Instant) -> Timestamp {
        let wait = at.saturating_duration_since(self.instant);
        self.wall.checked_add(wait).unwrap_or(Timestamp::MAX)
    }
}

impl ProjectJson {
    fn of(view: &ProjectView, now: Now) -> Self {
        let api = &view.api;
        let pause = api.pause.as_ref().filter(|pause| pause.until > now.instant);
        let is_failing =
            api.failing.is_some() || api.unreachable.is_some() || api.rejected.is_some() || pause.is_some();
        let last_error = api.last_failure.as_deref().filter(|_| is_failing);
        // A poll that waits at the gate is due already.
        let waits = (view.gate.waiting > 0).then_some(now.instant);
        let next_poll = waits.or(view.poll_times.next_due).map(|due| match pause {
            Some(pause) => due.max(pause.until),
            None => due,
        });
        Self {
            name: view.name.to_string(),
            reachable: api.unreachable.is_none(),
            unreachable_since: api.unreachable.map(millis),
            credentials_valid: api.rejected.is_none(),
            credentials_rejected_since: api.rejected.map(millis),
            last_answer_time: api.last_answer.map(millis),
            last_error: last_error.map(str::to_owned),
            next_poll_time: next_poll.map(|at| millis(now.date(at))),
            operations: counts(view.phases.iter().map(|(phase, count)| (phase.as_str(), count))),
            groups: counts(view.groups.iter().map(|(state, count)| (state.as_str(), count))),
            pause: pause.map(|pause| PauseJson {
                until: millis(now.date(pause.until)),
                reason: pause.reason.to_string(),
            }),
            gate: GateJson::of(&view.gate),
            discovery: view.discovery.as_ref().map(DiscoveryJson::of),
        }
    }
}

fn counts(counts: impl Iterator<Item = (&'static str, usize)>) -> Map<String, Value> {
    let counts = counts.filter(|(_, count)| *count > 0);
    counts
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}

impl GateJson {
    fn of(gate: &GateView) -> Self {
        Self {
            max_concurrent_requests: gate.limits.concurrent,
            max_requests_per_second: gate.limits.per_second,
            waiting: gate.waiting,
            in_flight: gate.in_flight,
            last_wait_seconds: seconds(gate.last_wait),
        }
    }
}

impl DiscoveryJson {
    fn of(discovery: &DiscoveryView) -> Self {
        let failure = discovery.failure.as_ref();
        Self {
            installations: discovery.installations,
            objects: discovery.objects,
            last_success_time: discovery.last_success.map(millis),
            failing_since: failure
                .filter(|failure| failure.is_total())
                .map(|failure| millis(failure.since)),
            last_error: failure.map(DiscoveryFailure::text),
        }
    }
}

/// Seconds with three decimals.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

pub(super) async fn list(_: NoParams, State(service): State<Arc<HttpService>>) -> Result<Response, Problem> {
    let now = Now {
        wall: clock::wall(),
        instant: clock::instant(),
    };
    let views = service.data.board.projects();
    let projects = views.iter().map(|view| ProjectJson::of(view, now)).collect();
    let awaited = service.data.attention.awaited_watch_list();
    Ok(json(&ProjectList {
        projects,
        awaited_watch_list: awaited.map(|path| path.display().to_string()),
    }))
}
