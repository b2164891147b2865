//! Watch lists: their lines, the difference of two lists, and delayed removals.
//!
//! A line is an operation ID and then `key=value` labels, separated by Unicode white space. Details of the format:
//!
//! - `#` starts a comment at the start of a line or after white space; `a=b#c` is the label `a` with value `b#c`.
//! - A key has 1 to 64 characters except `=`, quotes, white space and control characters. A value ends at the next
//!   white space, may be empty, and may contain `=`.
//! - A value that begins with `"` ends at the next `"`, and may contain white space. `\"` and `\\` in it are a quote and a
//!   backslash. A quote anywhere else is an ordinary character of a value.
//! - `project=NAME` and `deadline=TIME` do not count towards [`MAX_LABELS`], since events do not contain them as labels.
//! - A control character other than tab rejects its line even in a comment. Otherwise a file with lone carriage returns
//!   as line ends would be one comment from its first `#`.
//! - The IDs `.` and `..` are rejected, since they have another meaning in the path of a URL.
//! - All limits count UTF-8 bytes or characters, also for UTF-16 files. The limit of a line also limits its labels.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::sync::Arc;

use super::source::Terms;

mod diff;
mod encoding;
mod line;
mod problem;
mod shrink;

pub use super::labels::Labels;
pub use diff::{ListDifference, difference};
use line::{ParsedLine, parse_line};
pub use line::{accepts_id, check_label_key, check_operation_id, label_text, parse_label};
pub use problem::{LineError, LineProblem};
pub use shrink::{ListChange, PendingRemovals, ShrinkGuard, removes_most};

/// Maximum bytes of a line, without its line end.
pub const MAX_LINE_BYTES: usize = 4096;
/// Maximum entries of a list. Each entry costs memory, and a file of the allowed size could have more than sixty
/// million.
pub const MAX_ENTRIES: usize = 2_000_000;
/// Maximum labels of a line, without `project` and `deadline`.
pub const MAX_LABELS: usize = 16;
/// Maximum characters of an operation ID.
pub const MAX_ID_LEN: usize = 128;
/// Maximum characters of a label's key.
pub const MAX_LABEL_KEY_CHARS: usize = 64;
/// How many rejected, repeated or other reported lines are kept in full; further ones are only counted, to limit
/// memory.
pub const MAX_REJECTED_KEPT: usize = 1000;

/// Identifies a watch: project and operation ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey {
    /// The name of the configured project.
    pub project: Arc<str>,
    /// The operation ID.
    pub operation: Arc<str>,
}

impl WatchKey {
    /// The key of an operation of this project.
    #[must_use]
    pub fn of(project: &Arc<str>, operation: &Arc<str>) -> Self {
        Self {
            project: Arc::clone(project),
            operation: Arc::clone(operation),
        }
    }
}

impl fmt::Display for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.operation)
    }
}

/// A valid line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The watch.
    pub key: WatchKey,
    /// Its labels and its deadline.
    pub terms: Arc<Terms>,
}

/// A parsed list: its entries, and the problems of other lines. No key occurs twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchList {
    /// The valid lines, in the order of the file.
    pub entries: Vec<Entry>,
    /// The first [`MAX_REJECTED_KEPT`] lines that do not parse.
    pub rejected: Vec<LineError>,
    /// The number of lines that do not parse.
    pub rejected_total: usize,
    /// The first [`MAX_REJECTED_KEPT`] lines that repeat the operation of an earlier line.
    pub repeated: Vec<LineError>,
    /// The number of such lines.
    pub repeated_total: usize,
    /// The first [`MAX_REJECTED_KEPT`] lines whose deadline is unusable. They apply without it.
    pub without_deadline: Vec<LineError>,
    /// The number of such lines.
    pub without_deadline_total: usize,
    /// The number of rejected lines with bytes that text does not contain.
    pub binary_total: usize,
}

