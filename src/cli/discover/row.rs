//! What discovery finds for one object, as a row of a table and as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::format;
use crate::cli::table::{Cell, Column, FittedTable};
use crate::cli::terminal::{TerminalStyle, TextStyle};
use crate::clock;
use crate::core::deadline::Deadline;
use crate::core::text::{escape, one_line};
use crate::core::watch_list::Labels;

/// The columns. An ID is never cut, so that it can be copied: on a second line it comes first.
const COLUMNS: [Column; 7] = [
    Column::flexible("PROJECT", 6, 12, 20),
    Column::flexible("GROUP", 3, 8, 12),
    Column::flexible("OBJECT", 2, 40, 64),
    Column::fixed("VERDICT", 1).continued(),
    Column::fixed("STARTED", 5),
    Column::fixed("OPERATION", 0),
    Column::fixed("INSTALLATION", 4).continued(),
];
/// The longest text of a cell other than an ID, in bytes.
const MAX_CELL: usize = 128;

/// What discovery does about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Its backfill started within `lookback`: it is watched.
    New,
    /// Its backfill is older, or has no known time, and still runs: it is watched.
    Running,
    /// Its backfill is finished, and older than `lookback`: it is not reported.
    Old,
    /// Its backfill is that of another object.
    Duplicate,
    /// It has no backfill yet: it is asked for again.
    NoBackfill,
    /// The API did not answer: it is asked for again.
    NoAnswer,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Old => "old",
            Self::Duplicate => "duplicate",
            Self::NoBackfill => "no backfill yet",
            Self::NoAnswer => "no answer",
        }
    }

    fn style(self) -> Option<TextStyle> {
        match self {
            Self::New => Some(TextStyle::Green),
            Self::Running => Some(TextStyle::Cyan),
            Self::NoAnswer => Some(TextStyle::Red),
            Self::Old | Self::Duplicate | Self::NoBackfill => Some(TextStyle::Dim),
        }
    }
}

/// What discovery finds for one object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub project: String,
    pub group: String,
    pub object: String,
    pub installation_id: String,
    pub integration: String,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// Why the API did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The labels that its watch has.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_object")]
    pub labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
}

fn as_object<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let labels: BTreeMap<&str, &str> = labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    labels.serialize(serializer)
}

/// The rows as lines of at most `width` columns. The project is shown if it differs.
pub(super) fn lines(rows: &[Row], style: TerminalStyle, width: Option<usize>, now: Timestamp) -> Vec<String> {
    let in_project = rows.windows(2).any(|pair| pair[0].project != pair[1].project);
    let mut table = FittedTable::new(&COLUMNS);
    for row in rows {
        table.add(row.cells(in_project, now));
    }
    table.lines(style, width, None).0
}

impl Row {
    /// The cells, as of `now`.
    fn cells(&self, in_project: bool, now: Timestamp) -> Vec<Cell> {
        let cell = |text: &str| Cell::from(one_line(text, MAX_CELL));
        let id = |text: &str| Cell::from(escape(text).into_owned());
        let started = self
            .create_time
            .map(|created| format!("{} ago", format::time(clock::between(created, now))));
        vec![
            cell(if in_project { &self.project } else { "" }),
            cell(&self.group),
            cell(&self.object),
            Cell::styled(self.verdict.text().to_owned(), self.verdict.style()),
            started.unwrap_or_default().into(),
            id(self.operation_id.as_deref().unwrap_or_default()),
            id(&self.installation_id),
        ]
    }

    /// The order of the rows.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        (&self.group, &self.installation_id, &self.object)
    }
}
