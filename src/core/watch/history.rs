//! What a finished watch leaves to others: its kind, its sample, its polls.

use std::sync::Arc;

use super::Watch;
use crate::core::history::HistorySample;
use crate::core::operation_kind::{OperationKind, OperationKinds};
use crate::core::phase::Phase;

impl Watch {
    /// Shares its kind with other watches, unless it is already shared since `before`.
    pub fn share(&mut self, before: Option<&Self>, kinds: &mut OperationKinds) {
        let shared = before.and_then(|before| before.details.as_ref());
        if let Some(details) = &mut self.details
            && !shared.is_some_and(|shared| Arc::ptr_eq(shared, details))
        {
            kinds.share(&mut Arc::make_mut(details).kind);
        }
    }

    /// Adds a finished watch to the history of its kind.
    pub fn add_to_history(&self, kinds: &mut OperationKinds) {
        // Saved polls of a watch that was read from the state may have been used before the restart.
        if self.last_poll_succeeded && self.phase.is_finished() {
            kinds.add_saved_polls(self.schedule.unused());
        }
        if let Some((kind, sample)) = self.history_sample() {
            kinds.add_sample(kind, sample);
        }
    }

    /// The history sample of a succeeded watch.
    #[must_use]
    pub fn history_sample(&self) -> Option<(&Arc<OperationKind>, HistorySample)> {
        match (self.phase, &self.details, self.lasted) {
            (Phase::Succeeded, Some(details), Some(lasted)) => {
                let sample = HistorySample {
                    duration: lasted.get(),
                    records: self.progress.records(),
                };
                Some((&details.kind, sample))
            }
            _ => None,
        }
    }
}
