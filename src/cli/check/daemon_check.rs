//! The check that the running daemon makes, with its own rights and credentials.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::cli::DaemonArgs;
use crate::cli::daemon::Daemon;
use crate::cli::problems::{DaemonWatchList, settings_problems};
use crate::core::key_verdict::KeyVerdict;

/// The daemon's answer.
pub(super) struct DaemonCheck(Value);

impl DaemonCheck {
    /// Requests the check. With `live` the daemon also checks its API keys. `file` is the settings file that is checked.
    pub(super) async fn request(daemon: &DaemonArgs, live: bool, file: &Path) -> anyhow::Result<Self> {
        let daemon = Daemon::by_socket_after_check(daemon).await?;
        let answer = daemon.post(&format!("/api/check?live={live}")).await?;
        if !answer.is_ok() {
            return Err(daemon.refusal(&answer));
        }
        let of_daemon = answer.body["file"].as_str().unwrap_or_default();
        // One file may have several names.
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if canonical(Path::new(of_daemon)) != canonical(file) {
            bail!("the daemon uses another settings file: {of_daemon}");
        }
        Ok(Self(answer.body))
    }

    /// The errors of its settings.
    pub(super) fn errors(&self) -> Vec<String> {
        settings_problems(&self.0["errors"])
    }

    /// Its watch list.
    pub(super) fn watch_list(&self) -> DaemonWatchList<'_> {
        DaemonWatchList(&self.0["watchList"])
    }

    /// Whether the API accepts the key of this project.
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
    fn the_answer_is_parsed() {
        let check = DaemonCheck(serde_json::json!({
            "errors": [{"key": "k", "detail": "is odd", "help": ""}],
            "watchList": {"path": "/l", "rejectedLines": 0, "rejected": []},
            "keys": [{"project": "p", "verdict": "rejected", "reason": "why"}, {"project": "q", "verdict": "good"}],
        }));
        assert_eq!(check.errors(), ["k: is odd"]);
        assert_eq!(check.watch_list().path(), "/l");
        assert_eq!(check.key("p"), KeyVerdict::Rejected("why".to_owned()));
        assert_eq!(check.key("q"), KeyVerdict::Good);
        assert!(matches!(check.key("r"), KeyVerdict::Unknown(_)));
    }
}
