//! Requests that exist on the control socket only: reload and check.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::HttpService;
use super::key_check::check_keys;
use super::params::{NoParams, Params};
use super::problem::{Problem, json};
use crate::config::{ConfigErrors, ConfigProblem};
use crate::sources::watch_list::WatchListSnapshot;

/// How long the daemon may take for a request. Clients time out later.
const TIMEOUT: Duration = Duration::from_secs(25);
/// The most rejected lines in a response.
const MAX_LINES: usize = 100;

/// A request of the control socket to the daemon.
#[derive(Debug)]
pub enum ControlRequest {
    /// Reads settings, secrets and the watch list again.
    Reload(oneshot::Sender<Result<ReloadReport, ReloadRefusal>>),
    /// Checks the settings without applying them.
    Check(oneshot::Sender<CheckReport>),
}

/// Sends requests to the daemon.
pub type ControlSender = mpsc::Sender<ControlRequest>;

/// What a reload applied.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// Keys whose changed values apply now.
    pub applied: Vec<String>,
    /// Keys whose changed values need a restart; the running values are kept.
    pub kept: Vec<&'static str>,
    /// Projects with a new API key.
    pub new_api_keys: Vec<Arc<str>>,
    /// Warnings about the settings.
    pub warnings: Vec<SettingsProblem>,
    /// The watch list.
    pub watch_list: WatchListReport,
}

/// Why a reload was refused. The running settings stay active.
#[derive(Debug, Clone)]
pub struct ReloadRefusal {
    /// The reason, in one line.
    pub reason: String,
    /// All problems of the settings.
    pub problems: Vec<SettingsProblem>,
}

/// The result of checking the settings.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The path of the settings file.
    pub file: String,
    /// The errors in the settings.
    pub errors: Vec<SettingsProblem>,
    /// The watch list as last read.
    pub watch_list: WatchListReport,
}

/// One problem of the settings.
#[derive(Debug, Clone, Serialize)]
pub struct SettingsProblem {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    detail: String,
    help: String,
}

/// The watch list as the daemon last read it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchListReport {
    /// The path of the file.
    pub path: String,
    /// Whether the file was read since the request; a file system may be slow.
    pub is_read: bool,
    /// The number of entries.
    pub entries: usize,
    /// The number of rejected lines.
    pub rejected_lines: usize,
    /// The first rejected lines.
    pub rejected: Vec<RejectedLine>,
    /// Why the file cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether the file has been missing since the start, and is awaited.
    pub is_awaited: bool,
    /// Whether there is no file, and none is required.
    pub is_absent: bool,
}

/// A rejected line.
#[derive(Debug, Clone, Serialize)]
pub struct RejectedLine {
    line: u32,
    column: u32,
    detail: String,
}

impl From<&ConfigProblem> for SettingsProblem {
    fn from(problem: &ConfigProblem) -> Self {
        Self {
            key: problem.key.clone(),
            place: problem.place.as_ref().map(ToString::to_string),
            detail: problem.problem.clone(),
            help: problem.help.clone(),
        }
    }
}

impl SettingsProblem {
    /// A problem that belongs to no single setting.
    #[must_use]
    pub fn other(detail: String) -> Self {
        Self {
            key: String::new(),
            place: None,
            detail,
            help: String::new(),
        }
    }

    /// All problems of the settings.
    #[must_use]
    pub fn all(errors: &ConfigErrors) -> Vec<Self> {
        errors.problems().iter().map(Into::into).collect()
    }
}

impl WatchListReport {
    /// The report of `snapshot`, read from `path`.
    #[must_use]
    pub fn new(path: &Path, snapshot: &WatchListSnapshot, is_read: bool) -> Self {
        let file = snapshot.file();
        let rejected = file.map_or(&[][..], |list| &list.rejected).iter();
        Self {
            path: path.display().to_string(),
            is_read,
            entries: snapshot.list.as_ref().map_or(0, |list| list.entries.len()),
            rejected_lines: file.map_or(0, |list| list.rejected_total),
            rejected: rejected
                .take(MAX_LINES)
                .map(|line| RejectedLine {
                    line: line.line,
                    column: line.column,
                    detail: line.problem.to_string(),
                })
                .collect(),
            problem: snapshot
                .problem
                .as_deref()
                .map(|error| crate::error::chain(error)),
            is_awaited: snapshot.is_awaited(),
            is_absent: snapshot.is_absent,
        }
    }
}

/// The routes that exist on the control socket only.
pub(super) fn routes(control: ControlSender) -> Router<Arc<HttpService>> {
    let to_check = control.clone();
    Router::new()
        .route("/api/reload", post(move |_: NoParams| reload(control)))
        .route(
            "/api/check",
            post(move |service, query| check(service, query, to_check)),
        )
}

async fn reload(control: ControlSender) -> Result<Response, Problem> {
    match send_request(&control, "reload", ControlRequest::Reload).await? {
        Ok(applied) => Ok(json(&applied)),
        Err(refused) => {
            let errors = refused
                .problems
                .iter()
                .filter_map(|problem| serde_json::to_value(problem).ok());
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refused.reason).with_errors(errors.collect()))
        }
    }
}

async fn check(
    State(service): State<Arc<HttpService>>,
    RawQuery(query): RawQuery,
    control: ControlSender,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["live"])?;
    let is_live = params.parsed::<bool>("live", "true or false")?.unwrap_or(false);
    let checked = send_request(&control, "check", ControlRequest::Check).await?;
    let mut answer = serde_json::to_value(&checked)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    if is_live {
        answer["keys"] = serde_json::json!(check_keys(&service.data.board).await);
    }
    Ok(json(&answer))
}

async fn send_request<T>(
    control: &ControlSender,
    what: &str,
    order: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
) -> Result<T, Problem> {
    let (sender, answer) = oneshot::channel();
    let asking = async {
        // Either fails only at a stop.
        control.send(order(sender)).await.ok()?;
        answer.await.ok()
    };
    let unavailable = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    match tokio::time::timeout(TIMEOUT, asking).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(unavailable("the daemon is stopping".to_owned())),
        Err(_) => Err(unavailable(format!(
            "the {what} did not finish within {} s; it continues in the background, see the log. Is a file system slow?",
            TIMEOUT.as_secs()
        ))),
    }
}
