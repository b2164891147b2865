//! When rounds start, and what happens to the list of each.

use std::time::Duration;
use std::vec;

use jiff::SignedDuration;

use super::listed::{InstallationList, ListedInstallation};
use super::signed;

/// Rounds start up to this share of `every` early.
const JITTER: f64 = 0.1;
/// A list of more bytes is requested at most every [`LARGE_LIST_EVERY`].
const LARGE_LIST: usize = 1024 * 1024;
const LARGE_LIST_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// So many lists in a row must agree before one of less than half the installations counts.
const AGREEING_LISTS: u8 = 3;

/// How the list of installations differs from the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstallationChange {
    /// Installations that are new.
    pub added: usize,
    /// Installations that were deleted.
    pub removed: usize,
}

/// The rounds of a project.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The number of the round; 0 before the first.
    number: u64,
    /// When it started; `None` when the next one starts at once.
    started: Option<SignedDuration>,
    /// The time until the next one, unless the list is large.
    interval: SignedDuration,
    is_list_large: bool,
    list: List,
    /// Lists in a row of less than half the installations.
    shrunk_lists: u8,
    /// Whether a list was taken in with the current rules.
    has_list: bool,
    key_doubt: KeyDoubt,
}

/// Whether the API refused the key for a request other than the list, which decides whether the key is rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum KeyDoubt {
    #[default]
    None,
    /// The next list decides. Nothing else is requested before.
    Raised,
    /// The list of this round was answered: other refusals in this round do not concern the key.
    Answered,
}

/// The list of a round.
#[derive(Debug, Default)]
enum List {
    /// It was taken in, or its request failed.
    #[default]
    Done,
    Requested,
    /// It waits for the names of its integrations.
    Unnamed {
        list: InstallationList,
        are_names_requested: bool,
    },
    Incoming(Incoming),
}

/// A list that is being taken in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub rest: vec::IntoIter<ListedInstallation>,
    /// Whether installations that are not listed were deleted.
    pub removes: bool,
    pub change: InstallationChange,
    /// Whether the terms of all known operations were compared so far.
    pub are_terms_compared: bool,
}

impl Rounds {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn has_list(&self) -> bool {
        self.has_list
    }

    /// Other rules apply. The next round starts at once, also instead of the rest of a list.
    pub fn restart(&mut self) {
        self.started = None;
        self.has_list = false;
        if self.has_incoming() {
            self.list = List::Done;
        }
    }

    /// The API refused the key for another request. The next round starts at once, unless the list is large.
    pub fn doubt_key(&mut self) {
        if self.key_doubt == KeyDoubt::None {
            self.key_doubt = KeyDoubt::Raised;
            if !self.is_list_large {
                self.started = None;
            }
        }
    }

    /// Whether the next list decides whether the key is rejected.
    pub fn is_key_doubted(&self) -> bool {
        self.key_doubt == KeyDoubt::Raised
    }

    /// When the next round starts; `None` while a list is expected.
    pub fn next_start(&self) -> Option<SignedDuration> {
        if !matches!(self.list, List::Done) {
            return None;
        }
        let Some(started) = self.started else {
            return Some(SignedDuration::MIN);
        };
        let interval = if self.is_list_large {
            self.interval.max(LARGE_LIST_EVERY)
        } else {
            self.interval
        };
        Some(started.saturating_add(interval))
    }

    /// Starts a round: its list is requested now.
    pub fn start(&mut self, every: Duration, now: SignedDuration, random_fraction: f64) {
        self.number += 1;
        self.started = Some(now);
        self.interval = signed(every.mul_f64(1.0 - JITTER * random_fraction));
        self.list = List::Requested;
        if self.key_doubt == KeyDoubt::Answered {
            self.key_doubt = KeyDoubt::None;
        }
    }

    pub fn list_failed(&mut self) {
        self.list = List::Done;
    }

    /// The list was answered with so many bytes.
    pub fn list_answered(&mut self, bytes: usize) {
        self.is_list_large = bytes > LARGE_LIST;
        if self.key_doubt == KeyDoubt::Raised {
            self.key_doubt = KeyDoubt::Answered;
        }
    }

    /// Keeps the list until the names of its integrations are known.
    pub fn await_names(&mut self, list: InstallationList) {
        self.list = List::Unnamed {
            list,
            are_names_requested: false,
        };
    }

    /// Whether names are to be requested; they count as requested from now on.
    pub fn request_names(&mut self) -> bool {
        match &mut self.list {
            List::Unnamed {
                are_names_requested, ..
            } => !std::mem::replace(are_names_requested, true),
            _ => false,
        }
    }

    /// The list that waits for names.
    pub fn take_unnamed(&mut self) -> Option<InstallationList> {
        match std::mem::take(&mut self.list) {
            List::Unnamed { list, .. } => Some(list),
            other => {
                self.list = other;
                None
            }
        }
    }

    /// Starts to take in a list, when so many installations are known. Others are deleted, unless the list is much shorter
    /// and not confirmed.
    pub fn start_list(&mut self, list: InstallationList, known: usize) {
        let is_shrunk = list.installations.len() < known.div_ceil(2);
        self.shrunk_lists = if is_shrunk { self.shrunk_lists + 1 } else { 0 };
        let removes = !is_shrunk || self.shrunk_lists >= AGREEING_LISTS;
        if removes {
            self.shrunk_lists = 0;
        }
        self.list = List::Incoming(Incoming {
            rest: list.installations.into_iter(),
            removes,
            change: InstallationChange::default(),
            are_terms_compared: true,
        });
    }

    pub fn has_incoming(&self) -> bool {
        matches!(self.list, List::Incoming(_))
    }

    pub fn incoming(&mut self) -> Option<&mut Incoming> {
        match &mut self.list {
            List::Incoming(incoming) => Some(incoming),
            _ => None,
        }
    }

    /// The list was taken in.
    pub fn finish_list(&mut self) {
        self.list = List::Done;
        self.has_list = true;
    }
}
