//! Groups: all watches of a project that share the value of one label. A group completes in rounds.
//!
//! A watch belongs to one round of its group. Round N is complete when all its watches are finished, none has joined for
//! the settling time, and nothing else is awaited. Who joins later belongs to the next round.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::compact_duration::CompactDuration;
use super::event::GroupOutcome;

/// Identifies a group across restarts: the label that groups are formed by, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(
    /// Not zero, so that an optional [`Membership`] has 16 bytes. Each watch has one.
    NonZeroU64,
);

impl GroupId {
    /// The group of watches whose label `key` has this value.
    #[must_use]
    pub fn new(key: &str, value: &str) -> Self {
        let hash = Sha256::digest(format!("{key}={value}").as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash[..8]);
        Self::from_bits(u64::from_be_bytes(bytes))
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The group that was stored so.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

/// The round of its group that a watch belongs to; stored with the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The group.
    pub group: GroupId,
    /// The round, from 1; 0 for a watch that was finished before.
    pub round: u32,
}

/// What is stored of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The number of rounds that completed.
    pub completed: u32,
    /// How the last of them ended.
    #[serde(default)]
    pub last: GroupOutcome,
}

/// What is known of a watch that joins a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// It is not finished.
    Unfinished,
    /// It was finished before: it belongs to no round, or to the one that it finished in.
    Finished,
}

/// The watches of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Round {
    watches: u32,
    unfinished: u32,
}

/// One group.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    record: GroupRecord,
    current: Round,
    next: Round,
    /// When a watch joined last.
    joined: CompactDuration,
    is_recording: bool,
}

impl Group {
    /// A group without watches.
    #[must_use]
    pub fn new(id: GroupId, record: GroupRecord) -> Self {
        Self {
            id,
            record,
            current: Round::default(),
            next: Round::default(),
            joined: CompactDuration::ZERO,
            is_recording: false,
        }
    }

    /// Its ID.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// What is recorded of it.
    #[must_use]
    pub fn record(&self) -> GroupRecord {
        self.record
    }

    /// A watch joins at the steady time `now`; the round that it belongs to. `before` is its membership so far.
    pub fn join(&mut self, before: Option<Membership>, joining: Joining, now: Duration) -> Membership {
        let known = before
            .filter(|before| before.group == self.id)
            .map(|before| before.round);
        while !self.is_recording && known.is_some_and(|known| known > self.current_round() + 1) {
            // The record was lost: two rounds are open at most.
            self.record.completed += 1;
            self.current = std::mem::take(&mut self.next);
        }
        let open = self.current_round() + u32::from(self.is_recording);
        let round = match (known, joining) {
            (Some(round), _) if round >= open => round,
            (_, Joining::Unfinished) => open,
            (_, Joining::Finished) => 0,
        };
        let is_unfinished = joining == Joining::Unfinished;
        if let Some(counts) = self.round_mut(round) {
            counts.watches += 1;
            counts.unfinished += u32::from(is_unfinished);
            self.joined = self.joined.max(now.into());
        }
        Membership {
            group: self.id,
            round,
        }
    }

    /// A watch of this round has finished.
    pub fn finished(&mut self, round: u32) {
        if let Some(counts) = self.round_mut(round) {
            counts.unfinished = counts.unfinished.saturating_sub(1);
        }
    }

    /// A watch of this round is removed, or has another label.
    pub fn leave(&mut self, round: u32, is_finished: bool) {
        if let Some(counts) = self.round_mut(round) {
            counts.watches = counts.watches.saturating_sub(1);
            counts.unfinished = counts.unfinished.saturating_sub(u32::from(!is_finished));
        }
    }

    /// The steady time from which on the first round with watches is complete, as far as its watches go.
    #[must_use]
    pub fn complete_from(&self, settle: Duration) -> Option<Duration> {
        // All watches of the current round may have been removed.
        let first = if self.current.watches > 0 {
            self.current
        } else {
            self.next
        };
        let is_complete = first.watches > 0 && first.unfinished == 0 && !self.is_recording;
        is_complete.then(|| self.joined.get().saturating_add(settle))
    }

    /// The current round is being recorded as complete: what to store.
    pub fn start_recording(&mut self, outcome: GroupOutcome) -> GroupRecord {
        self.is_recording = true;
        GroupRecord {
            completed: self.current_round(),
            last: outcome,
        }
    }

