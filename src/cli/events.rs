//! `backfill-watch events`: the event log, read from the state directory.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::StateArgs;
use super::event_line::event_line;
use super::output::{self, Output};
use crate::clock;
use crate::config::EventGlob;
use crate::core::event::EventType;
use crate::store::{Cursor, EventLogFilter, StateReader, StoredEvent};

const AFTER_HELP: &str = "\
Examples:
  What happened to one operation:
    backfill-watch events --operation 3efc0f0f-4bb9-498f-996c-9893d98ca4b5

  Failures as they come, for a program:
    backfill-watch events --follow --type operation.failed --json";

/// Events read at a time.
const PAGE: usize = 500;

/// How often `--follow` looks for more.
const LOOK: Duration = Duration::from_millis(250);

/// How long a state that is replaced may be away.
const REPLACEMENT: Duration = Duration::from_secs(10);

/// Show the event log of the daemon, running or not
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct EventsArgs {
    /// Begin after this cursor (`--json` tells them) instead of with the oldest event
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Go on with new events as they come
    #[arg(long, short)]
    follow: bool,
    /// Events of the operation of this ID alone
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// Events of this type alone; `*` stands for any text; may be repeated
    #[arg(long = "type", value_name = "GLOB", value_parser = types)]
    types: Vec<Types>,
    /// One JSON object a line: `id`, `cursor`, `type`, `timestamp`, `data`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// The types that one glob stands for.
#[derive(Debug, Clone)]
struct Types(Vec<EventType>);

fn types(text: &str) -> Result<Types, String> {
    let glob = EventGlob::parse(text).map_err(|(problem, help)| format!("{problem}; {help}"))?;
    Ok(Types(
        EventType::ALL
            .iter()
            .copied()
            .filter(|event_type| glob.matches(event_type.as_str()))
            .collect(),
    ))
}

/// Shows the events.
///
/// # Errors
/// When there is no state to read, or the cursor is not of it.
pub async fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let dir = args.state.state_dir()?;
    tokio::task::spawn_blocking(move || show(args, &dir).map(|()| ExitCode::SUCCESS)).await?
}

fn show(args: EventsArgs, dir: &Path) -> anyhow::Result<()> {
    let mut state = StateReader::open(dir)?;
    let filter = EventLogFilter {
        operation: args.operation,
        types: (!args.types.is_empty()).then(|| args.types.into_iter().flat_map(|types| types.0).collect()),
    };
    let mut out = Output::stdout();
    // The operation, until an event of it was shown or its absence was reported.
    let mut sought = filter.operation.clone();
    let mut after = args.after;
    loop {
        let page = state.events_after(after.as_ref(), PAGE, &filter)?;
        if !page.events.is_empty() {
            sought = None;
        }
        for event in &page.events {
            if args.json {
                out.json(&format!("{}\n", event.to_json()))?;
            } else {
                out.line(&line(event))?;
            }
        }
        after = Some(page.next);
        if page.more {
            continue;
        }
        out.flush()?;
        if let Some(operation) = sought.take()
            && !has_events(&state, operation.clone())?
        {
            output::notice(&format!(
                "there is no event of an operation `{operation}` in {}; is this its ID?",
                dir.display()
            ));
        }
        if !args.follow || out.is_closed() {
            return Ok(());
        }
        thread::sleep(LOOK);
        if !state.is_current() {
            state = reopen(dir)?;
        }
    }
}

/// Whether any event of the operation is kept, whatever its type.
fn has_events(state: &StateReader, operation: String) -> anyhow::Result<bool> {
    let filter = EventLogFilter {
        operation: Some(operation),
        types: None,
    };
    let mut after = None;
    loop {
        // One page reads a bounded number of rows.
        let page = state.events_after(after.as_ref(), 1, &filter)?;
        if !page.events.is_empty() || !page.more {
            return Ok(!page.events.is_empty());
        }
        after = Some(page.next);
    }
}

/// The state that took the place of the one that was read. While a backup is put there, it may be away.
fn reopen(dir: &Path) -> anyhow::Result<StateReader> {
    let begin = clock::instant();
    loop {
        match StateReader::open(dir) {
            Err(_) if begin.elapsed() < REPLACEMENT => thread::sleep(LOOK),
            opened => {
                return opened.context("the state that was followed was removed or replaced");
            }
        }
    }
}

fn line(event: &StoredEvent) -> String {
    let data: Value = serde_json::from_str(event.data()).unwrap_or_default();
    event_line(event.timestamp, event.event_type, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_names_types() {
        assert_eq!(types("api.*").unwrap().0.len(), 4);
        assert!(types("apis.*").is_err());
    }
}
