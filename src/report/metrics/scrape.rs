//! What is looked up when the metrics are asked for, and the text they are told in.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Encoder, Gauge, IntGauge, IntGaugeVec, Registry, TextEncoder};
use tokio::runtime::Handle;

use super::{Metrics, endpoints, opts};
use crate::board::Board;
use crate::core::attention::{Attention, AttentionKind};
use crate::error::chain;
use crate::store::Store;
use crate::watch_list::WatchListSnapshot;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where what is told can be looked up.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// Every listed watch.
    pub board: &'a Board,
    /// What is wrong now.
    pub attention: Vec<Attention>,
    /// The watch list.
    pub list: Arc<WatchListSnapshot>,
    /// The state.
    pub store: &'a Store,
    /// The runtime that polls.
    pub polling: &'a Handle,
    /// How long the outbox may take to be counted.
    pub store_timeout: Duration,
}

impl Metrics {
    /// Everything but the series of each operation, in text format 0.0.4.
    ///
    /// # Errors
    /// When the metrics are not well-formed, which is a bug.
    pub async fn render(&self, scrape: &Scrape<'_>) -> prometheus::Result<Vec<u8>> {
        // A registry of its own for each scrape: what is looked up leaves no series behind.
        let registry = Registry::new();
        scrape.operations(&registry)?;
        scrape.watch_list(&registry)?;
        gauge(
            &registry,
            "state_writable",
            "Whether state could be written last time.",
            scrape.store.is_writable(),
        )?;
        let damaged = IntGauge::with_opts(opts(
            "state_damaged_rows",
            "Damaged rows of the state that were found since the start.",
        ))?;
        damaged.set(i64::try_from(scrape.store.health().damaged_rows).unwrap_or(i64::MAX));
        register(&registry, &damaged)?;
        let tasks = IntGauge::with_opts(opts(
            "tasks",
            "Tasks that run or wait: one for each poll under way or held back, for connections, and of the daemon itself.",
        ))?;
        let alive = [&Handle::current(), scrape.polling].map(|runtime| runtime.metrics().num_alive_tasks());
        tasks.set(whole(alive.iter().sum()));
        register(&registry, &tasks)?;
        scrape.api_health(&registry)?;
        let delays = self.deliveries(&registry)?;
        match tokio::time::timeout(scrape.store_timeout, scrape.store.endpoint_stats()).await {
            Ok(Ok(stats)) => endpoints::backlog(&registry, &stats)?,
            // Missing series say so; all others are worth telling.
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "the outbox could not be counted"),
            Err(_) => tracing::debug!("the outbox could not be counted in time"),
        }
        let mut families = self.0.registry.gather();
        families.extend(registry.gather());
        if !delays.get_metric().is_empty() {
            families.push(delays);
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

impl Scrape<'_> {
    fn api_health(&self, registry: &Registry) -> prometheus::Result<()> {
        let up = IntGaugeVec::new(
            opts(
                "api_up",
                "Whether polls of the project succeed: 0 after api.unreachable until api.reachable.",
            ),
            &["project"],
        )?;
        let credentials_valid = IntGaugeVec::new(
            opts(
                "api_credentials_valid",
                "Whether the API takes the key of the project.",
            ),
            &["project"],
        )?;
        for project in self.board.projects() {
            let label = [&*project.name];
            let is_up = project.api.unreachable.is_none();
            up.with_label_values(&label).set(i64::from(is_up));
            let is_valid = project.api.rejected.is_none();
            credentials_valid
                .with_label_values(&label)
                .set(i64::from(is_valid));
        }
        register(registry, &up)?;
        register(registry, &credentials_valid)
    }
}

impl Scrape<'_> {
    fn operations(&self, registry: &Registry) -> prometheus::Result<()> {
        let operations = IntGaugeVec::new(
            opts("operations", "Listed operations by project and phase."),
            &["project", "phase"],
        )?;
        for project in self.board.projects() {
            for (phase, count) in project.phases.iter() {
                let labels = [&*project.name, phase.as_str()];
                operations.with_label_values(&labels).set(whole(count));
            }
        }
        register(registry, &operations)?;
        let attention = IntGaugeVec::new(opts("attention", "What is wrong now, by kind."), &["kind"])?;
        for kind in AttentionKind::ALL {
            let entries = self.attention.iter().filter(|entry| entry.kind == kind);
            attention
                .with_label_values(&[kind.as_str()])
                .set(whole(entries.count()));
        }
        register(registry, &attention)
    }

    fn watch_list(&self, registry: &Registry) -> prometheus::Result<()> {
        let list = self.list.list.as_deref();
        let entries = IntGauge::with_opts(opts(
            "watch_list_entries",
            "Operations on the watch list that holds.",
        ))?;
        entries.set(whole(list.map_or(0, |list| list.entries.len())));
        register(registry, &entries)?;
        let rejected = IntGauge::with_opts(opts(
            "watch_list_rejected_lines",
            "Lines of the watch list that were skipped, because they do not parse.",
        ))?;
        let file = self.list.file();
        rejected.set(whole(file.map_or(0, |list| list.rejected_total)));
        register(registry, &rejected)?;
        let repeated = IntGauge::with_opts(opts(
            "watch_list_repeated_lines",
            "Lines of the watch list that repeat the operation of an earlier line, which applies.",
        ))?;
        repeated.set(whole(file.map_or(0, |list| list.repeated_total)));
        register(registry, &repeated)?;
        gauge(
            registry,
            "watch_list_last_reload_successful",
            "Whether the watch list could be read last time.",
            list.is_some() && self.list.problem.is_none(),
        )?;
        let last_success = Gauge::with_opts(opts(
            "watch_list_last_reload_success_timestamp_seconds",
            "When the watch list was last applied; 0 before the first time.",
        ))?;
        last_success.set(
            self.list
                .last_success
                .map_or(0.0, |time| time.as_millisecond() as f64 / 1000.0),
        );
        register(registry, &last_success)
    }
}

fn gauge(registry: &Registry, name: &str, help: &str, value: bool) -> prometheus::Result<()> {
    let gauge = IntGauge::with_opts(opts(name, help))?;
    gauge.set(i64::from(value));
    register(registry, &gauge)
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: &C,
) -> prometheus::Result<()> {
    registry.register(Box::new(collector.clone()))
}

pub(super) fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
