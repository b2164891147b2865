//! `/api/operations`: lists watches and shows one.

use std::sync::Arc;

use super::HttpService;
use super::chunked_body::{ChunkSource, respond};
use super::json_list::JsonList;
use super::operation_view::OperationView;
use super::params::Params;
use super::problem::{Problem, json, text};
use crate::board::{Board, ProjectUnavailable, WatchFilter};
use crate::core::phase::Phase;
use crate::core::watch_list::WatchKey;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

/// The most operations of one response.
const MAX: usize = 1_000;

/// How many watches are copied at a time: what a client that does not read keeps in memory.
const COPIES: usize = 4;

/// A page in chunks; each watch is read when its chunk is produced.
struct OperationListing {
    board: Arc<Board>,
    after: Option<WatchKey>,
    projects: Vec<String>,
    watches: Arc<WatchFilter>,
    /// How many more operations may follow.
    left: usize,
    list: JsonList,
}

impl ChunkSource for OperationListing {
    type Error = ProjectUnavailable;

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ProjectUnavailable> {
        let Some(mut chunk) = self.list.next_chunk() else {
            return Ok(None);
        };
        while !chunk.is_full() {
            let limit = COPIES.min(self.left);
            let page = self
                .board
                .page(self.after.as_ref(), &self.projects, &self.watches, limit);
            let (views, next) = page.await?;
            for view in &views {
                chunk.push(&text(&OperationView::of(view)));
            }
            self.left -= views.len();
            self.after = next;
            if self.left == 0 || self.after.is_none() {
                // `null` at the end.
                chunk.finish(&text(&self.after.as_ref().map(encode)));
                break;
            }
        }
        Ok(Some(chunk.into_bytes()))
    }

    fn is_finished(&self) -> bool {
        self.list.is_finished()
    }
}

/// The query of a list request.
struct OperationFilter {
    after: Option<WatchKey>,
    projects: Vec<String>,
    watches: Arc<WatchFilter>,
}

impl OperationFilter {
    fn parse(params: &Params) -> Result<Self, Problem> {
        let after = params
            .last("after")
            .map(|cursor| {
                decode(cursor).ok_or_else(|| {
                    Problem::bad_request("`after` is not a cursor; use `next` of the previous page")
                })
            })
            .transpose()?;
        let labels = params
            .all("label")
            .filter(|label| !label.is_empty())
            .map(|label| match label.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (label.to_owned(), None),
            })
            .collect();
        Ok(Self {
            after,
            projects: listed(params, "project").map(str::to_owned).collect(),
            watches: Arc::new(WatchFilter {
                phases: listed(params, "phase").map(phase).collect::<Result<_, _>>()?,
                labels,
                groups: params
                    .all("group")
                    .filter(|group| !group.is_empty())
                    .map(str::to_owned)
                    .collect(),
            }),
        })
    }
}

/// Values that may be repeated or separated by commas.
pub(super) fn listed<'a>(params: &'a Params, name: &'a str) -> impl Iterator<Item = &'a str> {
    params
        .all(name)
        .flat_map(|values| values.split(','))
        .filter(|value| !value.is_empty())
}

fn phase(name: &str) -> Result<Phase, Problem> {
    Phase::ALL
        .into_iter()
        .find(|phase| phase.as_str() == name)
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "unknown phase; the phases are: {}",
                Phase::ALL.map(Phase::as_str).join(", ")
            ))
        })
}

pub(super) async fn list(
    State(service): State<Arc<HttpService>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(
        query.as_deref(),
        &["limit", "after", "phase", "project", "label", "group"],
    )?;
    let limit = params.limit(MAX)?;
    let filter = OperationFilter::parse(&params)?;
    let page = OperationListing {
        board: Arc::clone(&service.data.board),
        after: filter.after,
        projects: filter.projects,
        watches: filter.watches,
        left: limit,
        list: JsonList::new("operations"),
    };
    respond("application/json", page).await.map_err(unavailable)
}

pub(super) fn unavailable(error: ProjectUnavailable) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

pub(super) async fn one(
    State(service): State<Arc<HttpService>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let params = Params::parse(query.as_deref(), &["project"])?;
    let project = params.last("project");
    let found = service.data.board.find(&id, project).await.map_err(unavailable)?;
    match found.as_slice() {
        [] => Err(not_watched()),
        [view] => Ok(json(&OperationView::of(view))),
        several => {
            let projects: Vec<&str> = several.iter().map(|view| &*view.key.project).collect();
            Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "several projects watch an operation with this ID; add ?project= and one of {}",
                    projects.join(", ")
                ),
            ))
        }
    }
}

/// `GET /api/operations/{project}/{id}`.
pub(super) async fn of_project(
    State(service): State<Arc<HttpService>>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path((project, id)) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    Params::parse(query.as_deref(), &[])?;
    let found = service.data.board.find(&id, Some(&project)).await;
    match found.map_err(unavailable)?.first() {
        Some(view) => Ok(json(&OperationView::of(view))),
        None => Err(not_watched()),
    }
}

pub(super) fn not_watched() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no such operation is watched; check the ID and the project",
    )
}

fn encode(key: &WatchKey) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}\n{}", key.project, key.operation))
}

fn decode(cursor: &str) -> Option<WatchKey> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (project, operation) = text.split_once('\n')?;
    Some(WatchKey {
        project: project.into(),
        operation: operation.into(),
    })
}
