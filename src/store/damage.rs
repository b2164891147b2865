//! Damaged rows of the state, and the effect of the damage.

use std::fmt;

use crate::core::watch_list::WatchKey;

/// The table of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DamagedTable {
    Watches,
    Projects,
    SourceEntries,
    Installations,
    Groups,
    Events,
    Deliveries,
}

/// A row that does not match its checksum, or has impossible values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BadRow {
    pub(super) table: DamagedTable,
    pub(super) row: i64,
}

/// A damaged row that was moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DamagedRow {
    /// What it describes, such as `watch` or `event`.
    pub(super) kind: &'static str,
    /// Its name, as far as that can be read.
    pub(super) id: String,
    pub(super) effect: Effect,
}

/// The effect of a damaged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was rebuilt from the event log.
    Rebuilt,
    /// It starts as new, because the event log has nothing about it.
    New,
    /// Its content is lost.
    Lost,
    /// Its readable parts were kept. The rest was set again.
    Repaired,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rebuilt => "rebuilt from its last event",
            Self::New => "not in the event log; it starts as new",
            Self::Lost => "lost",
            Self::Repaired => "repaired",
        })
    }
}

/// A watch whose stored state was damaged or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedWatch {
    /// Its key.
    pub key: WatchKey,
    /// Whether it was rebuilt from its events. Otherwise it starts as new.
    pub is_rebuilt: bool,
}
