//! Produces the next chunk of a response only when the kernel has taken the previous one. A client that does not read
//! costs one chunk, whatever the size of the response.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::connection_slots::ConnectionSlot;

/// State shared by the responses and the socket of one connection.
#[derive(Debug)]
pub(super) struct ResponsePacing {
    slot: ConnectionSlot,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answer: ResponseState,
    /// Whether hyper may buffer a chunk that the kernel has not taken.
    has_unsent: bool,
    /// Wakes the connection's task, which runs service, body and socket.
    waiting: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    /// No request is in progress.
    None,
    InProgress,
    /// The body is complete, but may not be sent yet.
    Made,
}

impl ResponsePacing {
    pub(super) fn new(slot: ConnectionSlot) -> Arc<Self> {
        Arc::new(Self {
            slot,
            state: Mutex::new(State {
                answer: ResponseState::None,
                has_unsent: false,
                waiting: None,
            }),
        })
    }

    pub(super) fn slot(&self) -> &ConnectionSlot {
        &self.slot
    }

    /// Starts a request once the previous response is sent, so that responses to pipelined requests do not pile up.
    pub(super) async fn begin_request(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.answer != ResponseState::None {
                state.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.answer = ResponseState::InProgress;
            Poll::Ready(())
        })
        .await;
        self.slot.begin_request();
    }

    /// Whether a request is in progress or its response not sent yet.
    pub(super) fn is_answering(&self) -> bool {
        self.lock().answer != ResponseState::None
    }

    /// The kernel has taken everything.
    pub(super) fn sent(&self) {
        let mut state = self.lock();
        state.has_unsent = false;
        if state.answer == ResponseState::Made {
            state.answer = ResponseState::None;
            self.slot.end_request();
        }
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.has_unsent {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response body that waits for the socket.
#[derive(Debug)]
pub(super) struct PacedBody {
    body: Body,
    pacing: Arc<ResponsePacing>,
}

impl PacedBody {
    pub(super) fn new(body: Body, pacing: Arc<ResponsePacing>) -> Self {
        Self { body, pacing }
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        self.pacing.lock().answer = ResponseState::Made;
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.pacing.poll_sent(cx).is_pending() {
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = &frame {
            self.pacing.lock().has_unsent = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
