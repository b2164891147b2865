//! Watch lists: their lines, the difference of two lists, and what a change may remove at once.
//!
//! A line is an operation ID and then `key=value` labels, separated by white space (any Unicode white space). Where
//! the format leaves a choice, this is it:
//!
//! - `#` begins a comment at the start of a line or after white space; `a=b#c` is the label `a` with value `b#c`.
//! - A label's key has 1 to 64 characters, any but `=`, quotes, white space and control characters; its value ends at
//!   the next white space, may be empty, and may have further `=`.
//! - A value that begins with `"` ends at the next `"`, and may have white space. `\"` and `\\` in it are a quote and a
//!   backslash. A quote anywhere else is an ordinary character of a value.
//! - `project=NAME` and `deadline=TIME` are not among the [`MAX_LABELS`] labels of a line, since they do not travel with
//!   the events.
//! - A control character other than tab rejects its line even in a comment: a file whose lines end in a lone
//!   carriage return would otherwise vanish whole behind its first `#`.
//! - The IDs `.` and `..` are rejected, as they would be path segments of another meaning in the request's URL.
//! - All limits count UTF-8, also where the file is UTF-16. A line's limit is also the limit of its labels together.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::sync::Arc;

mod diff;
mod encoding;
mod line;
mod problem;
mod shrink;

pub use diff::{Diff, diff};
use line::{ParsedLine, parse_line};
pub use line::{accepts_id, label_text};
pub use problem::{LineError, LineProblem};
pub use shrink::{ListChange, PendingRemovals, ShrinkGuard, removes_most};

/// The most bytes a line may have, its line end aside.
pub const MAX_LINE_BYTES: usize = 4096;
/// The most watches a list may ask for. Each costs memory for as long as it is listed, and the shortest lines would make
/// more than sixty million of them in a file of the allowed size.
pub const MAX_ENTRIES: usize = 2_000_000;
/// The most labels a line may have, `project` and `deadline` aside.
pub const MAX_LABELS: usize = 16;
/// The most characters an operation ID may have.
pub const MAX_ID_LEN: usize = 128;
/// The most characters a label's key may have.
pub const MAX_LABEL_KEY_CHARS: usize = 64;
/// How many rejected lines are kept in full, and of the other kinds likewise; those beyond are only counted, so that a
/// file of rubbish stays small in memory.
pub const MAX_REJECTED_KEPT: usize = 1000;

/// What a watch is known by: project and operation ID.
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

/// The labels of a watch, in the order of the line; they travel with every event.
pub type Labels = Vec<(String, String)>;

/// A line that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The watch that the line asks for.
    pub key: WatchKey,
    /// Its labels, without `project` and `deadline`.
    pub labels: Arc<Labels>,
}

/// A whole list: the lines that apply, and what is wrong with others. No key occurs twice among the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchList {
    /// The lines that apply, in the order of the file.
    pub entries: Vec<Entry>,
    /// The first [`MAX_REJECTED_KEPT`] lines that do not parse.
    pub rejected: Vec<LineError>,
    /// How many lines do not parse, kept in `rejected` or not.
    pub rejected_total: usize,
    /// The first [`MAX_REJECTED_KEPT`] lines that repeat the operation of an earlier line, which applies.
    pub repeated: Vec<LineError>,
    /// How many lines repeat one.
    pub repeated_total: usize,
    /// The first [`MAX_REJECTED_KEPT`] lines that apply without their deadline, which cannot be used.
    pub without_deadline: Vec<LineError>,
    /// How many lines apply without their deadline.
    pub without_deadline_total: usize,
    /// How many of the rejected lines have characters that no text has.
    pub binary_total: usize,
}

/// Why a list cannot be used at all, so that the one before stays active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusableList {
    /// Most of its lines have characters that no text has.
    NotText,
    /// It has lines that are neither blank nor comments, and none of them parses.
    NoLineParses,
}

impl WatchList {
    /// Why the list cannot be used at all; `None` if it can, even if it is empty.
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

    fn reject(&mut self, error: LineError) {
        note(&mut self.rejected, &mut self.rejected_total, error);
    }
}

fn note(kept: &mut Vec<LineError>, total: &mut usize, error: LineError) {
    *total += 1;
    if kept.len() < MAX_REJECTED_KEPT {
        kept.push(error);
    }
}

/// Reads a watch list. Every line is judged by itself; one that does not parse never spoils another.
///
/// `projects` are the names of the configured projects; a line without `project=NAME` belongs to the first.
#[must_use]
pub fn parse(bytes: &[u8], projects: &[Arc<str>]) -> WatchList {
    parse_at_most(MAX_ENTRIES, bytes, projects)
}

fn parse_at_most(max_entries: usize, bytes: &[u8], projects: &[Arc<str>]) -> WatchList {
    let bytes = encoding::to_utf8(bytes);
    let projects: Arc<[Arc<str>]> = projects.into();
    let unlabelled = Arc::new(Labels::new());
    let mut list = WatchList::default();
    // Room for lines of a bare UUID at once; growing by doubling would rehash every key several times.
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
                note(&mut list.repeated, &mut list.repeated_total, repeated);
            }
            hash_map::Entry::Vacant(_) if list.entries.len() == max_entries => {
                list.reject(error((column, LineProblem::TooManyEntries { most: max_entries })));
            }
            hash_map::Entry::Vacant(free) => {
                let key = free.key().clone();
                free.insert(line);
                if let Err(problem) = deadline {
                    let unusable = error(problem);
                    note(
                        &mut list.without_deadline,
                        &mut list.without_deadline_total,
                        unusable,
                    );
                }
                let labels = if labels.is_empty() {
                    Arc::clone(&unlabelled)
                } else {
                    Arc::new(labels)
                };
                list.entries.push(Entry { key, labels });
            }
        }
    }
    list.entries.shrink_to_fit();
    list
}

/// Whether no text has this byte. Line ends, tabs, form feeds and escape sequences are in texts that people write.
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=0x08 | 0x0E..=0x1A | 0x1C..=0x1F)
}

#[cfg(test)]
mod tests;
