//! Changes of the state, and watches as they are read back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::damage::DamagedWatch;
use crate::core::event::{Event, EventType};
use crate::core::group::{GroupId, GroupRecord};
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;

/// A change of state and its events. They are recorded in one transaction.
#[derive(Debug, Clone)]
pub struct StateChange {
    /// The new state.
    pub subject: Subject,
    /// The events, in this order. An event whose ID is in the log already is skipped.
    pub events: Vec<Event>,
}

/// The owner of a state, with the state.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A watch.
    Watch(WatchKey, Box<Watch>),
    /// A project, by name.
    Project(Arc<str>, Box<ProjectHealth>),
    /// A group of watches, with the name of its project.
    Group(Arc<str>, GroupId, GroupRecord),
}

/// A stored watch.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchRecord {
    /// Its state.
    pub watch: Watch,
    /// When the state was recorded.
    pub saved: Timestamp,
    /// When it left the watch list; `None` while it is listed.
    pub unlisted: Option<Timestamp>,
}

/// The result of loading watches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadedWatches {
    /// The stored watches, including those that were rebuilt from the event log.
    pub watches: HashMap<WatchKey, WatchRecord>,
    /// The watches whose stored state was damaged or lost.
    pub damaged: Vec<DamagedWatch>,
}

/// The watches that are listed according to the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreviouslyListed {
    /// Their number.
    pub total: usize,
    /// Those that the watch list no longer has.
    pub absent: Vec<WatchKey>,
}

/// A [`StateChange`] as rows. The caller renders them, to keep the writing thread fast.
#[derive(Debug)]
pub(super) struct ChangeRows {
    pub(super) state: StateRow,
    pub(super) events: Vec<EventRow>,
    pub(super) at: i64,
}

/// A row of the table of watches, projects or groups.
#[derive(Debug)]
pub(super) enum StateRow {
    Watch {
        key: WatchKey,
        state: String,
    },
    Project {
        name: Arc<str>,
        state: String,
    },
    Group {
        project: Arc<str>,
        id: GroupId,
        state: String,
    },
}

/// A row of the event log. `time` is in milliseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) id: String,
    pub(super) event_type: EventType,
    pub(super) project: String,
    /// The operation ID, or a group as in [`EventData::subject`](crate::core::event::EventData::subject).
    pub(super) operation: Option<String>,
    pub(super) time: i64,
    pub(super) body: String,
}

impl ChangeRows {
    pub(super) fn new(change: &StateChange, now: Timestamp) -> Self {
        let state = match &change.subject {
            Subject::Watch(key, watch) => StateRow::watch(key, watch),
            Subject::Project(name, project) => StateRow::Project {
                name: name.clone(),
                state: to_json(project),
            },
            Subject::Group(project, id, record) => StateRow::Group {
                project: project.clone(),
                id: *id,
                state: to_json(record),
            },
        };
        Self {
            state,
            events: change.events.iter().map(EventRow::new).collect(),
            at: now.as_millisecond(),
        }
    }
}

impl StateRow {
    pub(super) fn watch(key: &WatchKey, watch: &Watch) -> Self {
        Self::Watch {
            key: key.clone(),
            state: to_json(watch),
        }
    }
}

impl EventRow {
    fn new(event: &Event) -> Self {
        Self {
            id: event.id.to_string(),
            event_type: event.event_type,
            project: event.data.project().to_owned(),
            operation: event.data.subject().map(Cow::into_owned),
            time: event.time.as_millisecond(),
            body: event.body(),
        }
    }

    /// The subject, within which deliveries keep their order: `PROJECT/`, `PROJECT/OPERATION` or `PROJECT//LABEL=VALUE`. An
    /// operation ID is never empty and has no slash, so no two of them are equal.
    pub(super) fn subject(&self) -> String {
        format!(
            "{}/{}",
            self.project,
            self.operation.as_deref().unwrap_or_default()
        )
    }
}

pub(super) fn to_json<T: serde::Serialize>(state: &T) -> String {
    serde_json::to_string(state).expect("structs of strings, numbers and lists always serialize")
}
