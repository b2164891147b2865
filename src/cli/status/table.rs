//! The operations as a table.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::format;
use crate::cli::table::Table;
use crate::cli::terminal::TerminalStyle;
use crate::clock;
use crate::core::phase::Phase;
use crate::core::text::one_line;
use crate::core::watch_list::label_text;

/// The longest text of a cell, in bytes. `--json` has all of it.
pub(super) const MAX_CELL: usize = 60;

const HEADER: [&str; 8] = [
    "OPERATION",
    "PROJECT",
    "PHASE",
    "PROGRESS",
    "RATE",
    "END",
    "SOURCE",
    "LABELS",
];
/// The column that is omitted if all operations are of one project.
const PROJECT: usize = 1;
/// The column that is omitted if all operations are in the watch list.
const SOURCE: usize = 6;

/// The table of `operations`, and a summary line.
pub(super) fn render(operations: &[Value], now: Timestamp) -> String {
    let Some(first) = operations.first() else {
        return "The daemon watches no operation. Add one to its watch list, or with `backfill-watch add`.\n"
            .to_owned();
    };
    let has_projects = operations
        .iter()
        .any(|operation| operation["project"] != first["project"]);
    let has_sources = operations.iter().any(|operation| operation["source"] != "file");
    let is_shown = |column: &usize| match *column {
        PROJECT => has_projects,
        SOURCE => has_sources,
        _ => true,
    };
    let rows = operations.iter().map(|operation| cells(operation, now));
    format!("{}{}", plain_table(HEADER, is_shown, rows), summary(operations))
}

/// A table without colours of the columns that are shown.
pub(super) fn plain_table<const N: usize>(
    header: [&str; N],
    is_shown: impl Fn(&usize) -> bool,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let shown: Vec<usize> = (0..N).filter(is_shown).collect();
    let header: Vec<&str> = shown.iter().map(|column| header[*column]).collect();
    let plain = TerminalStyle {
        colour: false,
        unicode: true,
    };
    let mut table = Table::new(&header, plain, None);
    for cells in rows {
        table.add(shown.iter().map(|column| cells[*column].clone().into()).collect());
    }
    table.take()
}

fn cells(operation: &Value, now: Timestamp) -> [String; HEADER.len()] {
    let member = |name: &str| one_line(operation[name].as_str().unwrap_or_default(), MAX_CELL);
    let progress = &operation["progress"];
    let labels: Vec<String> = operation["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| label_text(name, value.as_str().unwrap_or_default()))
        .collect();
    let is_running = operation["phase"] == Phase::Running.as_str();
    let rate = progress["recordsPerSecond"].as_f64().filter(|_| is_running);
    [
        // Not cut, so that it can be copied.
        operation["operationId"].as_str().unwrap_or_default().to_owned(),
        member("project"),
        member("phase"),
        progress_text(progress),
        rate.map(format::rate).unwrap_or_default(),
        if is_running {
            end_text(progress, now)
        } else {
            String::new()
        },
        member("source"),
        one_line(&labels.join(" "), MAX_CELL),
    ]
}

fn progress_text(progress: &Value) -> String {
    let Some(processed) = progress["recordsProcessed"].as_u64() else {
        return String::new();
    };
    let count = match progress["recordsEstimatedTotal"].as_u64() {
        Some(total) => format!("{} of {}", format::count(processed), format::count(total)),
        None => format::count(processed),
    };
    match progress["percent"].as_f64() {
        Some(percent) => format!("{}  {count}", percent_text(percent)),
        None => format!("        {count}"),
    }
}

/// A percentage in a column.
pub(super) fn percent_text(percent: f64) -> String {
    format!("{percent:>5.1}%")
}

/// The time until the estimated end.
pub(super) fn end_text(progress: &Value, now: Timestamp) -> String {
    let end: Option<Timestamp> = progress["estimatedEndTime"]
        .as_str()
        .and_then(|text| text.parse().ok());
    match end {
        Some(end) if end > now => format!("in {}", format::time(clock::between(now, end))),
        Some(_) => "soon".to_owned(),
        None => String::new(),
    }
}

fn summary(operations: &[Value]) -> String {
    let counts: Vec<String> = Phase::ALL
        .iter()
        .filter_map(|phase| {
            let count = operations
                .iter()
                .filter(|operation| operation["phase"] == phase.as_str())
                .count();
            (count > 0).then(|| format!("{count} {phase}"))
        })
        .collect();
    format!(
        "\n{}: {}\n",
        format::operations(operations.len()),
        counts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_escaped() {
        let operations = serde_json::json!([
            {"operationId": "op-1", "project": "p", "phase": "running", "source": "file", "labels": {"customer": "a\u{1b}[2J\nb"},
             "progress": {"recordsProcessed": 1250, "recordsEstimatedTotal": 5000, "percent": 25.0,
              "recordsPerSecond": 41.7, "estimatedEndTime": "2026-11-23T12:01:30Z"}},
            {"operationId": "a-longer-id", "project": "p", "phase": "failed", "source": "file",
             "progress": {"recordsProcessed": 7}},
        ]);
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let table = render(operations.as_array().unwrap(), now);
        assert_eq!(
            table,
            "OPERATION    PHASE    PROGRESS                RATE    END        LABELS\n\
             op-1         running   25.0%  1,250 of 5,000  41.7/s  in 1m 30s  customer=\"a\\u{1b}[2J\\nb\"\n\
             a-longer-id  failed           7\n\
             \n\
             2 operations: 1 running, 1 failed\n"
        );
        assert!(render(&[], now).contains("no operation"));
        let operations = serde_json::json!([
            {"operationId": "a", "project": "p", "phase": "pending", "source": "file"},
            {"operationId": "b", "project": "p", "phase": "pending", "source": "api", "labels": {"k": "v"}},
        ]);
        assert_eq!(
            render(operations.as_array().unwrap(), now),
            "OPERATION  PHASE    PROGRESS  RATE  END  SOURCE  LABELS\n\
             a          pending                       file\n\
             b          pending                       api     k=v\n\
             \n\
             2 operations: 2 pending\n"
        );
    }
}
