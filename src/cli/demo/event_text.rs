//! Events as lines.

use serde_json::Value;

use super::screen::Screen;
use crate::cli::format::count;
use crate::cli::terminal::TextStyle;
use crate::core::event::EventType;
use crate::core::text::one_line;

/// The line for the event with this body.
pub(super) fn line(screen: &Screen, event_type: EventType, body: &Value) -> String {
    let data = &body["data"];
    let labels = &data["labels"];
    let name = match (labels["group"].as_str(), labels["object"].as_str()) {
        // A group of one operation has its labels, too.
        _ if event_type == EventType::GroupCompleted => text(&data["group"]),
        (Some(customer), Some(object)) => format!("{customer} {object}"),
        _ => text(&data["operationId"]),
    };
    let kind = format!("{:<19}", event_type.as_str());
    let kind = match text_style(event_type, data) {
        Some(text_style) => screen.paint(text_style, &kind),
        None => kind,
    };
    format!("{kind} {name:<16} {}", detail(event_type, data))
        .trim_end()
        .to_owned()
}

fn text_style(event_type: EventType, data: &Value) -> Option<TextStyle> {
    match event_type {
        EventType::GroupCompleted if data["outcome"] != "succeeded" => Some(TextStyle::Red),
        EventType::Succeeded | EventType::GroupCompleted => Some(TextStyle::Green),
        EventType::Stalled
        | EventType::Overdue
        | EventType::Retried
        | EventType::Unreachable
        | EventType::Expired => Some(TextStyle::Yellow),
        EventType::Failed
        | EventType::Ended
        | EventType::Gone
        | EventType::ApiUnreachable
        | EventType::CredentialsRejected => Some(TextStyle::Red),
        EventType::Started
        | EventType::Progress
        | EventType::Resumed
        | EventType::Reachable
        | EventType::ApiReachable
        | EventType::CredentialsAccepted => None,
    }
}

/// The main facts of the event.
fn detail(event_type: EventType, data: &Value) -> String {
    let progress = &data["progress"];
    let processed = count(progress["recordsProcessed"].as_u64().unwrap_or(0));
    let seconds = data["durationSeconds"].as_f64().unwrap_or(0.0);
    match event_type {
        EventType::Started => match progress["recordsEstimatedTotal"].as_u64() {
            Some(total) => format!("{} estimated", count(total)),
            None => "no estimate".to_owned(),
        },
        EventType::Progress => match progress["percent"].as_f64() {
            Some(percent) => format!("{percent} %, {processed} records"),
            None => format!("{processed} records"),
        },
        EventType::Stalled => format!("count stays at {processed}"),
        EventType::Overdue => format!("deadline was {}", text(&data["deadline"])),
        EventType::Resumed => format!("count is {processed}"),
        EventType::Retried => format!("attempt {}, count restarts", data["retry"]["attempts"]),
        EventType::Succeeded => format!("{processed} in {seconds:.1}s"),
        EventType::Failed | EventType::Ended => text(&data["result"]),
        EventType::GroupCompleted => {
            let operations = data["operationCount"].as_u64().unwrap_or(0);
            let plural = if operations == 1 { "" } else { "s" };
            format!(
                "{}, {operations} operation{plural} in {seconds:.1}s",
                text(&data["outcome"])
            )
        }
        EventType::Gone
        | EventType::Expired
        | EventType::Unreachable
        | EventType::Reachable
        | EventType::ApiUnreachable
        | EventType::ApiReachable
        | EventType::CredentialsRejected
        | EventType::CredentialsAccepted => text(&data["reason"]),
    }
}

fn text(value: &Value) -> String {
    one_line(value.as_str().unwrap_or_default(), 200)
}
