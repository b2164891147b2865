//! `/api/operations`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::Site;
use super::body::{Parts, respond};
use super::json_list::JsonList;
use super::operation::Operation;
use super::params::Params;
use super::problem::{Problem, json, text};
use crate::board::{Board, Watched};
use crate::core::watch::{Phase, Watch};
use crate::core::watch_list::WatchKey;

/// The most operations of one answer.
const MAX: usize = 1_000;

/// A page, in parts: each operation is looked at when its part is made.
struct Page {
    operations: std::vec::IntoIter<Arc<Watched>>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
    list: JsonList,
}

impl Page {
    fn new(board: &Board, filter: &Filter, limit: usize) -> Self {
        let mut wanted = board.all();
        wanted.retain(|watched| filter.wants(watched));
        let has_more = wanted.len() > limit;
        if has_more {
            wanted.select_nth_unstable_by(limit, |a, b| a.key.cmp(&b.key));
            wanted.truncate(limit);
        }
        wanted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let next = wanted
            .last()
            .filter(|_| has_more)
            .map(|watched| encode(&watched.key));
        wanted.shrink_to_fit();
        Self {
            operations: wanted.into_iter(),
            next,
            list: JsonList::new("operations"),
        }
    }
}

impl Parts for Page {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        let part = self.list.part().map(|mut part| {
            while !part.is_full() {
                let Some(watched) = self.operations.next() else {
                    part.finish(&text(&self.next));
                    break;
                };
                part.push(&text(&Operation::of(&watched)));
            }
            part.into_bytes()
        });
        Ok(part)
    }

    fn is_finished(&self) -> bool {
        self.list.is_finished()
    }
}

/// Which operations are wanted.
struct Filter {
    after: Option<(String, String)>,
    phases: Vec<Phase>,
    projects: Vec<String>,
    labels: Vec<(String, Option<String>)>,
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
            phases: listed(params, "phase").map(phase).collect::<Result<_, _>>()?,
            projects: listed(params, "project").map(str::to_owned).collect(),
            labels,
        })
    }

    fn wants(&self, watched: &Watched) -> bool {
        let WatchKey { project, operation } = &watched.key;
        self.after
            .as_ref()
            .is_none_or(|(of, id)| (&**project, &**operation) > (of.as_str(), id.as_str()))
            && (self.projects.is_empty() || self.projects.iter().any(|wanted| **wanted == **project))
            && (self.phases.is_empty() || self.phases.contains(&watched.look(Watch::phase)))
            && (self.labels.is_empty() || {
                let labels = watched.labels();
                self.labels.iter().all(|(key, value)| {
                    labels
                        .iter()
                        .any(|(of, has)| of == key && value.as_ref().is_none_or(|value| value == has))
                })
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
    let page = site
        .apart(move |sources| Page::new(&sources.board, &filter, limit))
        .await?;
    let Ok(response) = respond("application/json", page).await;
    Ok(response)
}

pub(super) async fn one(
    State(site): State<Arc<Site>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let params = Params::parse(query.as_deref(), &["project"])?;
    let project = params.last("project").map(str::to_owned);
    let found = site.apart(move |sources| {
        let mut found = sources.board.all();
        found.retain(|watched| {
            let is_of_project = project
                .as_deref()
                .is_none_or(|project| *watched.key.project == *project);
            *watched.key.operation == *id && is_of_project
        });
        found
    });
    let found = found.await?;
    match found.as_slice() {
        [] => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no such operation is on the watch list",
        )),
        [watched] => Ok(json(&Operation::of(watched))),
        several => {
            let projects: Vec<&str> = several.iter().map(|watched| &*watched.key.project).collect();
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

fn decode(cursor: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (project, operation) = text.split_once('\n')?;
    Some((project.to_owned(), operation.to_owned()))
}
