//! What the HTTP API and discovery ask for, as it is stored.

use std::sync::Arc;

use super::change::to_json;
use crate::core::source::{Source, Terms};
use crate::core::watch_list::WatchKey;

/// What a source other than the watch list asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// The watch.
    pub key: WatchKey,
    /// The HTTP API or discovery.
    pub source: Source,
    /// Its terms.
    pub terms: Arc<Terms>,
}

/// Some source entries of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntryPage {
    /// The entries that are not withdrawn.
    pub entries: Vec<SourceEntry>,
    /// Where the next page begins. `None` after the last one.
    pub next: Option<SourceEntryPosition>,
}

/// A position among the source entries of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceEntryPosition(pub(super) i64);

/// The effect of a withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Withdrawal {
    /// The source does not ask for the watch any more.
    Withdrawn,
    /// It was withdrawn before.
    AlreadyWithdrawn,
    /// The source never asked for the watch, or that is forgotten.
    #[default]
    NeverAdded,
}

/// A [`SourceEntry`] as a row.
#[derive(Debug)]
pub(super) struct SourceRow {
    pub(super) key: WatchKey,
    pub(super) source: Source,
    pub(super) terms: String,
}

/// Rows of a table, in the order of their numbers.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    /// The last row that was read, unless none is left.
    pub(super) next: Option<i64>,
}

impl SourceRow {
    pub(super) fn all(entries: &[SourceEntry]) -> Vec<Self> {
        let row = |entry: &SourceEntry| Self {
            key: entry.key.clone(),
            source: entry.source,
            terms: to_json(&*entry.terms),
        };
        entries.iter().map(row).collect()
    }
}
