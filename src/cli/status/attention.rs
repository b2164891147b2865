//! The attention entries, each with what to do.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::format;
use crate::clock;

/// A paragraph for each entry, or nothing.
pub(super) fn render(entries: &[Value], now: Timestamp) -> String {
    let mut text = String::new();
    for entry in entries {
        let member = |name: &str| entry[name].as_str();
        let severity = member("severity").unwrap_or("error").to_uppercase();
        let project = member("project").map_or_else(String::new, |project| format!("project {project}: "));
        let message = member("message").unwrap_or_default();
        let since = member("since").and_then(|since| since.parse::<Timestamp>().ok());
        let since = since.map_or_else(String::new, |since| {
            format!(" (for {})", format::time(clock::between(since, now)))
        });
        text.push_str(&format!("{severity:<8} {project}{message}{since}\n"));
        if let Some(action) = member("action") {
            text.push_str(&format!("         To do: {action}.\n"));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_shows_message_age_and_action() {
        let entries = [serde_json::json!({
            "kind": "api_unreachable", "severity": "error", "project": "p", "since": "2026-11-23T11:55:00Z",
            "message": "the API is unreachable: connection refused", "action": "check the network",
        })];
        assert_eq!(
            render(&entries, "2026-11-23T12:00:00Z".parse().unwrap()),
            "ERROR    project p: the API is unreachable: connection refused (for 5m 00s)\n         \
             To do: check the network.\n\n"
        );
        assert_eq!(render(&[], Timestamp::UNIX_EPOCH), "");
    }
}
