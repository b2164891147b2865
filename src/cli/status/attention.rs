//! The attention entries, each with what to do.

use std::collections::BTreeMap;

use serde_json::Value;

use super::screen::Screen;
use crate::cli::format;
use crate::cli::terminal::TextStyle;
use crate::core::text::{one_line, plural};

/// So many entries of one kind are printed, unless all are shown.
const MAX_OF_KIND: usize = 10;
/// The longest text of an entry, in bytes.
const MAX_TEXT: usize = 4_000;
/// The width of the first column.
const LABEL: usize = 9;

/// The list in one line, for the end of a long output. `options` lead commands to the same daemon.
pub(super) fn verdict(entries: &[Value], options: &str, screen: &Screen) -> Vec<String> {
    let count = |severity: &str| {
        let found = entries.iter().filter(|entry| entry["severity"] == severity);
        found.map(count_of).sum::<u64>()
    };
    let counts: Vec<String> = ["error", "warning"]
        .iter()
        .filter_map(|severity| match count(severity) {
            0 => None,
            number => Some(plural(number, severity)),
        })
        .collect();
    let Some(first) = entries.first() else {
        return vec![all_is_well(screen)];
    };
    // Errors come first.
    let is_operation = |entry: &&Value| {
        entry["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("operation_"))
    };
    let id = Some(first)
        .filter(is_operation)
        .and_then(|entry| entry["subject"].as_str());
    let next = match id {
        Some(id) => format!(
            "next: `backfill-watch status{options} {}`",
            one_line(id, MAX_TEXT)
        ),
        None => "the top of this output shows what to do".to_owned(),
    };
    let severity = first["severity"].as_str().unwrap_or("error");
    screen.paragraph(
        &label(severity, screen),
        &format!("{}; {next}", counts.join(", ")),
    )
}

/// The number of problems in an entry.
fn count_of(entry: &Value) -> u64 {
    entry["count"].as_u64().unwrap_or(1)
}

fn all_is_well(screen: &Screen) -> String {
    let ok = format!("{:<LABEL$}", "OK");
    format!(
        "{}nothing needs attention",
        screen.style.paint(TextStyle::Green, &ok)
    )
}

/// A paragraph for each entry, at most [`MAX_OF_KIND`] of each kind unless `is_all_shown`. Ends with an empty line.
pub(super) fn lines(entries: &[Value], is_all_shown: bool, screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hidden: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut entries = entries.iter().peekable();
    while let Some(entry) = entries.next() {
        let kind = entry["kind"].as_str().unwrap_or_default();
        let of_kind = shown.entry(kind).or_default();
        *of_kind += 1;
        if *of_kind > MAX_OF_KIND && !is_all_shown {
            let severity = entry["severity"].as_str().unwrap_or("error");
            *hidden.entry((severity, kind)).or_default() += count_of(entry);
            continue;
        }
        lines.extend(paragraph(entry, screen));
        // Entries in a row with the same action share it.
        let has_same_action = |next: &&Value| next["action"] == entry["action"] && next["kind"] == kind;
        let is_next_shown = *of_kind < MAX_OF_KIND || is_all_shown;
        if !(is_next_shown && entries.peek().is_some_and(has_same_action)) {
            lines.extend(action(entry, screen));
        }
    }
    for ((severity, kind), count) in hidden {
        let text = format!("{} more of kind {kind}; --all shows them", format::count(count));
        lines.extend(screen.paragraph(&label(severity, screen), &text));
    }
    if lines.is_empty() {
        lines.push(all_is_well(screen));
    }
    lines.push(String::new());
    lines
}

fn paragraph(entry: &Value, screen: &Screen) -> Vec<String> {
    let member = |name: &str| entry[name].as_str().map(|text| one_line(text, MAX_TEXT));
    let mut text = String::new();
    if let Some(project) = member("project") {
        text.push_str(&format!("project {project}: "));
    }
    let message = member("message").unwrap_or_default();
    // Other messages name their subject.
    let is_of_operation = |kind: String| kind.starts_with("operation_") || kind == "poller_restarted";
    if let Some(subject) = member("subject")
        && member("kind").is_some_and(is_of_operation)
        && !message.contains(&subject)
    {
        text.push_str(&format!("{subject}: "));
    }
    text.push_str(&message);
    if let Some(age) = screen.age(&entry["since"]) {
        text.push_str(&format!(" (for {age})"));
    }
    let severity = entry["severity"].as_str().unwrap_or("error");
    screen.paragraph(&label(severity, screen), &text)
}

fn action(entry: &Value, screen: &Screen) -> Vec<String> {
    let Some(action) = entry["action"].as_str() else {
        return Vec::new();
    };
    let start = format!("{}To do: ", " ".repeat(LABEL));
    screen.paragraph(&start, &format!("{}.", one_line(action, MAX_TEXT)))
}

fn label(severity: &str, screen: &Screen) -> String {
    let text_style = match severity {
        "warning" => TextStyle::Yellow,
        _ => TextStyle::Red,
    };
    let severity = one_line(severity, LABEL - 1).to_uppercase();
    let padded = format!("{severity:<LABEL$}");
    screen.style.paint(text_style, &padded)
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::{AT, screen};
    use super::*;

    #[test]
    fn an_entry_shows_message_age_and_action() {
        let entries = [serde_json::json!({
            "kind": "api_unreachable", "severity": "error", "project": "p", "since": "2026-11-23T11:55:00Z",
            "message": "the API is unreachable: connection refused", "action": "check the network",
        })];
        assert_eq!(
            lines(&entries, false, &screen(None)),
            [
                "ERROR    project p: the API is unreachable: connection refused (for 5m 00s)",
                "         To do: check the network.",
                "",
            ]
        );
        assert_eq!(
            lines(&entries, false, &screen(Some(40))),
            [
                "ERROR    project p: the API is",
                "         unreachable: connection refused",
                "         (for 5m 00s)",
                "         To do: check the network.",
                "",
            ]
        );
        assert_eq!(
            lines(&[], false, &screen(None)),
            ["OK       nothing needs attention", ""]
        );
    }

    #[test]
    fn the_verdict_counts_by_severity_and_names_the_next_step() {
        let entry = |severity: &str, kind: &str, count: u64| serde_json::json!({"severity": severity, "kind": kind, "subject": "op-1", "count": count});
        let shown = |entries: &[Value]| verdict(entries, " --state-dir /s", &screen(None));
        assert_eq!(
            shown(&[
                entry("error", "api_unreachable", 1),
                entry("warning", "operation_stalled", 1_200)
            ]),
            ["ERROR    1 error, 1,200 warnings; the top of this output shows what to do"]
        );
        assert_eq!(
            shown(&[
                entry("warning", "operation_failed", 1),
                entry("warning", "operation_failed", 1)
            ]),
            ["WARNING  2 warnings; next: `backfill-watch status --state-dir /s op-1`"]
        );
        assert_eq!(shown(&[]), ["OK       nothing needs attention"]);
    }

    #[test]
    fn an_operation_is_named_and_many_entries_of_a_kind_are_summed() {
        let entries: Vec<Value> = (0..12)
            .map(|number| {
                serde_json::json!({
                    "kind": "operation_stalled", "severity": "warning", "project": "p", "subject": format!("op-{number}"),
                    "since": AT, "message": "contact of Gale\u{1b} Ltd: count unchanged", "action": "ask the customer",
                    "count": if number == 11 { 30 } else { 1 },
                })
            })
            .collect();
        let shown = lines(&entries, false, &screen(None));
        assert_eq!(shown.len(), 13);
        assert_eq!(
            shown[0],
            "WARNING  project p: op-0: contact of Gale\\u{1b} Ltd: count unchanged (for 0s)"
        );
        assert_eq!(
            shown[11],
            "WARNING  31 more of kind operation_stalled; --all shows them"
        );
        assert_eq!(lines(&entries, true, &screen(None)).len(), 14);
    }
}
