//! The list of a project, and over a state that becomes slow, with paused time.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::clock::WallClock;
use crate::core::discovery::DiscoveryFailure;
use crate::core::gate::RequestLimits;
use crate::report::webhook::DeliveryStats;
use crate::store::{
    Accepted, CommitError, Engine, MemoryEngine, OutboxEndpoint, ReadRequest, StoreReadError, WriteRequest,
};

/// An engine that reads nothing while it is slow.
#[derive(Debug, Default)]
struct SlowEngine {
    memory: MemoryEngine,
    is_slow: AtomicBool,
}

impl Engine for SlowEngine {
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError> {
        self.memory.write(request)
    }

    fn read(&self, request: ReadRequest) -> Accepted<'_, StoreReadError> {
        if self.is_slow.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        self.memory.read(request)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.memory.changed()
    }

    fn is_writable(&self) -> bool {
        self.memory.is_writable()
    }
}

#[tokio::test(start_paused = true)]
async fn entries_about_endpoints_stay_while_the_outbox_cannot_be_counted() {
    let start: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let engine = Arc::<SlowEngine>::default();
    let store = Store::new(
        Arc::clone(&engine) as Arc<dyn Engine>,
        WallClock::new(move || start),
    );
    let endpoint = OutboxEndpoint {
        name: "crm".into(),
        events: Vec::new(),
        max_backlog: 10,
    };
    store.sync_endpoints(vec![endpoint], start).await.unwrap();
    let metrics = Metrics::new();
    let stats = Arc::<DeliveryStats>::default();
    stats.record_failing(Some(start));
    metrics.set_endpoints(HashMap::from([("crm".into(), Arc::clone(&stats))]));
    let (_sender, snapshots) = watch::channel(Arc::default());
    let list = AttentionList::new(
        Arc::default(),
        snapshots,
        PathBuf::new(),
        store.clone(),
        metrics.clone(),
    );
    let found = async || -> Vec<(&str, Option<Timestamp>)> {
        let entries = list.entries().await;
        let found = entries.iter().map(|entry| (entry.kind.as_str(), entry.since));
        found.collect()
    };
    let failing = [("endpoint_failing", Some(start))];
    assert_eq!(found().await, failing);
    engine.is_slow.store(true, Ordering::Relaxed);
    assert_eq!(found().await, failing);
    assert_eq!(list.last_errors(), 1);
    stats.record_failing(None);
    assert_eq!(found().await, []);
    assert_eq!(list.last_errors(), 0);
}

#[test]
fn the_causes_of_a_project_come_from_its_view() {
    let limits = RequestLimits {
        concurrent: 1,
        per_second: 1.0,
    };
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let mut view = ProjectView::new("p".into(), limits);
    view.api.last_failure = Some("502 Bad Gateway".into());
    view.attention.restarts.add(None, "why", now);
    let kinds = |view: &ProjectView| -> Vec<&str> {
        let mut entries = Vec::new();
        of_project(view, now, &mut entries);
        entries
            .iter()
            .for_each(|entry| assert_eq!(entry.project.as_deref(), Some("p")));
        entries.iter().map(|entry| entry.kind.as_str()).collect()
    };
    assert_eq!(kinds(&view), ["poller_restarted"]);
    view.api.unreachable = Some(now);
    view.discovery = Some(DiscoveryView {
        unmatched_rules: vec![0, 2],
        longest_pass: Some(Duration::from_hours(13)),
        ..DiscoveryView::default()
    });
    assert_eq!(
        kinds(&view),
        [
            "api_unreachable",
            "poller_restarted",
            "discovery_over_capacity",
            "discovery_matches_nothing",
            "discovery_matches_nothing"
        ]
    );
}

#[test]
fn the_cause_of_an_outage_is_shown_and_not_the_last_failure() {
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let limits = RequestLimits {
        concurrent: 1,
        per_second: 1.0,
    };
    let mut view = ProjectView::new("p".into(), limits);
    view.api.last_failure = Some("502 Bad Gateway".into());
    view.api.rejected = Some(now);
    view.api.rejection = Some("401 Unauthorized".into());
    let mut entries = Vec::new();
    of_project(&view, now, &mut entries);
    assert!(
        entries[0].message.contains("rejected: 401 Unauthorized."),
        "{entries:?}"
    );
}

#[test]
fn an_outage_explains_failing_discovery() {
    let start: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let limits = RequestLimits {
        concurrent: 1,
        per_second: 1.0,
    };
    let mut view = ProjectView::new("p".into(), limits);
    let failure = DiscoveryFailure {
        since: start,
        reason: "connection refused".into(),
        objects: None,
    };
    view.discovery = Some(DiscoveryView {
        failure: Some(failure),
        unmatched_rules: vec![0],
        ..DiscoveryView::default()
    });
    let kinds = |view: &ProjectView| -> Vec<&str> {
        let mut entries = Vec::new();
        of_project(view, start, &mut entries);
        entries.iter().map(|entry| entry.kind.as_str()).collect()
    };
    assert_eq!(kinds(&view), ["discovery_failing", "discovery_matches_nothing"]);
    view.api.unreachable = Some(start);
    assert_eq!(kinds(&view), ["api_unreachable", "discovery_matches_nothing"]);
}
