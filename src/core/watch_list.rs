//! Lines of a watch list, and the difference of two lists.
//!
//! A line is an operation ID and then `key=value` labels, parted by white space (any Unicode white space). Where
//! the format leaves a choice, this is it:
//!
//! - `#` begins a comment at the start of a line or after white space; `a=b#c` is the label `a` with value `b#c`.
//! - A label's key has 1 to 64 characters, any but `=`, white space and control characters; its value ends at the
//!   next white space, may be empty, and may hold further `=`.
//! - `project=NAME` is not among the [`MAX_LABELS`] labels of a line, since it does not travel with the events.
//! - A control character other than tab rejects its line even in a comment: a file whose lines end in a lone
//!   carriage return would otherwise vanish whole behind its first `#`.
//! - The IDs `.` and `..` are rejected, as they would be path segments of another meaning in the request's URL.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

mod problem;
pub use problem::{LineError, Problem};

/// The most bytes a line may have, its line end aside.
pub const MAX_LINE_BYTES: usize = 4096;
/// The most watches a list may ask for. Each costs memory for as long as it is listed, and the shortest lines would make
/// more than thirty million of them in a file of the allowed size.
pub const MAX_ENTRIES: usize = 2_000_000;
/// The most labels a line may have, `project=NAME` aside.
pub const MAX_LABELS: usize = 16;
/// The most characters an operation ID may have.
pub const MAX_ID_LEN: usize = 128;
/// The most characters a label's key may have.
pub const MAX_LABEL_KEY_CHARS: usize = 64;
/// How many rejected lines are kept in full; those beyond are only counted, so that a file of rubbish stays small
/// in memory.
pub const MAX_REJECTED_KEPT: usize = 1000;

/// What a watch is known by: project and operation ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey {
    /// The name of the configured project.
    pub project: Arc<str>,
    /// The operation ID.
    pub operation: Arc<str>,
}

impl fmt::Display for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.operation)
    }
}

/// The labels of a watch, in the order of the line; they travel with every event.
pub type Labels = Vec<(String, String)>;

/// A line that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The watch that the line asks for.
    pub key: WatchKey,
    /// Its labels, without `project`.
    pub labels: Arc<Labels>,
}

/// A whole list: the lines that hold, and why others do not. No key occurs twice among the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchList {
    /// The lines that hold, in the order of the file.
    pub entries: Vec<Entry>,
    /// The first [`MAX_REJECTED_KEPT`] lines that do not.
    pub rejected: Vec<LineError>,
    /// How many lines do not hold, kept in `rejected` or not.
    pub rejected_total: usize,
}

impl WatchList {
    fn reject(&mut self, error: LineError) {
        self.rejected_total += 1;
        if self.rejected.len() < MAX_REJECTED_KEPT {
            self.rejected.push(error);
        }
    }
}

/// Reads a watch list. Every line is judged by itself; one that does not hold never spoils another.
///
/// `projects` are the names of the configured projects; a line without `project=NAME` belongs to the first.
#[must_use]
pub fn parse(bytes: &[u8], projects: &[Arc<str>]) -> WatchList {
    parse_at_most(MAX_ENTRIES, bytes, projects)
}

fn parse_at_most(max_entries: usize, bytes: &[u8], projects: &[Arc<str>]) -> WatchList {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let projects: Arc<[Arc<str>]> = projects.into();
    let unlabelled = Arc::new(Labels::new());
    let mut list = WatchList::default();
    // Room for lines of a bare UUID at once; growing by doubling would rehash every key several times.
    let mut first_lines: HashMap<WatchKey, u32> = HashMap::with_capacity((bytes.len() / 37).min(max_entries));
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let parsed = match parse_line(raw, &projects) {
            Ok(None) => continue,
            Ok(Some(parsed)) => parsed,
            Err((column, problem)) => {
                list.reject(LineError {
                    line,
                    column,
                    problem,
                });
                continue;
            }
        };
        match first_lines.entry(parsed.key) {
            hash_map::Entry::Occupied(first) => list.reject(LineError {
                line,
                column: parsed.column,
                problem: Problem::RepeatedId {
                    key: first.key().clone(),
                    first_line: *first.get(),
                },
            }),
            hash_map::Entry::Vacant(_) if list.entries.len() == max_entries => list.reject(LineError {
                line,
                column: parsed.column,
                problem: Problem::TooManyEntries { most: max_entries },
            }),
            hash_map::Entry::Vacant(free) => {
                let key = free.key().clone();
                free.insert(line);
                let labels = if parsed.labels.is_empty() {
                    Arc::clone(&unlabelled)
                } else {
                    Arc::new(parsed.labels)
                };
                list.entries.push(Entry { key, labels });
            }
        }
    }
    list.entries.shrink_to_fit();
    list
}

struct ParsedLine {
    key: WatchKey,
    labels: Labels,
    column: u32,
}

