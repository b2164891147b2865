//! Answers that are made part by part, each when the connection can take it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;

use crate::error::chain;

/// About how many bytes a part has. It is what a client that does not read keeps in memory.
pub(super) const CHUNK_SIZE: usize = 8 * 1024;
/// How long a part may take to make: the disk may be slow. What comes later would keep the connection busy for nothing.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes an answer, part by part.
pub(super) trait ChunkSource: Send + 'static {
    /// Why a part cannot be made.
    type Error: Into<BoxError> + Send;

    /// The next part, of about [`CHUNK_SIZE`] bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;

    /// Whether nothing follows, as far as is known.
    fn is_finished(&self) -> bool {
        false
    }
}

/// An answer of these parts. The first one is made before the answer begins, so that its failure has a status. A later
/// failure breaks the connection off, so that nobody takes the beginning for the whole.
pub(super) async fn respond<P: ChunkSource>(
    content_type: &'static str,
    mut parts: P,
) -> Result<Response, P::Error> {
    let first = parts.next().await?;
    let body = match first {
        None => Body::empty(),
        // Complete, so that the answer has a length.
        Some(first) if parts.is_finished() => Body::from(first),
        Some(first) => {
            let timely = TimeLimited(parts);
            Body::new(ChunkedBody {
                first: Some(first),
                next: Some(next_of(timely)),
            })
        }
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// A body of these parts, without a limit on how long each takes.
pub(super) fn unlimited<P: ChunkSource>(parts: P) -> Body {
    Body::new(ChunkedBody {
        first: None,
        next: Some(next_of(parts)),
    })
}

/// ChunkSource that must come in time.
struct TimeLimited<P>(P);

impl<P: ChunkSource> ChunkSource for TimeLimited<P> {
    type Error = BoxError;

    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        match tokio::time::timeout(CHUNK_TIMEOUT, self.0.next()).await {
            Ok(part) => part.map_err(Into::into),
            Err(elapsed) => Err(elapsed.into()),
        }
    }
}

type Next<P> = Pin<Box<dyn Future<Output = Result<Option<(Bytes, P)>, BoxError>> + Send>>;

fn next_of<P: ChunkSource>(mut parts: P) -> Next<P> {
    Box::pin(async move {
        let part = parts.next().await.map_err(Into::into)?;
        Ok(part.map(|part| (part, parts)))
    })
}

struct ChunkedBody<P> {
    first: Option<Bytes>,
    /// `None` after the end.
    next: Option<Next<P>>,
}

impl<P: ChunkSource> HttpBody for ChunkedBody<P> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let part = match next.as_mut().poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(part) => part,
        };
        self.next = None;
        Poll::Ready(match part {
            Ok(None) => None,
            Ok(Some((part, parts))) => {
                // The future of the next part does not run before it is polled.
                self.next = Some(next_of(parts));
                Some(Ok(Frame::data(part)))
            }
            Err(error) => {
                tracing::debug!(error = chain(&*error), "an answer broke off");
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.next.is_none()
    }
}
