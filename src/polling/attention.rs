//! Notes what needs attention in the project, and for how long.

use std::ops::Range;
use std::time::Duration;

use super::project_task::ProjectTask;
use super::watches::{Slot, WatchNumber};
use crate::ampersand::Fetch;
use crate::core::attention::{Concern, ConcernedOperation};
use crate::core::phase::Phase;

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
        let now = self.services.recorder.now();
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
        let now = self.services.recorder.now();
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
        let wall = self.services.recorder.now();
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
