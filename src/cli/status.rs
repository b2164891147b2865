//! `backfill-watch status`: attention, groups and operations of the running daemon.

mod attention;
mod groups;
mod table;

use std::process::ExitCode;

use serde_json::Value;

use super::daemon::Daemon;
use super::output::Output;
use super::{DaemonArgs, exit};
use crate::clock;

const AFTER_HELP: &str = "\
Examples:
  backfill-watch status
  backfill-watch status --json | jq -r '.operations[] | select(.phase == \"failed\") | .operationId'

In a Dockerfile:
  HEALTHCHECK CMD [\"backfill-watch\", \"status\", \"--check\"]

Exit codes: 0 no errors; 1 attention has an error, with --strict any entry, or with --check the daemon is not alive; \
2 usage or settings; 3 no daemon answers.";

/// Show problems, groups and operations of the running daemon
///
/// Uses the control socket, otherwise HTTP. The settings may have errors.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct StatusArgs {
    #[command(flatten)]
    daemon: DaemonArgs,

    /// Use HTTP at this address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Only this group and its operations; repeatable
    #[arg(long, value_name = "GROUP", conflicts_with = "check")]
    group: Vec<String>,

    /// Print one JSON object with the content of /api/attention, /api/groups and /api/operations
    #[arg(long)]
    json: bool,

    /// Exit with 1 for any attention entry, not only for errors
    #[arg(long)]
    strict: bool,

    /// Only check that the daemon is alive: exit code 0 or 1, no output
    #[arg(long, conflicts_with_all = ["json", "strict"])]
    check: bool,
}

/// Prints the status.
///
/// # Errors
/// When settings are wrong, or no daemon answers.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        let is_alive = check(&args).await.unwrap_or(false);
        return Ok(ExitCode::from(if is_alive { 0 } else { exit::FAILED }));
    }
    let daemon = Daemon::find(&args.daemon, args.listen.as_deref()).await?;
    let attention = daemon.list("/api/attention", "attention").await?.0;
    let mut groups = all(&daemon, "groups", &[]).await?;
    groups.retain(|group| args.group.is_empty() || args.group.iter().any(|name| group["group"] == **name));
    let filter: Vec<(&str, &str)> = args.group.iter().map(|group| ("group", &**group)).collect();
    let operations = all(&daemon, "operations", &filter).await?;
    let has_errors = attention.iter().any(|entry| entry["severity"] == "error");
    let must_fail = has_errors || (args.strict && !attention.is_empty());
    let mut out = Output::stdout();
    if args.json {
        let all = serde_json::json!({ "attention": attention, "groups": groups, "operations": operations, "next": null });
        out.json(&format!("{all}\n"))?;
    } else {
        out.text(&attention::render(&attention, clock::wall()))?;
        out.text(&groups::render(&groups, clock::wall()))?;
        if operations.is_empty() && !args.group.is_empty() {
            out.text("The daemon watches no operation of this group.\n")?;
        } else {
            out.text(&table::render(&operations, clock::wall()))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::from(if must_fail { exit::FAILED } else { 0 }))
}

async fn check(args: &StatusArgs) -> anyhow::Result<bool> {
    let daemon = Daemon::find(&args.daemon, args.listen.as_deref()).await?;
    let answer = daemon.get("/livez").await?;
    Ok(answer.status().is_success())
}

/// All elements of a list with this filter, page by page.
async fn all(daemon: &Daemon, name: &str, filter: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filter);
        if let Some(after) = &after {
            query.append_pair("after", after);
        }
        let path = format!("/api/{name}?{}", query.finish());
        let (listed, next) = daemon.list(path.trim_end_matches('?'), name).await?;
        all.extend(listed);
        if next.is_none() {
            return Ok(all);
        }
        after = next;
    }
}
