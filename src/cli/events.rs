//! `backfill-watch events`: the event log, read from the state directory.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::DaemonArgs;
use super::event_line::event_line;
use super::output::{self, Output};
use crate::clock;
use crate::config::EventGlob;
use crate::core::event::EventType;
use crate::store::{Cursor, EventLogFilter, StateReader, StoredEvent};

const AFTER_HELP: &str = "\
Examples:
  The events of one operation:
    backfill-watch events --operation 3efc0f0f-4bb9-498f-996c-9893d98ca4b5

  What happened to one customer:
    backfill-watch events --group acme

  New failures, for a program:
    backfill-watch events --follow --type operation.failed --json";

/// Events read at once.
const PAGE: usize = 500;

/// How often `--follow` reads new events.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How long the state may be missing while it is replaced.
const REPLACEMENT_TIME: Duration = Duration::from_secs(10);

/// Show the event log; the daemon need not run
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct EventsArgs {
    /// Start after this cursor (from `--json`) instead of with the oldest event
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Wait for new events and print them
    #[arg(long, short)]
    follow: bool,
    /// Only events of the operation with this ID
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// Only events of this group and of its operations
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only events of this type; `*` matches any text; repeatable
    #[arg(long = "type", value_name = "GLOB", value_parser = types)]
    types: Vec<Types>,
    /// Print one JSON object per line: `id`, `cursor`, `type`, `timestamp`, `data`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// The event types that a glob matches.
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

/// Prints the events.
///
/// # Errors
/// When the state cannot be read, or the cursor is not of this state.
pub async fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let dir = args.daemon.state_dir()?;
    tokio::task::spawn_blocking(move || show(args, &dir).map(|()| ExitCode::SUCCESS)).await?
}

fn show(args: EventsArgs, dir: &Path) -> anyhow::Result<()> {
    let mut state = StateReader::open(dir)?;
    let filter = EventLogFilter {
        operation: args.operation,
        types: (!args.types.is_empty()).then(|| args.types.into_iter().flat_map(|types| types.0).collect()),
        ..EventLogFilter::default()
    };
    let group = args.group.map(|name| Group {
        label: args.daemon.group_label(),
        name,
    });
    let mut out = Output::stdout();
    // The operation, until an event of it was printed or their absence was reported.
    let mut expected = filter.operation.clone();
    let mut after = args.after;
    loop {
        let page = state.events_after(after.as_ref(), PAGE, &filter)?;
        if !page.events.is_empty() {
            expected = None;
        }
        for event in &page.events {
            if group.as_ref().is_some_and(|group| !group.has(event)) {
                continue;
            }
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
        if let Some(operation) = expected.take()
            && !has_events(&state, operation.clone())?
        {
            output::notice(&format!(
                "no events of operation `{operation}` in {}; check the ID",
                dir.display()
            ));
        }
        if !args.follow || out.is_closed() {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
        if !state.is_current() {
            state = reopen(dir)?;
        }
    }
}

/// A group of operations.
struct Group {
    label: Arc<str>,
    name: String,
}

impl Group {
    /// Whether the event is of the group, or of an operation with its label.
    fn has(&self, event: &StoredEvent) -> bool {
        let data: Value = serde_json::from_str(event.data()).unwrap_or_default();
        data["group"] == self.name || data["labels"][&*self.label] == self.name
    }
}

/// Whether the log has an event of the operation, of any type.
fn has_events(state: &StateReader, operation: String) -> anyhow::Result<bool> {
    let filter = EventLogFilter {
        operation: Some(operation),
        ..EventLogFilter::default()
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

/// Opens the state that replaced the previous one. It may be missing while a backup is restored.
fn reopen(dir: &Path) -> anyhow::Result<StateReader> {
    let begin = clock::instant();
    loop {
        match StateReader::open(dir) {
            Err(_) if begin.elapsed() < REPLACEMENT_TIME => thread::sleep(POLL_INTERVAL),
            opened => {
                return opened.context("the state was removed or replaced");
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
