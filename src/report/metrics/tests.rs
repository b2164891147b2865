use std::sync::Arc;

use super::*;
use crate::board::{Board, Watched};
use crate::core::answer::{Failure, FailureClass};
use crate::core::event::ApiData;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::store::Store;
use crate::watch_list::Snapshot;

async fn render(metrics: &Metrics, board: &Board, per_operation: bool) -> String {
    let scrape = Scrape {
        board,
        list: Arc::new(Snapshot::default()),
        store: &Store::in_memory(),
        polling: &tokio::runtime::Handle::current(),
        per_operation,
    };
    String::from_utf8(metrics.render(&scrape).await.unwrap()).unwrap()
}

fn has(text: &str, line: &str) {
    assert!(
        text.lines().any(|of_text| of_text == line),
        "{line} is not in\n{text}"
    );
}

#[tokio::test]
async fn closed_sets_of_labels_exist_from_the_start() {
    let text = render(&Metrics::new(), &Board::default(), false).await;
    for outcome in Answer::OUTCOMES {
        has(
            &text,
            &format!("backfill_watch_polls_total{{outcome=\"{outcome}\"}} 0"),
        );
    }
    for member in Member::ALL {
        let member = member.as_str();
        has(
            &text,
            &format!("backfill_watch_poll_unusable_members_total{{member=\"{member}\"}} 0"),
        );
    }
    for event_type in EventType::ALL {
        has(
            &text,
            &format!("backfill_watch_events_total{{type=\"{event_type}\"}} 0"),
        );
    }
    for line in [
        "backfill_watch_operations{phase=\"running\"} 0",
        "backfill_watch_poll_duration_seconds_count 0",
        "backfill_watch_poller_restarts_total 0",
        "backfill_watch_state_writable 1",
        "backfill_watch_config_last_reload_successful 1",
        "backfill_watch_watch_list_last_reload_successful 0",
        "backfill_watch_watch_list_entries 0",
    ] {
        has(&text, line);
    }
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
}

#[tokio::test]
async fn what_happens_is_counted() {
    let metrics = Metrics::new();
    metrics.add_project("p", true, true);
    metrics.add_project("q", true, true);
    let failed = Answer::Failed(Failure {
        class: FailureClass::Tls,
        reason: String::new(),
    });
    metrics.poll(&failed, Duration::from_millis(20));
    metrics.poll_lag(Duration::from_secs(31));
    metrics.config_reloaded(false);
    let data = ApiData {
        project: "p".into(),
        since: "2026-11-23T12:00:00Z".parse().unwrap(),
        reason: String::new(),
    };
    metrics.event(&Event::api(EventType::CredentialsRejected, data.since, data));
    let text = render(&metrics, &Board::default(), false).await;
    for line in [
        "backfill_watch_polls_total{outcome=\"tls\"} 1",
        "backfill_watch_poll_duration_seconds_bucket{le=\"0.01\"} 0",
        "backfill_watch_poll_duration_seconds_bucket{le=\"0.025\"} 1",
        "backfill_watch_poll_lag_seconds_bucket{le=\"30\"} 0",
        "backfill_watch_poll_lag_seconds_bucket{le=\"60\"} 1",
        "backfill_watch_config_last_reload_successful 0",
        "backfill_watch_events_total{type=\"api.credentials_rejected\"} 1",
        "backfill_watch_api_credentials_valid{project=\"p\"} 0",
        "backfill_watch_api_credentials_valid{project=\"q\"} 1",
        "backfill_watch_api_up{project=\"p\"} 1",
    ] {
        has(&text, line);
    }
    metrics.retain_projects(|name| name == "q");
    assert!(
        !render(&metrics, &Board::default(), false)
            .await
            .contains("project=\"p\"")
    );
}

#[tokio::test]
async fn operations_have_series_of_their_own_only_where_that_is_asked_for() {
    let board = Board::default();
    let key = WatchKey {
        project: "p".into(),
        operation: "op-1".into(),
    };
    let mut state = serde_json::to_value(Watch::default()).unwrap();
    state["progress"]["processed"] = 1250.into();
    state["progress"]["total"] = 5000.into();
    let watch = serde_json::from_value(state).unwrap();
    board.insert(Arc::new(Watched::new(key, Arc::default(), watch)));
    let metrics = Metrics::new();
    assert!(!render(&metrics, &board, false).await.contains("op-1"));
    let text = render(&metrics, &board, true).await;
    has(
        &text,
        "backfill_watch_operation_records_processed{operation_id=\"op-1\",project=\"p\"} 1250",
    );
    has(
        &text,
        "backfill_watch_operation_progress_ratio{operation_id=\"op-1\",project=\"p\"} 0.25",
    );
    has(&text, "backfill_watch_operations{phase=\"pending\"} 1");
}
