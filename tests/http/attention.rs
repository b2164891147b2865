//! What is wrong now, in every view: `/api/attention`, the metric, `status` and its exit code.

use std::fs;
use std::time::Duration;

use backfill_watch::simulator::{
    CountCurve, Receiver, ReceiverConfig, RetryAfter, SimulatedOperation, SimulatedReply,
};
use serde_json::Value;

use crate::fixture::{Fixture, WEBHOOK_SECRET, in_file};
use crate::status::status;
use crate::support::{Setup, replace_file, until_answered};

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
        setup.set("poll.max_interval", "100ms")
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

/// Short intervals, so that an operation is soon unreachable or stalled.
fn hasty(setup: Setup) -> Setup {
    setup
        .set("poll.max_interval", "100ms")
        .set("poll.stalled_after", "1s")
        .set("poll.not_found_grace", "200ms")
}

/// The only entry, after every view agrees about it: it is a warning, so `status` fails with `--strict` alone.
async fn warning(fixture: &Fixture, kind: &str, subject: &str) -> Value {
    let entry = kinds(fixture, &[kind]).await.remove(0);
    assert_eq!(
        (&entry["severity"], &entry["project"], &entry["subject"]),
        (&"warning".into(), &"my-project".into(), &subject.into())
    );
    assert!(
        entry["since"].is_string() && entry.get("count").is_none(),
        "{entry}"
    );
    is_counted(fixture, kind, 1).await;
    let shown = status(fixture, &["--strict"]).await;
    assert_eq!(shown.status.code(), Some(1));
    let text = String::from_utf8(shown.stdout).unwrap();
    // Each answer of the API has a request ID of its own in parentheses.
    let message = entry["message"].as_str().unwrap().split(" (").next().unwrap();
    assert!(text.contains(message), "{text}");
    assert!(text.contains(entry["action"].as_str().unwrap()), "{text}");
    assert_eq!(status(fixture, &[]).await.status.code(), Some(0));
    entry
}

