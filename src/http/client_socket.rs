//! The socket of one connection. It disconnects a client that stops reading, and closes so that the last bytes arrive.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

use super::pacing::ResponsePacing;
use super::problem;

/// Limits for reading what the client still sends after the last response. Closing a socket with unread bytes resets
/// the connection, and the client may lose the response.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 2 * 1024 * 1024;

/// The address of a client; `None` on a Unix socket, or if it is unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub(super) Option<SocketAddr>);

/// A connected socket.
pub(super) trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// The address of the client.
    fn address(&self) -> ClientAddress;

    /// Makes `close` drop unsent bytes.
    fn discard_unsent(&self);
}

impl ClientStream for TcpStream {
    fn address(&self) -> ClientAddress {
        ClientAddress(self.peer_addr().ok())
    }

    fn discard_unsent(&self) {
        // Otherwise the kernel keeps the unsent bytes for minutes. Best effort: the socket is closed in any case.
        let _ = self.set_zero_linger();
    }
}

impl ClientStream for UnixStream {
    fn address(&self) -> ClientAddress {
        ClientAddress(None)
    }

    fn discard_unsent(&self) {
        // Written bytes are in the reader's queue and are freed with it.
    }
}

/// The socket that hyper writes to.
#[derive(Debug)]
pub(super) struct ClientSocket<S> {
    stream: S,
    pacing: Arc<ResponsePacing>,
    /// How long a write may make no progress.
    patience: Duration,
    /// Runs while a write waits.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Sent instead of hyper's own error response, which has no body.
    refusal: Option<Bytes>,
    /// Set once writing has ended.
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    end: Pin<Box<Sleep>>,
    read: usize,
}

impl<S: ClientStream> ClientSocket<S> {
    pub(super) fn new(stream: S, patience: Duration, pacing: Arc<ResponsePacing>) -> Self {
        Self {
            stream,
            pacing,
            patience,
            alarm: None,
            refusal: None,
            lingering: None,
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(alarm.as_mut().poll(cx));
        self.stream.discard_unsent();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends problem details instead of `answer`, hyper's response to a malformed request.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, answer: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut refusal = match self.refusal.take() {
            Some(refusal) => refusal,
            None => refusal_of(answer),
        };
        while !refusal.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &refusal);
            match self.watch(cx, written) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => drop(refusal.split_to(length)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.refusal = Some(refusal);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(answer.iter().map(|slice| slice.len()).sum()))
    }
}

/// The response to a request that hyper could not parse, with the status that hyper chose.
fn refusal_of(answer: &[IoSlice<'_>]) -> Bytes {
    let code = answer.first().and_then(|line| line.get(9..12));
    let status = code.and_then(|code| StatusCode::from_bytes(code).ok());
    let (status, detail) = match status {
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request line and headers are larger than 32 KiB",
        ),
        Some(StatusCode::URI_TOO_LONG) => (StatusCode::URI_TOO_LONG, "the path and query are too long"),
        _ => (StatusCode::BAD_REQUEST, "this is not a valid HTTP/1 request"),
    };
    problem::bare_answer(status, detail)
}

impl<S: ClientStream> AsyncRead for ClientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: ClientStream> AsyncWrite for ClientSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.pacing.is_answering() {
            return self.poll_refuse(cx, &[IoSlice::new(bytes)]);
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.pacing.is_answering() {
            return self.poll_refuse(cx, slices);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pacing.sent();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some(Lingering {
                end: Box::pin(sleep(LINGER)),
                read: 0,
            });
        }
        let Self {
            stream, lingering, ..
        } = &mut *self;
        let Some(lingering) = lingering else {
            return Poll::Ready(Ok(()));
        };
        let mut space = [0; 1024];
        while lingering.end.as_mut().poll(cx).is_pending() && lingering.read < MAX_LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => lingering.read += buffer.filled().len(),
                // The client closed its side or is gone.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::core::connections::ConnectionLimits;
    use crate::http::connection_slots::ConnectionSlots;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    const PATIENCE: Duration = Duration::from_secs(30);

    impl ClientStream for DuplexStream {
        fn address(&self) -> ClientAddress {
            ClientAddress(None)
        }

        fn discard_unsent(&self) {}
    }

    fn pacing() -> Arc<ResponsePacing> {
        ResponsePacing::new(
            ConnectionSlots::new(ConnectionLimits::within(64))
                .admit()
                .unwrap(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_disconnected_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let pacing = pacing();
        pacing.begin_request().await;
        let mut socket = ClientSocket::new(ours, PATIENCE, pacing);
        let writing = async {
            socket.write_all(&[7; 12]).await?;
            socket.write_all(&[7; 12]).await
        };
        let reading = async {
            let mut buffer = [0; 4];
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE - Duration::from_millis(1)).await;
                theirs.read_exact(&mut buffer).await.unwrap();
            }
            clock::instant()
        };
        let (written, last_read) = tokio::join!(writing, reading);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(clock::instant() - last_read, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_hyper_gets_problem_details() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut socket = ClientSocket::new(ours, PATIENCE, pacing());
        let refusing = async {
            let answer = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(answer).await.unwrap();
            socket.shutdown().await.unwrap();
        };
        let reading = async {
            let mut answer = String::new();
            theirs.read_to_string(&mut answer).await.unwrap();
            // The client keeps sending for a while.
            theirs.write_all(&[b'x'; 100]).await.unwrap();
            drop(theirs);
            answer
        };
        let ((), answer) = tokio::join!(refusing, reading);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 431);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_stops_sending_is_closed_all_the_same() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut socket = ClientSocket::new(ours, PATIENCE, pacing());
        let begun = clock::instant();
        socket.shutdown().await.unwrap();
        assert_eq!(clock::instant() - begun, LINGER);
        drop(theirs);
    }
}
