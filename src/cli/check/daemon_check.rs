//! What the running daemon says when it is asked to check what only it can read.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::cli::daemon::{Daemon, DaemonArgs, problem_lines};
use crate::core::key_verdict::KeyVerdict;

/// The daemon's answer.
pub(super) struct DaemonCheck(Value);

impl DaemonCheck {
    /// Asks the daemon; with `live` it asks the API, too. `file` is the settings file that is checked.
    pub(super) async fn ask(daemon: &DaemonArgs, live: bool, file: &Path) -> anyhow::Result<Self> {
        let daemon = Daemon::by_socket(daemon).await?;
        let reply = daemon.post(&format!("/api/check?live={live}")).await?;
        if !reply.is_ok() {
            return Err(daemon.refused(&reply));
        }
        let of_daemon = reply.body["file"].as_str().unwrap_or_default();
        // One file may have several names.
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if canonical(Path::new(of_daemon)) != canonical(file) {
            bail!("the daemon reads another settings file: {of_daemon}");
        }
        Ok(Self(reply.body))
    }

    /// What is wrong with its settings.
    pub(super) fn errors(&self) -> Vec<String> {
        problem_lines(&self.0["errors"])
    }

    /// The path of its watch list.
    pub(super) fn list_path(&self) -> &str {
        self.0["watchList"]["path"].as_str().unwrap_or_default()
    }

    /// What is wrong with its watch list.
    pub(super) fn list_problems(&self) -> Vec<String> {
        let (list, path) = (&self.0["watchList"], self.list_path());
        let mut problems: Vec<String> = list["problem"]
            .as_str()
            .map(|problem| format!("watch list {path}: {problem}"))
            .into_iter()
            .collect();
        let rejected = list["rejected"].as_array().into_iter().flatten();
        problems.extend(rejected.map(|line| {
            let detail = line["detail"].as_str().unwrap_or_default();
            format!("{path}:{}:{}: {detail}", line["line"], line["column"])
        }));
        let listed = list["rejected"].as_array().map_or(0, Vec::len) as u64;
        let more = list["rejectedLines"].as_u64().unwrap_or(0).saturating_sub(listed);
        if more > 0 {
            problems.push(format!("{path}: {more} more lines likewise"));
        }
        problems
    }

    /// Whether the API accepts the key of that project.
    pub(super) fn key(&self, project: &str) -> KeyVerdict {
        let keys = self.0["keys"].as_array().into_iter().flatten();
        let mut of_project = keys.filter(|key| key["project"] == project);
        let Some(key) = of_project.next() else {
            return KeyVerdict::Unknown("the running daemon does not know the project; reload it".to_owned());
        };
        serde_json::from_value(key.clone())
            .unwrap_or_else(|_| KeyVerdict::Unknown("the running daemon is of another version".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_says_is_read() {
        let asked = DaemonCheck(serde_json::json!({
            "errors": [{"key": "k", "detail": "is odd", "help": ""}],
            "watchList": {"path": "/l", "problem": "gone", "rejectedLines": 3,
                "rejected": [{"line": 2, "column": 1, "detail": "no ID"}]},
            "keys": [{"project": "p", "verdict": "rejected", "reason": "why"}, {"project": "q", "verdict": "good"}],
        }));
        assert_eq!(asked.errors(), ["k: is odd"]);
        assert_eq!(asked.list_path(), "/l");
        assert_eq!(
            asked.list_problems(),
            [
                "watch list /l: gone",
                "/l:2:1: no ID",
                "/l: 2 more lines likewise"
            ]
        );
        assert_eq!(asked.key("p"), KeyVerdict::Rejected("why".to_owned()));
        assert_eq!(asked.key("q"), KeyVerdict::Good);
        assert!(matches!(asked.key("r"), KeyVerdict::Unknown(_)));
    }
}
