//! Finds one operation by its ID, with its events and attention entries.

use std::path::Path;

use serde_json::Value;
use url::Url;

use crate::cli::daemon::Daemon;
use crate::cli::{DaemonArgs, Failure, exit};
use crate::core::event::EventType;
use crate::core::text::one_line;

/// The most events that are kept, without progress: the newest.
const MAX_EVENTS: usize = 10_000;
/// The longest name that is quoted, in bytes.
const MAX_NAME: usize = 200;

/// The operation with the members `events` and `attention`. `eventsError` is the reason why there are no events.
///
/// # Errors
/// [`Failure`] when it is not watched, several projects have it, or the daemon does not answer.
pub(super) async fn operation(
    daemon: &Daemon,
    id: &str,
    projects: &[String],
    attention: &[Value],
) -> anyhow::Result<Value> {
    let path = match projects {
        [] => path(&["operations", id]),
        [project] => path(&["operations", project, id]),
        _ => return Err(usage("use one --project with an ID".to_owned())),
    };
    let quoted = one_line(id, MAX_NAME);
    let answer = daemon.read_json(&path).await?;
    let mut operation = match answer.status {
        404 => {
            let place = match projects.first() {
                Some(project) => format!(" in project {}", one_line(project, MAX_NAME)),
                None => String::new(),
            };
            return Err(usage(format!(
                "operation {quoted} is not watched{place}; check the ID, `backfill-watch status --all` shows all operations"
            )));
        }
        409 => {
            let names = projects_of(daemon, id).await?.join(", ");
            return Err(usage(format!(
                "several projects watch operation {quoted}; add --project with one of: {names}"
            )));
        }
        _ if answer.is_ok() && answer.body.is_object() => answer.body,
        _ => return Err(daemon.refusal(&answer)),
    };
    // Without an answer of the API or without records, nothing else is known.
    let is_of_operation = |entry: &&Value| {
        let is_named = entry["project"] == operation["project"] && entry["subject"] == id;
        is_named || (is_outage(entry) && concerns(entry, &operation))
    };
    let entries: Vec<Value> = attention.iter().filter(is_of_operation).cloned().collect();
    operation["attention"] = entries.into();
    let project = operation["project"].as_str().unwrap_or_default();
    match events(daemon, &format!("{project}/{id}")).await {
        Ok(events) => operation["events"] = events.into(),
        // The rest is worth more than none.
        Err(error) => operation["eventsError"] = format!("{error:#}").into(),
    }
    Ok(operation)
}

/// Whether the entry makes figures old: the API does not answer the polls of its project, or nothing is recorded.
pub(super) fn is_outage(entry: &Value) -> bool {
    [
        "api_unreachable",
        "credentials_rejected",
        "state_not_writable",
        "state_removed",
    ]
    .iter()
    .any(|kind| entry["kind"] == **kind)
}

/// Whether the entry is about the project of an operation or a group, or about all projects.
pub(super) fn concerns(entry: &Value, item: &Value) -> bool {
    entry["project"].is_null() || entry["project"] == item["project"]
}

/// The newest events of an operation without progress.
async fn events(daemon: &Daemon, operation: &str) -> anyhow::Result<Vec<Value>> {
    let types: Vec<&str> = EventType::ALL
        .iter()
        .filter(|event_type| **event_type != EventType::Progress)
        .map(|event_type| event_type.as_str())
        .collect();
    let types = types.join(",");
    let mut events = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let parameters = [("operation", operation), ("type", &*types)];
        let (listed, next) = daemon.page("events", &parameters, after.as_deref()).await?;
        // A page may be empty before the end, where many events are progress.
        let is_end = next.is_none() || next == after;
        events.extend(listed);
        // The log is read from its start; the newest events matter most.
        events.drain(..events.len().saturating_sub(MAX_EVENTS));
        if is_end {
            return Ok(events);
        }
        after = next;
    }
}

/// The projects that watch an operation.
async fn projects_of(daemon: &Daemon, id: &str) -> anyhow::Result<Vec<String>> {
    let (found, _) = daemon.page("operations", &[("q", id)], None).await?;
    let exact = found.iter().filter(|operation| operation["operationId"] == id);
    let names = exact.filter_map(|operation| operation["project"].as_str());
    Ok(names.map(|name| one_line(name, MAX_NAME)).collect())
}

/// A path below `/api/` of these names.
fn path(names: &[&str]) -> String {
    let Ok(mut url) = Url::parse("http://localhost/api/") else {
        return String::new();
    };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(names);
    }
    url.path().to_owned()
}

fn usage(message: String) -> anyhow::Error {
    Failure {
        message,
        code: exit::USAGE,
    }
    .into()
}

/// The options that lead another command to the same daemon.
pub(super) fn options(args: &DaemonArgs) -> String {
    let option = |name: &str, path: &Option<std::path::PathBuf>| {
        let path = path.as_deref().map(quote);
        path.map_or_else(String::new, |path| format!(" --{name} {path}"))
    };
    format!(
        "{}{}",
        option("config", &args.config),
        option("state-dir", &args.state_dir)
    )
}

/// A path as a word of a shell.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_path_are_encoded() {
        assert_eq!(
            path(&["operations", "my project", "a/b?c"]),
            "/api/operations/my%20project/a%2Fb%3Fc"
        );
    }

    #[test]
    fn a_path_is_one_word() {
        let options = |folder: &str| {
            options(&DaemonArgs {
                config: None,
                state_dir: Some(folder.into()),
            })
        };
        assert_eq!(
            options("/var/lib/backfill-watch"),
            " --state-dir /var/lib/backfill-watch"
        );
        assert_eq!(options("/my state's"), r" --state-dir '/my state'\''s'");
    }
}
