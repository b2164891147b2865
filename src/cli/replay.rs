//! `backfill-watch replay`: deliver again what was delivered, or given up, before.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::StateArgs;
use super::output::{self, Output};
use crate::clock;
use crate::store::{ReplaySelection, StateReader};

const AFTER_HELP: &str = "\
Examples:
  Once a broken receiver works again:
    backfill-watch replay --dead-letters --endpoint crm-sync

  Everything about one operation:
    backfill-watch replay --operation 3efc0f0f-4bb9-498f-996c-9893d98ca4b5";

/// Deliver events to webhooks again
///
/// Marks deliveries in the state directory: a running daemon sends them within a second, a stopped one when it starts.
/// Receivers get the same ID and the same body again. An endpoint gets only types of events that it subscribes to.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ReplayArgs {
    #[command(flatten)]
    what: What,
    /// Deliver to the webhook of this name alone, instead of all
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The event of this ID
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// All events of the operation of this ID, in their order
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// Whatever was given up
    #[arg(long)]
    dead_letters: bool,
}

impl What {
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
/// When there is no state, or it cannot be written.
pub async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let dir = args.state.state_dir()?;
    tokio::task::spawn_blocking(move || replay(args, &dir)).await?
}

fn replay(args: ReplayArgs, dir: &Path) -> anyhow::Result<ExitCode> {
    let state = StateReader::open(dir)?;
    let endpoints = state.endpoints()?;
    if let Some(name) = &args.endpoint
        && !endpoints.contains(name)
    {
        output::notice(&format!(
            "there is no webhook named `{name}`; those the daemon knows: {}",
            list(&endpoints)
        ));
        return Ok(ExitCode::FAILURE);
    }
    let selection = args.what.selection();
    let replayed = state.request_replay(&selection, args.endpoint.as_deref(), clock::wall())?;
    let marked = replayed.marked;
    if replayed.left_out > 0 {
        output::notice(&format!(
            "{} left out because the backlog is full (`max_backlog`); when it has shrunk, run this again",
            replayed.left_out
        ));
        if marked == 0 {
            return Ok(ExitCode::FAILURE);
        }
    } else if marked == 0 {
        output::notice(&nothing(&selection, &endpoints));
        return Ok(ExitCode::SUCCESS);
    }
    let plural = if marked == 1 { "delivery" } else { "deliveries" };
    let mut out = Output::stdout();
    out.line(&format!("{marked} {plural} marked"))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn nothing(selection: &ReplaySelection, endpoints: &[String]) -> String {
    if endpoints.is_empty() {
        return "nothing to deliver: the daemon has no webhooks".to_owned();
    }
    match selection {
        ReplaySelection::Event(id) => format!(
            "nothing to deliver: no webhook wants an event `{id}`, or it waits to be delivered already; `backfill-watch events` lists what is kept"
        ),
        ReplaySelection::Operation(id) => format!(
            "nothing to deliver: no webhook wants an event of an operation `{id}`, or all wait to be delivered already; `backfill-watch events` lists what is kept"
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
        Some(ReplayArgs::from_arg_matches(&matches).ok()?.what.selection())
    }

    #[test]
    fn exactly_one_selection_is_wanted() {
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
    async fn nothing_to_deliver_and_no_state_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let run_it = async || {
            let what = What {
                event: None,
                operation: None,
                dead_letters: true,
            };
            let args = ReplayArgs {
                what,
                endpoint: None,
                state: StateArgs {
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
