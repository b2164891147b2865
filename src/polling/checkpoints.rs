//! Records what changed without an event: each changed watch once a minute, spread over that minute, and all at the stop.

use std::sync::Arc;
use std::time::Duration;

use super::answers::Done;
use super::project_task::ProjectTask;
use super::watches::Number;
use crate::ampersand::Fetch;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::error::chain;
use crate::store::CommitError;

/// How often each changed watch is recorded.
const ROUND: Duration = Duration::from_mins(1);
/// This many are examined at a time, so that no poll is late by it.
const PART: Number = 500;
/// This many are recorded at a time at the stop, so that events come in between.
const BATCH: usize = 1_000;

/// Where the round is.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    next: Number,
    /// When the next part is due; `None` before the first.
    due: Option<Duration>,
}

impl<F: Fetch> ProjectTask<F> {
    /// Records the next part if it is due. Returns when the one after it is.
    pub(super) fn checkpoint(&mut self, now: Duration) -> Duration {
        let parts = self.watches.numbers().div_ceil(PART).max(1);
        let pause = ROUND / parts;
        let due = *self.checkpoints.due.get_or_insert(now + pause);
        if due > now {
            return due;
        }
        let first = self.checkpoints.next;
        let last = first.saturating_add(PART).min(self.watches.numbers());
        self.checkpoints.next = if last >= self.watches.numbers() { 0 } else { last };
        let (numbers, states) = self.take_unrecorded(first..last);
        if !states.is_empty() {
            let store = self.shared.recorder.store().clone();
            let recording = async move {
                let result = store.checkpoint(states).await;
                Done::Checkpointed { numbers, result }
            };
            self.jobs.spawn_on(recording, &self.shared.background);
        }
        let next = now + pause;
        self.checkpoints.due = Some(next);
        next
    }

    /// A part was recorded, or could not be.
    pub(super) fn checkpointed(&mut self, numbers: &[Number], result: Result<(), CommitError>) {
        let Err(error) = result else { return };
        tracing::debug!(
            project = &*self.name,
            error = chain(&error),
            "a checkpoint could not be written"
        );
        for number in numbers {
            // A watch that took the number meanwhile is recorded once more than needed.
            if let Some(slot) = self.watches.get_mut(*number) {
                slot.watched.is_unrecorded = true;
            }
        }
    }

    /// Copies of the watches that changed since they were recorded.
    fn take_unrecorded(&mut self, range: std::ops::Range<Number>) -> (Vec<Number>, Vec<(WatchKey, Watch)>) {
        let mut numbers = Vec::new();
        let mut states = Vec::new();
        for number in range {
            let Some(slot) = self.watches.get_mut(number) else {
                continue;
            };
            if !slot.poller.is_leaving() && std::mem::take(&mut slot.watched.is_unrecorded) {
                let key = WatchKey::of(&self.name, &slot.watched.id);
                states.push((key, slot.watched.watch.clone()));
                numbers.push(number);
            }
        }
        (numbers, states)
    }

    /// Ends what is in flight, waits for what is being recorded, and records the rest.
    pub(super) async fn stop(mut self) {
        drop(std::mem::take(&mut self.requests));
        self.depart();
        while let Some(joined) = self.jobs.join_next().await {
            if let Ok(Done::Watch {
                number,
                decided,
                result: Ok(()),
            }) = joined
            {
                self.watches.replace_watch(number, decided.watch, false);
            }
        }
        let (_, states) = self.take_unrecorded(0..self.watches.numbers());
        let store = self.shared.recorder.store().clone();
        let name = Arc::clone(&self.name);
        self.jobs.spawn_on(
            async move {
                let mut result = Ok(());
                let mut states = states.into_iter().peekable();
                while states.peek().is_some() {
                    let batch = states.by_ref().take(BATCH).collect();
                    result = result.and(store.checkpoint(batch).await);
                }
                Done::Checkpointed {
                    numbers: Vec::new(),
                    result,
                }
            },
            &self.shared.background,
        );
        if let Some(Ok(Done::Checkpointed {
            result: Err(error), ..
        })) = self.jobs.join_next().await
        {
            tracing::warn!(
                project = &*name,
                error = chain(&error),
                "the last checkpoint could not be written; what changed since the one before is observed again"
            );
        }
    }
}
