//! Reads the current values at a scrape, and renders the text.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Encoder, Gauge, GaugeVec, IntGauge, IntGaugeVec, Registry, TextEncoder};
use tokio::runtime::Handle;

use super::{Metrics, endpoints, opts, register, whole};
use crate::board::Board;
use crate::core::attention::{Attention, AttentionKind};
use crate::error::chain;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::Store;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sources of the current values.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// The read model.
    pub board: &'a Board,
    /// The attention list.
    pub attention: Vec<Attention>,
    /// The watch list.
    pub list: Arc<WatchListSnapshot>,
    /// The state.
    pub store: &'a Store,
    /// The runtime of the pollers.
    pub polling: &'a Handle,
    /// The time limit for counting the outbox.
    pub store_timeout: Duration,
}

impl Metrics {
    /// Renders all metrics but the series of each operation.
    ///
    /// # Errors
    /// When the metrics are not well-formed, which is a bug.
    pub async fn render(&self, scrape: &Scrape<'_>) -> prometheus::Result<Vec<u8>> {
        // A registry for each scrape, so that removed projects and endpoints leave no series behind.
        let registry = Registry::new();
        scrape.operations(&registry)?;
        scrape.watch_list(&registry)?;
        gauge(
            &registry,
            "state_writable",
            "1 if the last write to the state succeeded, otherwise 0.",
            scrape.store.is_writable(),
        )?;
        let damaged = IntGauge::with_opts(opts(
            "state_damaged_rows",
            "Damaged rows of the state that were found since the start and set aside.",
        ))?;
        damaged.set(i64::try_from(scrape.store.health().damaged_rows).unwrap_or(i64::MAX));
        register(&registry, &damaged)?;
        let tasks = IntGauge::with_opts(opts(
            "tasks",
            "Running and waiting tasks: polls in flight or waiting, connections, and the daemon's own.",
        ))?;
        let alive = [&Handle::current(), scrape.polling].map(|runtime| runtime.metrics().num_alive_tasks());
        tasks.set(whole(alive.iter().sum()));
        register(&registry, &tasks)?;
        scrape.api_health(&registry)?;
        let delays = self.deliveries(&registry)?;
        match tokio::time::timeout(scrape.store_timeout, scrape.store.endpoint_stats()).await {
            Ok(Ok(stats)) => endpoints::backlog(&registry, &stats)?,
            // The missing series show the failure; the rest is still useful.
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "cannot count the outbox"),
            Err(_) => tracing::debug!("cannot count the outbox in time"),
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
                "1 if polls of the project succeed, 0 from api.unreachable to api.reachable.",
            ),
            &["project"],
        )?;
        let credentials_valid = IntGaugeVec::new(
            opts(
                "api_credentials_valid",
                "1 if the API accepts the project's key, otherwise 0.",
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
        let last_success = GaugeVec::new(
            opts(
                "discovery_last_success_timestamp_seconds",
                "When discovery last listed the installations of the project, in seconds since 1970; 0 before the first time.",
            ),
            &["project"],
        )?;
        for project in self.board.projects() {
            if let Some(discovery) = &project.discovery {
                let seconds = discovery
                    .last_success
                    .map_or(0.0, |time| time.as_millisecond() as f64 / 1000.0);
                last_success.with_label_values(&[&*project.name]).set(seconds);
            }
        }
        register(registry, &last_success)?;
        register(registry, &up)?;
        register(registry, &credentials_valid)
    }
}

impl Scrape<'_> {
    fn operations(&self, registry: &Registry) -> prometheus::Result<()> {
        let operations = IntGaugeVec::new(
            opts("operations", "Watched operations by project and phase."),
            &["project", "phase"],
        )?;
        for project in self.board.projects() {
            for (phase, count) in project.phases.iter() {
                let labels = [&*project.name, phase.as_str()];
                operations.with_label_values(&labels).set(whole(count));
            }
        }
        register(registry, &operations)?;
        let groups = IntGaugeVec::new(
            opts(
                "groups",
                "Groups by state: running, or the outcome of the last round.",
            ),
            &["outcome"],
        )?;
        for (state, count) in self.board.group_counts().iter() {
            groups.with_label_values(&[state.as_str()]).set(whole(count));
        }
        register(registry, &groups)?;
        let attention = IntGaugeVec::new(
            opts("attention", "Entries of the attention list by kind."),
            &["kind"],
        )?;
        for kind in AttentionKind::ALL {
            let entries = self.attention.iter().filter(|entry| entry.kind == kind);
            let count = entries.map(|entry| entry.count).sum();
            attention.with_label_values(&[kind.as_str()]).set(whole(count));
        }
        register(registry, &attention)
    }

    fn watch_list(&self, registry: &Registry) -> prometheus::Result<()> {
        let list = self.list.list.as_deref();
        let entries = IntGauge::with_opts(opts("watch_list_entries", "Entries of the active watch list."))?;
        entries.set(whole(list.map_or(0, |list| list.entries.len())));
        register(registry, &entries)?;
        let rejected = IntGauge::with_opts(opts(
            "watch_list_rejected_lines",
            "Lines of the watch list that do not parse and are skipped.",
        ))?;
        let file = self.list.file();
        rejected.set(whole(file.map_or(0, |list| list.rejected_total)));
        register(registry, &rejected)?;
        let repeated = IntGauge::with_opts(opts(
            "watch_list_repeated_lines",
            "Lines of the watch list that repeat an operation of an earlier line and are ignored.",
        ))?;
        repeated.set(whole(file.map_or(0, |list| list.repeated_total)));
        register(registry, &repeated)?;
        gauge(
            registry,
            "watch_list_last_reload_successful",
            "1 if the watch list was read without an error last time, otherwise 0.",
            list.is_some() && self.list.problem.is_none(),
        )?;
        let last_success = Gauge::with_opts(opts(
            "watch_list_last_reload_success_timestamp_seconds",
            "When the watch list was last applied, in seconds since 1970; 0 before the first time.",
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
