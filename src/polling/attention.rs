//! Notes what needs attention in the project, and for how long.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::project_task::ProjectTask;
use super::watches::{Slot, WatchNumber};
use crate::ampersand::Fetch;
use crate::core::attention::{Concern, ConcernedOperation, GateOverload, gate_saturated, paused_by_api};
use crate::core::phase::Phase;

/// The API must ask for pauses for longer than this before that needs attention.
const PAUSE_SHOWN_AFTER: Duration = Duration::from_mins(1);
/// How long an end without success needs attention.
const FAILURE_SHOWN: Duration = Duration::from_hours(24);

impl<F: Fetch> ProjectTask<F> {
    fn concerned<'a>(&'a self, slot: &'a Slot) -> ConcernedOperation<'a> {
        let watched = &*slot.watched;
        ConcernedOperation {
            project: &self.name,
            id: &watched.id,
            labels: &watched.demand.terms().labels,
            group_label: self.groups.by(),
            deadline: watched.deadline(),
            watch: &watched.watch,
        }
    }

    /// Notes what concerns a watch that is new or has changed. An end is noted once, by
    /// [`note_end`](Self::note_end).
    pub(super) fn note_concerns(&mut self, number: WatchNumber) {
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let now = self.moment().wall;
        let operation = self.concerned(slot);
        let since = Concern::ALL.map(|concern| concern.since(&operation, now));
        for (concern, since) in Concern::ALL.into_iter().zip(since) {
            let list = self.concerns.list(concern);
            match concern {
                Concern::Failed if since.is_some() => list.touch(number),
                Concern::Failed => self.concerns.remove_failure(number),
                Concern::Unreachable | Concern::Stalled | Concern::Overdue => list.set(number, since),
            }
        }
    }

    /// Notes that a watch has finished.
    pub(super) fn note_end(&mut self, number: WatchNumber) {
        let Some(slot) = self.watches.get(number).filter(|slot| !slot.poller.is_leaving()) else {
            return;
        };
        let now = self.moment().wall;
        let watch = &slot.watched.watch;
        if watch.phase() == Phase::Succeeded {
            self.drop_superseded(number..number + 1);
            return;
        }
        let Some(since) = Concern::Failed.since(&self.concerned(slot), now) else {
            return;
        };
        let is_recent = since.checked_add(FAILURE_SHOWN).is_ok_and(|until| now < until);
        if is_recent {
            let key = watch.backfill_hash().map(|hash| (hash, watch.start().into()));
            self.concerns.add_failure(number, since, key);
        }
    }

    /// Notes the ends of loaded watches, when all watches are loaded.
    pub(super) fn note_loaded_ends(&mut self) {
        let loaded = std::mem::take(&mut self.concerns.loaded_failures);
        if loaded.is_empty() {
            return;
        }
        for number in loaded {
            self.note_end(number);
        }
        self.drop_superseded(0..self.watches.numbers());
    }

    /// Drops the failures that successes among these watches make obsolete.
    pub(super) fn drop_superseded(&mut self, range: Range<WatchNumber>) {
        for number in range {
            if self.concerns.has_no_failures() {
                return;
            }
            let Some(slot) = self.watches.get(number).filter(|slot| !slot.poller.is_leaving()) else {
                continue;
            };
            let success = &slot.watched.watch;
            if success.phase() != Phase::Succeeded {
                continue;
            }
            let Some(hash) = success.backfill_hash() else {
                continue;
            };
            let earlier = self.concerns.earlier(hash, success.start().into());
            let is_obsolete = |number: &WatchNumber| {
                let slot = self.watches.get(*number);
                slot.is_some_and(|slot| success.supersedes(&slot.watched.watch))
            };
            for number in earlier.filter(is_obsolete).collect::<Vec<_>>() {
                self.concerns.remove_failure(number);
            }
        }
    }

    /// Drops old failures. Returns when the next one is old.
    pub(super) fn drop_old_failures(&mut self, now: Duration) -> Option<Duration> {
        let wall = self.moment().wall;
        while let Some(number) = self.concerns.list(Concern::Failed).pop_older(FAILURE_SHOWN, wall) {
            self.concerns.remove_failure(number);
        }
        let left = self
            .concerns
            .list(Concern::Failed)
            .next_older_in(FAILURE_SHOWN, wall)?;
        // A timer may fire slightly early by the wall clock.
        now.checked_add(left.max(Duration::from_millis(1)))
    }

    /// Publishes that nothing concerns any watch: none is loaded yet.
    pub(super) fn reset_concerns(&self) {
        self.channels.view.send_if_modified(|view| {
            view.attention.operations = Default::default();
            false
        });
    }

    /// Publishes whether polls are late or paused for long. Returns when that may change without a message.
    pub(super) fn publish_delays(&mut self, now: Duration) -> Option<Duration> {
        if self.gate.waiting() == 0 {
            self.saturation.note_empty_queue();
        }
        let gate = self.saturation.since(now).map(|since| {
            let overload = GateOverload {
                watches: self.watches.polled(),
                limits: self.gate.limits(),
                longest: self.settings.poll.schedule.longest(),
            };
            gate_saturated(&self.name, since, &overload)
        });
        // After its end, a pause lasts until the next answer, if there is one to wait for.
        let is_awaited = self.gate.waiting() > 0 || self.gate.in_flight() > 0;
        let pauses = self
            .health
            .pauses()
            .filter(|pauses| pauses.until > now || is_awaited);
        let shown_at = pauses
            .as_ref()
            .map(|pauses| pauses.since.steady.saturating_add(PAUSE_SHOWN_AFTER));
        let pause = pauses
            .as_ref()
            .filter(|_| shown_at.is_some_and(|at| at < now))
            .map(|pauses| {
                let until = self
                    .wall_start
                    .checked_add(pauses.until)
                    .unwrap_or(Timestamp::MAX);
                paused_by_api(&self.name, pauses.since.wall, until, &pauses.reason)
            });
        let mut is_changed = false;
        self.channels.view.send_if_modified(|view| {
            is_changed = view.attention.gate != gate || view.attention.pause != pause;
            (view.attention.gate, view.attention.pause) = (gate, pause);
            false
        });
        self.is_view_changed |= is_changed;
        let shown_at = shown_at.map(|at| at.saturating_add(Duration::from_millis(1)));
        let until = pauses.map(|pauses| pauses.until);
        let changes = [self.saturation.calm_at(), shown_at, until];
        changes.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Publishes what changed. Returns whether anything did.
    pub(super) fn publish_concerns(&mut self) -> bool {
        let mut lists = std::mem::take(&mut self.concerns.lists);
        let views = Concern::ALL.map(|concern| {
            lists[concern as usize].take_view(|number, since| {
                let slot = self.watches.get(number)?;
                Some(concern.entry(&self.concerned(slot), since))
            })
        });
        self.concerns.lists = lists;
        let is_changed = views.iter().any(Option::is_some);
        if is_changed {
            self.channels.view.send_if_modified(|view| {
                for (shown, new) in view.attention.operations.iter_mut().zip(views) {
                    if let Some(new) = new {
                        *shown = new;
                    }
                }
                false
            });
        }
        is_changed
    }
}
