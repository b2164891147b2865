//! Answers are made at the pace at which they are read: the next part is made when the one before has left for the
//! kernel. So a client that does not read costs one part, whatever the size of the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::connection_slots::ConnectionSlot;

/// What the answers and the socket of one connection know about each other.
#[derive(Debug)]
pub(super) struct ResponsePacing {
    ticket: ConnectionSlot,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    /// Whether hyper may have a part of the answer that the kernel does not.
    has_unsent: bool,
    /// The connection's task, while it waits for the socket. Service, body and socket all run in it.
    waiting: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// There is no request in progress.
    None,
    InProgress,
    /// All of it is made, and some of it may not be sent.
    Made,
}

impl ResponsePacing {
    pub(super) fn new(ticket: ConnectionSlot) -> Arc<Self> {
        Arc::new(Self {
            ticket,
            state: Mutex::new(State {
                answer: Answer::None,
                has_unsent: false,
                waiting: None,
            }),
        })
    }

    pub(super) fn ticket(&self) -> &ConnectionSlot {
        &self.ticket
    }

    /// Begins a request once the answer before it has left: answers to pipelined requests do not pile up.
    pub(super) async fn begin_request(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.answer != Answer::None {
                state.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.answer = Answer::InProgress;
            Poll::Ready(())
        })
        .await;
        self.ticket.begin_request();
    }

    /// Whether a request is in progress, or its answer on the way.
    pub(super) fn is_answering(&self) -> bool {
        self.lock().answer != Answer::None
    }

    /// The kernel has everything that was made.
    pub(super) fn sent(&self) {
        let mut state = self.lock();
        state.has_unsent = false;
        if state.answer == Answer::Made {
            state.answer = Answer::None;
            self.ticket.end_request();
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

/// The body of an answer, made at the pace of its connection.
#[derive(Debug)]
pub(super) struct PacedBody {
    body: Body,
    pace: Arc<ResponsePacing>,
}

impl PacedBody {
    pub(super) fn new(body: Body, pace: Arc<ResponsePacing>) -> Self {
        Self { body, pace }
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        self.pace.lock().answer = Answer::Made;
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.pace.poll_sent(cx).is_pending() {
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = &frame {
            self.pace.lock().has_unsent = true;
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
