//! Counts the requests and responses of a simulated server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use super::fault::SimulatedReply;

/// The requests so far, by response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Requests that arrived.
    pub total: u64,
    /// Answers of a status 2xx, complete or not.
    pub succeeded: u64,
    /// Answers 401.
    pub unauthorized: u64,
    /// Answers 403.
    pub forbidden: u64,
    /// Answers 404.
    pub not_found: u64,
    /// Answers 429.
    pub throttled: u64,
    /// Answers of a status 5xx.
    pub server_errors: u64,
    /// Answers of any other status.
    pub other: u64,
    /// Connections reset instead of an answer.
    pub resets: u64,
    /// Requests that never got an answer.
    pub hangs: u64,
    /// Answers that broke off.
    pub truncated: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// The most requests that were being answered at one time.
    pub max_in_flight: u64,
}

/// Counts the requests of a simulator.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    total: AtomicU64,
    succeeded: AtomicU64,
    unauthorized: AtomicU64,
    forbidden: AtomicU64,
    not_found: AtomicU64,
    throttled: AtomicU64,
    server_errors: AtomicU64,
    other: AtomicU64,
    resets: AtomicU64,
    hangs: AtomicU64,
    truncated: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
}

impl Statistics {
    /// Counts a request that arrives; it is in flight as long as the answer is kept.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.total.fetch_add(1, Ordering::Relaxed);
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// The number of requests so far.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn count_status(&self, status: StatusCode) {
        let counter = match status.as_u16() {
            200..=299 => &self.succeeded,
            401 => &self.unauthorized,
            403 => &self.forbidden,
            404 => &self.not_found,
            429 => &self.throttled,
            500..=599 => &self.server_errors,
            _ => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts replies without a status.
    pub(super) fn count_reply(&self, reply: &SimulatedReply) {
        let counter = match reply {
            SimulatedReply::Reset => &self.resets,
            SimulatedReply::Hang => &self.hangs,
            SimulatedReply::Truncated => &self.truncated,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            total: read(&self.total),
            succeeded: read(&self.succeeded),
            unauthorized: read(&self.unauthorized),
            forbidden: read(&self.forbidden),
            not_found: read(&self.not_found),
            throttled: read(&self.throttled),
            server_errors: read(&self.server_errors),
            other: read(&self.other),
            resets: read(&self.resets),
            hangs: read(&self.hangs),
            truncated: read(&self.truncated),
            in_flight: read(&self.in_flight),
            max_in_flight: read(&self.max_in_flight),
        }
    }
}

/// A request in flight; dropped when it is answered or the client left.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Statistics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
