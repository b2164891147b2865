//! `PUT`, `POST` and `DELETE` below `/api/operations`: adds and withdraws watches.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use super::HttpService;
use super::board_list::unavailable;
use super::operation_view::OperationView;
use super::operations::not_watched;
use super::params::NoParams;
use super::problem::{Problem, json};
use super::request_body::{has_body, read_json, unexpected};
use crate::board::WatchView;
use crate::core::source::{Demand, Source, Terms};
use crate::core::text::one_line;
use crate::core::watch::Watch;
use crate::core::watch_list::{MAX_ENTRIES, WatchKey, accepts_id};
use crate::core::watch_request::{
    BadRequest, INVALID_ID, MemberError, WatchRequest, parse_batch, parse_terms,
};
use crate::error::chain;
use crate::sources::api::{ApiAddition, ApiClient, ApiError};
use crate::store::Withdrawal;

/// Writes that are read and made at a time. Each body takes memory.
pub(super) const MAX_AT_A_TIME: usize = 16;
/// The most project names in an error.
const MAX_PROJECTS_NAMED: usize = 8;

/// What a batch did.
#[derive(Debug, Serialize)]
struct BatchCounts {
    added: usize,
    updated: usize,
}

type OperationPath = Result<Path<(String, String)>, PathRejection>;

/// Whether a request adds or withdraws watches, so that it needs a write token.
pub(super) fn is_write(method: &Method, path: &str) -> bool {
    match *method {
        Method::POST => path == "/api/operations",
        Method::PUT | Method::DELETE => path.starts_with("/api/operations/"),
        _ => false,
    }
}

/// `PUT /api/operations/{project}/{id}`. Only [`guard`](super::guard) adds the client, once it may write.
pub(super) async fn put(
    _: NoParams,
    State(service): State<Arc<HttpService>>,
    Extension(client): Extension<ApiClient>,
    path: OperationPath,
    request: Request,
) -> Result<Response, Problem> {
    let (project, id) = parse_path(&service, path)?;
    let _permit = service.begin_write().await?;
    let terms = parse_terms(&read_json(request).await?);
    let (key, terms) = match (check_id(&project, id), terms) {
        (Ok(key), Ok(terms)) => (key, terms),
        (Err(error), Err(BadRequest::Members(mut errors))) => {
            errors.insert(0, error);
            return Err(refusal(BadRequest::Members(errors)));
        }
        (Err(error), Ok(_)) => return Err(refusal(BadRequest::Members(vec![error]))),
        (_, Err(refused)) => return Err(refusal(refused)),
    };
    let watch = WatchRequest {
        key: key.clone(),
        terms: terms.clone(),
    };
    let is_new = service.add(vec![watch], client).await?.first() == Some(&true);
    let mut response = json(&OperationView::of(&service.added(key, terms).await));
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

/// `POST /api/operations`.
pub(super) async fn post(
    _: NoParams,
    State(service): State<Arc<HttpService>>,
    Extension(client): Extension<ApiClient>,
    request: Request,
) -> Result<Response, Problem> {
    let _permit = service.begin_write().await?;
    let body = read_json(request).await?;
    let projects = service.projects();
    let watches = parse_batch(&body, &projects).map_err(refusal)?;
    drop(body);
    let are_new = service.add(watches, client).await?;
    let added = are_new.iter().filter(|is_new| **is_new).count();
    Ok(json(&BatchCounts {
        added,
        updated: are_new.len() - added,
    }))
}

/// `DELETE /api/operations/{project}/{id}`.
pub(super) async fn delete(
    _: NoParams,
    State(service): State<Arc<HttpService>>,
    Extension(client): Extension<ApiClient>,
    path: OperationPath,
    request: Request,
) -> Result<Response, Problem> {
    let (project, id) = parse_path(&service, path)?;
    if has_body(request.headers()) {
        return Err(unexpected());
    }
    let key = check_id(&project, id).map_err(|error| refusal(BadRequest::Members(vec![error])))?;
    let withdrawn = service.data.api.withdraw(key.clone(), client).await;
    let withdrawal = withdrawn.map_err(|error| failure(&error))?;
    if withdrawal == Withdrawal::Withdrawn {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let found = service.data.board.find(&key.operation, Some(&key.project)).await;
    match (withdrawal, found.map_err(unavailable)?.first()) {
        (Withdrawal::NeverAdded, Some(view)) => Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "the operation was not added over HTTP, so it cannot be removed over HTTP; its source is: {}",
                view.demand
                    .sources()
                    .map(Source::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        )),
        (_, Some(_)) => Ok(StatusCode::NO_CONTENT.into_response()),
        (_, None) => Err(not_watched()),
    }
}

impl HttpService {
    /// Waits until a body may be read.
    async fn begin_write(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let stopped = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
        self.writes.acquire().await.map_err(stopped)
    }

    fn projects(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.data.projects.borrow())
    }

    async fn add(&self, watches: Vec<WatchRequest>, client: ApiClient) -> Result<Vec<bool>, Problem> {
        let mut new = watches.len();
        if self.data.board.phases().total() + new > MAX_ENTRIES {
            // Near the limit it matters which ones are watched already.
            for WatchRequest { key, .. } in &watches {
                let found = self.data.board.find(&key.operation, Some(&key.project)).await;
                new -= usize::from(!found.map_err(unavailable)?.is_empty());
            }
        }
        let added = self.data.api.add(ApiAddition { watches, new }, client).await;
        added.map_err(|error| failure(&error))
    }

    /// The watch that was added. While its project is being restarted, it is as it will be then.
    async fn added(&self, key: WatchKey, terms: Terms) -> WatchView {
        let found = self.data.board.find(&key.operation, Some(&key.project)).await;
        let found = found.unwrap_or_default().pop();
        found.unwrap_or_else(|| WatchView {
            key,
            demand: Demand::new(Source::Api, Arc::new(terms)),
            watch: Watch::default(),
        })
    }
}

