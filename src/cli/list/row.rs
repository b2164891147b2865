//! One operation as a row of a table.

use jiff::Timestamp;

use crate::cli::format;
use crate::cli::table::Cell;
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::operation::{Operation, Status};
use crate::core::text::one_line;

pub(super) const HEADER: [&str; 6] = ["ID", "OBJECTS", "STATUS", "RECORDS", "CREATED", "RESULT"];
/// The longest text of a cell other than the result, in bytes.
const MAX_CELL: usize = 128;
/// The longest result, in bytes.
const MAX_RESULT: usize = 200;

/// The cells of an operation, as of `now`.
pub(super) fn row(operation: &Operation, now: Timestamp) -> Vec<Cell> {
    let metadata = operation.metadata.as_ref();
    let objects = metadata
        .and_then(|metadata| metadata.objects.as_ref())
        .map(|objects| one_line(&objects.join(","), MAX_CELL));
    let progress = metadata.and_then(|metadata| metadata.progress.as_ref());
    let records = progress.and_then(|progress| {
        let processed = format::count(progress.records_processed?);
        Some(match progress.records_estimated_total {
            Some(total) => format!("{processed}/{}", format::count(total)),
            None => processed,
        })
    });
    let created = operation
        .create_time
        .map(|created| format!("{} ago", format::time(clock::between(created, now))));
    let status = one_line(operation.status.as_str(), MAX_CELL);
    let result = operation.result.as_deref().unwrap_or_default();
    vec![
        one_line(&operation.id, MAX_CELL).into(),
        objects.unwrap_or_default().into(),
        Cell::styled(status, status_style(&operation.status)),
        records.unwrap_or_default().into(),
        created.unwrap_or_default().into(),
        one_line(result, MAX_RESULT).into(),
    ]
}

fn status_style(status: &Status) -> Option<TextStyle> {
    match status {
        Status::InProgress => Some(TextStyle::Cyan),
        Status::Success => Some(TextStyle::Green),
        Status::Failure => Some(TextStyle::Red),
        Status::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::table::Table;
    use crate::cli::terminal::TerminalStyle;

    #[test]
    fn a_row_shows_counts_age_and_escaped_text() {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let operation = |id: &str, rest: serde_json::Value| {
            let mut json = json!({"id": id, "projectId": "p", "integrationId": "i", "configId": "c",
                "installationId": "n", "actionType": "read"});
            for (name, value) in rest.as_object().unwrap() {
                json[name] = value.clone();
            }
            Operation::parse(&json.to_string(), now).unwrap()
        };
        let plain = TerminalStyle {
            colour: false,
            unicode: true,
        };
        let first = json!({"status": "in_progress", "createTime": "2026-11-23T11:58:51Z",
            "metadata": {"objects": ["連絡先"], "progress": {"recordsProcessed": 1250, "recordsEstimatedTotal": 5000}}});
        let second = json!({"status": "success", "result": "done\n\u{1b}[2J"});
        let mut table = Table::new(&HEADER, plain, None);
        table.add(row(&operation("operation-1", first), now));
        table.add(row(&operation("op-2", second), now));
        assert_eq!(
            table.take(),
            "ID           OBJECTS  STATUS       RECORDS      CREATED     RESULT\n\
             operation-1  連絡先   in_progress  1,250/5,000  1m 09s ago\n\
             op-2                  success                               done\\n\\u{1b}[2J\n"
        );
    }
}
