//! Rows of the state that cannot be used: which, and what became of what they were about.

use std::fmt;

use crate::core::watch_list::WatchKey;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Watches,
    Projects,
    Events,
    Deliveries,
}

/// A row that was read and does not match its checksum, or makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BadRow {
    pub(super) table: Table,
    pub(super) row: i64,
}

/// A damaged row that was moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DamagedRow {
    /// What it was: a watch, an event.
    pub(super) kind: &'static str,
    /// Whose it was, as far as that can be read.
    pub(super) id: String,
    pub(super) effect: Effect,
}

/// What a damaged row costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was rebuilt from the event log.
    Rebuilt,
    /// It starts as new: the event log has nothing of it.
    New,
    /// What it had is lost.
    Lost,
    /// Its readable parts were kept and the rest is set again.
    Repaired,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rebuilt => "rebuilt from its last event",
            Self::New => "the event log has nothing of it; it starts as new",
            Self::Lost => "lost",
            Self::Repaired => "repaired",
        })
    }
}

/// A watch whose stored state was damaged or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedWatch {
    /// Which.
    pub key: WatchKey,
    /// Whether it was rebuilt from its events; otherwise it starts as new.
    pub is_rebuilt: bool,
}