/// The configured project and the ID that a path names.
fn parse_path(service: &HttpService, path: OperationPath) -> Result<(Arc<str>, String), Problem> {
    let Path((project, id)) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let projects = service.projects();
    match projects.iter().find(|name| ***name == *project) {
        Some(name) => Ok((Arc::clone(name), id)),
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            unknown_project(&project, &projects),
        )),
    }
}

fn unknown_project(name: &str, configured: &[Arc<str>]) -> String {
    let known: Vec<&str> = configured
        .iter()
        .take(MAX_PROJECTS_NAMED)
        .map(|name| &**name)
        .collect();
    format!(
        "project {:?} is not configured; use one of: {}{}",
        one_line(name, 80),
        known.join(", "),
        if configured.len() > MAX_PROJECTS_NAMED {
            ", …"
        } else {
            ""
        }
    )
}

fn check_id(project: &Arc<str>, id: String) -> Result<WatchKey, MemberError> {
    if accepts_id(&id) {
        return Ok(WatchKey::of(project, &id.into()));
    }
    Err(MemberError {
        pointer: "/id".to_owned(),
        detail: INVALID_ID.to_owned(),
    })
}

fn refusal(refused: BadRequest) -> Problem {
    match refused {
        BadRequest::NotJson(reason) => Problem::bad_request(format!("the body is not JSON: {reason}")),
        BadRequest::Members(errors) => {
            let errors = errors.iter().filter_map(|error| serde_json::to_value(error).ok());
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the request has errors, and nothing was changed; see `errors`",
            )
            .with_errors(errors.collect())
        }
    }
}

fn failure(error: &ApiError) -> Problem {
    let status = match error {
        ApiError::Full => StatusCode::CONFLICT,
        ApiError::Commit(_) | ApiError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, chain(error))
}