/// Why a list is unusable as a whole. The previous list stays active then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusableList {
    /// Most of its lines contain bytes that text does not contain.
    NotText,
    /// It has lines that are neither blank nor comments, and none of them is valid.
    NoLineParses,
}

impl WatchList {
    /// Why the list is unusable as a whole; `None` if it is usable, even if it is empty.
    #[must_use]
    pub fn unusable(&self) -> Option<UnusableList> {
        let lines = self.entries.len() + self.rejected_total + self.repeated_total;
        if self.binary_total > lines / 2 {
            Some(UnusableList::NotText)
        } else if self.entries.is_empty() && self.rejected_total > 0 {
            Some(UnusableList::NoLineParses)
        } else {
            None
        }
    }

    /// How many lines are rejected, as the start of a sentence.
    #[must_use]
    pub fn rejected_text(&self) -> String {
        match self.rejected_total {
            1 => "1 line of the watch list is rejected".to_owned(),
            rejected => format!("{rejected} lines of the watch list are rejected"),
        }
    }

    fn reject(&mut self, error: LineError) {
        push_bounded(&mut self.rejected, &mut self.rejected_total, error);
    }
}

fn push_bounded(kept: &mut Vec<LineError>, total: &mut usize, error: LineError) {
    *total += 1;
    if kept.len() < MAX_REJECTED_KEPT {
        kept.push(error);
    }
}

/// Parses a watch list. An invalid line does not affect the others.
///
/// `projects` are the configured projects; a line without `project=NAME` belongs to the first.
#[must_use]
pub fn parse(bytes: &[u8], projects: &[Arc<str>]) -> WatchList {
    parse_at_most(MAX_ENTRIES, bytes, projects)
}

fn parse_at_most(max_entries: usize, bytes: &[u8], projects: &[Arc<str>]) -> WatchList {
    let bytes = encoding::to_utf8(bytes);
    let projects: Arc<[Arc<str>]> = projects.into();
    let without_terms = Arc::new(Terms::default());
    let mut list = WatchList::default();
    // Capacity for lines of a bare UUID: growing would rehash every key several times.
    let mut first_lines: HashMap<WatchKey, u32> = HashMap::with_capacity((bytes.len() / 37).min(max_entries));
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let error = |(column, problem)| LineError {
            line,
            column,
            problem,
        };
        let ParsedLine {
            key,
            labels,
            column,
            deadline,
        } = match parse_line(raw, &projects) {
            Ok(None) => continue,
            Ok(Some(parsed)) => parsed,
            Err(problem) => {
                list.binary_total += usize::from(raw.iter().any(|byte| is_binary(*byte)));
                list.reject(error(problem));
                continue;
            }
        };
        match first_lines.entry(key) {
            hash_map::Entry::Occupied(first) => {
                let problem = LineProblem::RepeatedId {
                    key: first.key().clone(),
                    first_line: *first.get(),
                };
                let repeated = error((column, problem));
                push_bounded(&mut list.repeated, &mut list.repeated_total, repeated);
            }
            hash_map::Entry::Vacant(_) if list.entries.len() == max_entries => {
                list.reject(error((column, LineProblem::TooManyEntries { most: max_entries })));
            }
            hash_map::Entry::Vacant(free) => {
                let key = free.key().clone();
                free.insert(line);
                let deadline = deadline.unwrap_or_else(|problem| {
                    let unusable = error(problem);
                    push_bounded(
                        &mut list.without_deadline,
                        &mut list.without_deadline_total,
                        unusable,
                    );
                    None
                });
                let terms = if labels.is_empty() && deadline.is_none() {
                    Arc::clone(&without_terms)
                } else {
                    Arc::new(Terms { labels, deadline })
                };
                list.entries.push(Entry { key, terms });
            }
        }
    }
    list.entries.shrink_to_fit();
    list
}

/// Whether text does not contain this byte. Line ends, tabs, form feeds and escape sequences are allowed.
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=0x08 | 0x0E..=0x1A | 0x1C..=0x1F)
}

#[cfg(test)]
mod tests;
