//! A response body that is sent in pieces, is cut off, or never ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::Sleep;

use super::statistics::InFlight;

/// What follows the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// Nothing: the body is complete.
    Complete,
    /// The connection closes, although more was announced.
    BreaksOff,
    /// The first piece again.
    Repeats,
}

/// A body that is sent in pieces with a pause before each.
pub(super) struct ChunkedBody {
    whole: Bytes,
    sent: usize,
    piece: usize,
    pause: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    ending: BodyEnd,
    /// The request is in flight until the body is dropped.
    _in_flight: InFlight,
}

impl ChunkedBody {
    /// Sends `whole` in pieces of `piece` bytes (at least one), each after `pause`.
    pub(super) fn new(
        whole: Bytes,
        piece: usize,
        pause: Duration,
        ending: BodyEnd,
        in_flight: InFlight,
    ) -> Self {
        Self {
            whole,
            sent: 0,
            piece: piece.max(1),
            pause,
            waiting: None,
            ending,
            _in_flight: in_flight,
        }
    }
}

impl Body for ChunkedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.sent == self.whole.len() && self.ending == BodyEnd::Complete {
            return Poll::Ready(None);
        }
        // Each piece waits, also without a pause: the server flushes only when a body is not ready, and drops unwritten
        // bytes when a body fails.
        let pause = self.pause;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause.max(Duration::from_millis(1)))));
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        if self.sent == self.whole.len() {
            match self.ending {
                BodyEnd::Complete => return Poll::Ready(None),
                BodyEnd::BreaksOff => return Poll::Ready(Some(Err(io::Error::other("cut off on request")))),
                BodyEnd::Repeats => self.sent = 0,
            }
        }
        let end = self.whole.len().min(self.sent.saturating_add(self.piece));
        let piece = self.whole.slice(self.sent..end);
        self.sent = end;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
