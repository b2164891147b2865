//! What is wrong now, in every view: `/api/attention`, the metric, `status` and its exit code.

use std::fs;

use backfill_watch::simulator::{RetryAfter, SimulatedReply};
use serde_json::Value;

use crate::fixture::Fixture;
use crate::status::status;
use crate::support::until_answered;

/// Waits until exactly these kinds need attention.
async fn kinds(fixture: &Fixture, wanted: &[&str]) -> Vec<Value> {
    until_answered(&format!("attention is {wanted:?}"), async || {
        let attention = fixture.json("/api/attention").await["attention"].take();
        let entries = attention.as_array().unwrap().clone();
        let found: Vec<&str> = entries
            .iter()
            .map(|entry| entry["kind"].as_str().unwrap())
            .collect();
        if found == wanted {
            Ok(entries)
        } else {
            Err(attention.to_string())
        }
    })
    .await
}

async fn is_counted(fixture: &Fixture, kind: &str, count: u32) {
    let line = format!("backfill_watch_attention{{kind=\"{kind}\"}} {count}");
    let text = fixture.text("/metrics").await;
    assert!(text.lines().any(|of_text| of_text == line), "{line} in\n{text}");
}

#[tokio::test]
async fn a_rejected_key_is_shown_by_every_view_until_it_is_accepted() {
    let fixture = Fixture::start_with(&["op-600000-5000-s-1"], |setup| {
        setup
            .set("poll.min_interval", "50ms")
            .set("poll.initial_interval", "50ms")
            .set("poll.max_interval", "100ms")
    })
    .await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    kinds(&fixture, &[]).await;
    is_counted(&fixture, "credentials_rejected", 0).await;
    assert_eq!(status(&fixture, &["--strict"]).await.status.code(), Some(0));

    fixture
        .simulator
        .set_api_keys("my-project", vec!["another".to_owned()]);
    let entries = kinds(&fixture, &["credentials_rejected"]).await;
    let entry = &entries[0];
    assert_eq!(
        (&entry["severity"], &entry["project"]),
        (&"error".into(), &"my-project".into())
    );
    for member in ["since", "message", "action"] {
        assert!(!entry[member].as_str().unwrap().is_empty(), "{member} in {entry}");
    }
    is_counted(&fixture, "credentials_rejected", 1).await;
    let shown = status(&fixture, &[]).await;
    assert_eq!(shown.status.code(), Some(1));
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.starts_with("ERROR    project my-project: the API key is rejected"),
        "{text}"
    );
    let json = status(&fixture, &["--json"]).await;
    assert_eq!(json.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["attention"][0]["kind"], "credentials_rejected");
    assert_eq!(
        status(&fixture, &["--check"]).await.status.code(),
        Some(0),
        "it is alive"
    );

    fixture
        .simulator
        .set_api_keys("my-project", vec!["simulated-key".to_owned()]);
    kinds(&fixture, &[]).await;
    assert_eq!(status(&fixture, &[]).await.status.code(), Some(0));
}

#[tokio::test]
async fn an_outage_is_an_error_until_it_ends() {
    let fixture = Fixture::start_with(&["op-600000-5000-s-1"], |setup| {
        setup
            .set("poll.unreachable_after", "1s")
            .set("poll.min_interval", "50ms")
            .set("poll.initial_interval", "50ms")
            .set("poll.max_interval", "100ms")
    })
    .await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    let down = std::iter::repeat_n(SimulatedReply::Status(502, RetryAfter::Absent), 40);
    fixture.simulator.faults().script_all(down);
    let entries = kinds(&fixture, &["api_unreachable"]).await;
    assert!(
        entries[0]["message"].as_str().unwrap().contains("502"),
        "{entries:?}"
    );
    assert_eq!(status(&fixture, &[]).await.status.code(), Some(1));
    kinds(&fixture, &[]).await;
}

#[tokio::test]
async fn lines_that_are_skipped_and_settings_that_are_broken_are_shown_until_they_are_right() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    let list = fixture.daemon.setup().list_path();
    fs::write(&list, "op-600000-5000-s-1\nnot/an/id\n").unwrap();
    let entries = kinds(&fixture, &["watch_list_rejected_lines"]).await;
    assert_eq!(entries[0]["subject"], list.display().to_string());
    assert_eq!(
        status(&fixture, &[]).await.status.code(),
        Some(0),
        "a warning is no error"
    );
    assert_eq!(status(&fixture, &["--strict"]).await.status.code(), Some(1));
    fs::write(&list, "op-600000-5000-s-1\n").unwrap();
    kinds(&fixture, &[]).await;
    // A last good list stays active.
    fs::remove_file(&list).unwrap();
    let entries = kinds(&fixture, &["watch_list_unreadable"]).await;
    assert_eq!(entries[0]["severity"], "error");
    assert_eq!(status(&fixture, &[]).await.status.code(), Some(1));
    fs::write(&list, "op-600000-5000-s-1\n").unwrap();
    kinds(&fixture, &[]).await;
}
