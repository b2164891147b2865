//! Records changes that cause no event: each changed watch once a minute, spread over that minute, and all at a stop.

use std::sync::Arc;
use std::time::Duration;

use super::messages::JobResult;
use super::project_task::ProjectTask;
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::error::chain;
use crate::store::CommitError;

/// How often each changed watch is recorded.
const ROUND: Duration = Duration::from_mins(1);
/// The number of watches that are examined at once. More would delay polls.
const PART: WatchNumber = 500;
/// The number of watches in one write at a stop, so that events are written in between.
const BATCH: usize = 1_000;

impl<F: Fetch> ProjectTask<F> {
    /// Records the next part if it is due. Returns when the following part is due.
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
        self.expire_source_entries(first..last);
        self.drop_superseded(first..last);
        let (numbers, states) = self.take_unrecorded(first..last);
        if !states.is_empty() {
            let store = self.services.recorder.store().clone();
            let recording = async move {
                let result = store.checkpoint(states).await;
                JobResult::Checkpointed { numbers, result }
            };
            self.jobs.spawn_on(recording, &self.services.background);
        }
        let next = now + pause;
        self.checkpoints.due = Some(next);
        next
    }

    /// Marks the watches of a failed checkpoint as not recorded.
    pub(super) fn checkpointed(&mut self, numbers: &[WatchNumber], result: Result<(), CommitError>) {
        let Err(error) = result else { return };
        tracing::debug!(
            project = &*self.name,
            error = chain(&error),
            "checkpoint not written; retrying"
        );
        for number in numbers {
            // The number may belong to another watch by now. One more write does no harm.
            if let Some(slot) = self.watches.get_mut(*number) {
                slot.watched.is_unrecorded = true;
            }
        }
    }

    /// Copies the watches that changed since they were recorded.
    fn take_unrecorded(
        &mut self,
        range: std::ops::Range<WatchNumber>,
    ) -> (Vec<WatchNumber>, Vec<(WatchKey, Watch)>) {
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

    /// Aborts requests, waits for commits, and records the rest.
    pub(super) async fn stop(mut self) {
        drop(std::mem::take(&mut self.requests));
        self.depart();
        self.record_discovery_at_stop();
        while let Some(joined) = self.jobs.join_next().await {
            if let Ok(JobResult::Watch {
                number,
                decided,
                result: Ok(()),
            }) = joined
            {
                self.watches.replace_watch(number, decided.watch, false);
            }
        }
        let (_, states) = self.take_unrecorded(0..self.watches.numbers());
        let store = self.services.recorder.store().clone();
        let name = Arc::clone(&self.name);
        self.jobs.spawn_on(
            async move {
                let mut result = Ok(());
                let mut states = states.into_iter().peekable();
                while states.peek().is_some() {
                    let batch = states.by_ref().take(BATCH).collect();
                    result = result.and(store.checkpoint(batch).await);
                }
                JobResult::Checkpointed {
                    numbers: Vec::new(),
                    result,
                }
            },
            &self.services.background,
        );
        if let Some(Ok(JobResult::Checkpointed {
            result: Err(error), ..
        })) = self.jobs.join_next().await
        {
            tracing::warn!(
                project = &*name,
                error = chain(&error),
                "last checkpoint not written; changes since the previous one are observed again after the next start"
            );
        }
    }
}
