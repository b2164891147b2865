//! `/metrics`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::exposition::{Family, parse};
use crate::fixture::{Fixture, WEBHOOK_SECRET};
use crate::support::{skip, until_answered};

/// Every name of the contract, and its kind.
const NAMES: [(&str, &str); 34] = [
    ("state_damaged_rows", "gauge"),
    ("attention", "gauge"),
    ("operations", "gauge"),
    ("groups", "gauge"),
    ("polls_total", "counter"),
    ("poll_unusable_members_total", "counter"),
    ("poll_duration_seconds", "histogram"),
    ("poll_lag_seconds", "histogram"),
    ("gate_wait_seconds", "histogram"),
    ("events_total", "counter"),
    ("webhook_deliveries_total", "counter"),
    ("webhook_backlog", "gauge"),
    ("webhook_dead_letters", "gauge"),
    ("webhook_oldest_pending_seconds", "gauge"),
    ("webhook_delivery_delay_seconds", "histogram"),
    ("watch_list_entries", "gauge"),
    ("watch_list_rejected_lines", "gauge"),
    ("watch_list_repeated_lines", "gauge"),
    ("watch_list_last_reload_successful", "gauge"),
    ("watch_list_last_reload_success_timestamp_seconds", "gauge"),
    ("api_up", "gauge"),
    ("api_credentials_valid", "gauge"),
    ("state_writable", "gauge"),
    ("config_last_reload_successful", "gauge"),
    ("poller_restarts_total", "counter"),
    ("discovery_requests_total", "counter"),
    ("discovery_found_total", "counter"),
    ("log_lines_dropped_total", "counter"),
    ("tasks", "gauge"),
    ("build_info", "gauge"),
    ("operation_records_processed", "gauge"),
    ("operation_progress_ratio", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
];

fn full_name(name: &str) -> String {
    if name.starts_with("process_") {
        name.to_owned()
    } else {
        format!("backfill_watch_{name}")
    }
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &str) -> f64 {
    let name = format!("backfill_watch_{name}");
    let family = families
        .iter()
        .find(|(family, _)| name.starts_with(family.as_str()))
        .unwrap();
    *family
        .1
        .samples
        .get(&(name.clone(), labels.to_owned()))
        .unwrap_or_else(|| panic!("{name}{{{labels}}} in {:?}", family.1))
}

fn promtool_is_content_with(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        skip::<()>("promtool is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{text}");
}

#[tokio::test]
async fn the_metrics_are_those_of_the_contract_and_well_formed() {
    let fixture = Fixture::start_with(
        &[
            "op-600000-5000-s-1",
            "op-200-100-s-2",
            "not an = operation",
            "op-200-100-s-2 again=yes",
        ],
        |setup| {
            setup
                .set("metrics.per_operation", "true")
                .set("webhook.url", "http://127.0.0.1:1/")
                .variable("BACKFILL_WATCH_WEBHOOK_SECRET", WEBHOOK_SECRET)
        },
    )
    .await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    fixture.phase("op-200-100-s-2", "succeeded").await;
    fixture
        .simulator
        .set_api_keys("my-project", ["another".to_owned()]);
    fixture.daemon.event("api.credentials_rejected").await;

    // The read model follows the event at once, but after it.
    let text = until_answered("the metrics show it", async || {
        let text = fixture.text("/metrics").await;
        let shown = text.contains("backfill_watch_api_credentials_valid{project=\"my-project\"} 0");
        if shown { Ok(text) } else { Err(text) }
    })
    .await;
    promtool_is_content_with(&text);
    let families = parse(&text);
    for (name, kind) in NAMES {
        let family = families.get(&full_name(name)).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(family.kind, kind, "{name}");
    }
    let known: Vec<String> = NAMES.iter().map(|(name, _)| full_name(name)).collect();
    for name in families.keys() {
        assert!(name.starts_with("process_") || known.contains(name), "{name}");
    }
    for (name, labels, wanted) in [
        ("operations", "phase=\"running\",project=\"my-project\"", 1.0),
        ("operations", "phase=\"succeeded\",project=\"my-project\"", 1.0),
        ("operations", "phase=\"stalled\",project=\"my-project\"", 0.0),
        ("groups", "outcome=\"running\"", 0.0),
        ("watch_list_entries", "", 2.0),
        ("watch_list_rejected_lines", "", 1.0),
        ("watch_list_repeated_lines", "", 1.0),
        ("watch_list_last_reload_successful", "", 1.0),
        ("api_up", "project=\"my-project\"", 1.0),
        ("api_credentials_valid", "project=\"my-project\"", 0.0),
        ("state_writable", "", 1.0),
        ("events_total", "type=\"operation.succeeded\"", 1.0),
        ("events_total", "type=\"operation.failed\"", 0.0),
        ("poller_restarts_total", "", 0.0),
        ("webhook_dead_letters", "webhook=\"webhook\"", 0.0),
    ] {
        assert_eq!(value(&families, name, labels), wanted, "{name} {labels}");
    }
    assert!(value(&families, "polls_total", "outcome=\"operation\"") >= 2.0);
    assert!(value(&families, "polls_total", "outcome=\"unauthorized\"") >= 1.0);
    assert!(value(&families, "poll_duration_seconds_count", "") >= 3.0);
    assert!(value(&families, "poll_lag_seconds_count", "") >= 3.0);
    assert!(text.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn series_do_not_grow_with_the_watch_list() {
    let count = async |lines: &[&str]| {
        let fixture = Fixture::start(lines).await;
        for id in lines {
            fixture.phase(id, "running").await;
        }
        fixture.text("/metrics").await.lines().count()
    };
    let one = count(&["op-600000-5000-s-0"]).await;
    let lines: Vec<String> = (0..50).map(|n| format!("op-600000-5000-s-{n}")).collect();
    let many: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(count(&many).await, one);
}

#[tokio::test]
async fn the_series_of_many_operations_make_one_text() {
    const COUNT: usize = 300;
    let lines: Vec<String> = (0..COUNT).map(|n| format!("op-600000-5000-s-{n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start_with(&lines, |setup| setup.set("metrics.per_operation", "true")).await;
    for id in &lines {
        fixture.phase(id, "running").await;
    }
    let text = fixture.text("/metrics").await;
    promtool_is_content_with(&text);
    let families = parse(&text);
    for name in ["operation_records_processed", "operation_progress_ratio"] {
        for id in &lines {
            let labels = format!("operation_id=\"{id}\",project=\"my-project\"");
            let value = value(&families, name, &labels);
            assert!((0.0..5_000.0).contains(&value), "{name} {id}: {value}");
        }
    }
}
