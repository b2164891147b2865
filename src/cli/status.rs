//! `backfill-watch status`: attention and operations of the running daemon.

mod attention;
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

/// Show problems and operations of the running daemon
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

    /// Print one JSON object with the content of /api/attention and /api/operations
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
    let operations = operations(&daemon).await?;
    let has_errors = attention.iter().any(|entry| entry["severity"] == "error");
    let must_fail = has_errors || (args.strict && !attention.is_empty());
    let mut out = Output::stdout();
    if args.json {
        let all = serde_json::json!({ "attention": attention, "operations": operations, "next": null });
        out.json(&format!("{all}\n"))?;
    } else {
        out.text(&attention::render(&attention, clock::wall()))?;
        out.text(&table::render(&operations, clock::wall()))?;
    }
    out.flush()?;
    Ok(ExitCode::from(if must_fail { exit::FAILED } else { 0 }))
}

async fn check(args: &StatusArgs) -> anyhow::Result<bool> {
    let daemon = Daemon::find(&args.daemon, args.listen.as_deref()).await?;
    let answer = daemon.get("/livez").await?;
    Ok(answer.status().is_success())
}

async fn operations(daemon: &Daemon) -> anyhow::Result<Vec<Value>> {
    let mut operations = Vec::new();
    let mut path = "/api/operations".to_owned();
    loop {
        let (listed, next) = daemon.list(&path, "operations").await?;
        operations.extend(listed);
        match next {
            // Cursors are made of characters that a query takes as they are.
            Some(next) => path = format!("/api/operations?after={next}"),
            None => return Ok(operations),
        }
    }
}
