//! What is written when something happened, and what is read back at start.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::damage::DamagedWatch;
use crate::core::event::{Event, EventType};
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;

/// A change of state and the events it causes: recorded together, or not at all.
#[derive(Debug, Clone)]
pub struct StateChange {
    /// Whose state it is, and what it is now.
    pub subject: Subject,
    /// What is told of it, in this order. An event whose ID is in the log already is not recorded again.
    pub events: Vec<Event>,
}

/// Whose state changed.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A watch's.
    Watch(WatchKey, Box<Watch>),
    /// A project's, by its name.
    Project(Arc<str>, ProjectHealth),
}

/// A watch as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchRecord {
    /// Its state.
    pub watch: Watch,
    /// When that was recorded.
    pub saved: Timestamp,
    /// When its ID left the watch list, if it has.
    pub unlisted: Option<Timestamp>,
}

/// Watches as they were read back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadedWatches {
    /// Those that are known. What was damaged and rebuilt from the event log is among them.
    pub watches: HashMap<WatchKey, WatchRecord>,
    /// Those whose stored state was damaged or lost.
    pub damaged: Vec<DamagedWatch>,
}

/// What was listed according to the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreviouslyListed {
    /// How many watches.
    pub total: usize,
    /// Those that are not listed now.
    pub absent: Vec<WatchKey>,
}

/// A [`StateChange`] as rows: rendered by the caller, so that the thread that writes has nothing to do but write.
#[derive(Debug)]
pub(super) struct ChangeRows {
    pub(super) state: StateRow,
    pub(super) events: Vec<EventRow>,
    pub(super) at: i64,
}

#[derive(Debug)]
pub(super) enum StateRow {
    Watch { key: WatchKey, state: String },
    Project { name: Arc<str>, state: String },
}

#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) id: String,
    pub(super) event_type: EventType,
    pub(super) project: String,
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
            operation: event.data.operation().map(|data| data.operation_id.clone()),
            time: event.time.as_millisecond(),
            body: event.body(),
        }
    }

    /// What its deliveries are kept in order with. An operation ID is never empty and has no slash, so an
    /// operation's is never a project's.
    pub(super) fn subject(&self) -> String {
        format!(
            "{}/{}",
            self.project,
            self.operation.as_deref().unwrap_or_default()
        )
    }
}

fn to_json<T: serde::Serialize>(state: &T) -> String {
    serde_json::to_string(state).expect("structs of strings, numbers and lists always serialize")
}
