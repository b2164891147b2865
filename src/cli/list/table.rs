//! Operations as a table with aligned columns.

use console::{measure_text_width, truncate_str};
use jiff::Timestamp;

use crate::cli::format;
use crate::cli::terminal::{TerminalStyle, TextStyle};
use crate::clock;
use crate::core::operation::{Operation, Status};
use crate::core::text::one_line;

const HEADER: [&str; COLUMNS] = ["ID", "OBJECTS", "STATUS", "RECORDS", "CREATED", "RESULT"];
const COLUMNS: usize = 6;
/// Which column is coloured by status.
const STATUS: usize = 2;
/// The longest text of a cell in bytes, the result's aside.
const MAX_CELL: usize = 128;
/// The longest result in bytes.
const MAX_RESULT: usize = 200;

/// The rows that are not printed yet, and what was learned from those before.
#[derive(Debug)]
pub(super) struct Table {
    style: TerminalStyle,
    /// Where lines end; `None` for nowhere.
    columns: Option<usize>,
    rows: Vec<[String; COLUMNS]>,
    /// Columns only grow from part to part.
    widths: [usize; COLUMNS],
    has_header: bool,
}

impl Table {
    /// A table whose lines end where a terminal of `columns` does.
    pub(super) fn new(style: TerminalStyle, columns: Option<usize>) -> Self {
        Self {
            style,
            columns,
            rows: Vec::new(),
            widths: HEADER.map(str::len),
            has_header: false,
        }
    }

    /// How many rows wait to be printed.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Adds an operation, as of `now`.
    pub(super) fn add(&mut self, operation: &Operation, now: Timestamp) {
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
        self.rows.push([
            one_line(&operation.id, MAX_CELL),
            objects.unwrap_or_default(),
            one_line(operation.status.as_str(), MAX_CELL),
            records.unwrap_or_default(),
            created.unwrap_or_default(),
            one_line(operation.result.as_deref().unwrap_or_default(), MAX_RESULT),
        ]);
    }

    /// The rows that were added since the last time, after the header if they are the first; nothing if there are none.
    pub(super) fn take(&mut self) -> String {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return String::new();
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        let cut = |line: String| match self.columns {
            Some(columns) => truncate_str(&line, columns, "…").into_owned() + "\n",
            None => line + "\n",
        };
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_header, true) {
            text = cut(line(&HEADER.map(str::to_owned), &self.widths, |_, cell| {
                self.style.paint(TextStyle::Bold, cell)
            }));
        }
        for row in &rows {
            let text_style = text_style(&row[STATUS]);
            text.push_str(&cut(line(row, &self.widths, |column, cell| match text_style {
                Some(text_style) if column == STATUS => self.style.paint(text_style, cell),
                _ => cell.to_owned(),
            })));
        }
        text
    }
}

fn line(
    cells: &[String; COLUMNS],
    widths: &[usize; COLUMNS],
    paint: impl Fn(usize, &str) -> String,
) -> String {
    let mut line = String::new();
    let mut blanks = 0;
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Behind the last word of a line there are none.
        if !cell.is_empty() {
            line.push_str(&" ".repeat(blanks));
            line.push_str(&paint(column, cell));
            blanks = 0;
        }
        blanks += width - measure_text_width(cell) + 2;
    }
    line
}

fn text_style(status: &str) -> Option<TextStyle> {
    match Status::from(status.to_owned()) {
        Status::InProgress => Some(TextStyle::Cyan),
        Status::Success => Some(TextStyle::Green),
        Status::Failure => Some(TextStyle::Red),
        Status::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_aligned() {
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
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let first = json!({"status": "in_progress", "createTime": "2026-11-23T11:58:51Z",
            "metadata": {"objects": ["連絡先"], "progress": {"recordsProcessed": 1250, "recordsEstimatedTotal": 5000}}});
        let second = json!({"status": "success", "result": "done\n\u{1b}[2J"});
        let mut table = Table::new(plain, None);
        let mut narrow = Table::new(plain, Some(18));
        for table in [&mut table, &mut narrow] {
            table.add(&operation("operation-1", first.clone()), now);
            table.add(&operation("op-2", second.clone()), now);
            assert_eq!(table.rows(), 2);
        }
        assert_eq!(
            table.take(),
            "ID           OBJECTS  STATUS       RECORDS      CREATED     RESULT\n\
             operation-1  連絡先   in_progress  1,250/5,000  1m 09s ago\n\
             op-2                  success                               done\\n\\u{1b}[2J\n"
        );
        assert_eq!(
            narrow.take(),
            "ID           OBJE…\noperation-1  連絡…\nop-2             …\n"
        );
        assert_eq!((table.take(), table.rows()), (String::new(), 0));
        // The next part has the columns of the first, without its header.
        table.add(&operation("op-3", second), now);
        assert_eq!(
            table.take(),
            "op-3                  success                               done\\n\\u{1b}[2J\n"
        );
    }
}
