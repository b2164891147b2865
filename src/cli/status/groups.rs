//! The groups as a table.

use serde_json::Value;

use super::operation::until;
use super::screen::{Screen, timestamp};
use crate::cli::format;
use crate::cli::table::{Cell, Column, FittedTable};
use crate::cli::terminal::TextStyle;
use crate::core::text::one_line;

/// With more groups, those that succeeded are only counted.
const MANY: usize = 20;
/// The longest text of a cell, in bytes.
const MAX_TEXT: usize = 500;

const COLUMNS: [Column; 8] = [
    Column::flexible("GROUP", 0, 20, 24),
    Column::flexible("PROJECT", 5, 20, 30),
    Column::fixed("STATE", 1).continued(),
    Column::fixed("ROUND", 7),
    Column::flexible("OPERATIONS", 4, 20, 30),
    Column::fixed("DONE", 2).continued(),
    Column::fixed("END", 3).continued(),
    Column::flexible("AWAITED", 6, 20, 30),
];

/// The groups that are shown, and how many there are.
#[derive(Debug)]
pub(super) struct Groups {
    /// Whether those that succeeded are shown however many there are.
    is_all_shown: bool,
    /// Those that have not succeeded, then the first ones that did.
    unsuccessful: Vec<Value>,
    succeeded: Vec<Value>,
    total: usize,
}

impl Groups {
    pub(super) fn new(is_all_shown: bool) -> Self {
        Self {
            is_all_shown,
            unsuccessful: Vec::new(),
            succeeded: Vec::new(),
            total: 0,
        }
    }

    /// Adds a group. Without answers of the API, its estimated end is not shown.
    pub(super) fn add(&mut self, mut group: Value, is_answered: bool) {
        self.total += 1;
        if !is_answered {
            group.pointer_mut("/progress/estimatedEndTime").map(Value::take);
        }
        if group["outcome"] != "succeeded" {
            self.unsuccessful.push(group);
        } else if self.is_all_shown || self.succeeded.len() < MANY {
            self.succeeded.push(group);
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let mut groups = self.unsuccessful.iter().chain(&self.succeeded);
        groups.any(|group| group["group"] == name)
    }

    /// The table with an empty line after it, or nothing.
    pub(super) fn lines(&self, screen: &Screen) -> Vec<String> {
        let are_few = self.is_all_shown || self.total <= MANY;
        let succeeded = self.succeeded.iter().filter(|_| are_few);
        let shown: Vec<&Value> = self.unsuccessful.iter().chain(succeeded).collect();
        let has_projects = shown.iter().any(|group| group["project"] != shown[0]["project"]);
        let mut table = FittedTable::new(&COLUMNS);
        for group in &shown {
            table.add(cells(group, has_projects, screen));
        }
        let mut lines = table.lines(screen.style, screen.width, None).0;
        let hidden = self.total - shown.len();
        if hidden > 0 {
            let hidden = format::count(hidden as u64);
            let text = format!("{hidden} groups succeeded and are not shown; --all shows them");
            lines.extend(screen.paragraph("", &text));
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines
    }
}

fn cells(group: &Value, has_projects: bool, screen: &Screen) -> Vec<Cell> {
    let member = |name: &str| one_line(group[name].as_str().unwrap_or_default(), MAX_TEXT);
    let progress = &group["progress"];
    let state = member("outcome");
    let state_style = match &*state {
        "running" => Some(TextStyle::Cyan),
        "succeeded" => Some(TextStyle::Green),
        "failed" => Some(TextStyle::Red),
        _ => None,
    };
    let is_running = state == "running";
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
    let percent = progress["percent"].as_f64();
    let end = timestamp(&progress["estimatedEndTime"]).filter(|_| is_running);
    let round = group["round"].as_u64().filter(|round| *round > 0);
    vec![
        member("group").into(),
        if has_projects {
            member("project")
        } else {
            String::new()
        }
        .into(),
        Cell::styled(state, state_style),
        round.map(|round| round.to_string()).unwrap_or_default().into(),
        one_line(&phases.join(", "), MAX_TEXT).into(),
        percent
            .map(|percent| format!("{percent:>5.1}%"))
            .unwrap_or_default()
            .into(),
        end.map(|end| until(end, screen)).unwrap_or_default().into(),
        one_line(&awaited.join(" "), MAX_TEXT).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::screen::tests::screen;
    use super::*;

    fn lines(groups: Value, is_all_shown: bool, width: Option<usize>) -> Vec<String> {
        let mut all = Groups::new(is_all_shown);
        let Value::Array(groups) = groups else {
            panic!("no list")
        };
        groups.into_iter().for_each(|group| all.add(group, true));
        all.lines(&screen(width))
    }

    #[test]
    fn a_group_shows_its_operations_and_what_it_waits_for() {
        let groups = json!([
            {"project": "p", "group": "Gale\nLtd", "outcome": "running", "round": 2, "phases": {"running": 1, "succeeded": 1200},
             "progress": {"percent": 25.0, "estimatedEndTime": "2026-11-23T12:01:30Z"},
             "awaited": [{"installation": "i", "object": "deal"}], "missing": [{"installation": "i", "object": "note"}]},
            {"project": "p", "group": "hill", "outcome": "failed", "round": 0, "phases": {"failed": 1}},
        ]);
        assert_eq!(
            lines(groups.clone(), false, None),
            [
                "GROUP      STATE    ROUND  OPERATIONS                  DONE    END        AWAITED",
                "Gale\\nLtd  running  2      1 running, 1,200 succeeded   25.0%  in 1m 30s  deal note (missing)",
                "hill       failed          1 failed",
                "",
            ]
        );
        assert_eq!(
            lines(groups, false, Some(60)),
            [
                "GROUP      STATE    OPERATIONS             DONE    END",
                "Gale\\nLtd  running  1 running, 1,200 suc…   25.0%  in 1m 30s",
                "  deal note (missing)",
                "hill       failed   1 failed",
                "",
            ]
        );
        assert_eq!(lines(json!([]), false, None), Vec::<String>::new());
    }

    #[test]
    fn of_many_groups_those_that_succeeded_are_counted() {
        let mut groups: Vec<Value> = (0..1_100)
            .map(|number| json!({"project": "p", "group": format!("g-{number}"), "outcome": "succeeded"}))
            .collect();
        groups.push(json!({"project": "p", "group": "hill", "outcome": "failed"}));
        let shown = lines(groups.clone().into(), false, None);
        assert_eq!(
            shown,
            [
                "GROUP  STATE",
                "hill   failed",
                "1,100 groups succeeded and are not shown; --all shows them",
                ""
            ]
        );
        assert_eq!(lines(groups.into(), true, None).len(), 1_103);
    }
}
