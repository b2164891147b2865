//! Applies observations to watches, and records the result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::messages::{JobResult, Observation, ProjectChange};
use super::project_task::ProjectTask;
use super::requests::{Requester, panic_message};
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::compact_duration::CompactDuration;
use crate::core::poller::{Interrupted, PendingDecision, Poller};
use crate::core::watch::{NextStep, WatchContext};
use crate::error::chain;
use crate::store::{CommitError, StateChange, Subject};

impl<F: Fetch> ProjectTask<F> {
    /// Decides what it means for a waiting watch that time has passed.
    pub(super) fn interrupt(&mut self, number: WatchNumber) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let interrupted = slot.poller.interrupt();
        if let Some(Interrupted::Queued { ticket, .. }) = interrupted {
            self.gate.leave(ticket);
        }
        self.decide(number, Observation::Time, interrupted);
    }

    /// Decides what an observation means for its watch. A panic restarts this poller only.
    pub(super) fn decide(
        &mut self,
        number: WatchNumber,
        observation: Observation,
        interrupted: Option<Interrupted>,
    ) {
        let now = self.now();
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let watched = &*slot.watched;
        let key = self.key(&watched.id);
        let poll = &self.settings.poll;
        let blocked = match &observation {
            Observation::Answer(_, poll) => self
                .gate
                .blocked_time(now)
                .saturating_sub(poll.blocked_before.get()),
            Observation::Time => Duration::ZERO,
        };
        let cx = WatchContext {
            key: &key,
            labels: &watched.demand.terms().labels,
            deadline: watched.deadline(),
            settings: &poll.watch,
            schedule: &poll.schedule,
            kinds: &self.kinds,
            now: self.moment().wall,
            elapsed: now.saturating_sub(slot.observed.get()),
            blocked,
            random_fraction: self.services.random.fraction(),
            all_others_refused: self.watches.are_others_refused(number),
            project_proven: self.health.time_since_proof(self.moment()),
            project_answered: self.health.time_since_answer(self.moment()),
        };
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let mut watch = watched.watch.clone();
            let decision = match &observation {
                Observation::Answer(answer, _) => watch.observe(answer, &cx),
                Observation::Time => watch.observe_time(&cx),
            };
            (watch, decision)
        }));
        let (mut watch, decision) = match decided {
            Ok(decided) => decided,
            Err(panic) => return self.panicked(number, &panic_message(&*panic)),
        };
        watch.share(Some(&watched.watch), &mut self.kinds);
        let decided = Box::new(PendingDecision {
            watch,
            decision,
            observed: now,
            interrupted,
        });
        if decided.decision.events.is_empty() {
            return self.advance(number, *decided, true);
        }
        match decided.first_addition() {
            Some(addition) => self.start_gathering(number, decided, addition, now),
            None => self.record_watch(number, decided),
        }
    }

    pub(super) fn record_watch(&mut self, number: WatchNumber, mut decided: Box<PendingDecision>) {
        let Some(key) = self.watches.get(number).map(|slot| self.key(&slot.watched.id)) else {
            return;
        };
        self.start_recording(number);
        let recorder = self.services.recorder.clone();
        let recording = async move {
            let watch = Box::new(std::mem::take(&mut decided.watch));
            let change = StateChange {
                subject: Subject::Watch(key, watch),
                events: std::mem::take(&mut decided.decision.events),
            };
            let result = recorder.record(&change).await;
            if let Subject::Watch(_, watch) = change.subject {
                decided.watch = *watch;
            }
            JobResult::Watch {
                number,
                decided,
                result,
            }
        };
        self.jobs.spawn_on(recording, &self.services.background);
    }

    pub(super) fn watch_recorded(
        &mut self,
        number: WatchNumber,
        decided: PendingDecision,
        result: Result<(), CommitError>,
    ) {
        if self.departs_after_commit(number) {
            if result.is_ok()
                && let Some(slot) = self.watches.get_mut(number)
            {
                // Keep the result: the watch may be put back before it has left.
                slot.watched.watch = decided.watch;
                slot.watched.is_unrecorded = false;
            }
            return;
        }
        match result {
            Ok(()) => self.advance(number, decided, false),
            Err(error) => {
                if decided.watch.last_poll_succeeded() {
                    self.clear_failures(number);
                }
                self.commit_failed(number, &error);
            }
        }
    }

    /// Applies a decision, and schedules the next poll.
    fn advance(&mut self, number: WatchNumber, decided: PendingDecision, is_unrecorded: bool) {
        let PendingDecision {
            watch,
            decision,
            observed,
            interrupted,
        } = decided;
        if let Some(slot) = self.watches.get_mut(number) {
            slot.failures = 0;
            if decision.next != NextStep::Unchanged {
                slot.observed = observed.into();
                slot.watched.first_answer_until = CompactDuration::ZERO;
            }
        }
        if decision.next == NextStep::Finished {
            watch.add_to_history(&mut self.kinds);
        }
        self.replace_watch(number, watch, is_unrecorded);
        self.note_change(number);
        match decision.next {
            NextStep::PollAfter(wait) => self.sleep(number, observed.saturating_add(wait)),
            NextStep::Finished => {
                if let Some(slot) = self.watches.get_mut(number) {
                    slot.poller = Poller::Finished;
                }
                self.watches.set_alarm(number, None);
                self.note_end(number);
                self.watches_changed();
                self.discovery_operation_finished(number);
            }
            NextStep::Unchanged => self.continue_interrupted(number, interrupted),
        }
        if self.watches.are_all_refused() {
            self.change_project(ProjectChange::AllRefused);
        }
        if decision.doubts_project {
            self.check_project_exists();
        }
    }

    /// Continues what an alarm interrupted.
    fn continue_interrupted(&mut self, number: WatchNumber, interrupted: Option<Interrupted>) {
        let now = self.now();
        match interrupted {
            Some(Interrupted::Asleep { due }) => self.sleep(number, due.get()),
            Some(Interrupted::Queued { ticket, poll }) => {
                self.gate.rejoin(ticket, Requester::Watch(number), now);
                self.wait_for_turn(number, ticket, poll);
            }
            Some(Interrupted::Doubting(doubt)) if self.health.is_in_doubt() => self.doubt(number, *doubt),
            Some(Interrupted::Doubting(doubt)) => self.end_doubt(number, *doubt, now),
            // Its request was aborted.
            None => self.sleep(number, now),
        }
    }

    /// Keeps that the operation was reachable although its observation was not recorded.
    pub(super) fn clear_failures(&mut self, number: WatchNumber) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.watched.watch.clear_failures();
            slot.watched.is_unrecorded = true;
        }
    }

    /// Handles a failed commit: the watch keeps its state, and the next poll observes the same again.
    pub(super) fn commit_failed(&mut self, number: WatchNumber, error: &CommitError) {
        if let Some(slot) = self.watches.get(number) {
            tracing::debug!(
                project = &*self.name,
                operation_id = &*slot.watched.id,
                error = chain(error),
                "observation not recorded; the next poll repeats it"
            );
        }
        let _ = self.restart_with_backoff(number);
    }

    /// Handles a panic in a request or a decision.
    pub(super) fn panicked(&mut self, number: WatchNumber, panic: &str) {
        let wait = self.restart_with_backoff(number);
        let panic = &*self.services.fetch.mask(&self.name, panic);
        let operation = self.watches.get(number).map(|slot| Arc::clone(&slot.watched.id));
        if let Some(operation) = &operation {
            tracing::error!(
                project = &*self.name,
                operation_id = &**operation,
                panic,
                restart_in_seconds = wait.as_secs_f64(),
                "poller panicked; it restarts; this is a bug, please report it"
            );
        }
        self.services.metrics.count_poller_restart();
        let now = self.moment().wall;
        self.channels.view.send_if_modified(|view| {
            view.attention.restarts.add(operation.as_ref(), panic, now);
            false
        });
        self.is_view_changed = true;
    }

    /// Schedules the next poll with backoff. Returns the wait.
    pub(super) fn restart_with_backoff(&mut self, number: WatchNumber) -> Duration {
        let now = self.now();
        let Some(slot) = self.watches.get_mut(number) else {
            return Duration::ZERO;
        };
        slot.failures = slot.failures.saturating_add(1);
        let wait = self.settings.poll.schedule.after_attempts(slot.failures);
        self.sleep(number, now.saturating_add(wait));
        wait
    }
}
