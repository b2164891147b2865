//! How far the watches of a group are.

use std::fmt;
use std::num::NonZeroU64;

use jiff::Timestamp;

use super::event::GroupOutcome;
use super::group::Group;
use super::phase::{Phase, PhaseCounts};
use super::progress::unfinished_percent;
use super::watch::Watch;

/// Whether a group is complete, and how its last round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// Its current round is not complete.
    Running,
    /// Complete: all operations of the last round succeeded.
    Succeeded,
    /// Complete: some operations of the last round did not succeed.
    Failed,
}

impl GroupState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Running, Self::Succeeded, Self::Failed];

    /// The state of a group with these watches.
    #[must_use]
    pub fn of(group: &Group, phases: &PhaseCounts) -> Self {
        let record = group.record();
        if !group.is_empty() {
            Self::Running
        } else if record.completed > 0 {
            record.last.into()
        } else if phases.finished() == phases.of(Phase::Succeeded) {
            // All of them were finished before groups existed.
            Self::Succeeded
        } else {
            Self::Failed
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl From<GroupOutcome> for GroupState {
    fn from(outcome: GroupOutcome) -> Self {
        match outcome {
            GroupOutcome::Succeeded => Self::Succeeded,
            GroupOutcome::Failed => Self::Failed,
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many groups are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupCounts([usize; GroupState::ALL.len()]);

impl GroupCounts {
    /// Counts one more group in `state`.
    pub fn add(&mut self, state: GroupState) {
        self.0[state as usize] += 1;
    }

    /// Counts one group less in `state`.
    pub fn remove(&mut self, state: GroupState) {
        let count = &mut self.0[state as usize];
        *count = count.saturating_sub(1);
    }

    /// The number of groups in `state`.
    #[must_use]
    pub fn of(&self, state: GroupState) -> usize {
        self.0[state as usize]
    }

    /// Each state with its count, in the order of [`GroupState::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (GroupState, usize)> {
        GroupState::ALL.into_iter().zip(self.0)
    }
}

impl std::iter::Sum for GroupCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            for (sum, count) in sum.0.iter_mut().zip(counts.0) {
                *sum += count;
            }
            sum
        })
    }
}

/// The watches of one round together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GroupProgress {
    /// The number of watches.
    pub watches: usize,
    /// Start of the first operation.
    pub start: Option<Timestamp>,
    /// Records processed so far.
    pub records: u64,
    /// Processed of estimated total, with one decimal. `None` if an unfinished operation has no estimate.
    pub percent: Option<f64>,
    /// The latest estimated end. `None` if an unfinished operation has none, or all are finished.
    pub estimated_end: Option<Timestamp>,
}

impl GroupProgress {
    /// The progress of these watches.
    #[must_use]
    pub fn of<'a>(watches: impl Iterator<Item = &'a Watch>) -> Self {
        let mut all = Self::default();
        let mut are_succeeded = true;
        let (mut total, mut end) = (Some(0_u64), Some(None::<Timestamp>));
        for watch in watches {
            all.watches += 1;
            all.start = all.start.into_iter().chain(watch.start()).min();
            let progress = watch.last_poll().and_then(|last_poll| watch.progress(last_poll));
            let records = progress.as_ref().map_or(0, |progress| progress.records_processed);
            all.records = all.records.saturating_add(records);
            let estimate = progress
                .as_ref()
                .and_then(|progress| progress.records_estimated_total);
            are_succeeded &= watch.phase() == Phase::Succeeded;
            let own_total = expected_total(watch.phase(), records, estimate);
            total = total.zip(own_total).map(|(total, own)| total.saturating_add(own));
            if watch.phase().is_finished() {
                continue;
            }
            let own_end = progress.and_then(|progress| progress.estimated_end_time);
            end = end
                .zip(own_end)
                .map(|(end, own)| end.into_iter().chain([own]).max());
        }
        all.percent = total.and_then(NonZeroU64::new).map(|total| match are_succeeded {
            true => 100.0,
            false => unfinished_percent(all.records, total),
        });
        all.estimated_end = end.flatten();
        all
    }
}

/// The records that a watch of a group had to process, as far as they are known. `None` if an unfinished one has no estimate.
fn expected_total(phase: Phase, records: u64, estimate: Option<u64>) -> Option<u64> {
    let estimated = estimate.map(|estimate| estimate.max(records));
    match phase {
        Phase::Succeeded => Some(records),
        _ if phase.is_finished() => Some(estimated.unwrap_or(records)),
        _ => estimated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_without_success_keeps_its_estimate() {
        assert_eq!(expected_total(Phase::Failed, 10, Some(100)), Some(100));
        assert_eq!(expected_total(Phase::Gone, 10, None), Some(10));
        assert_eq!(expected_total(Phase::Succeeded, 90, Some(100)), Some(90));
        assert_eq!(expected_total(Phase::Running, 10, Some(100)), Some(100));
        assert_eq!(expected_total(Phase::Running, 110, Some(100)), Some(110));
        assert_eq!(expected_total(Phase::Running, 10, None), None);
    }
}
