//! Problems of settings and watch lists, as `check` and `reload` print them.

use serde_json::Value;

use crate::config::problem_text;

/// The problems of settings in an answer of the daemon.
#[must_use]
pub fn settings_problems(problems: &Value) -> Vec<String> {
    let problems = problems.as_array().into_iter().flatten();
    problems
        .map(|problem| {
            let member = |name: &str| problem[name].as_str().unwrap_or_default();
            problem_text(
                problem["place"].as_str().filter(|place| !place.is_empty()),
                member("key"),
                member("detail"),
                member("help"),
            )
        })
        .collect()
}

/// A problem of one line of a watch list. `kind` is empty for an error, otherwise such as `warning: `.
#[must_use]
pub fn line_problem(file: &str, line: u64, column: u64, kind: &str, problem: &str) -> String {
    format!("{file}:{line}:{column}: {kind}{problem}")
}

/// The line after `listed` of `total` problems, if there are more.
#[must_use]
pub fn more_lines(file: &str, kind: &str, listed: usize, total: usize) -> Option<String> {
    let more = total.checked_sub(listed).filter(|more| *more > 0)?;
    Some(format!("{file}: {kind}{more} more lines with such a problem"))
}

/// The watch list of the daemon, from its answer.
#[derive(Debug)]
pub struct DaemonWatchList<'a>(pub &'a Value);

impl DaemonWatchList<'_> {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0["path"].as_str().unwrap_or_default()
    }

    /// The number of operations.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.count("entries")
    }

    /// The number of rejected lines.
    #[must_use]
    pub fn rejected_lines(&self) -> usize {
        self.count("rejectedLines")
    }

    /// Whether the file was read for this answer.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.0["isRead"] == true
    }

    /// Whether the file has been missing since the start, so that the daemon waits for it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0["isAwaited"] == true
    }

    /// Whether there is no file, and none is required.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.0["isAbsent"] == true
    }

    /// Why the file cannot be used.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.0["problem"].as_str()
    }

    /// All problems, one per line.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let path = self.path();
        let mut problems: Vec<String> = self
            .problem()
            .map(|problem| format!("watch list {path}: {problem}"))
            .into_iter()
            .collect();
        let rejected = self.rejected(usize::MAX);
        let more = more_lines(path, "", rejected.len(), self.rejected_lines());
        problems.extend(rejected.into_iter().chain(more));
        problems
    }

    /// The first rejected lines, each with its place and problem, and at most as many as there are.
    #[must_use]
    pub fn rejected(&self, most: usize) -> Vec<String> {
        let rejected = self.0["rejected"].as_array().map_or(&[][..], Vec::as_slice);
        let listed = rejected.iter().take(most.min(self.rejected_lines()));
        listed
            .map(|line| {
                let number = |name: &str| line[name].as_u64().unwrap_or(0);
                let detail = line["detail"].as_str().unwrap_or_default();
                line_problem(self.path(), number("line"), number("column"), "", detail)
            })
            .collect()
    }

    fn count(&self, name: &str) -> usize {
        self.0[name]
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_settings_are_printed_like_those_found_here() {
        let problems = serde_json::json!([
            {"key": "poll.max_interval", "place": "c.toml:3:16", "detail": "is odd", "help": "use a duration"},
            {"key": "", "detail": "the settings cannot be read", "help": ""},
        ]);
        assert_eq!(
            settings_problems(&problems),
            [
                "c.toml:3:16: poll.max_interval: is odd\n    help: use a duration",
                "the settings cannot be read"
            ]
        );
        assert!(settings_problems(&Value::Null).is_empty());
    }

    #[test]
    fn problems_of_the_watch_list_are_one_line_each() {
        let list = serde_json::json!({"path": "/l", "problem": "missing", "rejectedLines": 3,
            "rejected": [{"line": 2, "column": 1, "detail": "no ID"}]});
        assert_eq!(
            DaemonWatchList(&list).problems(),
            [
                "watch list /l: missing",
                "/l:2:1: no ID",
                "/l: 2 more lines with such a problem"
            ]
        );
    }
}
