//! An event on one line, for `events` and for `watch` without a terminal.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::format;
use crate::core::event::{EventType, millis};
use crate::core::operation::Status;
use crate::core::text::{one_line, plural};
use crate::core::watch_list::label_text;

/// The longest text from outside in a line, in bytes.
const MAX_TEXT: usize = 300;

/// Time, type, operation or project, and the main members of the event's `data`.
#[must_use]
pub fn event_line(time: Timestamp, event_type: EventType, data: &Value) -> String {
    let member = |name: &str| data[name].as_str();
    let text = |name: &str| member(name).map(|text| one_line(text, MAX_TEXT));
    let subject = text("operationId").or(text("group")).or(text("project"));
    let mut line = format!(
        "{}  {:<24}  {}",
        millis(time),
        event_type.as_str(),
        subject.as_deref().unwrap_or("-")
    );
    let mut add = |text: &str| {
        // Writing to a string cannot fail.
        let _ = write!(line, "  {text}");
    };
    if let Some(state) = text("phase").or(text("outcome")) {
        add(&state);
    }
    if let Some(status) = member("status").and_then(Status::beyond_phase) {
        add(&one_line(status, MAX_TEXT));
    }
    if let Some(round) = data["round"].as_u64() {
        add(&format!("round {round}"));
    }
    if let Some(operations) = data["operationCount"].as_u64() {
        add(&plural(operations, "operation"));
    }
    if let Some(missing) = data["missing"].as_array() {
        add(&format!("{} missing", missing.len()));
    }
    let progress = &data["progress"];
    let percent = progress["percent"].as_f64();
    let records = progress["recordsProcessed"].as_u64().map(format::count);
    let total = progress["recordsEstimatedTotal"].as_u64().map(format::count);
    match (percent, records, total) {
        (Some(percent), Some(records), Some(total)) => add(&format!("{percent:.1}%  {records}/{total}")),
        (Some(percent), _, _) => add(&format!("{percent:.1}%")),
        (None, Some(records), _) => add(&format!("{records} records")),
        (None, None, _) => {}
    }
    if !event_type.is_ending()
        && let Some(rate) = progress["recordsPerSecond"].as_f64()
    {
        add(&format::rate(rate));
    }
    if let Some(seconds) = data["durationSeconds"].as_f64() {
        add(&format::seconds(seconds));
    }
    if event_type == EventType::Overdue
        && let Some(deadline) = text("deadline")
    {
        add(&format!("deadline {deadline}"));
    }
    if let Some(attempts) = data["retry"]["attempts"].as_u64() {
        add(&format!("attempt {attempts}"));
    }
    if let Some(text) = text("result").or(text("reason")) {
        add(&text);
    }
    if let Some(labels) = data["labels"].as_object() {
        for (name, value) in labels {
            let label = label_text(name, value.as_str().unwrap_or_default());
            add(&one_line(&label, MAX_TEXT));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(event_type: EventType, data: &Value) -> String {
        event_line("2026-11-23T12:00:00Z".parse().unwrap(), event_type, data)
    }

    #[test]
    fn a_line_shows_what_is_known() {
        let data = json!({
            "operationId": "op-1", "phase": "running", "labels": {"customer": "acme"},
            "progress": {"percent": 25, "recordsProcessed": 1250, "recordsEstimatedTotal": 5000, "recordsPerSecond": 41.66},
        });
        assert_eq!(
            line(EventType::Progress, &data),
            "2026-11-23T12:00:00.000Z  operation.progress        op-1  running  25.0%  1,250/5,000  41.7/s  customer=acme"
        );
        let data = json!({"project": "p", "reason": "connection refused"});
        assert_eq!(
            line(EventType::ApiUnreachable, &data),
            "2026-11-23T12:00:00.000Z  api.unreachable           p  connection refused"
        );
    }

    #[test]
    fn a_line_shows_a_status_that_the_contract_does_not_name() {
        let ended = |status: &str| {
            let data = json!({
                "operationId": "op-1", "phase": "ended", "status": status, "progress": {"percent": 10.0},
            });
            line(EventType::Ended, &data)
        };
        for (status, shown) in [
            ("IN_PROGRESS", "ended  IN_PROGRESS  10.0%"),
            ("can\nceled", "ended  can\\nceled  10.0%"),
            ("failure", "ended  10.0%"),
            (" ", "ended  10.0%"),
        ] {
            let line = ended(status);
            assert!(line.ends_with(&format!("op-1  {shown}")), "{line}");
        }
    }

    #[test]
    fn a_line_shows_a_deadline_and_a_group() {
        let data = json!({"operationId": "op-1", "phase": "running", "deadline": "2026-11-23T11:00:00Z"});
        assert_eq!(
            line(EventType::Overdue, &data),
            "2026-11-23T12:00:00.000Z  operation.overdue         op-1  running  deadline 2026-11-23T11:00:00Z"
        );
        let data = json!({
            "project": "p", "group": "Gale\nLtd", "label": "group", "round": 2, "outcome": "failed", "operationCount": 1250,
            "durationSeconds": 69.4, "missing": [{"installation": "i", "object": "o"}], "labels": {"team": "crm"},
        });
        assert_eq!(
            line(EventType::GroupCompleted, &data),
            "2026-11-23T12:00:00.000Z  group.completed           Gale\\nLtd  failed  round 2  1,250 operations  1 missing  \
             1m 09s  team=crm"
        );
        let data = json!({"group": "gale", "outcome": "succeeded", "round": 1, "operationCount": 1});
        assert_eq!(
            line(EventType::GroupCompleted, &data),
            "2026-11-23T12:00:00.000Z  group.completed           gale  succeeded  round 1  1 operation"
        );
    }

    #[test]
    fn a_line_has_no_control_characters() {
        let data = json!({
            "operationId": "op-1", "phase": "succeeded", "progress": {"percent": 100}, "durationSeconds": 69.4,
            "result": "done\u{1b}[2J\n",
        });
        assert_eq!(
            line(EventType::Succeeded, &data),
            "2026-11-23T12:00:00.000Z  operation.succeeded       op-1  succeeded  100.0%  1m 09s  done\\u{1b}[2J"
        );
    }
}
