use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::*;
use crate::board::{ApiView, Board, ProjectHandle, ProjectQuery, ProjectView};
use crate::core::answer::{Failure, FailureClass};
use crate::core::event::ApiData;
use crate::core::gate::RequestLimits;
use crate::core::phase::Phase;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::Store;

async fn render(metrics: &Metrics, board: &Board) -> String {
    let scrape = Scrape {
        board,
        attention: Vec::new(),
        list: Arc::new(WatchListSnapshot::default()),
        store: &Store::in_memory(),
        polling: &tokio::runtime::Handle::current(),
        store_timeout: Duration::from_secs(5),
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
    let text = render(&Metrics::new(), &Board::default()).await;
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
        "backfill_watch_attention{kind=\"api_unreachable\"} 0",
        "backfill_watch_poll_duration_seconds_count 0",
        "backfill_watch_poller_restarts_total 0",
        "backfill_watch_log_lines_dropped_total 0",
        "backfill_watch_state_writable 1",
        "backfill_watch_config_last_reload_successful 1",
        "backfill_watch_watch_list_last_reload_successful 0",
        "backfill_watch_watch_list_entries 0",
    ] {
        has(&text, line);
    }
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
}

/// A project that publishes `api`.
fn attach(
    board: &Board,
    name: &str,
    api: ApiView,
) -> (watch::Sender<ProjectView>, mpsc::Receiver<ProjectQuery>) {
    let limits = RequestLimits {
        concurrent: 1,
        per_second: 1.0,
    };
    let mut view = ProjectView::new(name.into(), limits);
    view.api = api;
    let (view, receiver) = watch::channel(view);
    let (questions, asked) = mpsc::channel(1);
    let port = ProjectHandle {
        view: receiver,
        questions,
    };
    board.attach(name.into(), port);
    (view, asked)
}

#[tokio::test]
async fn what_happens_is_counted() {
    let metrics = Metrics::new();
    let board = Board::default();
    let since = "2026-11-23T12:00:00Z".parse().unwrap();
    let rejected = ApiView {
        rejected: Some(since),
        ..ApiView::default()
    };
    let _p = attach(&board, "p", rejected);
    let _q = attach(&board, "q", ApiView::default());
    let failed = Answer::Failed(Failure {
        class: FailureClass::Tls,
        reason: String::new(),
    });
    metrics.record_poll(&failed, Duration::from_millis(20));
    metrics.record_poll_lag(Duration::from_secs(31));
    metrics.set_config_reloaded(false);
    let data = ApiData {
        project: "p".into(),
        since,
        reason: String::new(),
    };
    metrics.count_event(&Event::api(EventType::CredentialsRejected, data.since, data));
    let text = render(&metrics, &board).await;
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
    board.detach("p");
    assert!(!render(&metrics, &board).await.contains("project=\"p\""));
}

#[tokio::test]
async fn operations_are_counted_and_not_named() {
    let board = Board::default();
    let (view, _questions) = attach(&board, "p", ApiView::default());
    view.send_modify(|view| view.phases.add(Phase::Pending));
    let text = render(&Metrics::new(), &board).await;
    assert!(!text.contains("op-1"));
    has(
        &text,
        "backfill_watch_operations{phase=\"pending\",project=\"p\"} 1",
    );
}
