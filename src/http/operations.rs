//! `/api/operations`: lists watches and shows one.

use std::sync::Arc;

use super::board_list::{BoardItems, answer, listed, unavailable};
use super::operation_view::OperationView;
use super::params::{NoParams, Params};
use super::problem::{Problem, text};
use super::{HttpService, single_operation};
use crate::board::{Board, ProjectUnavailable, WatchFilter, WatchView};
use crate::core::phase::Phase;
use crate::core::watch_list::WatchKey;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

impl BoardItems for Arc<WatchFilter> {
    const NAME: &'static str = "operations";
    const COPIES: usize = 4;
    type Key = WatchKey;
    type View = WatchView;

    fn key(project: &str, name: &str) -> WatchKey {
        WatchKey {
            project: project.into(),
            operation: name.into(),
        }
    }

    fn names(key: &WatchKey) -> (&str, &str) {
        (&key.project, &key.operation)
    }

    async fn read(
        &self,
        board: &Board,
        after: Option<&WatchKey>,
        projects: &[String],
        limit: usize,
    ) -> Result<(Vec<WatchView>, Option<WatchKey>), ProjectUnavailable> {
        board.page(after, projects, self, limit).await
    }

    fn json(view: WatchView) -> Vec<u8> {
        text(&OperationView::of(&view))
    }
}

fn filter(params: &Params) -> Result<WatchFilter, Problem> {
    let labels = params
        .all("label")
        .filter(|label| !label.is_empty())
        .map(|label| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label.to_owned(), None),
        })
        .collect();
    Ok(WatchFilter {
        phases: listed(params, "phase").map(phase).collect::<Result<_, _>>()?,
        labels,
        groups: params
            .all("group")
            .filter(|group| !group.is_empty())
            .map(str::to_owned)
            .collect(),
        text: params.search_text()?,
    })
}

fn phase(name: &str) -> Result<Phase, Problem> {
    Phase::parse(name).ok_or_else(|| {
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
        &["limit", "after", "phase", "project", "label", "group", "q"],
    )?;
    answer(&service, &params, Arc::new(filter(&params)?)).await
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
        [view] => Ok(single_operation::respond(&service, view).await),
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
    _: NoParams,
) -> Result<Response, Problem> {
    let Path((project, id)) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let found = service.data.board.find(&id, Some(&project)).await;
    match found.map_err(unavailable)?.first() {
        Some(view) => Ok(single_operation::respond(&service, view).await),
        None => Err(not_watched()),
    }
}

pub(super) fn not_watched() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no such operation is watched; check the ID and the project",
    )
}
