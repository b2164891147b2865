//! What all event streams have in common, made once for all of them: the events as they are recorded, and once a
//! second a snapshot of what changed.
//!
//! Readers are never waited for: each holds a bounded number of messages, and who falls behind is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval};

use super::ServedData;
use super::operation_view::OperationView;
use crate::board::ProjectView;
use crate::clock;
use crate::core::event::millis;
use crate::core::watch_list::WatchKey;
use crate::error::chain;
use crate::store::{Cursor, EventLogFilter, EventsError, StoredEvent};

/// How often what changed is told.
const SNAPSHOTS: Duration = Duration::from_secs(1);
/// A snapshot is told at least this often, changed or not, so that readers know that the connection stands.
const HEARTBEAT: u32 = 10;
/// The most operations of one snapshot, of up to some kB each; the rest comes with the next.
const MAX_CHANGES: usize = 1_000;
/// Snapshots that a reader may be behind: each may be large, and the next tells anew what matters.
const SNAPSHOTS_BEHIND: usize = 8;
/// Events that a reader may be behind, of up to 20 kB each; it reads what it missed from the log.
const EVENTS_BEHIND: usize = 1_024;
/// Events that are read at a time.
const PAGE: usize = 100;
/// How long to wait before the event log that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);

/// An event as streams send it.
#[derive(Debug, Clone)]
pub(super) struct LiveEvent {
    /// The place before it: a reader that is not there yet has missed something.
    pub(super) before: Cursor,
    /// The place after it.
    pub(super) cursor: Cursor,
    /// The whole message; `None` where the stream goes on at another place.
    pub(super) message: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct StreamFanout {
    snapshots: broadcast::Sender<Bytes>,
    events: broadcast::Sender<LiveEvent>,
}

/// The event streams of one listener; there are only so many, so that they leave room for other clients.
#[derive(Debug)]
pub(super) struct StreamLimit {
    open: AtomicUsize,
    max: usize,
}

impl StreamLimit {
    /// At most `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            max,
        }
    }
}

/// A reader's seat.
#[derive(Debug)]
pub(super) struct StreamSubscription {
    streams: Arc<StreamLimit>,
    pub(super) snapshots: broadcast::Receiver<Bytes>,
    pub(super) events: broadcast::Receiver<LiveEvent>,
}

