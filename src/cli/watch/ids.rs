//! The operations on the command line and standard input.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Read as _};
use std::sync::Arc;

use anyhow::Context as _;

use crate::cli::output::notice;
use crate::cli::{Failure, exit};
use crate::core::watch_list::{Entry, LineError, WatchList, parse};
use crate::sources::watch_list::MAX_FILE_BYTES;

/// The argument for standard input.
const STDIN: &str = "-";

/// The operations of `ids` in order, without duplicates. `-` adds those on standard input.
pub(super) async fn read(ids: Vec<String>, projects: &[Arc<str>]) -> anyhow::Result<WatchList> {
    let from_stdin = ids.iter().any(|id| id == STDIN);
    let stdin = if from_stdin {
        tokio::task::spawn_blocking(read_stdin).await??
    } else {
        Vec::new()
    };
    gather(&ids, &stdin, projects).map_err(|message| {
        Failure {
            message,
            code: exit::USAGE,
        }
        .into()
    })
}

fn read_stdin() -> anyhow::Result<Vec<u8>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        notice("Enter operation IDs, one per line, then press Ctrl-D:");
    }
    let mut bytes = Vec::new();
    stdin
        .lock()
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .context("cannot read operation IDs from standard input")?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        anyhow::bail!(
            "standard input has more than {} MiB; is it a list of operation IDs?",
            MAX_FILE_BYTES / 1024 / 1024
        );
    }
    Ok(bytes)
}

/// Parses all operations, or returns all errors.
fn gather(ids: &[String], stdin: &[u8], projects: &[Arc<str>]) -> Result<WatchList, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut problems = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        if id == STDIN {
            let list = parse(stdin, projects);
            problems.extend(rejected(&list));
            for ignored in &list.without_deadline {
                notice(&format!("warning: standard input, {ignored}"));
            }
            if list.entries.is_empty() && list.rejected_total == 0 {
                problems.push("standard input has no operation ID, so there is nothing to watch".to_owned());
            }
            entries.extend(list.entries);
            continue;
        }
        let list = parse(id.as_bytes(), projects);
        if let Some(LineError { column, problem, .. }) = list.rejected.first() {
            problems.push(format!("operation ID {id:?}, character {column}: {problem}"));
        } else if list.entries.len() != 1 {
            problems.push(format!("argument {} ({id:?}) is not an operation ID", index + 1));
        }
        entries.extend(list.entries);
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let mut seen = HashSet::new();
    entries.retain(|entry| seen.insert(entry.key.clone()));
    Ok(WatchList {
        entries,
        ..WatchList::default()
    })
}

fn rejected(list: &WatchList) -> Vec<String> {
    /// The most lines that are reported.
    const MAX_REPORTED: usize = 20;
    let mut problems: Vec<String> = list
        .rejected
        .iter()
        .take(MAX_REPORTED)
        .map(|error| format!("standard input, {error}"))
        .collect();
    if list.rejected_total > MAX_REPORTED {
        problems.push(format!(
            "and {} more rejected lines",
            list.rejected_total - MAX_REPORTED
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(ids: &[&str], stdin: &str) -> Result<Vec<String>, String> {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let list = gather(&ids, stdin.as_bytes(), &["main".into(), "other".into()])?;
        Ok(list.entries.iter().map(|entry| entry.key.to_string()).collect())
    }

    #[test]
    fn each_operation_counts_once_in_its_order() {
        assert_eq!(
            gathered(
                &["b", "-", "a"],
                "# list\nc customer=acme\r\nb\nb project=other\n"
            ),
            Ok(["main/b", "main/c", "other/b", "main/a"]
                .map(str::to_owned)
                .to_vec())
        );
        assert_eq!(gathered(&["a", "a"], ""), Ok(vec!["main/a".to_owned()]));
    }

    #[test]
    fn all_errors_are_reported_together() {
        assert_eq!(
            gathered(&["op 1", "a/b", "-", "", "#x", "a\nb"], "x=y\nok\n").unwrap_err(),
            "operation ID \"op 1\", character 4: \"1\" is not a label; write key=value, and one operation per line\n\
             operation ID \"a/b\", character 2: '/' cannot be part of an operation ID, which is made of A-Z a-z 0-9 . _ ~ -\n\
             standard input, line 1, column 1: the line begins with a label; put the operation ID before it\n\
             argument 4 (\"\") is not an operation ID\n\
             argument 5 (\"#x\") is not an operation ID\n\
             argument 6 (\"a\\nb\") is not an operation ID"
        );
        assert!(
            gathered(&["-"], "# nothing\n\n")
                .unwrap_err()
                .contains("nothing to watch")
        );
    }
}