/// Nothing needs attention, in every view.
async fn is_well(fixture: &Fixture, kind: &str) {
    kinds(fixture, &[]).await;
    is_counted(fixture, kind, 0).await;
    assert_eq!(status(fixture, &["--strict"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_failed_operation_is_shown_until_a_later_one_succeeds_or_it_leaves() {
    const KIND: &str = "operation_failed";
    let fixture = Fixture::start_with(&["op-200-100-f-1 group=\"Gale Ltd\""], hasty).await;
    let entry = warning(&fixture, KIND, "op-200-100-f-1").await;
    let message = entry["message"].as_str().unwrap();
    assert!(
        message.starts_with("contact of Gale Ltd: the operation failed: [contact] Read failed after"),
        "{message}"
    );
    let operation = fixture.json("/api/operations/op-200-100-f-1").await;
    assert_eq!(operation["finishTime"], entry["since"]);
    assert!(
        operation["durationSeconds"].as_f64().unwrap() > 0.0,
        "{operation}"
    );
    assert!(
        operation["result"]
            .as_str()
            .unwrap()
            .contains("REQUEST_LIMIT_EXCEEDED")
    );

    let list = fixture.daemon.setup().list_path();
    replace_file(&list, "op-200-100-f-1\nop-300-100-s-2\n");
    fixture.phase("op-300-100-s-2", "succeeded").await;
    is_well(&fixture, KIND).await;
    replace_file(&list, "op-300-100-s-2\nop-200-100-f-3\n");
    warning(&fixture, KIND, "op-200-100-f-3").await;
    replace_file(&list, "op-300-100-s-2\n");
    is_well(&fixture, KIND).await;
}

#[tokio::test]
async fn an_operation_that_is_refused_is_shown_until_it_is_answered() {
    const KIND: &str = "operation_unreachable";
    let fixture = Fixture::start_with(&["op-600000-5000-s-1", "op-600000-5000-s-2"], hasty).await;
    for operation in ["op-600000-5000-s-1", "op-600000-5000-s-2"] {
        fixture.phase(operation, "running").await;
    }
    fixture.simulator.faults().forbid("op-600000-5000-s-2");
    let entry = warning(&fixture, KIND, "op-600000-5000-s-2").await;
    let message = entry["message"].as_str().unwrap();
    assert!(
        message.starts_with("contact: polls of this operation fail: 403"),
        "{message}"
    );
    fixture.simulator.faults().restore("op-600000-5000-s-2");
    is_well(&fixture, KIND).await;
}

#[tokio::test]
async fn a_stall_is_shown_with_its_count_until_the_count_rises() {
    const KIND: &str = "operation_stalled";
    let stalls = SimulatedOperation {
        curve: CountCurve::Stall,
        ..SimulatedOperation::new("stalls", Duration::from_secs(14), 200_000)
    };
    let fixture = Fixture::start_with(&[], hasty).await;
    fixture.simulator.add(stalls);
    replace_file(&fixture.daemon.setup().list_path(), "stalls\n");
    let entry = warning(&fixture, KIND, "stalls").await;
    assert_eq!(entry["message"], "contact: count unchanged at 100,000 records");
    let stall = fixture.json("/api/operations/stalls").await["stall"].take();
    assert_eq!(
        stall,
        serde_json::json!({"since": entry["since"], "reason": "count unchanged"})
    );
    is_well(&fixture, KIND).await;
    let operation = fixture.json("/api/operations/stalls").await;
    assert!(operation.get("stall").is_none(), "{operation}");
}

#[tokio::test]
async fn more_than_a_hundred_failures_are_named_in_part_and_counted_exactly() {
    let lines: Vec<String> = (0..130).map(|number| format!("op-100-100-f-{number}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start_with(&lines, |setup| {
        setup.set("ampersand.max_requests_per_second", "200")
    })
    .await;
    let entries = until_answered("all have failed", async || {
        let attention = fixture.json("/api/attention").await["attention"].take();
        let entries = attention.as_array().unwrap().clone();
        let counts = entries.iter().map(|entry| entry["count"].as_u64().unwrap_or(1));
        match counts.sum::<u64>() {
            130 => Ok(entries),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(entries.len(), 101);
    let rest = entries
        .iter()
        .find(|entry| entry.get("subject").is_none())
        .unwrap();
    assert_eq!(
        (&rest["count"], &rest["message"]),
        (&30.into(), &"30 more operations finished without success".into())
    );
    is_counted(&fixture, "operation_failed", 130).await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_shown_between_the_probes_too() {
    let receiver = Receiver::start(ReceiverConfig::default()).await.unwrap();
    let broken = SimulatedReply::Status(500, RetryAfter::Absent);
    receiver.faults().always("/hook", broken);
    let lines: Vec<String> = (0..6)
        .map(|number| format!("op-600000-5000-s-{number}"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start_with(&lines, |setup| {
        setup
            .set("webhook.url", &receiver.url())
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", WEBHOOK_SECRET)
    })
    .await;
    let entry = kinds(&fixture, &["endpoint_failing"]).await.remove(0);
    assert_eq!(
        (&entry["severity"], &entry["subject"]),
        (&"error".into(), &"webhook".into())
    );
    let message = entry["message"].as_str().unwrap();
    assert!(
        message.contains("500") && message.contains("6 events wait"),
        "{message}"
    );
    let endpoint = fixture.json("/api/webhooks").await["endpoints"][0].take();
    assert_eq!(endpoint["state"], "probing");
    let shown = fixture.json("/api/attention").await["attention"].take();
    assert_eq!(
        (&shown[0]["kind"], &shown[0]["since"]),
        (&entry["kind"], &entry["since"])
    );
    is_counted(&fixture, "endpoint_failing", 1).await;
    assert_eq!(status(&fixture, &[]).await.status.code(), Some(1));
    receiver.faults().restore("/hook");
    is_well(&fixture, "endpoint_failing").await;
}

#[tokio::test]
async fn a_secret_that_is_lost_while_running_stays_in_use_and_is_an_error_until_it_is_back() {
    let receiver = Receiver::start(ReceiverConfig::default()).await.unwrap();
    let settings = format!(
        "[[webhooks]]\nname = \"crm\"\nurl = \"{}\"\nsecret_file = \"secret\"\nevents = [\"operation.started\"]\n",
        receiver.url()
    );
    let fixture = Fixture::start_with(&["op-600000-5000-s-1"], |setup| {
        let (key, token) = (setup.folder().join("key"), setup.folder().join("token"));
        fs::write(&key, "simulated-key\n").unwrap();
        fs::write(&token, "s3cret-token\n").unwrap();
        in_file(setup, &settings)
            .without("AMPERSAND_API_KEY")
            .set("ampersand.api_key_file", &key.display().to_string())
            .set("http.write_token_file", &token.display().to_string())
    })
    .await;
    receiver.received(1).await;
    let file = |name: &str| fixture.daemon.setup().folder().join(name);
    fs::remove_file(file("key")).unwrap();
    fs::write(file("secret"), "").unwrap();
    fs::write(file("token"), "two words\n").unwrap();
    // A reload reads secrets at once. It fails, as the next start would.
    fixture.daemon.signal(&["HUP"]);
    let log = [
        ("the API key cannot be read", "no such file"),
        ("the webhook secret cannot be read", "secret is empty"),
        ("the HTTP tokens cannot be read", "column 4"),
    ];
    for (message, reason) in log {
        let line = fixture.daemon.message(message).await;
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line:?}");
    }
    let lost = ["endpoint_without_secret", "settings_rejected"];
    let listed = until_answered("three secrets need attention", async || {
        let attention = fixture.json("/api/attention").await["attention"].take();
        let entries = attention.as_array().unwrap().iter();
        let entries = entries.filter(|entry| lost.contains(&entry["kind"].as_str().unwrap()));
        let entries: Vec<Value> = entries.cloned().collect();
        // One more is about the reload.
        match entries.len() {
            4 => Ok(entries),
            _ => Err(attention.to_string()),
        }
    })
    .await;
    let of = |member: &str, value: &str| {
        let found = listed.iter().find(|entry| entry[member] == value);
        found.unwrap_or_else(|| panic!("{member} {value} in {listed:?}"))
    };
    let texts = [
        (
            of("project", "my-project"),
            "no such file. The key that was read before stays in use",
        ),
        (
            of("subject", "crm"),
            "secret is empty. The secret that was read before stays in use",
        ),
        (
            of("subject", "http.write_token_file"),
            "ASCII. The tokens that were read before stay valid",
        ),
    ];
    for (entry, text) in texts {
        assert!(entry["message"].as_str().unwrap().contains(text), "{entry}");
        assert_eq!(entry["severity"], "error");
    }
    // Polls and deliveries continue.
    replace_file(&fixture.daemon.list_path(), "op-600000-5000-s-2\n");
    receiver.received(2).await;

    replace_file(&file("key"), "simulated-key\n");
    replace_file(&file("secret"), &format!("{WEBHOOK_SECRET}\n"));
    replace_file(&file("token"), "s3cret-token\n");
    fixture.daemon.signal(&["HUP"]);
    fixture.daemon.message("the API key can be read again").await;
    kinds(&fixture, &[]).await;
}
