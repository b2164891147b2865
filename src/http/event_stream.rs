//! `/api/events/stream`: events and snapshots as server-sent events.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{BoxError, Extension};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::access::ReadAccess;
use super::chunked_body::{CHUNK_TIMEOUT, ChunkSource, unlimited};
use super::events::{cursor, refuse};
use super::log_reader::LogReader;
use super::params::Params;
use super::problem::Problem;
use super::stream_fanout::{LiveEvent, StreamLimit, StreamSubscription, event_message, snapshot_message};
use super::{HttpService, RequestOrigin};
use crate::store::{Cursor, EventLogFilter, EventPage, Store};

/// How long a browser waits before it reconnects.
const RETRY: &str = "retry: 1000\n";

pub(super) async fn stream(
    State(service): State<Arc<HttpService>>,
    Extension(streams): Extension<Arc<StreamLimit>>,
    Extension(origin): Extension<RequestOrigin>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["after"])?;
    let last_id = headers
        .get("last-event-id")
        .map(|id| id.to_str().unwrap_or("not a cursor"))
        .filter(|id| !id.is_empty());
    let after = cursor(last_id.or(params.last("after")))?;
    // Subscribed before the log is read, so that no event is missed in between.
    let Some(subscription) = service.fanout.subscribe(&streams) else {
        let detail = "there are too many event streams; close some, or poll /api/events instead";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return Ok(response);
    };
    // Changes are recorded from here on; the client reads the full list after this.
    service.data.board.start_changes().await;
    let store = service.data.store.clone();
    // Without a cursor the stream starts here. The first message carries this position, so the client can resume.
    let begin = match &after {
        Some(after) => after.clone(),
        None => end_of_log(&store).await?,
    };
    let mut log = LogReader::new(store, Some(begin.clone()), EventLogFilter::default());
    // An invalid cursor must be known before the response begins, since it sets the status.
    let page = log.read(usize::MAX).await.map_err(|error| refuse(&error))?;
    let mut first = format!("{RETRY}id: {begin}\n\n").into_bytes();
    first.extend_from_slice(&snapshot_message(&service.data, Vec::new(), Vec::new()));
    let body = unlimited(StreamReader {
        log,
        subscription,
        closing: service.closing.clone(),
        access: match origin {
            RequestOrigin::Network(access) => Some(ReadAccess::new(access, &headers)),
            RequestOrigin::Control => None,
        },
        first: Some(first.into()),
        unsent: Some(page),
        is_behind: false,
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // Otherwise proxies may buffer messages.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

async fn end_of_log(store: &Store) -> Result<Cursor, Problem> {
    let end = store.end_of_log().await;
    end.map_err(|error| Problem::unreadable(&error))
}

/// One reader of the stream.
struct StreamReader {
    /// The position of the client.
    log: LogReader,
    subscription: StreamSubscription,
    closing: CancellationToken,
    /// The right to read; `None` if none is needed.
    access: Option<ReadAccess>,
    first: Option<Bytes>,
    /// Events that were read from the log and not sent yet.
    unsent: Option<EventPage>,
    /// Whether the log has more events that the client has not seen.
    is_behind: bool,
}

impl ChunkSource for StreamReader {
    type Error = BoxError;

    /// The next messages; `None` when the daemon stops, the token of the client was removed, or it missed a snapshot.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BoxError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let (closing, access) = (self.closing.clone(), self.access.take());
        let revoked = async {
            match &access {
                Some(access) => access.revoked().await,
                None => std::future::pending().await,
            }
        };
        let messages = tokio::select! {
            biased;
            () = closing.cancelled() => Ok(None),
            () = revoked => Ok(None),
            messages = self.messages() => messages,
        };
        self.access = access;
        messages
    }
}

impl StreamReader {
    async fn messages(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            if let Some(page) = self.unsent.take() {
                self.is_behind = page.more;
                if !page.events.is_empty() {
                    return Ok(Some(page.events.iter().flat_map(event_message).collect()));
                }
            }
            if self.is_behind {
                let page = tokio::time::timeout(CHUNK_TIMEOUT, self.log.read(usize::MAX)).await??;
                self.unsent = Some(page);
                continue;
            }
            let live = tokio::select! {
                live = self.subscription.events.recv() => live,
                snapshot = self.subscription.snapshots.recv() => return Ok(snapshot.ok()),
            };
            match live {
                Ok(live) => match live_position(self.log.after(), &live) {
                    LivePosition::Next => {
                        self.log.set_after(live.cursor);
                        if let Some(message) = live.message {
                            return Ok(Some(message));
                        }
                    }
                    LivePosition::Sent => {}
                    LivePosition::Gap => self.is_behind = true,
                },
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum LivePosition {
    /// The event was read from the log already.
    Sent,
    /// The event follows what was sent.
    Next,
    /// Events between the two are only in the log.
    Gap,
}

fn live_position(sent: Option<&Cursor>, live: &LiveEvent) -> LivePosition {
    let Some(sent) = sent else {
        return LivePosition::Gap;
    };
    if live.before.is_after(sent) {
        LivePosition::Gap
    } else if live.cursor.is_after(sent) {
        LivePosition::Next
    } else {
        LivePosition::Sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_before_a_live_event_is_seen() {
        let cursor = |row: u32| -> Cursor { format!("0a-{row}").parse().unwrap() };
        let live = |before, row, message: &'static str| LiveEvent {
            before: cursor(before),
            cursor: cursor(row),
            message: (!message.is_empty()).then(|| Bytes::from_static(message.as_bytes())),
        };
        let at = |row| Some(cursor(row));
        assert_eq!(
            live_position(at(5).as_ref(), &live(5, 6, "e")),
            LivePosition::Next
        );
        // Rows between them were pruned.
        assert_eq!(
            live_position(at(5).as_ref(), &live(3, 6, "e")),
            LivePosition::Next
        );
        assert_eq!(
            live_position(at(6).as_ref(), &live(5, 6, "e")),
            LivePosition::Sent
        );
        assert_eq!(
            live_position(at(9).as_ref(), &live(5, 6, "e")),
            LivePosition::Sent
        );
        assert_eq!(live_position(at(4).as_ref(), &live(5, 6, "e")), LivePosition::Gap);
        assert_eq!(live_position(None, &live(5, 6, "e")), LivePosition::Gap);
        // The stream continues at another position.
        assert_eq!(live_position(at(4).as_ref(), &live(5, 5, "")), LivePosition::Gap);
        assert_eq!(live_position(at(5).as_ref(), &live(5, 5, "")), LivePosition::Sent);
    }
}
