//! What exists on the control socket only: reloads, and what `check` asks.

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
use super::params::Params;
use super::problem::{Problem, json};
use crate::config::{ConfigErrors, ConfigProblem};
use crate::watch_list::WatchListSnapshot;

/// How long the daemon may take for what was asked of it. Others give up on a connection after as long.
const TIMEOUT: Duration = Duration::from_secs(25);
/// The most lines of the watch list that an answer names.
const MAX_LINES: usize = 100;

/// What the control socket asks of the daemon.
#[derive(Debug)]
pub enum ControlRequest {
    /// To read settings, secrets and the watch list again.
    Reload(oneshot::Sender<Result<ReloadReport, ReloadRefusal>>),
    /// To check its settings without applying them.
    Check(oneshot::Sender<CheckReport>),
}

/// Where orders go.
pub type ControlSender = mpsc::Sender<ControlRequest>;

/// What a reload applied.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// The keys whose values were changed and apply now.
    pub applied: Vec<String>,
    /// The keys whose values need a restart; the running ones were kept.
    pub kept: Vec<&'static str>,
    /// The projects with a new API key.
    pub new_api_keys: Vec<Arc<str>>,
    /// What is doubtful about the settings.
    pub warnings: Vec<SettingsProblem>,
    /// The watch list.
    pub watch_list: WatchListReport,
}

/// Why a reload was refused. The running settings stay.
#[derive(Debug, Clone)]
pub struct ReloadRefusal {
    /// Why, in one line.
    pub reason: String,
    /// Everything that is wrong with the settings.
    pub problems: Vec<SettingsProblem>,
}

/// What the daemon found when it checked its settings.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The settings file that it reads, as text.
    pub file: String,
    /// What is wrong with the settings as they are now.
    pub errors: Vec<SettingsProblem>,
    /// The watch list as it was last read.
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
    /// The file, as text.
    pub path: String,
    /// Whether the file was read since this was asked for; a file system may be slow.
    pub is_read: bool,
    /// The operations that are watched.
    pub entries: usize,
    /// How many lines were rejected.
    pub rejected_lines: usize,
    /// The first of them.
    pub rejected: Vec<RejectedLine>,
    /// Why the file cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A line that was rejected.
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
    /// A problem of no setting in particular.
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
    /// The list of `snapshot`, read from `path`.
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
        }
    }
}

/// The routes of the control socket.
pub(super) fn routes(orders: ControlSender) -> Router<Arc<HttpService>> {
    let to_check = orders.clone();
    Router::new()
        .route("/api/reload", post(move || reload(orders)))
        .route(
            "/api/check",
            post(move |site, query| check(site, query, to_check)),
        )
}

async fn reload(orders: ControlSender) -> Result<Response, Problem> {
    match ask(&orders, "reload", ControlRequest::Reload).await? {
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
    State(site): State<Arc<HttpService>>,
    RawQuery(query): RawQuery,
    orders: ControlSender,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["live"])?;
    let is_live = params.parsed::<bool>("live", "true or false")?.unwrap_or(false);
    let checked = ask(&orders, "check", ControlRequest::Check).await?;
    let mut answer = serde_json::to_value(&checked)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    if is_live {
        answer["keys"] = serde_json::json!(check_keys(&site.sources.board).await);
    }
    Ok(json(&answer))
}

async fn ask<T>(
    orders: &ControlSender,
    what: &str,
    order: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
) -> Result<T, Problem> {
    let (sender, answer) = oneshot::channel();
    let asking = async {
        // Either fails only at a stop.
        orders.send(order(sender)).await.ok()?;
        answer.await.ok()
    };
    let unavailable = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    match tokio::time::timeout(TIMEOUT, asking).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(unavailable("the daemon is stopping".to_owned())),
        Err(_) => Err(unavailable(format!(
            "the {what} has not ended after {} s: is a file system slow? It goes on; see the log",
            TIMEOUT.as_secs()
        ))),
    }
}
