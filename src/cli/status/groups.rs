//! The groups as a table.

use jiff::Timestamp;
use serde_json::Value;

use super::table::{MAX_CELL, end_text, percent_text, plain_table};
use crate::cli::format;
use crate::core::text::one_line;

const HEADER: [&str; 8] = [
    "GROUP",
    "PROJECT",
    "STATE",
    "ROUND",
    "OPERATIONS",
    "PROGRESS",
    "END",
    "AWAITED",
];
/// The column that is omitted if all groups are of one project.
const PROJECT: usize = 1;

/// The table of `groups` with an empty line after it, or nothing.
pub(super) fn render(groups: &[Value], now: Timestamp) -> String {
    let Some(first) = groups.first() else {
        return String::new();
    };
    let has_projects = groups.iter().any(|group| group["project"] != first["project"]);
    let is_shown = |column: &usize| has_projects || *column != PROJECT;
    let rows = groups.iter().map(|group| cells(group, now));
    format!("{}\n", plain_table(HEADER, is_shown, rows))
}

fn cells(group: &Value, now: Timestamp) -> [String; HEADER.len()] {
    let member = |name: &str| one_line(group[name].as_str().unwrap_or_default(), MAX_CELL);
    let progress = &group["progress"];
    let is_running = group["outcome"] == "running";
    let phases: Vec<String> = group["phases"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(phase, count)| format!("{} {phase}", format::count(count.as_u64().unwrap_or_default())))
        .collect();
    let objects = |name: &str| {
        let objects = group[name].as_array().into_iter().flatten();
        objects.filter_map(|object| object["object"].as_str())
    };
    let awaited: Vec<String> = objects("awaited")
        .map(str::to_owned)
        .chain(objects("missing").map(|object| format!("{object} (missing)")))
        .collect();
    [
        member("group"),
        member("project"),
        member("outcome"),
        match group["round"].as_u64() {
            Some(round) if round > 0 => round.to_string(),
            _ => String::new(),
        },
        phases.join(", "),
        progress["percent"].as_f64().map(percent_text).unwrap_or_default(),
        if is_running {
            end_text(progress, now)
        } else {
            String::new()
        },
        one_line(&awaited.join(" "), MAX_CELL),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shows_its_operations_and_what_it_waits_for() {
        let groups = serde_json::json!([
            {"project": "p", "group": "Gale\nLtd", "outcome": "running", "round": 2, "phases": {"running": 1, "succeeded": 1200},
             "progress": {"percent": 25.0, "estimatedEndTime": "2026-11-23T12:01:30Z"},
             "awaited": [{"installation": "i", "object": "deal"}], "missing": [{"installation": "i", "object": "note"}]},
            {"project": "p", "group": "hill", "outcome": "failed", "round": 0, "phases": {"failed": 1}},
        ]);
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let table = render(groups.as_array().unwrap(), now);
        assert_eq!(
            table,
            "GROUP      STATE    ROUND  OPERATIONS                  PROGRESS  END        AWAITED\n\
             Gale\\nLtd  running  2      1 running, 1,200 succeeded   25.0%    in 1m 30s  deal note (missing)\n\
             hill       failed          1 failed\n\n"
        );
        assert_eq!(render(&[], now), "");
    }
}
