//! What discovery finds for one object, as a row of a table and as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::format;
use crate::cli::table::Cell;
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::deadline::Deadline;
use crate::core::text::one_line;
use crate::core::watch_list::Labels;

pub(super) const HEADER: [&str; 7] = [
    "PROJECT",
    "GROUP",
    "OBJECT",
    "VERDICT",
    "STARTED",
    "OPERATION",
    "INSTALLATION",
];
/// The longest text of a cell, in bytes.
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

impl Row {
    /// The cells, as of `now`.
    pub(super) fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let cell = |text: &str| Cell::from(one_line(text, MAX_CELL));
        let started = self
            .create_time
            .map(|created| format!("{} ago", format::time(clock::between(created, now))));
        vec![
            cell(&self.project),
            cell(&self.group),
            cell(&self.object),
            Cell::styled(self.verdict.text().to_owned(), self.verdict.style()),
            started.unwrap_or_default().into(),
            cell(self.operation_id.as_deref().unwrap_or_default()),
            cell(&self.installation_id),
        ]
    }

    /// The order of the rows.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        (&self.group, &self.installation_id, &self.object)
    }
}
