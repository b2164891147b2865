//! `backfill-watch reload`: reloads the running daemon.

use std::process::ExitCode;

use serde_json::Value;

use super::daemon::Daemon;
use super::output::{self, Output};
use super::problems::{DaemonWatchList, settings_problems};
use super::{DaemonArgs, Failure, exit, format};

const AFTER_HELP: &str = "\
Examples:
  After a change of the settings:
    backfill-watch check && backfill-watch reload

  In a systemd unit:
    ExecReload=/usr/bin/backfill-watch reload

Exit codes: 0 reloaded; 2 refused, and the previous settings stay active; 3 no daemon answers.";

/// The most rejected lines that are printed; `check` prints all of them.
const MAX_REJECTED: usize = 5;
/// The status of a refused reload.
const REFUSED: u16 = 422;

/// Reload the running daemon, and print what was applied, kept or refused
///
/// The daemon reads settings, secrets and the watch list again. Settings apply as a whole or not at all. Settings that need a
/// restart keep their value and are named.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ReloadArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Reloads the daemon, and prints the result.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub async fn run(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    let daemon = Daemon::by_socket(&args.daemon).await?;
    let answer = daemon.post("/api/reload").await?;
    if answer.status == REFUSED {
        for line in settings_problems(&answer.body["errors"]) {
            output::notice(&line);
        }
        return Err(Failure {
            message: answer.detail().to_owned(),
            code: exit::USAGE,
        }
        .into());
    }
    if !answer.is_ok() {
        return Err(daemon.refused_change(&answer));
    }
    for line in settings_problems(&answer.body["warnings"]) {
        output::notice(&format!("warning: {line}"));
    }
    for line in list_warnings(&DaemonWatchList(&answer.body["watchList"])) {
        output::notice(&format!("warning: {line}"));
    }
    let mut out = Output::stdout();
    for line in applied(&answer.body) {
        out.line(&line)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What was applied and kept, one line each.
fn applied(body: &Value) -> Vec<String> {
    let names = |key: &str| {
        let names = body[key].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let (changed, kept, keys) = (names("applied"), names("kept"), names("newApiKeys"));
    let mut lines = vec![match &*changed {
        "" => "settings: no changes".to_owned(),
        changed => format!("settings applied: {changed}"),
    }];
    if !kept.is_empty() {
        lines.push(format!("settings kept until a restart: {kept}"));
    }
    if !keys.is_empty() {
        lines.push(format!("new API key for project: {keys}"));
    }
    let list = DaemonWatchList(&body["watchList"]);
    if list.is_absent() {
        lines.push(format!("watch list: none ({} does not exist)", list.path()));
    } else if list.is_read() && list.problem().is_none() {
        lines.push(format!(
            "watch list applied: {} in {}",
            format::operations(list.entries()),
            list.path()
        ));
    }
    lines
}

/// Problems of the watch list, which do not refuse a reload.
fn list_warnings(list: &DaemonWatchList<'_>) -> Vec<String> {
    let path = list.path();
    let mut lines = Vec::new();
    if !list.is_read() {
        lines.push(format!("watch list {path}: not read yet"));
    } else if let Some(problem) = list.problem() {
        let effect = match list.is_awaited() {
            true => "the daemon waits for it",
            false => "the previous list stays active",
        };
        lines.push(format!("watch list {path}: {problem}; {effect}"));
    }
    let listed = list.rejected(MAX_REJECTED);
    let more = list.rejected_lines() - listed.len();
    lines.extend(listed);
    if more > 0 {
        lines.push(format!(
            "watch list {path}: {more} more rejected lines; `backfill-watch check` prints them"
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
                "new API key for project: p",
                "watch list applied: 1 operation in /l",
            ]
        );
        assert!(list_warnings(&DaemonWatchList(&body["watchList"])).is_empty());
        let absent =
            serde_json::json!({"watchList": {"path": "/l", "isRead": true, "entries": 0, "isAbsent": true}});
        assert_eq!(applied(&absent)[1], "watch list: none (/l does not exist)");
        let rejected: Vec<Value> = (2..9)
            .map(|line| serde_json::json!({"line": line, "column": 1, "detail": "no ID"}))
            .collect();
        let list = serde_json::json!({"path": "/l", "isRead": true, "problem": "gone", "rejectedLines": 9, "rejected": rejected});
        let warnings = list_warnings(&DaemonWatchList(&list));
        assert_eq!(
            (warnings.len(), &*warnings[1], &*warnings[6]),
            (
                7,
                "/l:2:1: no ID",
                "watch list /l: 4 more rejected lines; `backfill-watch check` prints them"
            )
        );
        let awaited =
            serde_json::json!({"path": "/l", "isRead": true, "problem": "missing", "isAwaited": true});
        assert_eq!(
            list_warnings(&DaemonWatchList(&awaited)),
            ["watch list /l: missing; the daemon waits for it"]
        );
        let body = serde_json::json!({"applied": [], "watchList": list});
        assert_eq!(applied(&body), ["settings: no changes"]);
    }
}
