//! `/api/groups`: lists the groups of watches.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::HttpService;
use super::board_list::{BoardItems, answer, listed};
use super::params::Params;
use super::problem::{Problem, text};
use crate::board::{Board, GroupFilter, GroupKey, GroupView, ProjectUnavailable};
use crate::core::event::{MissingObject, millis};
use crate::core::group_state::GroupState;

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
    operation_count: usize,
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

impl BoardItems for Arc<GroupFilter> {
    const NAME: &'static str = "groups";
    const COPIES: usize = 16;
    type Key = GroupKey;
    type View = GroupView;

    fn key(project: &str, name: &str) -> GroupKey {
        GroupKey {
            project: project.into(),
            group: name.into(),
        }
    }

    fn names(key: &GroupKey) -> (&str, &str) {
        (&key.project, &key.group)
    }

    async fn read(
        &self,
        board: &Board,
        after: Option<&GroupKey>,
        projects: &[String],
        limit: usize,
    ) -> Result<(Vec<GroupView>, Option<GroupKey>), ProjectUnavailable> {
        board.groups(after, projects, self, limit).await
    }

    fn json(view: GroupView) -> Vec<u8> {
        text(&GroupJson::of(view))
    }
}

pub(super) async fn list(
    State(service): State<Arc<HttpService>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["limit", "after", "project", "outcome", "q"])?;
    let filter = GroupFilter {
        states: listed(&params, "outcome").map(state).collect::<Result<_, _>>()?,
        text: params.search_text()?,
    };
    answer(&service, &params, Arc::new(filter)).await
}

fn state(name: &str) -> Result<GroupState, Problem> {
    let mut states = GroupState::ALL.into_iter();
    states.find(|state| state.as_str() == name).ok_or_else(|| {
        let all = GroupState::ALL.map(GroupState::as_str).join(", ");
        Problem::bad_request(format!("unknown outcome; the outcomes are: {all}"))
    })
}