impl Drop for StreamSubscription {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    /// When it was made.
    time: String,
    /// How many listed operations stand in each phase.
    phases: serde_json::Map<String, serde_json::Value>,
    projects: Vec<Project>,
    watch_list: WatchList,
    /// What is new or changed.
    operations: Vec<OperationView>,
    /// What is not listed any more.
    removed: Vec<Removed>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Project {
    name: Arc<str>,
    /// Whether its polls succeed.
    reachable: bool,
    /// Whether the API accepts its key.
    credentials_valid: bool,
}

impl Project {
    fn of(view: &ProjectView) -> Self {
        Self {
            name: Arc::clone(&view.name),
            reachable: view.api.unreachable.is_none(),
            credentials_valid: view.api.rejected.is_none(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WatchList {
    /// Whether there is a list, and its file could be read last time.
    readable: bool,
    /// Lines that are skipped.
    rejected_lines: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    project: String,
    operation_id: String,
}

impl From<WatchKey> for Removed {
    fn from(key: WatchKey) -> Self {
        Self {
            project: key.project.to_string(),
            operation_id: key.operation.to_string(),
        }
    }
}

impl StreamFanout {
    pub(super) fn new() -> Self {
        Self {
            snapshots: broadcast::Sender::new(SNAPSHOTS_BEHIND),
            events: broadcast::Sender::new(EVENTS_BEHIND),
        }
    }

    /// A seat, if one of `streams` is free. It receives what is sent from now on.
    pub(super) fn sit(&self, streams: &Arc<StreamLimit>) -> Option<StreamSubscription> {
        let taken = streams
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < streams.max).then_some(open + 1)
            });
        taken.ok()?;
        Some(StreamSubscription {
            streams: Arc::clone(streams),
            snapshots: self.snapshots.subscribe(),
            events: self.events.subscribe(),
        })
    }

    /// Tells readers what happens, for ever.
    pub(super) async fn feed(&self, sources: &ServedData) {
        tokio::join!(self.tell_snapshots(sources), self.tell_events(sources));
    }

    async fn tell_snapshots(&self, sources: &ServedData) {
        let mut ticks = interval(SNAPSHOTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        let mut has_readers = false;
        loop {
            ticks.tick().await;
            if self.snapshots.receiver_count() == 0 {
                if std::mem::take(&mut has_readers) {
                    sources.board.stop_changes();
                }
                continue;
            }
            has_readers = true;
            let changes = sources.board.changes(MAX_CHANGES).await;
            if changes.changed.is_empty() && changes.removed.is_empty() {
                silent += 1;
                if silent < HEARTBEAT {
                    continue;
                }
            }
            silent = 0;
            let operations = changes.changed.iter().map(OperationView::of).collect();
            let message = snapshot(sources, operations, changes.removed);
            // Fails only if the last reader has just left.
            let _ = self.snapshots.send(message);
        }
    }

    async fn tell_events(&self, sources: &ServedData) {
        let store = &sources.store;
        let mut changed = store.changed();
        let mut told: Option<Cursor> = None;
        loop {
            // Marked as seen before the log is read, so that what is recorded meanwhile is met by `changed`.
            changed.borrow_and_update();
            if let Err(error) = self.tell_new(sources, &mut told).await {
                tracing::debug!(error = chain(&error), "the event log could not be read");
                if !matches!(error, EventsError::Read(_)) {
                    told = None;
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if changed.changed().await.is_err() {
                // The store is gone, which happens only at a stop.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn tell_new(&self, sources: &ServedData, told: &mut Option<Cursor>) -> Result<(), EventsError> {
        let store = &sources.store;
        loop {
            if told.is_none() || self.events.receiver_count() == 0 {
                let end = store.end_of_log().await?;
                // A reader that came in between, and read the log before its end was looked up, lacks what is between
                // the two: then the log is read from where it was told before.
                if told.is_none() || self.events.receiver_count() == 0 {
                    // Readers that are there already may have begun before this place.
                    let _ = self.events.send(LiveEvent {
                        before: end.clone(),
                        cursor: end.clone(),
                        message: None,
                    });
                    *told = Some(end);
                    return Ok(());
                }
            }
            let page = store
                .events_after(told.clone(), PAGE, EventLogFilter::default())
                .await?;
            for event in &page.events {
                let before = told.replace(event.cursor.clone());
                let _ = self.events.send(LiveEvent {
                    before: before.unwrap_or_else(|| event.cursor.clone()),
                    cursor: event.cursor.clone(),
                    message: Some(event_message(event)),
                });
            }
            *told = Some(page.next);
            if !page.more {
                return Ok(());
            }
        }
    }
}

/// The message of one event.
pub(super) fn event_message(event: &StoredEvent) -> Bytes {
    // No line feeds in it: JSON escapes them.
    Bytes::from(format!(
        "event: {}\nid: {}\ndata: {}\n\n",
        event.event_type,
        event.cursor,
        event.to_json()
    ))
}

/// The message of a snapshot.
pub(super) fn snapshot(
    sources: &ServedData,
    operations: Vec<OperationView>,
    removed: Vec<WatchKey>,
) -> Bytes {
    let list = sources.list.borrow().clone();
    let snapshot = Snapshot {
        time: millis(clock::wall()),
        phases: sources
            .board
            .phases()
            .iter()
            .map(|(phase, count)| (phase.as_str().to_owned(), count.into()))
            .collect(),
        projects: sources.board.projects().iter().map(Project::of).collect(),
        watch_list: WatchList {
            readable: list.list.is_some() && list.problem.is_none(),
            rejected_lines: list.file().map_or(0, |list| list.rejected_total),
        },
        operations,
        removed: removed.into_iter().map(Removed::from).collect(),
    };
    let json = serde_json::to_string(&snapshot).expect("strings and numbers always serialize");
    Bytes::from(format!("event: snapshot\ndata: {json}\n\n"))
}
