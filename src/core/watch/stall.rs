//! Whether the count of an operation rises.

use jiff::Timestamp;

use super::Watch;
use crate::core::phase::Phase;
use crate::core::watch_settings::WatchSettings;

/// The reason of a stall without a count.
pub const NO_COUNT: &str = "no count";

/// Why a watch is stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Start of the time without a rise; without a count, when the operation was first seen.
    pub since: Option<Timestamp>,
    /// `count unchanged` or `no count`.
    pub reason: &'static str,
}

impl Watch {
    /// Why the watch is stalled; `None` if it is not.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        let last_poll = self.last_poll.get()?;
        (self.phase == Phase::Stalled).then(|| {
            if self.progress.has_count() {
                Stall {
                    since: self.progress.changed(last_poll),
                    reason: "count unchanged",
                }
            } else {
                Stall {
                    since: self.first_seen.get(),
                    reason: NO_COUNT,
                }
            }
        })
    }

    /// Whether the count, or its absence, has lasted for the configured time.
    pub(super) fn is_count_unchanged(&self, settings: &WatchSettings) -> bool {
        let limit = if self.progress.has_count() {
            Some(settings.stalled_after)
        } else {
            settings.silent_after
        };
        limit.is_some_and(|limit| self.progress.unchanged() >= limit)
    }

    pub(super) fn stall_occurrence(&self) -> String {
        format!("{} {}", self.occurrence(), self.progress.stall_occurrence())
    }
}
