//! Metrics of webhook endpoints: deliveries and backlog.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

use super::{Metrics, PREFIX, opts, register, whole};
use crate::clock;
use crate::report::webhook::{DELAY_BOUNDS, DeliveryOutcome, DeliveryStats, EndpointState};
use crate::store::EndpointStats;

/// The counters of each endpoint.
pub(super) type Endpoints = BTreeMap<Arc<str>, Arc<DeliveryStats>>;

impl Metrics {
    /// Replaces the endpoints.
    pub fn set_endpoints(&self, endpoints: HashMap<Arc<str>, Arc<DeliveryStats>>) {
        *super::lock(&self.0.endpoints) = endpoints.into_iter().collect();
    }

    /// The state of an endpoint; `None` if it is not in the settings.
    #[must_use]
    pub fn endpoint_state(&self, name: &str) -> Option<EndpointState> {
        Some(super::lock(&self.0.endpoints).get(name)?.state())
    }

    /// When the failures in a row of an endpoint began, if there are too many.
    #[must_use]
    pub fn endpoint_failing_since(&self, name: &str) -> Option<Timestamp> {
        super::lock(&self.0.endpoints).get(name)?.failing_since()
    }

    /// Whether an endpoint has no secret to sign with.
    #[must_use]
    pub fn lacks_secret(&self, name: &str) -> bool {
        super::lock(&self.0.endpoints)
            .get(name)
            .is_some_and(|stats| stats.lacks_secret())
    }

    /// Adds the deliveries to `registry`, and returns the family of delays.
    pub(super) fn deliveries(&self, registry: &Registry) -> prometheus::Result<MetricFamily> {
        let endpoints = super::lock(&self.0.endpoints).clone();
        let deliveries = IntCounterVec::new(
            opts("webhook_deliveries_total", "Delivery attempts by outcome."),
            &["webhook", "outcome"],
        )?;
        for (name, stats) in &endpoints {
            for outcome in DeliveryOutcome::ALL {
                deliveries
                    .with_label_values(&[&**name, outcome.as_str()])
                    .inc_by(stats.count(outcome));
            }
        }
        register(registry, &deliveries)?;
        let mut delays = MetricFamily::default();
        delays.set_name(format!("{PREFIX}_webhook_delivery_delay_seconds"));
        delays.set_help("Time from recording an event to its delivery.".to_owned());
        delays.set_field_type(MetricType::HISTOGRAM);
        delays.set_metric(endpoints.iter().map(|(name, stats)| delay(name, stats)).collect());
        Ok(delays)
    }
}

fn delay(endpoint: &str, stats: &DeliveryStats) -> Metric {
    let delays = stats.delays();
    let mut count = 0;
    let mut buckets = Vec::new();
    for (index, in_bucket) in delays.buckets.iter().enumerate() {
        count += in_bucket;
        if let Some(bound) = DELAY_BOUNDS.get(index) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(count);
    histogram.set_sample_sum(delays.sum);
    let mut label = LabelPair::default();
    label.set_name("webhook".to_owned());
    label.set_value(endpoint.to_owned());
    let mut metric = Metric::from_label(vec![label]);
    metric.set_histogram(histogram);
    metric
}

/// Adds the backlog to `registry`.
pub(super) fn backlog(registry: &Registry, stats: &[EndpointStats]) -> prometheus::Result<()> {
    let labels = ["webhook"];
    let backlog = IntGaugeVec::new(opts("webhook_backlog", "Events that wait for delivery."), &labels)?;
    let dead_letters = IntGaugeVec::new(
        opts(
            "webhook_dead_letters",
            "Dead letters: events whose delivery failed to the end of the retry schedule. They can be replayed.",
        ),
        &labels,
    )?;
    let oldest = GaugeVec::new(
        opts(
            "webhook_oldest_pending_seconds",
            "How long the oldest event that waits has waited; 0 when none does.",
        ),
        &labels,
    )?;
    let now = clock::wall();
    for endpoint in stats {
        let label = [&*endpoint.name];
        backlog
            .with_label_values(&label)
            .set(whole(endpoint.backlog as usize));
        dead_letters
            .with_label_values(&label)
            .set(whole(endpoint.dead_letters as usize));
        oldest
            .with_label_values(&label)
            .set(age(endpoint.oldest.as_ref().map(|oldest| oldest.recorded), now));
    }
    register(registry, &backlog)?;
    register(registry, &dead_letters)?;
    register(registry, &oldest)
}

fn age(since: Option<Timestamp>, now: Timestamp) -> f64 {
    since.map_or(0.0, |since| clock::between(since, now).as_secs_f64())
}
