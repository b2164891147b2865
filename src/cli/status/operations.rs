//! The operations as a table, with their number by phase.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::operation::{COLUMNS, Differences, OperationRow};
use super::screen::Screen;
use crate::cli::format;
use crate::cli::table::FittedTable;
use crate::core::phase::Phase;
use crate::core::text::plural;

/// The operations that are shown, and how many there are.
#[derive(Debug)]
pub(super) struct Operations {
    /// Those that finished before are only counted.
    shown_from: Option<Timestamp>,
    rows: Vec<OperationRow>,
    /// All of them, by phase in the order of [`Phase::ALL`]; the last one counts unknown phases.
    counts: [usize; Phase::ALL.len() + 1],
    folded: usize,
    projects: BTreeSet<String>,
    has_sources: bool,
}

impl Operations {
    /// Operations of which those that finished before `shown_from` are only counted.
    pub(super) fn new(shown_from: Option<Timestamp>) -> Self {
        Self {
            shown_from,
            rows: Vec::new(),
            counts: [0; Phase::ALL.len() + 1],
            folded: 0,
            projects: BTreeSet::new(),
            has_sources: false,
        }
    }

    /// Adds an operation. Without answers of the API, its rate and estimated end are not shown.
    pub(super) fn add(&mut self, operation: &Value, is_answered: bool) {
        let row = OperationRow::new(operation, is_answered);
        let phase = Phase::ALL.iter().position(|phase| Some(*phase) == row.phase());
        if let Some(count) = self.counts.get_mut(phase.unwrap_or(Phase::ALL.len())) {
            *count += 1;
        }
        if self.shown_from.is_some_and(|time| row.has_finished_before(time)) {
            self.folded += 1;
            return;
        }
        if !self.projects.contains(&row.project) {
            self.projects.insert(row.project.clone());
        }
        self.has_sources |= operation["source"] != "file";
        self.rows.push(row);
    }

    /// Their number, with those that are not shown.
    pub(super) fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    pub(super) fn sort(&mut self) {
        self.rows.sort_by(|one, other| one.order().cmp(&other.order()));
    }

