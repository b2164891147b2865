//! Response bodies that are produced chunk by chunk, each when the connection can take it.

use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use crate::error::chain;

/// The approximate size of a chunk in bytes: what a client that does not read costs in memory.
pub(super) const CHUNK_SIZE: usize = 8 * 1024;
/// The time limit for one chunk; the disk may be slow.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Produces a response body chunk by chunk.
pub(super) trait ChunkSource: Send + 'static {
    /// Why a chunk cannot be produced.
    type Error: Into<BoxError> + Send;

    /// The next chunk, of about [`CHUNK_SIZE`] bytes; `None` at the end.
    fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;

    /// Whether the last chunk was returned. `false` if that is not known.
    fn is_finished(&self) -> bool {
        false
    }
}

/// Responds with these chunks. The first one is produced before the response begins, so that its failure has a status.
/// A later failure closes the connection, so that no client takes a part for the whole.
pub(super) async fn respond<S: ChunkSource>(
    content_type: &'static str,
    mut source: S,
) -> Result<Response, S::Error> {
    let body = match source.next_chunk().await? {
        None => Body::empty(),
        // Complete, so the response has a length.
        Some(first) if source.is_finished() => Body::from(first),
        Some(first) => body(Some(first), TimeLimited(source)),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// A body of these chunks, without a time limit for each.
pub(super) fn unlimited(source: impl ChunkSource) -> Body {
    body(None, source)
}

fn body(first: Option<Bytes>, source: impl ChunkSource) -> Body {
    Body::from_stream(stream::try_unfold((first, source), |(first, mut source)| async {
        let chunk = match first {
            Some(first) => Ok(Some(first)),
            None => source.next_chunk().await.map_err(Into::into),
        };
        chunk
            .map(|chunk| Some((chunk?, (None, source))))
            .inspect_err(|error: &BoxError| {
                tracing::debug!(error = chain(&**error), "a response was cut off")
            })
    }))
}

/// Limits each chunk to [`CHUNK_TIMEOUT`].
struct TimeLimited<S>(S);

impl<S: ChunkSource> ChunkSource for TimeLimited<S> {
    type Error = BoxError;

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BoxError> {
        let chunk = tokio::time::timeout(CHUNK_TIMEOUT, self.0.next_chunk()).await?;
        chunk.map_err(Into::into)
    }
}