/// One line without its end: an entry, nothing (blank or comment), or a problem and its column.
fn parse_line(raw: &[u8], projects: &Arc<[Arc<str>]>) -> Result<Option<ParsedLine>, (u32, Problem)> {
    if raw.len() > MAX_LINE_BYTES {
        let fitting = String::from_utf8_lossy(&raw[..MAX_LINE_BYTES]);
        return Err((column_after(&fitting), Problem::LineTooLong { bytes: raw.len() }));
    }
    let line = str::from_utf8(raw).map_err(|error| {
        let valid = String::from_utf8_lossy(&raw[..error.valid_up_to()]);
        (column_after(&valid), Problem::NotUtf8)
    })?;
    let at = |offset: usize| column_after(&line[..offset]);
    // Most lines are visible ASCII, and long lists are read often.
    let is_plain = raw.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain && let Some((offset, c)) = line.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
        return Err((at(offset), Problem::ControlCharacter(c)));
    }

    let mut tokens = tokens(line).take_while(|(_, token)| !token.starts_with('#'));
    let Some((id_offset, id)) = tokens.next() else {
        return Ok(None);
    };
    check_id(id).map_err(|(within, problem)| (at(id_offset + within), problem))?;

    let mut project: Option<Arc<str>> = None;
    let mut labels = Labels::new();
    for (offset, token) in tokens {
        let (key, value) = check_label(token).map_err(|(within, problem)| (at(offset + within), problem))?;
        let repeated = if key == "project" {
            project.is_some()
        } else {
            labels.iter().any(|(earlier, _)| earlier == key)
        };
        if repeated {
            return Err((at(offset), Problem::repeated_label(key)));
        }
        if key == "project" {
            let known = projects.iter().find(|name| ***name == *value);
            let known = known.ok_or_else(|| {
                let column = at(offset + "project=".len());
                (column, Problem::unknown_project(value, projects))
            })?;
            project = Some(Arc::clone(known));
        } else if labels.len() == MAX_LABELS {
            return Err((at(offset), Problem::TooManyLabels));
        } else {
            labels.push((key.to_owned(), value.to_owned()));
        }
    }

    let project = match (project, projects.first()) {
        (Some(named), _) => named,
        (None, Some(first)) => Arc::clone(first),
        (None, None) => return Err((at(id_offset), Problem::unknown_project("", projects))),
    };
    let key = WatchKey {
        project,
        operation: id.into(),
    };
    let column = at(id_offset);
    Ok(Some(ParsedLine { key, labels, column }))
}

/// The tokens of a line, each with its offset in bytes.
fn tokens(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut offset = 0;
    line.split_inclusive(char::is_whitespace)
        .filter_map(move |piece| {
            let start = offset;
            offset += piece.len();
            let token = piece.trim_end();
            (!token.is_empty()).then_some((start, token))
        })
}

/// The column, from 1, of the character that follows `prefix`.
fn column_after(prefix: &str) -> u32 {
    u32::try_from(prefix.chars().count() + 1).unwrap_or(u32::MAX)
}

/// Whether `token` can be an operation ID; else the offset of what is wrong within it, and why.
fn check_id(token: &str) -> Result<(), (usize, Problem)> {
    let of_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    // A character beyond ASCII begins with a byte that is no ID's.
    let wrong = token.bytes().position(|byte| !of_id(byte));
    let wrong = wrong.and_then(|offset| Some((offset, token[offset..].chars().next()?)));
    match wrong {
        // `customer=acme` at the start of a line: somebody forgot the ID, or wrote the labels first.
        Some((_, '=')) => Err((0, Problem::MissingId)),
        Some((offset, c)) => Err((offset, Problem::IdCharacter(c))),
        None if token.len() > MAX_ID_LEN => {
            let characters = token.len();
            Err((MAX_ID_LEN, Problem::IdTooLong { characters }))
        }
        None if matches!(token, "." | "..") => Err((0, Problem::IdIsDots)),
        None => Ok(()),
    }
}

/// Splits a label; else the offset of what is wrong within it, and why.
fn check_label(token: &str) -> Result<(&str, &str), (usize, Problem)> {
    let (key, value) = token
        .split_once('=')
        .ok_or_else(|| (0, Problem::not_a_label(token)))?;
    if key.is_empty() {
        return Err((0, Problem::LabelWithoutKey));
    }
    match key.char_indices().nth(MAX_LABEL_KEY_CHARS) {
        Some((offset, _)) => Err((offset, Problem::LabelKeyTooLong)),
        None => Ok((key, value)),
    }
}

/// What to do so that what runs becomes what a list asks for. Watches named in none of the three stay as they are.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Diff<'old, 'new> {
    /// Asked for and not running, in the order of the list.
    pub added: Vec<&'new Entry>,
    /// Running and not asked for any more, in no order.
    pub removed: Vec<&'old WatchKey>,
    /// Running with other labels than those asked for, in the order of the list.
    pub relabelled: Vec<&'new Entry>,
}

/// The difference between what runs, by key, and what `desired` asks for. `labels` are those of what runs; `None` where that is
/// as good as gone.
pub fn diff<'old, 'new, K: Borrow<WatchKey> + Eq + Hash, T>(
    running: &'old HashMap<K, T>,
    labels: impl Fn(&T) -> Option<&Arc<Labels>>,
    desired: &'new WatchList,
) -> Diff<'old, 'new> {
    let mut diff = Diff::default();
    let mut kept = 0;
    for entry in &desired.entries {
        match running.get(&entry.key).and_then(&labels) {
            None => diff.added.push(entry),
            Some(labels) => {
                kept += 1;
                if *labels != entry.labels {
                    diff.relabelled.push(entry);
                }
            }
        }
    }
    let running = running.iter().filter(|(_, of)| labels(of).is_some());
    // Most changes of a long list take nothing away.
    if running.clone().count() > kept {
        let asked: HashSet<&WatchKey> = desired.entries.iter().map(|entry| &entry.key).collect();
        let gone = running
            .map(|(key, _)| key.borrow())
            .filter(|key| !asked.contains(key));
        diff.removed.extend(gone);
    }
    diff
}

#[cfg(test)]
mod tests;
