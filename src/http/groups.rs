//! `/api/groups`: lists the groups of watches.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Serialize;
use serde_json::{Map, Value};

use super::HttpService;
use super::chunked_body::{ChunkSource, respond};
use super::json_list::JsonList;
use super::operations::{listed, unavailable};
use super::params::Params;
use super::problem::{Problem, text};
use crate::board::{Board, GroupFilter, GroupKey, GroupView, ProjectUnavailable};
use crate::core::event::{MissingObject, millis};
use crate::core::group_state::GroupState;

/// The most groups of one response.
const MAX: usize = 1_000;
/// How many groups are copied at a time: what a client that does not read keeps in memory.
const COPIES: usize = 16;
/// The most objects of one group that are listed as awaited or missing.
const MAX_OBJECTS: usize = 100;

/// One group as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupJson {
    project: String,
    label: String,
    group: String,
    round: u32,
    /// `running`, or the outcome of the last round.
    outcome: &'static str,
    /// All operations of the group.
    operation_count: u32,
    /// Their number by phase, without zeros.
    phases: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    awaited: Vec<MissingObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingObject>,
}

/// The operations of the round together.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressJson {
    operation_count: usize,
    records_processed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_end_time: Option<String>,
}

impl GroupJson {
    fn of(view: GroupView) -> Self {
        let phases = view.phases.iter().filter(|(_, count)| *count > 0);
        let objects = |mut objects: Vec<MissingObject>| {
            objects.truncate(MAX_OBJECTS);
            objects
        };
        // Operations that were finished before belong to no round.
        let progress = view.progress.filter(|progress| progress.watches > 0);
        Self {
            project: view.project.to_string(),
            label: view.label.to_string(),
            group: view.group,
            round: view.round,
            outcome: view.state.as_str(),
            operation_count: view.phases.total(),
            phases: phases
                .map(|(phase, count)| (phase.as_str().to_owned(), count.into()))
                .collect(),
            progress: progress.map(|progress| ProgressJson {
                operation_count: progress.watches,
                records_processed: progress.records,
                percent: progress.percent,
                start_time: progress.start.map(millis),
                estimated_end_time: progress.estimated_end.map(millis),
            }),
            awaited: objects(view.awaited),
            missing: objects(view.missing),
        }
    }
}

/// A page in chunks; each group is read when its chunk is produced.
struct GroupListing {
    board: Arc<Board>,
    after: Option<GroupKey>,
    projects: Vec<String>,
    filter: Arc<GroupFilter>,
    /// How many more groups may follow.
    left: usize,
    list: JsonList,
}

impl ChunkSource for GroupListing {
    type Error = ProjectUnavailable;

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ProjectUnavailable> {
        let Some(mut chunk) = self.list.next_chunk() else {
            return Ok(None);
        };
        while !chunk.is_full() {
            let limit = COPIES.min(self.left);
            let page = self
                .board
                .groups(self.after.as_ref(), &self.projects, &self.filter, limit);
            let (views, next) = page.await?;
            self.left -= views.len();
            for view in views {
                chunk.push(&text(&GroupJson::of(view)));
            }
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

pub(super) async fn list(
    State(service): State<Arc<HttpService>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["limit", "after", "project", "outcome", "q"])?;
    let after = params.last("after").map(|cursor| {
        decode(cursor)
            .ok_or_else(|| Problem::bad_request("`after` is not a cursor; use `next` of the previous page"))
    });
    let filter = GroupFilter {
        states: listed(&params, "outcome").map(state).collect::<Result<_, _>>()?,
        text: params.last("q").unwrap_or_default().to_lowercase(),
    };
    let page = GroupListing {
        board: Arc::clone(&service.data.board),
        after: after.transpose()?,
        projects: listed(&params, "project").map(str::to_owned).collect(),
        filter: Arc::new(filter),
        left: params.limit(MAX)?,
        list: JsonList::new("groups"),
    };
    respond("application/json", page).await.map_err(unavailable)
}

fn state(name: &str) -> Result<GroupState, Problem> {
    let mut states = GroupState::ALL.into_iter();
    states.find(|state| state.as_str() == name).ok_or_else(|| {
        let all = GroupState::ALL.map(GroupState::as_str).join(", ");
        Problem::bad_request(format!("unknown outcome; the outcomes are: {all}"))
    })
}

/// A project has no line break in its name.
fn encode(key: &GroupKey) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}\n{}", key.project, key.group))
}

fn decode(cursor: &str) -> Option<GroupKey> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (project, group) = text.split_once('\n')?;
    Some(GroupKey {
        project: project.into(),
        group: group.into(),
    })
}
