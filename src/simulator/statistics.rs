//! Counts the requests and responses of a simulated server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use super::reply::SimulatedReply;
use super::request::RequestKind;

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

/// Counts the requests of a simulator, all together and by kind.
#[derive(Debug, Default)]
pub(super) struct RequestStatistics {
    all: Arc<Statistics>,
    kinds: [Arc<Statistics>; RequestKind::COUNT],
}

impl RequestStatistics {
    /// The counters of requests of this kind.
    pub(super) fn counters(&self, kind: RequestKind) -> Counters {
        Counters([Arc::clone(&self.all), Arc::clone(&self.kinds[kind as usize])])
    }

    /// The number of requests so far.
    pub(super) fn total(&self) -> u64 {
        self.all.total.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self) -> RequestCounts {
        self.all.snapshot()
    }

    pub(super) fn snapshot_of(&self, kind: RequestKind) -> RequestCounts {
        self.kinds[kind as usize].snapshot()
    }
}

/// The counters that a request belongs to.
#[derive(Debug, Clone)]
pub(super) struct Counters([Arc<Statistics>; 2]);

impl Counters {
    /// Counts a request that arrives; it is in flight as long as the answer is kept.
    pub(super) fn enter(&self) -> InFlight {
        for statistics in &self.0 {
            statistics.enter();
        }
        InFlight(self.clone())
    }

    pub(super) fn count_status(&self, status: StatusCode) {
        for statistics in &self.0 {
            statistics.count_status(status);
        }
    }

    /// Counts replies without a status.
    pub(super) fn count_reply(&self, reply: &SimulatedReply) {
        for statistics in &self.0 {
            statistics.count_reply(reply);
        }
    }
}

/// Counts requests.
#[derive(Debug, Default)]
struct Statistics {
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
    fn enter(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Ordering::Relaxed);
    }

    fn count_status(&self, status: StatusCode) {
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

    fn count_reply(&self, reply: &SimulatedReply) {
        let counter = match reply {
            SimulatedReply::Reset => &self.resets,
            SimulatedReply::Hang => &self.hangs,
            SimulatedReply::Truncated => &self.truncated,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self) -> RequestCounts {
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
pub(super) struct InFlight(Counters);

impl Drop for InFlight {
    fn drop(&mut self) {
        for statistics in &self.0.0 {
            statistics.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
