//! `backfill-watch reload`: the running daemon reads settings, secrets and the watch list again.

use std::process::ExitCode;

use serde_json::Value;

use super::daemon::{Daemon, DaemonArgs, problem_lines};
use super::output::{self, Output};
use super::{Failure, exit};

const AFTER_HELP: &str = "\
Examples:
  After a change of the settings, to see what it did:
    backfill-watch check && backfill-watch reload

  In a systemd unit:
    ExecReload=/usr/bin/backfill-watch reload

Exit codes: 0 reloaded; 2 refused, and the previous settings stay active; 3 no daemon answers.";

/// The status of an order that the daemon refuses.
const REFUSED: u16 = 422;

/// Reload the running daemon, and show what was applied, kept or refused
///
/// The daemon reads settings, secrets and the watch list again. Settings apply as a whole or not at all. Those that need a
/// restart keep their value and are named.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ReloadArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Reloads, and shows what that did.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub async fn run(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    let daemon = Daemon::by_socket(&args.daemon).await?;
    let reply = daemon.post("/api/reload").await?;
    if reply.status == REFUSED {
        for line in problem_lines(&reply.body["errors"]) {
            output::notice(&line);
        }
        return Err(Failure {
            message: reply.detail().to_owned(),
            code: exit::USAGE,
        }
        .into());
    }
    if !reply.is_ok() {
        return Err(daemon.refused(&reply));
    }
    for line in problem_lines(&reply.body["warnings"]) {
        output::notice(&format!("warning: {line}"));
    }
    for line in doubts(&reply.body["watchList"]) {
        output::notice(&format!("warning: {line}"));
    }
    let mut out = Output::stdout();
    for line in applied(&reply.body) {
        out.line(&line)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What the reload did, a line each.
fn applied(body: &Value) -> Vec<String> {
    let names = |key: &str| {
        let names = body[key].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let (changed, kept, keys) = (names("applied"), names("kept"), names("newApiKeys"));
    let mut lines = vec![match &*changed {
        "" => "settings: no value was changed that applies now".to_owned(),
        changed => format!("settings applied: {changed}"),
    }];
    if !kept.is_empty() {
        lines.push(format!("settings kept until a restart: {kept}"));
    }
    if !keys.is_empty() {
        lines.push(format!("new API key of project: {keys}"));
    }
    let list = &body["watchList"];
    if list["isRead"] == true && list["problem"].is_null() {
        let entries = list["entries"].as_u64().unwrap_or(0);
        lines.push(format!(
            "watch list applied: {entries} operation{} in {}",
            if entries == 1 { "" } else { "s" },
            list["path"].as_str().unwrap_or_default()
        ));
    }
    lines
}

/// What is wrong with the watch list, which refuses no reload.
fn doubts(list: &Value) -> Vec<String> {
    let path = list["path"].as_str().unwrap_or_default();
    let mut lines = Vec::new();
    if list["isRead"] != true {
        lines.push(format!("watch list {path}: it is still being read"));
    } else if let Some(problem) = list["problem"].as_str() {
        lines.push(format!(
            "watch list {path}: {problem}; the list before stays active"
        ));
    }
    let rejected = list["rejectedLines"].as_u64().unwrap_or(0);
    if rejected > 0 {
        lines.push(format!(
            "watch list {path}: lines that are rejected: {rejected}; `backfill-watch check` names them"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_reload_is_a_line() {
        let body = serde_json::json!({
            "applied": ["poll.max_interval", "webhook.url"], "kept": ["http.listen"], "newApiKeys": ["p"],
            "watchList": {"path": "/l", "isRead": true, "entries": 1, "rejectedLines": 0},
        });
        assert_eq!(
            applied(&body),
            [
                "settings applied: poll.max_interval, webhook.url",
                "settings kept until a restart: http.listen",
                "new API key of project: p",
                "watch list applied: 1 operation in /l",
            ]
        );
        assert!(doubts(&body["watchList"]).is_empty());
        let list = serde_json::json!({"path": "/l", "isRead": true, "problem": "gone", "rejectedLines": 2});
        assert_eq!(doubts(&list).len(), 2);
        let body = serde_json::json!({"applied": [], "watchList": list});
        assert_eq!(
            applied(&body),
            ["settings: no value was changed that applies now"]
        );
    }
}