    /// The table in at most `height` lines, and a last paragraph with the numbers. Nothing without operations.
    pub(super) fn lines(&self, screen: &Screen, height: Option<usize>) -> Vec<String> {
        let mut after = Vec::new();
        if self.total() > 0 {
            after.extend(screen.paragraph("", &self.summary()));
        }
        if self.folded > 0 {
            let finished = format::count(self.folded as u64);
            let text = format!("{finished} finished more than 24 h ago and are not shown; --all shows them");
            after.extend(screen.paragraph("", &text));
        }
        let differences = Differences {
            in_project: self.projects.len() > 1,
            in_source: self.has_sources,
        };
        let mut table = FittedTable::new(&COLUMNS);
        for row in &self.rows {
            table.add(row.cells(differences, screen));
        }
        // An empty line, and one about those that do not fit.
        let left = height.map(|height| height.saturating_sub(after.len() + 2));
        let (mut lines, shown) = table.lines(screen.style, screen.width, left);
        let more = self.rows.len() - shown;
        if more > 0 {
            lines.push(format!(
                "{} {} more",
                screen.style.ellipsis(),
                format::count(more as u64)
            ));
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.append(&mut after);
        lines
    }

    /// `2 operations: 1 running, 1 failed`.
    fn summary(&self) -> String {
        let names = Phase::ALL
            .map(Phase::as_str)
            .into_iter()
            .chain(["in other phases"]);
        let counts: Vec<String> = self
            .counts
            .iter()
            .zip(names)
            .filter(|(count, _)| **count > 0)
            .map(|(count, name)| format!("{} {name}", format::count(*count as u64)))
            .collect();
        let operations = plural(self.total() as u64, "operation");
        format!("{operations}: {}", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;
    use serde_json::json;

    use super::super::screen::tests::screen;
    use super::*;

    const ID: &str = "3efc0f0f-4bb9-498f-996c-9893d98ca4b5";

    fn table(operations: &Value, width: Option<usize>, height: Option<usize>) -> String {
        let day_ago = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut all = Operations::new(Some(day_ago));
        for operation in operations.as_array().unwrap() {
            all.add(operation, true);
        }
        all.sort();
        all.lines(&screen(width), height).join("\n")
    }

    fn running(id: &str) -> Value {
        json!({
            "operationId": id, "project": "p", "phase": "running", "status": "in_progress", "source": "file",
            "labels": {"customer": "a\u{1b}[2J", "installation": "6643", "object": "contact"}, "objects": ["contact"],
            "lastPollTime": "2026-11-23T11:59:58Z", "lastAnswerTime": "2026-11-23T11:59:58Z",
            "progress": {"recordsProcessed": 1250, "recordsEstimatedTotal": 5000, "percent": 25.0,
             "recordsPerSecond": 41.7, "estimatedEndTime": "2026-11-23T12:01:30Z"},
        })
    }

    #[test]
    fn columns_are_aligned_and_control_characters_escaped() {
        let operations = json!([
            running("op-1"),
            {"operationId": "a-longer-id", "project": "p", "phase": "failed", "status": "failure", "source": "file",
             "objects": ["deal"], "finishTime": "2026-11-23T11:00:00Z", "durationSeconds": 69.4,
             "progress": {"recordsProcessed": 7}},
            {"operationId": "c", "project": "p", "phase": "ended", "status": "cancelled", "source": "file",
             "lastAnswerTime": "2026-11-23T10:00:00Z"},
            {"operationId": "d", "project": "p", "phase": "succeeded", "status": "success", "source": "file",
             "finishTime": "2026-11-20T10:00:00Z"},
        ]);
        assert_eq!(
            table(&operations, None, None),
            "OPERATION    PHASE    STATUS     DONE    RECORDS         RATE    END         TOOK    LABELS                                                OBJECTS\n\
             a-longer-id  failed                   7                          1h 00m ago  1m 09s                                                        deal\n\
             c            ended    cancelled                                  2h 00m ago\n\
             op-1         running              25.0%  1,250 of 5,000  41.7/s  in 1m 30s           customer=a\\u{1b}[2J object=contact installation=6643\n\
             \n\
             4 operations: 1 running, 1 succeeded, 1 failed, 1 ended\n\
             1 finished more than 24 h ago and are not shown; --all shows them"
        );
        assert_eq!(table(&json!([]), None, None), "");
    }

    #[test]
    fn what_does_not_answer_has_neither_rate_nor_end() {
        let mut silent = running("op-1");
        silent["lastAnswerTime"] = "2026-11-23T11:56:00Z".into();
        silent["lastError"] = "connection refused".into();
        let mut new = silent.clone();
        new["lastAnswerTime"] = Value::Null;
        let mut stalled = running("op-3");
        stalled["phase"] = "stalled".into();
        stalled["stall"] = json!({"since": "2026-11-23T11:28:00Z", "reason": "count unchanged"});
        let text = table(&json!([silent, new, stalled]), None, None);
        for shown in ["last answer 4m 00s ago", "no answer yet", "stalled 32m 00s"] {
            assert!(text.contains(shown), "{shown} in\n{text}");
        }
        assert!(!text.contains("RATE") && !text.contains("in 1m 30s"), "{text}");
    }

    #[test]
    fn an_outage_of_the_project_hides_rate_and_end() {
        let mut all = Operations::new(None);
        all.add(&running("op-1"), false);
        let text = all.lines(&screen(None), None).join("\n");
        assert!(
            text.contains("last answer 2s ago") && !text.contains("in 1m 30s"),
            "{text}"
        );
        assert!(!text.contains("RATE"), "{text}");
    }

    #[test]
    fn projects_and_sources_are_shown_if_they_differ() {
        let operations = json!([
            {"operationId": "a", "project": "p", "phase": "pending", "source": "file"},
            {"operationId": "b", "project": "q", "phase": "pending", "source": "api"},
        ]);
        assert_eq!(
            table(&operations, None, None),
            "OPERATION  PROJECT  PHASE    SOURCE\n\
             a          p        pending  file\n\
             b          q        pending  api\n\
             \n\
             2 operations: 2 pending"
        );
    }

    #[test]
    fn ids_are_never_cut_and_no_line_is_too_wide() {
        let mut finished = running(ID);
        finished["phase"] = "succeeded".into();
        finished["finishTime"] = "2026-11-23T11:00:00Z".into();
        finished["durationSeconds"] = 7_530.into();
        let operations = json!([running(ID), finished]);
        for width in 60..=200 {
            let text = table(&operations, Some(width), None);
            for line in text.lines() {
                assert!(measure_text_width(line) <= width, "{width}: {line}");
            }
            assert_eq!(text.matches(ID).count(), 2, "{width}:\n{text}");
            for shown in ["running", "25.0%", "in 1m 30s", "customer=a"] {
                assert!(text.contains(shown), "{shown} at {width} in\n{text}");
            }
        }
        assert_eq!(
            table(&json!([running(ID)]), Some(80), None),
            format!(
                "OPERATION                             PHASE    DONE    RECORDS         END\n\
                 {ID}  running   25.0%  1,250 of 5,000  in 1m 30s\n  \
                   customer=a\\u{{1b}}[2J object=contact installation=6643\n\n\
                 1 operation: 1 running"
            )
        );
    }

    #[test]
    fn a_table_is_cut_to_the_height() {
        let operations: Value = (0..30)
            .map(|number| running(&format!("op-{number:02}")))
            .collect();
        let text = table(&operations, Some(120), Some(10));
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.contains("op-05") && !text.contains("op-06"), "{text}");
        assert!(text.ends_with("… 24 more\n\n30 operations: 30 running"), "{text}");
    }
}
