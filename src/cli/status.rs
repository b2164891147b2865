//! `backfill-watch status`: what is wrong, projects, webhooks, groups and operations of the running daemon.

mod attention;
mod detail;
mod endpoints;
mod groups;
mod live;
mod lookup;
mod operation;
mod operations;
mod projects;
mod report;
mod screen;

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use self::detail::Detail;
use self::report::{Filters, Report};
use self::screen::Screen;
use super::daemon::Daemon;
use super::output::Output;
use super::{DaemonArgs, exit, terminal};
use crate::core::phase::Phase;

const AFTER_HELP: &str = "\
Examples:
  What is wrong now, and how far is everything:
    backfill-watch status

  One customer, one operation, and what failed:
    backfill-watch status --group acme
    backfill-watch status 3efc0f0f-4bb9-498f-996c-9893d98ca4b5
    backfill-watch status --phase failed,ended,gone,expired

  In a program:
    backfill-watch status --json | jq -r '.operations[] | select(.phase == \"failed\") | .operationId'

In a Dockerfile:
  HEALTHCHECK CMD [\"backfill-watch\", \"status\", \"--check\"]

Exit codes: 0 no errors; 1 attention has an error, with --strict any entry, or with --check the daemon is not alive; \
2 usage or settings, or the operation is not watched; 3 no daemon answers. Filters and an ID do not change the exit code: \
it always follows the whole attention list. With --watch it is 0.";

/// Show what is wrong, and projects, webhooks, groups and operations of the running daemon
///
/// Uses the control socket, otherwise HTTP. The settings may have errors.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct StatusArgs {
    /// Show everything about the operation with this ID
    #[arg(value_name = "ID", conflicts_with_all = ["phase", "label", "group", "all", "check"])]
    id: Option<String>,

    /// Only operations in this phase; repeatable, or separated by commas
    #[arg(long, value_name = "PHASE", value_delimiter = ',', value_parser = phase_parser(), conflicts_with = "check")]
    phase: Vec<Phase>,

    /// Only operations with this label; repeatable, all must match
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label, conflicts_with = "check")]
    label: Vec<String>,

    /// Only this group and its operations; repeatable
    #[arg(long, value_name = "GROUP", conflicts_with = "check")]
    group: Vec<String>,

    /// Only this project; repeatable
    #[arg(long, value_name = "PROJECT", conflicts_with = "check")]
    project: Vec<String>,

    /// Also show operations that finished more than 24 h ago, all groups and all attention entries
    #[arg(long, conflicts_with = "check")]
    all: bool,

    /// Refresh every 2 s until Ctrl-C, on a terminal
    #[arg(long, conflicts_with_all = ["json", "strict", "check"])]
    watch: bool,

    /// Print one JSON object with the content of /api/attention, /api/projects, /api/webhooks, /api/groups and
    /// /api/operations; with an ID, the operation with its events and attention entries
    #[arg(long)]
    json: bool,

    /// Exit with 1 for any attention entry, not only for errors
    #[arg(long)]
    strict: bool,

    /// Only check that the daemon is alive: exit code 0 or 1, no output
    #[arg(long, conflicts_with_all = ["json", "strict"])]
    check: bool,

    /// Use HTTP at this address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    #[command(flatten)]
    daemon: DaemonArgs,
}

fn phase_parser() -> impl TypedValueParser<Value = Phase> {
    let names = PossibleValuesParser::new(Phase::ALL.map(Phase::as_str));
    names.try_map(|name| Phase::parse(&name).ok_or("not a phase"))
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=').map_or(text, |(key, _)| key) {
        "" => Err("a label has a key: KEY or KEY=VALUE".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Prints the status.
///
/// # Errors
/// When settings are wrong, no daemon answers, or the operation is not watched.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        let is_alive = check(&args).await.unwrap_or(false);
        return Ok(ExitCode::from(if is_alive { 0 } else { exit::FAILED }));
    }
    if args.watch {
        return live::run(&args).await;
    }
    let daemon = args.find_daemon().await?;
    let screen = Screen::of_stdout();
    let mut out = Output::stdout();
    let attention = match (&args.id, args.json) {
        (Some(_), _) => {
            let (detail, attention) = args.read_detail(&daemon).await?;
            match args.json {
                true => out.json(&format!("{}\n", detail.operation))?,
                false => print(&mut out, detail.lines(&screen), &screen)?,
            }
            attention
        }
        (None, true) => report::print_json(&daemon, &args.filters(), &mut out).await?,
        (None, false) => {
            let report = Report::read(&daemon, &args.filters()).await?;
            let mut lines = report.lines(&args.filters(), &screen, None);
            // A long output scrolls the attention list off the terminal.
            if terminal::rows().is_some_and(|rows| lines.len() >= rows) {
                let options = lookup::options(&args.daemon);
                lines.push(String::new());
                lines.extend(attention::verdict(&report.attention, &options, &screen));
            }
            print(&mut out, lines, &screen)?;
            report.attention
        }
    };
    out.flush()?;
    let has_errors = attention.iter().any(|entry| entry["severity"] == "error");
    let must_fail = has_errors || (args.strict && !attention.is_empty());
    Ok(ExitCode::from(if must_fail { exit::FAILED } else { 0 }))
}

fn print(out: &mut Output, lines: Vec<String>, screen: &Screen) -> anyhow::Result<()> {
    for line in lines {
        out.line(&screen.style.shown(&line))?;
    }
    Ok(())
}

async fn check(args: &StatusArgs) -> anyhow::Result<bool> {
    let answer = args.find_daemon().await?.get("/livez").await?;
    Ok(answer.status().is_success())
}

impl StatusArgs {
    async fn find_daemon(&self) -> anyhow::Result<Daemon> {
        Daemon::find(&self.daemon, self.listen.as_deref()).await
    }

    fn filters(&self) -> Filters {
        Filters {
            phases: self.phase.clone(),
            labels: self.label.clone(),
            groups: self.group.clone(),
            projects: self.project.clone(),
            is_all: self.all,
        }
    }

    /// The operation, and the whole attention list.
    async fn read_detail(&self, daemon: &Daemon) -> anyhow::Result<(Detail, Vec<Value>)> {
        let attention = daemon.list("/api/attention", "attention").await?.0;
        let id = self.id.as_deref().unwrap_or_default();
        let operation = lookup::operation(daemon, id, &self.project, &attention).await?;
        let endpoints = daemon.list("/api/webhooks", "endpoints").await?.0;
        let detail = Detail {
            operation,
            // An endpoint that was removed from the settings has no state.
            has_webhooks: endpoints.iter().any(|endpoint| endpoint["state"].is_string()),
            options: lookup::options(&self.daemon),
        };
        Ok((detail, attention))
    }
}