    /// The current round was recorded as complete with this record. Without one it was not, and is recorded later.
    pub fn recorded(&mut self, record: Option<GroupRecord>) {
        self.is_recording = false;
        if let Some(record) = record {
            self.record = record;
            self.current = std::mem::take(&mut self.next);
        }
    }

    /// Makes the first round with watches the current one.
    pub fn skip_empty_round(&mut self) {
        if self.current.watches == 0 && self.next.watches > 0 && !self.is_recording {
            self.record.completed += 1;
            self.current = std::mem::take(&mut self.next);
        }
    }

    /// The watches of the current round leave it without an end.
    pub fn dissolve(&mut self) {
        self.current = Round::default();
    }

    /// The number of the round that is not complete.
    #[must_use]
    pub fn current_round(&self) -> u32 {
        self.record.completed + 1
    }

    /// Whether the current round is being recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Whether no watch of an open round is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.watches == 0 && self.next.watches == 0 && !self.is_recording
    }

    fn round_mut(&mut self, round: u32) -> Option<&mut Round> {
        let current = self.current_round();
        match round {
            round if round == current => Some(&mut self.current),
            round if round > current => Some(&mut self.next),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(30);

    fn group() -> Group {
        Group::new(GroupId::new("group", "acme"), GroupRecord::default())
    }

    fn record(completed: u32) -> GroupRecord {
        GroupRecord {
            completed,
            ..GroupRecord::default()
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn complete(group: &mut Group) {
        let record = group.start_recording(GroupOutcome::Succeeded);
        group.recorded(Some(record));
    }

    /// A watch joins that is finished at its first answer.
    fn join_finished(group: &mut Group, now: Duration) -> Membership {
        let member = group.join(None, Joining::Unfinished, now);
        group.finished(member.round);
        member
    }

    /// The watches of the current round, and how many of them are unfinished.
    fn counts(group: &Group) -> (usize, usize) {
        (group.current.watches as usize, group.current.unfinished as usize)
    }

    #[test]
    fn a_round_is_complete_when_all_are_finished_and_none_joined_for_a_while() {
        let mut group = group();
        assert_eq!(group.complete_from(SETTLE), None);
        let one = group.join(None, Joining::Unfinished, seconds(1));
        let other = join_finished(&mut group, seconds(5));
        assert_eq!((one.round, other.round), (1, 1));
        assert_eq!(group.complete_from(SETTLE), None);
        group.finished(1);
        assert_eq!(group.complete_from(SETTLE), Some(seconds(35)));
        complete(&mut group);
        assert_eq!(group.complete_from(SETTLE), None);
        assert_eq!(group.join(None, Joining::Unfinished, seconds(60)).round, 2);
    }

    #[test]
    fn finished_watches_from_before_start_no_round() {
        let mut group = group();
        assert_eq!(group.join(None, Joining::Finished, seconds(1)).round, 0);
        let other = Membership {
            group: GroupId::new("team", "crm"),
            round: 3,
        };
        assert_eq!(group.join(Some(other), Joining::Finished, seconds(1)).round, 0);
        assert_eq!(group.complete_from(SETTLE), None);
        assert!(group.is_empty());
    }

    #[test]
    fn a_watch_keeps_its_round_across_restarts() {
        let mut before = group();
        let first = before.join(None, Joining::Unfinished, seconds(1));
        before.finished(first.round);
        complete(&mut before);
        let second = before.join(None, Joining::Unfinished, seconds(2));
        let mut after = Group::new(GroupId::new("group", "acme"), record(1));
        // Of the round that completed; of the open round.
        assert_eq!(after.join(Some(first), Joining::Finished, seconds(0)).round, 0);
        assert_eq!(after.join(Some(second), Joining::Finished, seconds(0)), second);
        assert_eq!(after.complete_from(SETTLE), Some(SETTLE));
        // One that runs again belongs to the open round.
        assert_eq!(after.join(Some(first), Joining::Unfinished, seconds(0)).round, 2);
    }

    #[test]
    fn who_joins_while_a_round_is_recorded_belongs_to_the_next() {
        let mut group = group();
        join_finished(&mut group, seconds(0));
        assert_eq!(group.start_recording(GroupOutcome::Succeeded), record(1));
        assert_eq!(group.join(None, Joining::Unfinished, seconds(1)).round, 2);
        group.recorded(None);
        // The round is still complete without it.
        assert!(group.complete_from(SETTLE).is_some());
        complete(&mut group);
        assert_eq!((group.current_round(), counts(&group)), (2, (1, 1)));
    }

    #[test]
    fn the_last_unfinished_watch_may_leave() {
        let mut group = group();
        join_finished(&mut group, seconds(0));
        let member = group.join(None, Joining::Unfinished, seconds(0));
        group.leave(member.round, false);
        assert!(group.complete_from(SETTLE).is_some());
        group.leave(1, true);
        assert_eq!(group.complete_from(SETTLE), None);
    }

    #[test]
    fn a_round_without_watches_is_skipped() {
        let mut group = group();
        let first = join_finished(&mut group, seconds(0));
        let _ = group.start_recording(GroupOutcome::Failed);
        let second = group.join(None, Joining::Unfinished, seconds(1));
        group.recorded(None);
        group.leave(first.round, true);
        assert_eq!(group.complete_from(SETTLE), None);
        group.finished(second.round);
        assert_eq!(group.complete_from(SETTLE), Some(seconds(31)));
        group.skip_empty_round();
        assert_eq!((group.current_round(), counts(&group)), (2, (1, 0)));
        group.dissolve();
        assert!(group.is_empty());
    }

    #[test]
    fn a_watch_that_returns_while_its_round_is_recorded_is_not_lost() {
        let mut group = group();
        let member = join_finished(&mut group, seconds(0));
        let recording = group.start_recording(GroupOutcome::Succeeded);
        group.leave(member.round, true);
        assert_eq!(group.join(Some(member), Joining::Finished, seconds(1)).round, 0);
        let again = group.join(Some(member), Joining::Unfinished, seconds(1));
        assert_eq!(again.round, 2);
        group.recorded(Some(recording));
        assert_eq!((group.current_round(), counts(&group)), (2, (1, 1)));
    }

    #[test]
    fn a_lost_record_opens_the_last_two_rounds_at_most() {
        let mut group = group();
        for round in [1, 2, 4, 3] {
            let before = Membership {
                group: group.id,
                round,
            };
            let _ = group.join(Some(before), Joining::Finished, seconds(0));
        }
        assert_eq!((group.current_round(), counts(&group)), (3, (1, 0)));
        assert_eq!(group.next.watches, 1);
    }

    #[test]
    fn a_membership_is_small() {
        assert_eq!(size_of::<Option<Membership>>(), 16);
        assert!(size_of::<Group>() <= 48, "{} bytes", size_of::<Group>());
        let stored: GroupRecord = serde_json::from_str(r#"{"completed":2}"#).unwrap();
        assert_eq!(stored, record(2));
    }

    proptest! {
        #[test]
        fn each_watch_counts_in_one_completed_round(actions in prop::collection::vec(0_u8..6, 1..200)) {
            let mut group = group();
            let mut watches: Vec<(Membership, bool)> = Vec::new();
            let mut completed: Vec<usize> = Vec::new();
            for (index, action) in actions.into_iter().enumerate() {
                let now = seconds(index as u64);
                match action {
                    0 => watches.push((group.join(None, Joining::Unfinished, now), false)),
                    1 => watches.push((join_finished(&mut group, now), true)),
                    2 => if let Some((member, done)) = watches.iter_mut().find(|(_, done)| !done) {
                        *done = true;
                        group.finished(member.round);
                    },
                    3 => if group.complete_from(SETTLE).is_some() {
                        let _ = group.start_recording(GroupOutcome::Succeeded);
                    },
                    _ if group.is_recording => {
                        let round = group.current_round();
                        if action == 4 {
                            completed.push(watches.iter().filter(|(member, _)| member.round == round).count());
                        }
                        let recorded = (action == 4).then(|| record(round));
                        group.recorded(recorded);
                    }
                    _ => {
                        let mut fresh = Group::new(group.id, group.record);
                        for (member, done) in &mut watches {
                            let joining = if *done { Joining::Finished } else { Joining::Unfinished };
                            let again = fresh.join(Some(*member), joining, now);
                            prop_assert!(again == *member || (*done && again.round == 0));
                        }
                        group = fresh;
                    }
                }
                prop_assert_eq!(completed.len() as u32 + 1, group.current_round());
                prop_assert!(completed.iter().all(|watches| *watches > 0));
                let open = watches.iter().filter(|(member, _)| member.round == group.current_round());
                let unfinished = open.clone().filter(|(_, done)| !done).count();
                prop_assert_eq!(counts(&group), (open.count(), unfinished));
            }
        }
    }
}
