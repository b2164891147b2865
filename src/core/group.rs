//! Groups: all watches of a project that share the value of one label. A group completes in rounds.
//!
//! A watch belongs to one round of its group. Round N is complete when all its watches are finished, none has joined for
//! the settling time, and nothing else is awaited. Who joins later belongs to the next round.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Identifies a group across restarts: the label that groups are formed by, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(u64);

impl GroupId {
    /// The group of watches whose label `key` has this value.
    #[must_use]
    pub fn new(key: &str, value: &str) -> Self {
        let hash = Sha256::digest(format!("{key}={value}").as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash[..8]);
        Self(u64::from_be_bytes(bytes))
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The group that was stored so.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
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
}

/// What is known of a watch that joins a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// It is not finished.
    Unfinished,
    /// It was finished when it was first seen; its operation was created after groups existed.
    Finished,
    /// It was finished before groups existed, or before its labels were changed.
    FinishedBefore,
}

/// The watches of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Round {
    watches: usize,
    unfinished: usize,
}

/// One group.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    record: GroupRecord,
    current: Round,
    next: Round,
    /// When a watch joined last.
    joined: Duration,
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
            joined: Duration::ZERO,
            is_recording: false,
        }
    }

    /// A watch joins at the steady time `now`; the round that it belongs to. `before` is its membership so far.
    pub fn join(&mut self, before: Option<Membership>, joining: Joining, now: Duration) -> Membership {
        let known = before
            .filter(|before| before.group == self.id)
            .map(|before| before.round);
        let open = self.current_round() + u32::from(self.is_recording);
        let round = match (known, joining) {
            (Some(round), _) if round >= self.current_round() => round,
            (_, Joining::Unfinished) => open,
            (None, Joining::Finished) => open,
            (_, Joining::Finished | Joining::FinishedBefore) => 0,
        };
        let is_unfinished = joining == Joining::Unfinished;
        if let Some(counts) = self.round_mut(round) {
            counts.watches += 1;
            counts.unfinished += usize::from(is_unfinished);
            self.joined = self.joined.max(now);
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

    /// A watch of this round starts again: it leaves the round and joins an open one by [`join`](Self::join).
    pub fn leave(&mut self, round: u32, is_finished: bool) {
        if let Some(counts) = self.round_mut(round) {
            counts.watches = counts.watches.saturating_sub(1);
            counts.unfinished = counts.unfinished.saturating_sub(usize::from(!is_finished));
        }
    }

    /// The steady time from which on the current round is complete, as far as its watches go.
    #[must_use]
    pub fn complete_from(&self, settle: Duration) -> Option<Duration> {
        let is_complete = self.current.watches > 0 && self.current.unfinished == 0 && !self.is_recording;
        is_complete.then(|| self.joined.saturating_add(settle))
    }

    /// The current round is being recorded as complete: what to store.
    pub fn start_recording(&mut self) -> GroupRecord {
        self.is_recording = true;
        GroupRecord {
            completed: self.record.completed + 1,
        }
    }

    /// The current round was recorded as complete, or could not be; then it is recorded later.
    pub fn recorded(&mut self, is_recorded: bool) {
        self.is_recording = false;
        if is_recorded {
            self.record.completed += 1;
            self.current = std::mem::take(&mut self.next);
        }
    }

    /// The number of the round that is not complete.
    #[must_use]
    pub fn current_round(&self) -> u32 {
        self.record.completed + 1
    }

    /// Whether no watch of an open round is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.watches == 0 && self.next.watches == 0 && !self.is_recording
    }

    /// How many watches of the current round there are, and how many of them are unfinished.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.current.watches, self.current.unfinished)
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

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn complete(group: &mut Group) {
        let _ = group.start_recording();
        group.recorded(true);
    }

    #[test]
    fn a_round_is_complete_when_all_are_finished_and_none_joined_for_a_while() {
        let mut group = group();
        assert_eq!(group.complete_from(SETTLE), None);
        let one = group.join(None, Joining::Unfinished, seconds(1));
        let other = group.join(None, Joining::Finished, seconds(5));
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
        assert_eq!(group.join(None, Joining::FinishedBefore, seconds(1)).round, 0);
        let other = Membership {
            group: GroupId::new("team", "crm"),
            round: 3,
        };
        assert_eq!(
            group.join(Some(other), Joining::FinishedBefore, seconds(1)).round,
            0
        );
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
        let mut after = Group::new(GroupId::new("group", "acme"), GroupRecord { completed: 1 });
        // Of the round that completed; of the open round.
        assert_eq!(
            after.join(Some(first), Joining::FinishedBefore, seconds(0)).round,
            0
        );
        assert_eq!(
            after.join(Some(second), Joining::FinishedBefore, seconds(0)),
            second
        );
        assert_eq!(after.complete_from(SETTLE), Some(SETTLE));
        // One that runs again belongs to the open round.
        assert_eq!(after.join(Some(first), Joining::Unfinished, seconds(0)).round, 2);
    }

    #[test]
    fn who_joins_while_a_round_is_recorded_belongs_to_the_next() {
        let mut group = group();
        group.join(None, Joining::Finished, seconds(0));
        assert_eq!(group.start_recording(), GroupRecord { completed: 1 });
        assert_eq!(group.join(None, Joining::Unfinished, seconds(1)).round, 2);
        group.recorded(false);
        // The round is still complete without it.
        assert!(group.complete_from(SETTLE).is_some());
        complete(&mut group);
        assert_eq!((group.current_round(), group.counts()), (2, (1, 1)));
    }

    #[test]
    fn the_last_unfinished_watch_may_leave() {
        let mut group = group();
        group.join(None, Joining::Finished, seconds(0));
        let member = group.join(None, Joining::Unfinished, seconds(0));
        group.leave(member.round, false);
        assert!(group.complete_from(SETTLE).is_some());
        group.leave(1, true);
        assert_eq!(group.complete_from(SETTLE), None);
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
                    0 | 1 => {
                        let joining = if action == 0 { Joining::Unfinished } else { Joining::Finished };
                        watches.push((group.join(None, joining, now), action == 1));
                    }
                    2 => if let Some((member, done)) = watches.iter_mut().find(|(_, done)| !done) {
                        *done = true;
                        group.finished(member.round);
                    },
                    3 => if group.complete_from(SETTLE).is_some() { let _ = group.start_recording(); },
                    _ if group.is_recording => {
                        let round = group.current_round();
                        if action == 4 {
                            completed.push(watches.iter().filter(|(member, _)| member.round == round).count());
                        }
                        group.recorded(action == 4);
                    }
                    _ => {
                        let mut fresh = Group::new(group.id, group.record);
                        for (member, done) in &mut watches {
                            let joining = if *done { Joining::FinishedBefore } else { Joining::Unfinished };
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
                prop_assert_eq!(group.counts(), (open.count(), unfinished));
            }
        }
    }
}
