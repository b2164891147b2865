//! `/api/operations`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Serialize;

use super::Site;
use super::operation::Operation;
use super::params::Params;
use super::problem::{Problem, json};
use crate::board::{Unavailable, WatchFilter};
use crate::core::phase::Phase;
use crate::core::watch_list::WatchKey;

/// The most operations of one answer.
const MAX: usize = 1_000;

#[derive(Serialize)]
struct Page {
    operations: Vec<Operation>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

/// Which operations are wanted.
struct Filter {
    after: Option<WatchKey>,
    projects: Vec<String>,
    watches: WatchFilter,
}

impl Filter {
    fn parse(params: &Params) -> Result<Self, Problem> {
        let after = params
            .last("after")
            .map(|cursor| {
                decode(cursor).ok_or_else(|| {
                    Problem::bad_request("`after` is no cursor: take the `next` of the answer before")
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
            watches: WatchFilter {
                phases: listed(params, "phase").map(phase).collect::<Result<_, _>>()?,
                labels,
            },
        })
    }
}

/// Values that may be repeated, or parted by commas.
fn listed<'a>(params: &'a Params, name: &'a str) -> impl Iterator<Item = &'a str> {
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
                "there is no such phase; those there are: {}",
                Phase::ALL.map(Phase::as_str).join(", ")
            ))
        })
}

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["limit", "after", "phase", "project", "label"])?;
    let limit = params.limit(MAX)?;
    let filter = Filter::parse(&params)?;
    let board = &site.sources.board;
    let page = board.page(filter.after.as_ref(), &filter.projects, filter.watches, limit);
    let (watches, next) = page.await.map_err(unavailable)?;
    let operations = watches.iter().map(Operation::of).collect();
    let next = next.as_ref().map(encode);
    Ok(json(&Page { operations, next }))
}

fn unavailable(error: Unavailable) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

pub(super) async fn one(
    State(site): State<Arc<Site>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let params = Params::parse(query.as_deref(), &["project"])?;
    let project = params.last("project");
    let found = site.sources.board.find(&id, project).await.map_err(unavailable)?;
    match found.as_slice() {
        [] => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no such operation is on the watch list",
        )),
        [view] => Ok(json(&Operation::of(view))),
        several => {
            let projects: Vec<&str> = several.iter().map(|view| &*view.key.project).collect();
            Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "several projects have an operation of this ID; add ?project= and one of {}",
                    projects.join(", ")
                ),
            ))
        }
    }
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
