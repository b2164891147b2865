//! When single requests arrived.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::time::Instant;

use super::lock;
use crate::clock;

/// Counts of requests by name, and the earliest instants. Only requests for something that exists are recorded.
#[derive(Debug)]
pub(super) struct RequestLog {
    requests: Mutex<HashMap<String, RequestTimes>>,
    /// How many instants are kept for each name.
    keep: usize,
}

#[derive(Debug, Default)]
struct RequestTimes {
    count: u64,
    instants: Vec<Instant>,
}

impl RequestLog {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            requests: Mutex::default(),
            keep,
        }
    }

    /// Records a request that arrives now.
    pub(super) fn record(&self, name: &str) {
        let mut requests = lock(&self.requests);
        let times = match requests.get_mut(name) {
            Some(times) => times,
            None => requests.entry(name.to_owned()).or_default(),
        };
        times.count += 1;
        if times.instants.len() < self.keep {
            times.instants.push(clock::instant());
        }
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        lock(&self.requests).get(name).map_or(0, |times| times.count)
    }

    pub(super) fn instants(&self, name: &str) -> Vec<Instant> {
        let requests = lock(&self.requests);
        requests
            .get(name)
            .map(|times| times.instants.clone())
            .unwrap_or_default()
    }
}
