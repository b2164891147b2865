//! Prepares the messages of all event streams once: recorded events, and once a second a snapshot of changes.
//!
//! Readers are never awaited. Each may lag by a bounded number of messages; beyond that it is disconnected. Readers
//! share the bytes of a message. axum's `Sse` cannot do this, since each of its events owns its bytes.

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

/// The interval of snapshots.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// A snapshot without changes is sent after this many intervals, so that readers notice a dead connection.
const HEARTBEAT_INTERVALS: u32 = 10;
/// The most operations of one snapshot, of a few kB each; the rest follows with the next.
const MAX_CHANGES: usize = 1_000;
/// Snapshots that a reader may lag behind; each may be large.
const MAX_SNAPSHOT_LAG: usize = 8;
/// Events that a reader may lag behind, of up to 20 kB each; beyond that it reads the log.
const MAX_EVENT_LAG: usize = 1_024;
/// Events that are read from the log at a time.
const EVENT_PAGE: usize = 100;
/// The wait before the event log is read again after an error.
const RETRY: Duration = Duration::from_secs(1);

/// An event as sent to streams.
#[derive(Debug, Clone)]
pub(super) struct LiveEvent {
    /// The position before it. A reader that has not reached it has missed events.
    pub(super) before: Cursor,
    /// The position after it.
    pub(super) cursor: Cursor,
    /// The whole message; `None` where the stream continues at another position.
    pub(super) message: Option<Bytes>,
}

/// Delivers messages to all event streams, as broadcasts with bounded queues.
#[derive(Debug)]
pub(super) struct StreamFanout {
    snapshots: broadcast::Sender<Bytes>,
    events: broadcast::Sender<LiveEvent>,
}

/// Limits the event streams of one listener, so that other clients can connect.
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

/// The subscription of one reader.
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
struct SnapshotMessage {
    /// When it was made.
    time: String,
    /// The number of operations in each phase.
    phases: serde_json::Map<String, serde_json::Value>,
    projects: Vec<ProjectState>,
    watch_list: WatchListState,
    /// New and changed operations.
    operations: Vec<OperationView>,
    /// Operations that are no longer listed.
    removed: Vec<RemovedOperation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectState {
    name: Arc<str>,
    /// Whether its polls succeed.
    reachable: bool,
    /// Whether the API accepts its key.
    credentials_valid: bool,
}

impl ProjectState {
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
struct WatchListState {
    /// Whether the file was read without an error last time.
    readable: bool,
    /// The number of rejected lines.
    rejected_lines: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RemovedOperation {
    project: String,
    operation_id: String,
}

impl From<WatchKey> for RemovedOperation {
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
            snapshots: broadcast::Sender::new(MAX_SNAPSHOT_LAG),
            events: broadcast::Sender::new(MAX_EVENT_LAG),
        }
    }

    /// Subscribes to all messages from now on. `None` when `limit` is reached.
    pub(super) fn subscribe(&self, streams: &Arc<StreamLimit>) -> Option<StreamSubscription> {
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

    /// Sends messages to the readers; never returns.
    pub(super) async fn run(&self, data: &ServedData) {
        tokio::join!(self.send_snapshots(data), self.send_events(data));
    }

    async fn send_snapshots(&self, data: &ServedData) {
        let mut ticks = interval(SNAPSHOT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unsent_intervals = 0;
        let mut has_readers = false;
        loop {
            ticks.tick().await;
            if self.snapshots.receiver_count() == 0 {
                if std::mem::take(&mut has_readers) {
                    data.board.stop_changes();
                }
                continue;
            }
            has_readers = true;
            let changes = data.board.changes(MAX_CHANGES).await;
            if changes.changed.is_empty() && changes.removed.is_empty() {
                unsent_intervals += 1;
                if unsent_intervals < HEARTBEAT_INTERVALS {
                    continue;
                }
            }
            unsent_intervals = 0;
            let operations = changes.changed.iter().map(OperationView::of).collect();
            let message = snapshot_message(data, operations, changes.removed);
            // Fails only if the last reader has just disconnected.
            let _ = self.snapshots.send(message);
        }
    }

    async fn send_events(&self, data: &ServedData) {
        let store = &data.store;
        let mut changed = store.changed();
        let mut sent: Option<Cursor> = None;
        loop {
            // Marked as seen before the log is read: events recorded during the read wake `changed` again.
            changed.borrow_and_update();
            if let Err(error) = self.send_new_events(data, &mut sent).await {
                tracing::debug!(error = chain(&error), "cannot read the event log");
                if !matches!(error, EventsError::Read(_)) {
                    sent = None;
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if changed.changed().await.is_err() {
                // The store is closed, which happens only at a stop.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn send_new_events(&self, data: &ServedData, sent: &mut Option<Cursor>) -> Result<(), EventsError> {
        let store = &data.store;
        loop {
            if sent.is_none() || self.events.receiver_count() == 0 {
                let end = store.end_of_log().await?;
                // A reader that subscribed during this lookup needs the events since `sent`: then read them instead.
                if sent.is_none() || self.events.receiver_count() == 0 {
                    // Readers may have started before this position.
                    let _ = self.events.send(LiveEvent {
                        before: end.clone(),
                        cursor: end.clone(),
                        message: None,
                    });
                    *sent = Some(end);
                    return Ok(());
                }
            }
            let page = store
                .events_after(sent.clone(), EVENT_PAGE, EventLogFilter::default())
                .await?;
            for event in &page.events {
                let before = sent.replace(event.cursor.clone());
                let _ = self.events.send(LiveEvent {
                    before: before.unwrap_or_else(|| event.cursor.clone()),
                    cursor: event.cursor.clone(),
                    message: Some(event_message(event)),
                });
            }
            *sent = Some(page.next);
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
pub(super) fn snapshot_message(
    data: &ServedData,
    operations: Vec<OperationView>,
    removed: Vec<WatchKey>,
) -> Bytes {
    let list = data.list.borrow().clone();
    let snapshot = SnapshotMessage {
        time: millis(clock::wall()),
        phases: data
            .board
            .phases()
            .iter()
            .map(|(phase, count)| (phase.as_str().to_owned(), count.into()))
            .collect(),
        projects: data.board.projects().iter().map(ProjectState::of).collect(),
        watch_list: WatchListState {
            readable: list.list.is_some() && list.problem.is_none(),
            rejected_lines: list.file().map_or(0, |list| list.rejected_total),
        },
        operations,
        removed: removed.into_iter().map(RemovedOperation::from).collect(),
    };
    let json = serde_json::to_string(&snapshot).expect("strings and numbers always serialize");
    Bytes::from(format!("event: snapshot\ndata: {json}\n\n"))
}
