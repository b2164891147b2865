//! `/api/events/stream`: events and snapshots as server-sent events.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{BoxError, Extension};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::body::{PART_TIMEOUT, Parts, unlimited};
use super::events::{cursor, refuse};
use super::hub::{Live, Seat, Streams, event_message, snapshot};
use super::log_reader::LogReader;
use super::params::Params;
use super::problem::Problem;
use crate::store::{Cursor, EventLogFilter, EventPage, Store};

/// How long a browser waits before it connects again.
const RETRY: &str = "retry: 1000\n";

pub(super) async fn stream(
    State(site): State<Arc<Site>>,
    Extension(streams): Extension<Arc<Streams>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["after"])?;
    let last_id = headers
        .get("last-event-id")
        .map(|id| id.to_str().unwrap_or("no cursor"))
        .filter(|id| !id.is_empty());
    let after = cursor(last_id.or(params.last("after")))?;
    // Seated before the log is read: what is recorded from here on comes by way of the seat.
    let Some(seat) = site.hub.sit(&streams) else {
        let detail = "there are too many event streams; close some, or read /api/events instead";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return Ok(response);
    };
    // From here on changes are noted; the reader reads the whole after this.
    site.sources.board.start_changes().await;
    let store = site.sources.store.clone();
    // Without a cursor it begins here: what the client gets first names this place, so that it can come back to it.
    let begin = match &after {
        Some(after) => after.clone(),
        None => end_of_log(&store).await?,
    };
    let mut log = LogReader::new(store, Some(begin.clone()), EventLogFilter::default());
    // A cursor that is not valid is answered by the status, which must be known before the first message.
    let page = log.read(usize::MAX).await.map_err(|error| refuse(&error))?;
    let mut first = format!("{RETRY}id: {begin}\n\n").into_bytes();
    first.extend_from_slice(&snapshot(&site.sources, Vec::new(), Vec::new()));
    let body = unlimited(Reader {
        log,
        seat,
        closing: site.closing.clone(),
        first: Some(first.into()),
        missed: Some(page),
        is_behind: false,
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // For proxies, which would keep messages back until there are enough of them.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

async fn end_of_log(store: &Store) -> Result<Cursor, Problem> {
    let end = store.end_of_log().await;
    end.map_err(|error| Problem::unreadable(&error))
}

/// One reader of the stream.
struct Reader {
    /// Stands where the client is.
    log: LogReader,
    seat: Seat,
    closing: CancellationToken,
    first: Option<Bytes>,
    /// What was read of the log and is not sent.
    missed: Option<EventPage>,
    /// Whether the log has more that the client lacks.
    is_behind: bool,
}

impl Parts for Reader {
    type Error = BoxError;

    /// The next messages; `None` at the end, when the daemon stops or the reader lacks a snapshot.
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let closing = self.closing.clone();
        let messages = closing.run_until_cancelled(self.messages()).await;
        messages.unwrap_or(Ok(None))
    }
}

impl Reader {
    async fn messages(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            if let Some(page) = self.missed.take() {
                self.is_behind = page.more;
                if !page.events.is_empty() {
                    return Ok(Some(page.events.iter().flat_map(event_message).collect()));
                }
            }
            if self.is_behind {
                let page = tokio::time::timeout(PART_TIMEOUT, self.log.read(usize::MAX)).await??;
                self.missed = Some(page);
                continue;
            }
            let live = tokio::select! {
                live = self.seat.events.recv() => live,
                snapshot = self.seat.snapshots.recv() => return Ok(snapshot.ok()),
            };
            match live {
                Ok(live) => match order(self.log.after(), &live) {
                    Order::Next => {
                        self.log.set_after(live.cursor);
                        if let Some(message) = live.message {
                            return Ok(Some(message));
                        }
                    }
                    Order::Sent => {}
                    Order::Gap => self.is_behind = true,
                },
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// It was read from the log already.
    Sent,
    /// It follows what was sent.
    Next,
    /// Something between the two is only in the log.
    Gap,
}

fn order(sent: Option<&Cursor>, live: &Live) -> Order {
    let Some(sent) = sent else {
        return Order::Gap;
    };
    if live.before.is_after(sent) {
        Order::Gap
    } else if live.cursor.is_after(sent) {
        Order::Next
    } else {
        Order::Sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_before_a_live_event_is_seen() {
        let cursor = |row: u32| -> Cursor { format!("0a-{row}").parse().unwrap() };
        let live = |before, row, message: &'static str| Live {
            before: cursor(before),
            cursor: cursor(row),
            message: (!message.is_empty()).then(|| Bytes::from_static(message.as_bytes())),
        };
        let at = |row| Some(cursor(row));
        assert_eq!(order(at(5).as_ref(), &live(5, 6, "e")), Order::Next);
        // Rows between them were removed.
        assert_eq!(order(at(5).as_ref(), &live(3, 6, "e")), Order::Next);
        assert_eq!(order(at(6).as_ref(), &live(5, 6, "e")), Order::Sent);
        assert_eq!(order(at(9).as_ref(), &live(5, 6, "e")), Order::Sent);
        assert_eq!(order(at(4).as_ref(), &live(5, 6, "e")), Order::Gap);
        assert_eq!(order(None, &live(5, 6, "e")), Order::Gap);
        // The stream goes on at another place.
        assert_eq!(order(at(4).as_ref(), &live(5, 5, "")), Order::Gap);
        assert_eq!(order(at(5).as_ref(), &live(5, 5, "")), Order::Sent);
    }
}
