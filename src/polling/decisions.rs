//! What an observation means for one watch, and what follows when it is recorded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::answers::Done;
use super::project_changes::ProjectChange;
use super::project_task::ProjectTask;
use super::requests::panic_message;
use super::watches::Number;
use crate::ampersand::Fetch;
use crate::core::answer::Answer;
use crate::core::poller::{PendingDecision, PendingPoll, Poller};
use crate::core::watch::{Decision, NextStep, Watch, WatchContext};
use crate::error::chain;
use crate::store::{CommitError, StateChange, Subject};

/// What a watch observes.
pub(super) enum Observation {
    Answer(Box<Answer>, PendingPoll),
    /// The time to give up has come.
    Expiry,
}

impl<F: Fetch> ProjectTask<F> {
    /// The time to give up the watch has come.
    pub(super) fn give_up(&mut self, number: Number) {
        self.decide(number, Observation::Expiry);
    }

    /// What an observation means for the watch. A panic costs this watch a restart and no other anything.
    pub(super) fn decide(&mut self, number: Number, observation: Observation) {
        let now = self.now();
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let watched = &*slot.watched;
        let key = self.key(&watched.id);
        let poll = &self.settings.poll;
        let held = match &observation {
            Observation::Answer(_, poll) => self
                .gate
                .blocked_time(now)
                .saturating_sub(poll.blocked_before.get()),
            Observation::Expiry => Duration::ZERO,
        };
        let cx = WatchContext {
            key: &key,
            labels: &watched.labels,
            rules: &poll.watch,
            pace: &poll.schedule,
            kinds: &self.kinds,
            now: self.shared.recorder.now(),
            elapsed: now.saturating_sub(slot.observed.get()),
            held,
            chance: self.shared.random.fraction(),
            others_refused: self.watches.are_others_refused(number),
            project_proven: self.health.time_since_proof(self.moment()),
            project_answered: self.health.time_since_answer(self.moment()),
        };
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let mut watch = watched.watch.clone();
            let step = match &observation {
                Observation::Answer(answer, _) => watch.observe(answer, &cx),
                Observation::Expiry => watch.give_up(&cx),
            };
            (watch, step)
        }));
        let (mut watch, step) = match decided {
            Ok(decided) => decided,
            Err(panic) => return self.panicked(number, &panic_message(&*panic)),
        };
        watch.share(Some(&watched.watch), &mut self.kinds);
        if step.events.is_empty() {
            return self.advance(number, watch, &step, now, true);
        }
        let decided = Box::new(PendingDecision {
            watch,
            step,
            observed: now,
        });
        match decided.first_addition() {
            Some(addition) => self.gather(number, decided, addition, now),
            None => self.record_watch(number, decided),
        }
    }

    pub(super) fn record_watch(&mut self, number: Number, mut decided: Box<PendingDecision>) {
        let Some(key) = self.watches.get(number).map(|slot| self.key(&slot.watched.id)) else {
            return;
        };
        self.start_recording(number);
        let recorder = self.shared.recorder.clone();
        let recording = async move {
            let watch = Box::new(std::mem::take(&mut decided.watch));
            let change = StateChange {
                subject: Subject::Watch(key, watch),
                events: std::mem::take(&mut decided.step.events),
            };
            let result = recorder.record(&change).await;
            if let Subject::Watch(_, watch) = change.subject {
                decided.watch = *watch;
            }
            Done::Watch {
                number,
                decided,
                result,
            }
        };
        self.jobs.spawn_on(recording, &self.shared.background);
    }

    pub(super) fn watch_recorded(
        &mut self,
        number: Number,
        decided: PendingDecision,
        result: Result<(), CommitError>,
    ) {
        if self.departs_after_commit(number) {
            if result.is_ok()
                && let Some(slot) = self.watches.get_mut(number)
            {
                // It does not count any more, but may be put back.
                slot.watched.watch = decided.watch;
                slot.watched.is_unrecorded = false;
            }
            return;
        }
        match result {
            Ok(()) => {
                let PendingDecision {
                    watch,
                    step,
                    observed,
                } = decided;
                self.advance(number, watch, &step, observed, false);
            }
            Err(error) => {
                if decided.watch.last_poll_succeeded() {
                    self.clear_failures(number);
                }
                self.unrecorded(number, &error);
            }
        }
    }

    /// The watch moves on.
    pub(super) fn advance(
        &mut self,
        number: Number,
        watch: Watch,
        step: &Decision,
        observed: Duration,
        is_unrecorded: bool,
    ) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.observed = observed.into();
            slot.setbacks = 0;
        }
        if step.next == NextStep::Finished {
            watch.add_to_history(&mut self.kinds);
        }
        self.watches.replace_watch(number, watch, is_unrecorded);
        self.note_change(number);
        match step.next {
            NextStep::PollAfter(wait) => self.sleep(number, observed.saturating_add(wait)),
            NextStep::Finished => {
                if let Some(slot) = self.watches.get_mut(number) {
                    slot.poller = Poller::Finished;
                }
                self.watches.set_alarm(number, None);
                self.watches_changed();
            }
        }
        if self.watches.are_all_refused() {
            self.change_project(ProjectChange::AllRefused);
        }
        if step.doubts_project {
            self.ask_for_project();
        }
    }

    /// What was observed could not be recorded; that the operation was seen is true all the same.
    pub(super) fn clear_failures(&mut self, number: Number) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.watched.watch.clear_failures();
            slot.watched.is_unrecorded = true;
        }
    }

    /// An observation could not be recorded: the watch has not moved on, and the next poll finds the same again.
    pub(super) fn unrecorded(&mut self, number: Number, error: &CommitError) {
        if let Some(slot) = self.watches.get(number) {
            tracing::debug!(
                project = &*self.name,
                operation_id = &*slot.watched.id,
                error = chain(error),
                "an observation could not be recorded; the next poll finds it again"
            );
        }
        let _ = self.set_back(number);
    }

    /// A request or a decision of this watch panicked.
    pub(super) fn panicked(&mut self, number: Number, panic: &str) {
        let wait = self.set_back(number);
        if let Some(slot) = self.watches.get(number) {
            tracing::error!(
                project = &*self.name,
                operation_id = &*slot.watched.id,
                panic,
                restart_in_seconds = wait.as_secs_f64(),
                "a poller panicked: this is a bug, please report it; the watch continues"
            );
        }
        self.shared.metrics.count_poller_restart();
        self.inlets.view.send_if_modified(|view| {
            view.restarts += 1;
            false
        });
        self.is_view_changed = true;
    }

    /// The poller starts again with backoff.
    pub(super) fn set_back(&mut self, number: Number) -> Duration {
        let now = self.now();
        let Some(slot) = self.watches.get_mut(number) else {
            return Duration::ZERO;
        };
        slot.setbacks = slot.setbacks.saturating_add(1);
        let wait = self.settings.poll.schedule.after_attempts(slot.setbacks);
        self.sleep(number, now.saturating_add(wait));
        wait
    }
}
