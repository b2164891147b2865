//! The webhook endpoints: what waits for them and whether they answer.

use serde_json::Value;

use super::screen::{Screen, timestamp};
use crate::cli::format;
use crate::cli::table::{Cell, Column, FittedTable};
use crate::cli::terminal::TextStyle;
use crate::core::text::one_line;

/// The longest name or error, in bytes.
const MAX_TEXT: usize = 600;

const COLUMNS: [Column; 7] = [
    Column::fixed("WEBHOOK", 0),
    Column::fixed("STATE", 1),
    Column::fixed("WAITING", 2),
    Column::fixed("DEAD LETTERS", 3),
    Column::fixed("OLDEST", 5),
    Column::fixed("LAST SUCCESS", 4),
    Column::flexible("LAST ERROR", 6, 24, 40),
];

/// The table of endpoints with an empty line after it, or nothing.
pub(super) fn lines(endpoints: &[Value], screen: &Screen) -> Vec<String> {
    let mut table = FittedTable::new(&COLUMNS);
    for endpoint in endpoints {
        table.add(cells(endpoint, screen));
    }
    let mut lines = table.lines(screen.style, screen.width, None).0;
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

fn cells(endpoint: &Value, screen: &Screen) -> Vec<Cell> {
    let member = |name: &str| one_line(endpoint[name].as_str().unwrap_or_default(), MAX_TEXT);
    let count = |name: &str| endpoint[name].as_u64().unwrap_or_default();
    let age = |name: &str| screen.age(&endpoint[name]);
    let oldest = screen.age(&endpoint["oldest"]["recordedTime"]);
    let (waiting, dead_letters) = (count("backlog"), count("deadLetters"));
    let (state, state_style) = match &*member("state") {
        "open" => ("ok", None),
        "paused" => ("paused", Some(TextStyle::Yellow)),
        "probing" => ("failing", Some(TextStyle::Red)),
        "disabled" => ("disabled", Some(TextStyle::Red)),
        _ => ("unknown", Some(TextStyle::Red)),
    };
    let dead_style = (dead_letters > 0).then_some(TextStyle::Red);
    // An error before the last success is history, unless it left dead letters.
    let last_error = timestamp(&endpoint["lastErrorTime"]);
    let is_current = dead_letters > 0 || last_error > timestamp(&endpoint["lastSuccessTime"]);
    let error = match age("lastErrorTime").filter(|_| is_current) {
        Some(age) => format!("{} ({age} ago)", member("lastError")),
        None => String::new(),
    };
    vec![
        member("name").into(),
        Cell::styled(state.to_owned(), state_style),
        format::count(waiting).into(),
        Cell::styled(format::count(dead_letters), dead_style),
        oldest.unwrap_or_default().into(),
        age("lastSuccessTime")
            .map_or_else(|| "never".to_owned(), |age| format!("{age} ago"))
            .into(),
        error.into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::screen::tests::screen;
    use super::*;

    #[test]
    fn an_endpoint_shows_what_waits_and_its_current_error() {
        let endpoints = [
            json!({
                "name": "crm-sync", "state": "probing", "backlog": 1250, "deadLetters": 2,
                "oldest": {"recordedTime": "2026-11-23T11:48:00Z"}, "lastSuccessTime": "2026-11-23T11:40:00Z",
                "lastError": "503 Service Unavailable: try\nlater", "lastErrorTime": "2026-11-23T11:59:58Z",
            }),
            json!({
                "name": "audit", "state": "open", "backlog": 0, "deadLetters": 0, "lastSuccessTime": "2026-11-23T11:59:58Z",
                "lastError": "old", "lastErrorTime": "2026-11-23T10:00:00Z",
            }),
        ];
        assert_eq!(
            lines(&endpoints, &screen(None)),
            [
                "WEBHOOK   STATE    WAITING  DEAD LETTERS  OLDEST   LAST SUCCESS  LAST ERROR",
                "crm-sync  failing  1,250    2             12m 00s  20m 00s ago   503 Service Unavailable: try\\nlater (2s ago)",
                "audit     ok       0        0                      2s ago",
                "",
            ]
        );
        assert_eq!(
            lines(&endpoints[..1], &screen(Some(80))),
            [
                "WEBHOOK   STATE    WAITING  DEAD LETTERS  OLDEST   LAST SUCCESS",
                "crm-sync  failing  1,250    2             12m 00s  20m 00s ago",
                "  503 Service Unavailable: try\\nlater (2s ago)",
                "",
            ]
        );
        assert_eq!(lines(&[], &screen(None)), Vec::<String>::new());
    }
}
