//! Whether discovery works.

/// So many rounds in a row must fail before that is reported.
const FAILED_ROUNDS: u32 = 3;

/// The failures in a row.
#[derive(Debug, Default)]
pub(super) struct Failures {
    lists: u32,
    /// Rounds in which every request for a backfill failed.
    rounds: u32,
    /// Whether every request for a backfill of this round failed; `None` before the first answer.
    has_failed: Option<bool>,
}

impl Failures {
    pub fn start_round(&mut self) {
        if self.has_failed.take() == Some(true) {
            self.rounds = self.rounds.saturating_add(1);
        }
    }

    pub fn list_failed(&mut self) {
        self.lists = self.lists.saturating_add(1);
    }

    pub fn list_answered(&mut self) {
        self.lists = 0;
    }

    pub fn backfill_failed(&mut self) {
        self.has_failed.get_or_insert(true);
    }

    pub fn backfill_answered(&mut self) {
        self.rounds = 0;
        self.has_failed = Some(false);
    }

    /// Whether there are enough of them to be reported.
    pub fn are_reported(&self) -> bool {
        self.lists >= FAILED_ROUNDS || self.rounds >= FAILED_ROUNDS
    }

    /// Whether the last list, or all backfills of the last round, could be read.
    pub fn are_none(&self) -> bool {
        self.lists == 0 && self.rounds == 0
    }
}
