//! `backfill-watch replay`: delivers recorded events again.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::DaemonArgs;
use super::output::{self, Output};
use crate::clock;
use crate::store::{ReplaySelection, StateReader};

const AFTER_HELP: &str = "\
Examples:
  The dead letters of one webhook, after its receiver works again:
    backfill-watch replay --dead-letters --endpoint crm-sync

  All events of one operation:
    backfill-watch replay --operation 3efc0f0f-4bb9-498f-996c-9893d98ca4b5";

/// Deliver events to webhooks again
///
/// Queues deliveries again. A running daemon sends them within a second, a stopped one when it starts. Receivers get
/// the same ID and body again. A webhook gets only the event types that it subscribes to.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ReplayArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Only to the webhook with this name
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SelectionArgs {
    /// The event with this ID
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// All events of the operation with this ID, in order
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// All dead letters
    #[arg(long)]
    dead_letters: bool,
}

impl SelectionArgs {
    fn selection(self) -> ReplaySelection {
        match (self.event, self.operation) {
            (Some(id), _) => ReplaySelection::Event(id),
            (None, Some(id)) => ReplaySelection::Operation(id),
            (None, None) => ReplaySelection::DeadLetters,
        }
    }
}

/// Marks the deliveries.
///
/// # Errors
/// When the state cannot be read or written.
pub async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let dir = args.daemon.state_dir()?;
    tokio::task::spawn_blocking(move || replay(args, &dir)).await?
}

fn replay(args: ReplayArgs, dir: &Path) -> anyhow::Result<ExitCode> {
    let state = StateReader::open(dir)?;
    let endpoints = state.endpoints()?;
    if let Some(name) = &args.endpoint
        && !endpoints.contains(name)
    {
        output::notice(&format!(
            "unknown webhook `{name}`; the daemon has: {}",
            list(&endpoints)
        ));
        return Ok(ExitCode::FAILURE);
    }
    let selection = args.selection.selection();
    let replayed = state.request_replay(&selection, args.endpoint.as_deref(), clock::wall())?;
    let marked = replayed.marked;
    if replayed.left_out > 0 {
        output::notice(&format!(
            "{} not marked because the backlog is full (`max_backlog`); run this again when it is smaller",
            replayed.left_out
        ));
        if marked == 0 {
            return Ok(ExitCode::FAILURE);
        }
    } else if marked == 0 {
        output::notice(&explain_nothing(&selection, &endpoints));
        return Ok(ExitCode::SUCCESS);
    }
    let plural = if marked == 1 { "delivery" } else { "deliveries" };
    let mut out = Output::stdout();
    out.line(&format!("{marked} {plural} marked"))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Why nothing was marked.
fn explain_nothing(selection: &ReplaySelection, endpoints: &[String]) -> String {
    if endpoints.is_empty() {
        return "nothing to deliver: the daemon has no webhooks".to_owned();
    }
    match selection {
        ReplaySelection::Event(id) => format!(
            "nothing to deliver: event `{id}` is unknown, not subscribed by any webhook, or waits already; `backfill-watch events` lists all events"
        ),
        ReplaySelection::Operation(id) => format!(
            "nothing to deliver: operation `{id}` has no events, none that a webhook subscribes to, or all wait already; `backfill-watch events` lists all events"
        ),
        ReplaySelection::DeadLetters => "nothing to deliver: there are no dead letters".to_owned(),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn parse(arguments: &[&str]) -> Option<ReplaySelection> {
        let command = ReplayArgs::augment_args(Command::new("replay").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).ok()?;
        Some(ReplayArgs::from_arg_matches(&matches).ok()?.selection.selection())
    }

    #[test]
    fn exactly_one_selection_is_required() {
        assert_eq!(parse(&["--event", "x"]), Some(ReplaySelection::Event("x".into())));
        assert_eq!(
            parse(&["--operation", "x", "--endpoint", "e"]),
            Some(ReplaySelection::Operation("x".into()))
        );
        assert_eq!(parse(&["--dead-letters"]), Some(ReplaySelection::DeadLetters));
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["--dead-letters", "--event", "x"]), None);
    }

    #[tokio::test]
    async fn nothing_to_deliver_is_not_an_error_but_a_missing_state_is() {
        let dir = tempfile::tempdir().unwrap();
        let run_it = async || {
            let selection = SelectionArgs {
                event: None,
                operation: None,
                dead_letters: true,
            };
            let args = ReplayArgs {
                selection,
                endpoint: None,
                daemon: DaemonArgs {
                    config: None,
                    state_dir: Some(dir.path().to_owned()),
                },
            };
            run(args).await
        };
        assert!(run_it().await.is_err(), "no state");
        let (_store, threads) = crate::store::Store::open(dir.path()).await.unwrap();
        assert_eq!(run_it().await.unwrap(), ExitCode::SUCCESS);
        threads.close().await.unwrap();
    }
}
