//! The projects: whether the API answers, accepts the key and is asked in time.

use serde_json::Value;

use super::screen::{Screen, timestamp};
use crate::cli::format;
use crate::cli::table::{Cell, Column, FittedTable};
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::text::{one_line, plural};

/// The longest name or error, in bytes.
const MAX_TEXT: usize = 600;

const COLUMNS: [Column; 7] = [
    Column::fixed("PROJECT", 0),
    Column::fixed("API", 1).continued(),
    Column::fixed("KEY", 2),
    Column::fixed("LAST ANSWER", 4),
    Column::fixed("REQUESTS", 3).continued(),
    Column::fixed("DISCOVERY", 5).continued(),
    Column::flexible("LAST ERROR", 6, 24, 40),
];

/// A line if there is one project and all is well, otherwise a table. Ends with an empty line.
pub(super) fn lines(projects: &[Value], screen: &Screen) -> Vec<String> {
    let mut lines = match projects {
        [] => return Vec::new(),
        [project] if is_well(project) => screen.paragraph("", &sentence(project, screen)),
        several => {
            let mut table = FittedTable::new(&COLUMNS);
            for project in several {
                table.add(cells(project, screen));
            }
            table.lines(screen.style, screen.width, None).0
        }
    };
    lines.push(String::new());
    lines
}

fn is_well(project: &Value) -> bool {
    project["reachable"] != false
        && project["credentialsValid"] != false
        && project["pause"].is_null()
        && project["lastError"].is_null()
        && project["discovery"]["failingSince"].is_null()
}

fn name(project: &Value) -> String {
    one_line(project["name"].as_str().unwrap_or_default(), MAX_TEXT)
}

/// `Project p: reachable, last answer 2s ago`.
fn sentence(project: &Value, screen: &Screen) -> String {
    let mut parts = vec![match screen.age(&project["lastAnswerTime"]) {
        Some(age) => format!("reachable, last answer {age} ago"),
        None => "no poll was answered yet".to_owned(),
    }];
    parts.extend(discovery(&project["discovery"], screen).map(|(text, _)| format!("discovery {text}")));
    format!("Project {}: {}", name(project), parts.join(", "))
}

fn cells(project: &Value, screen: &Screen) -> Vec<Cell> {
    let since = |time: &str| {
        let age = screen.age(&project[time]);
        age.map_or_else(String::new, |age| format!(" for {age}"))
    };
    let bad = |text: String| Cell::styled(text, Some(TextStyle::Red));
    let api = match project["reachable"] == false {
        true => bad(format!("unreachable{}", since("unreachableSince"))),
        false if project["lastAnswerTime"].is_null() => "no answer yet".to_owned().into(),
        false => "reachable".to_owned().into(),
    };
    let key = match project["credentialsValid"] == false {
        true => bad(format!("rejected{}", since("credentialsRejectedSince"))),
        false => "valid".to_owned().into(),
    };
    let last_answer = screen.age(&project["lastAnswerTime"]);
    let (discovery, is_failing) = discovery(&project["discovery"], screen).unwrap_or_default();
    vec![
        name(project).into(),
        api,
        key,
        last_answer
            .map_or_else(String::new, |age| format!("{age} ago"))
            .into(),
        requests(project, screen),
        if is_failing {
            bad(discovery)
        } else {
            discovery.into()
        },
        one_line(project["lastError"].as_str().unwrap_or_default(), MAX_TEXT).into(),
    ]
}

/// The pause that the API asked for, otherwise the requests that wait.
fn requests(project: &Value, screen: &Screen) -> Cell {
    let pause = &project["pause"];
    if let Some(until) = timestamp(&pause["until"]) {
        let left = format::time(clock::between(screen.now, until));
        return Cell::styled(format!("paused by the API, {left} left"), Some(TextStyle::Yellow));
    }
    match project["gate"]["waiting"].as_u64() {
        Some(waiting) if waiting > 0 => format!("{} waiting", format::count(waiting)),
        _ => String::new(),
    }
    .into()
}

/// Discovery in words, and whether it fails.
fn discovery(discovery: &Value, screen: &Screen) -> Option<(String, bool)> {
    if let Some(age) = screen.age(&discovery["failingSince"]) {
        return Some((format!("failing for {age}"), true));
    }
    let installations = discovery["installations"].as_u64()?;
    let installations = plural(installations, "installation");
    Some(match screen.age(&discovery["lastSuccessTime"]) {
        Some(age) => (format!("{installations}, listed {age} ago"), false),
        None => ("has not listed installations yet".to_owned(), false),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::screen::tests::screen;
    use super::*;

    fn well(name: &str) -> Value {
        json!({
            "name": name, "reachable": true, "credentialsValid": true, "lastAnswerTime": "2026-11-23T11:59:58Z",
            "gate": {"waiting": 0}, "discovery": {"installations": 1200, "objects": 2, "lastSuccessTime": "2026-11-23T11:59:20Z"},
        })
    }

    #[test]
    fn one_project_that_is_well_is_a_line() {
        assert_eq!(
            lines(&[well("p")], &screen(None)),
            [
                "Project p: reachable, last answer 2s ago, discovery 1,200 installations, listed 40s ago",
                ""
            ]
        );
        assert_eq!(
            lines(&[well("p")], &screen(Some(80))),
            [
                "Project p: reachable, last answer 2s ago, discovery 1,200 installations, listed",
                "40s ago",
                ""
            ]
        );
        assert_eq!(lines(&[], &screen(None)), Vec::<String>::new());
        let fresh = json!({"name": "p", "reachable": true, "credentialsValid": true});
        assert_eq!(
            lines(&[fresh], &screen(None))[0],
            "Project p: no poll was answered yet"
        );
    }

    #[test]
    fn several_and_one_with_a_problem_are_a_table() {
        let bad = json!({
            "name": "b", "reachable": false, "unreachableSince": "2026-11-23T11:55:00Z", "credentialsValid": false,
            "credentialsRejectedSince": "2026-11-23T11:50:00Z", "lastAnswerTime": "2026-11-23T11:54:00Z",
            "pause": {"until": "2026-11-23T12:00:45Z", "reason": "429"}, "gate": {"waiting": 3},
            "discovery": {"installations": 1, "objects": 1, "failingSince": "2026-11-23T11:59:00Z"},
        });
        assert_eq!(
            lines(std::slice::from_ref(&bad), &screen(None)),
            [
                "PROJECT  API                     KEY                   LAST ANSWER  REQUESTS                     DISCOVERY",
                "b        unreachable for 5m 00s  rejected for 10m 00s  6m 00s ago   paused by the API, 45s left  failing for 1m 00s",
                ""
            ]
        );
        let waiting = json!({
            "name": "c", "reachable": true, "credentialsValid": true, "gate": {"waiting": 1250}, "lastError": "502 Bad\nGateway",
        });
        assert_eq!(
            lines(&[well("a"), waiting], &screen(Some(60))),
            [
                "PROJECT  API            KEY    LAST ANSWER  REQUESTS",
                "a        reachable      valid  2s ago",
                "  1,200 installations, listed 40s ago",
                "c        no answer yet  valid               1,250 waiting",
                "  502 Bad\\nGateway",
                ""
            ]
        );
    }
}
