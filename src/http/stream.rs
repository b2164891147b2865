//! `/api/events/stream`: events and snapshots as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::events::{cursor, refuse};
use super::hub::{Seat, event_message, snapshot};
use super::params::Params;
use super::problem::Problem;
use crate::store::{Cursor, EventFilter, EventPage, EventsError, Store};

/// Events that are read at a time while a reader catches up.
const PAGE: usize = 100;
/// How long a browser waits before it connects again.
const RETRY: &str = "retry: 1000\n\n";

pub(super) async fn stream(
    State(site): State<Arc<Site>>,
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
    let Some(seat) = site.hub.sit() else {
        let detail = "there are too many event streams; close some, or read /api/events instead";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return Ok(response);
    };
    // From here on changes are noted; the reader reads the whole after this.
    site.sources.board.start_changes().await;
    let mut reader = Reader {
        store: site.sources.store.clone(),
        seat,
        closing: site.closing.clone(),
        first: None,
        missed: None,
        after,
    };
    if reader.after.is_some() {
        // A cursor that does not hold is told by the status, which must be known before the first message.
        let page = reader.read().await.map_err(|error| refuse(&error))?;
        reader.missed = Some(page);
    }
    let mut first = Vec::from(RETRY);
    first.extend_from_slice(&snapshot(&site.sources, Vec::new(), Vec::new()));
    reader.first = Some(first.into());
    let body = Body::new(Messages {
        next: Some(Box::pin(reader.next())),
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // For proxies, which would keep messages back until there are enough of them.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// One reader of the stream.
struct Reader {
    store: Store,
    seat: Seat,
    closing: CancellationToken,
    first: Option<Bytes>,
    /// What it has missed, as far as it is read.
    missed: Option<EventPage>,
    /// Up to where it has been told, if it cares.
    after: Option<Cursor>,
}

impl Reader {
    async fn read(&self) -> Result<EventPage, EventsError> {
        self.store
            .events_after(self.after.clone(), PAGE, EventFilter::default())
            .await
    }

    /// The next message; `None` at the end, be it that the reader fell behind, or that the daemon stops.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if let Some(first) = self.first.take() {
            return Some((first, self));
        }
        while let Some(page) = self.missed.take() {
            self.after = Some(page.next.clone());
            if page.more {
                self.missed = Some(self.read().await.ok()?);
            }
            let mut messages = Vec::new();
            for event in &page.events {
                messages.extend_from_slice(&event_message(event));
            }
            if !messages.is_empty() {
                return Some((messages.into(), self));
            }
        }
        let closing = self.closing.clone();
        let message = closing.run_until_cancelled(self.live()).await??;
        Some((message, self))
    }

    async fn live(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                event = self.seat.events.recv() => {
                    let event = event.ok()?;
                    // What was read from the log while it was told to the seat as well is not told twice.
                    if self.after.as_ref().is_none_or(|after| event.cursor.is_after(after)) {
                        return Some(event.message);
                    }
                }
                snapshot = self.seat.snapshots.recv() => return snapshot.ok(),
            }
        }
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Reader)>> + Send>>;

/// The messages of a reader as the body of an answer: made when the connection can take more, not before.
struct Messages {
    next: Option<Next>,
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        match next.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.next = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((message, reader))) => {
                self.next = Some(Box::pin(reader.next()));
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
        }
    }
}
