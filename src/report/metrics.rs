//! Metrics in the Prometheus text format 0.0.4.
//!
//! Counters and histograms are updated as events happen. Everything else is read at the scrape. No label has values
//! that come from outside, except with `metrics.per_operation`.

mod endpoints;
mod log_lines;
mod per_operation;
mod scrape;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::core::answer::Answer;
use crate::core::discovery::DiscoveryReply;
use crate::core::event::{Event, EventType};
use crate::core::operation::Member;

pub use per_operation::OperationSeries;
pub use scrape::{CONTENT_TYPE, Scrape};

/// The prefix of every name but `process_*`.
const PREFIX: &str = "backfill_watch";
/// Bounds in seconds, up to and beyond the usual request timeout.
const POLL_DURATIONS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds in seconds, up to and beyond the lag at which `/livez` fails.
const WAITS: [f64; 12] = [
    0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Updates the metrics; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<MetricSet>);

struct MetricSet {
    registry: Registry,
    polls: IntCounterVec,
    unusable_members: IntCounterVec,
    poll_duration: Histogram,
    poll_lag: Histogram,
    gate_wait: Histogram,
    events: IntCounterVec,
    poller_restarts: IntCounter,
    discovery_requests: IntCounterVec,
    discovery_found: IntCounter,
    config_last_reload_successful: IntGauge,
    endpoints: Mutex<endpoints::Endpoints>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series with a closed set of labels, at 0.
    #[must_use]
    pub fn new() -> Self {
        // Names and labels are constants, so this cannot fail; a test runs it.
        Self::build().expect("the metrics are well-formed")
    }

    fn build() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let inner = MetricSet {
            polls: IntCounterVec::new(opts("polls_total", "Polls by outcome."), &["outcome"])?,
            unusable_members: IntCounterVec::new(
                opts(
                    "poll_unusable_members_total",
                    "Members of API responses that could not be used and were treated as absent.",
                ),
                &["member"],
            )?,
            poll_duration: histogram(
                "poll_duration_seconds",
                "Time from the request to the complete response.",
                &POLL_DURATIONS,
            )?,
            poll_lag: histogram(
                "poll_lag_seconds",
                "Time from when a poll is due to its start, without pauses that the API requested.",
                &WAITS,
            )?,
            gate_wait: histogram(
                "gate_wait_seconds",
                "Time that polls wait at the gate, the request limits of their project.",
                &WAITS,
            )?,
            events: IntCounterVec::new(opts("events_total", "Recorded events by type."), &["type"])?,
            poller_restarts: IntCounter::with_opts(opts(
                "poller_restarts_total",
                "Pollers that were restarted after a panic, which is a bug.",
            ))?,
            discovery_requests: IntCounterVec::new(
                opts("discovery_requests_total", "Requests of discovery by outcome."),
                &["outcome"],
            )?,
            discovery_found: IntCounter::with_opts(opts(
                "discovery_found_total",
                "Operations that discovery found.",
            ))?,
            config_last_reload_successful: IntGauge::with_opts(opts(
                "config_last_reload_successful",
                "1 if the last reload applied the settings, otherwise 0.",
            ))?,
            endpoints: Mutex::default(),
            registry,
        };
        inner.register()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Records an answered poll.
    pub fn record_poll(&self, answer: &Answer, took: Duration) {
        self.0.polls.with_label_values(&[answer.outcome()]).inc();
        self.0.poll_duration.observe(took.as_secs_f64());
        if let Answer::Operation(operation) = answer {
            for member in operation.unusable.members() {
                self.0
                    .unusable_members
                    .with_label_values(&[member.as_str()])
                    .inc();
            }
        }
    }

    /// Records the lag between a poll's due time and its start.
    pub fn record_poll_lag(&self, lag: Duration) {
        self.0.poll_lag.observe(lag.as_secs_f64());
    }

    /// Records the wait of a poll at the gate.
    pub fn record_gate_wait(&self, wait: Duration) {
        self.0.gate_wait.observe(wait.as_secs_f64());
    }

    /// Counts an event.
    pub fn count_event(&self, event: &Event) {
        self.0
            .events
            .with_label_values(&[event.event_type.as_str()])
            .inc();
    }

    /// Counts a request of discovery.
    pub fn count_discovery_request(&self, reply: &DiscoveryReply) {
        self.0
            .discovery_requests
            .with_label_values(&[reply.outcome()])
            .inc();
    }

    /// Counts an operation that discovery found.
    pub fn count_discovered(&self) {
        self.0.discovery_found.inc();
    }

    /// Counts a restart of a poller.
    pub fn count_poller_restart(&self) {
        self.0.poller_restarts.inc();
    }

    /// Records whether the last reload applied the settings.
    pub fn set_config_reloaded(&self, is_successful: bool) {
        self.0.config_last_reload_successful.set(i64::from(is_successful));
    }
}

impl MetricSet {
    fn register(&self) -> prometheus::Result<()> {
        for outcome in Answer::OUTCOMES {
            self.polls.with_label_values(&[outcome]);
            self.discovery_requests.with_label_values(&[outcome]);
        }
        self.discovery_requests
            .with_label_values(&[DiscoveryReply::ANSWERED]);
        for member in Member::ALL {
            self.unusable_members.with_label_values(&[member.as_str()]);
        }
        for event_type in EventType::ALL {
            self.events.with_label_values(&[event_type.as_str()]);
        }
        self.config_last_reload_successful.set(1);
        let build = IntGaugeVec::new(
            opts("build_info", "Always 1; the label has the version."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let collectors: [Box<dyn prometheus::core::Collector>; 13] = [
            Box::new(self.polls.clone()),
            Box::new(self.unusable_members.clone()),
            Box::new(self.poll_duration.clone()),
            Box::new(self.poll_lag.clone()),
            Box::new(self.gate_wait.clone()),
            Box::new(self.events.clone()),
            Box::new(self.poller_restarts.clone()),
            Box::new(self.discovery_requests.clone()),
            Box::new(self.discovery_found.clone()),
            Box::new(self.config_last_reload_successful.clone()),
            Box::new(build),
            Box::new(log_lines::Dropped::new()?),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        collectors
            .into_iter()
            .try_for_each(|collector| self.registry.register(collector))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: &C) -> prometheus::Result<()> {
    registry.register(Box::new(collector.clone()))
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn histogram(name: &str, help: &str, bounds: &[f64]) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec()))
}

#[cfg(test)]
mod tests;
