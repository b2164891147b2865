//! The groups of one project with their watches: by name, and by the time from which they are complete.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::Duration;

use super::watches::{GroupNumber, WatchNumber};
use crate::core::compact_duration::CompactDuration;
use crate::core::event::GroupOutcome;
use crate::core::group::{Group, GroupId, GroupRecord, Joining, Membership};
use crate::core::group_state::{GroupCounts, GroupState};
use crate::core::phase::{Phase, PhaseCounts};
use crate::core::source::Terms;

/// The value of a label, without a copy of it: a million watches may each have their own group.
#[derive(Debug, Clone)]
pub(super) struct GroupName {
    terms: Arc<Terms>,
    label: u16,
}

impl GroupName {
    /// The value of the label `by`, if there is one.
    pub fn of(terms: &Arc<Terms>, by: &str) -> Option<Self> {
        let label = terms.labels.iter().position(|(key, _)| key == by)?;
        Some(Self {
            terms: Arc::clone(terms),
            label: u16::try_from(label).ok()?,
        })
    }

    pub fn as_str(&self) -> &str {
        let label = self.terms.labels.get(usize::from(self.label));
        label.map_or("", |(_, value)| value)
    }
}

impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for GroupName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for GroupName {}

impl PartialOrd for GroupName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for GroupName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// One group and its place in the index.
#[derive(Debug)]
pub(super) struct GroupEntry {
    pub name: GroupName,
    pub group: Group,
    pub phases: PhaseCounts,
    /// When its round may be complete.
    due: Option<CompactDuration>,
}

impl GroupEntry {
    pub fn state(&self) -> GroupState {
        GroupState::of(&self.group, &self.phases)
    }
}

/// The groups of one project.
#[derive(Debug)]
pub(super) struct Groups {
    /// The label whose value is the group.
    by: Arc<str>,
    settle: Duration,
    /// The groups that completed a round at any time.
    records: BTreeMap<GroupId, GroupRecord>,
    /// By number, from `first`.
    entries: Vec<Option<GroupEntry>>,
    /// The first number. Numbers from before a restart name no group.
    first: u32,
    free: Vec<GroupNumber>,
    by_name: BTreeMap<GroupName, GroupNumber>,
    members: BTreeSet<(GroupNumber, WatchNumber)>,
    due: BTreeSet<(CompactDuration, GroupNumber)>,
    counts: GroupCounts,
    /// After a restart: the first watch that has not joined its group.
    unassigned: Option<WatchNumber>,
}

impl Groups {
    pub fn new(by: Arc<str>, settle: Duration, records: BTreeMap<GroupId, GroupRecord>) -> Self {
        Self {
            by,
            settle,
            records,
            entries: Vec::new(),
            first: 0,
            free: Vec::new(),
            by_name: BTreeMap::new(),
            members: BTreeSet::new(),
            due: BTreeSet::new(),
            counts: GroupCounts::default(),
            unassigned: None,
        }
    }

    /// The label whose value is the group.
    pub fn by(&self) -> &Arc<str> {
        &self.by
    }

    /// Removes all groups, to group by the label `by` from now on. All watches have to join again.
    pub fn restart(&mut self, by: Arc<str>) {
        let records = std::mem::take(&mut self.records);
        let used = self.entries.len() as u32;
        *self = Self {
            first: self.first.wrapping_add(used),
            unassigned: Some(0),
            ..Self::new(by, self.settle, records)
        };
    }

    /// Takes the next watches that have to join again: at most `limit` of the `total`.
    pub fn take_unassigned(&mut self, limit: WatchNumber, total: WatchNumber) -> Range<WatchNumber> {
        let Some(from) = self.unassigned else {
            return 0..0;
        };
        let to = from.saturating_add(limit).min(total);
        self.unassigned = (to < total).then_some(to);
        from..to
    }

    /// Whether watches have to join again.
    pub fn has_unassigned(&self) -> bool {
        self.unassigned.is_some()
    }

    /// Sets how long no watch may have joined before a group is complete.
    pub fn set_settle(&mut self, settle: Duration) {
        self.settle = settle;
        let waiting: Vec<GroupNumber> = self.due.iter().map(|(_, number)| *number).collect();
        for number in waiting {
            self.update(number, |_| ());
        }
    }

    /// A watch joins the group of this name.
    pub fn join(
        &mut self,
        name: GroupName,
        watch: WatchNumber,
        phase: Phase,
        before: Option<Membership>,
        now: Duration,
    ) -> Option<(GroupNumber, Membership)> {
        let number = self
            .by_name
            .get(name.as_str())
            .copied()
            .unwrap_or_else(|| self.insert(name));
        self.members.insert((number, watch));
        let joining = if phase.is_finished() {
            Joining::Finished
        } else {
            Joining::Unfinished
        };
        let membership = self.update(number, |entry| {
            entry.phases.add(phase);
            entry.group.join(before, joining, now)
        });
        Some((number, membership?))
    }

    fn insert(&mut self, name: GroupName) -> GroupNumber {
        let id = GroupId::new(&self.by, name.as_str());
        let record = self.records.get(&id).copied().unwrap_or_default();
        let entry = GroupEntry {
            name: name.clone(),
            group: Group::new(id, record),
            phases: PhaseCounts::default(),
            due: None,
        };
        self.counts.add(entry.state());
        let number = match self.free.pop() {
            Some(number) => {
                let index = self.index(number);
                self.entries[index] = Some(entry);
                number
            }
            None => {
                self.entries.push(Some(entry));
                // There are at most as many groups as watches.
                GroupNumber(self.first.wrapping_add((self.entries.len() - 1) as u32))
            }
        };
        self.by_name.insert(name, number);
        number
    }

    /// Whether this is the membership of an open round of a group.
    pub fn is_open(&self, number: GroupNumber, membership: Membership) -> bool {
        self.get(number).is_some_and(|entry| {
            round_in(&entry.group, Some(membership)).is_some_and(|round| round >= entry.group.current_round())
        })
    }

    /// A watch with this membership leaves its group.
    pub fn leave(
        &mut self,
        number: GroupNumber,
        watch: WatchNumber,
        phase: Phase,
        membership: Option<Membership>,
    ) {
        self.members.remove(&(number, watch));
        self.update(number, |entry| {
            entry.phases.remove(phase);
            if let Some(round) = round_in(&entry.group, membership) {
                entry.group.leave(round, phase.is_finished());
            }
        });
        self.remove_if_empty(number);
    }

    /// The phase of a watch with this membership changes.
    pub fn change_phase(
        &mut self,
        number: GroupNumber,
        (before, after): (Phase, Phase),
        membership: Option<Membership>,
    ) {
        self.update(number, |entry| {
            entry.phases.remove(before);
            entry.phases.add(after);
            if !before.is_finished()
                && after.is_finished()
                && let Some(round) = round_in(&entry.group, membership)
            {
                entry.group.finished(round);
            }
        });
    }

    /// Takes the next group that may be complete.
    pub fn pop_due(&mut self, now: Duration) -> Option<GroupNumber> {
        let (due, number) = *self.due.first()?;
        if due.get() > now {
            return None;
        }
        self.set_due(number, None);
        Some(number)
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| due.get())
    }

    /// Examines a group again at this time.
    pub fn postpone(&mut self, number: GroupNumber, until: Duration) {
        self.set_due(number, Some(until.into()));
    }

    /// The first round with watches is being recorded as complete: what to store.
    pub fn start_recording(&mut self, number: GroupNumber, outcome: GroupOutcome) -> Option<GroupRecord> {
        self.update(number, |entry| entry.group.start_recording(outcome))
    }

    /// The record of a completed round was stored.
    pub fn recorded(&mut self, number: GroupNumber, id: GroupId, record: GroupRecord) {
        self.records.insert(id, record);
        self.end_recording(number, id, Some(record));
    }

    /// A completed round could not be recorded. It is recorded later.
    pub fn not_recorded(&mut self, number: GroupNumber, id: GroupId, retry: Duration) {
        self.end_recording(number, id, None);
        if self.get(number).is_some_and(|entry| entry.due.is_some()) {
            self.postpone(number, retry);
        }
    }

    fn end_recording(&mut self, number: GroupNumber, id: GroupId, record: Option<GroupRecord>) {
        // The label of groups may have changed in the meantime.
        if self
            .get(number)
            .is_some_and(|entry| entry.group.id() == id && entry.group.is_recording())
        {
            self.update(number, |entry| entry.group.recorded(record));
            self.remove_if_empty(number);
        }
    }

    /// Makes the first round with watches the current one. Returns its number.
    pub fn first_round(&mut self, number: GroupNumber) -> Option<u32> {
        self.update(number, |entry| {
            entry.group.skip_empty_round();
            entry.group.current_round()
        })
    }

    /// The watches of the current round leave it without an end.
    pub fn dissolve_round(&mut self, number: GroupNumber) {
        self.update(number, |entry| entry.group.dissolve());
    }

    pub fn get(&self, number: GroupNumber) -> Option<&GroupEntry> {
        self.entries.get(self.index(number))?.as_ref()
    }

    fn get_mut(&mut self, number: GroupNumber) -> Option<&mut GroupEntry> {
        let index = self.index(number);
        self.entries.get_mut(index)?.as_mut()
    }

    fn index(&self, number: GroupNumber) -> usize {
        number.0.wrapping_sub(self.first) as usize
    }

    /// The watches of a group.
    pub fn members(&self, number: GroupNumber) -> impl Iterator<Item = WatchNumber> {
        let members = self.members.range((number, 0)..=(number, WatchNumber::MAX));
        members.map(|(_, watch)| *watch)
    }

    /// The groups with a higher name than `after`, in order.
    pub fn after(&self, after: Option<&str>) -> impl Iterator<Item = (GroupNumber, &GroupEntry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.by_name.range::<str, _>((from, Bound::Unbounded));
        range.filter_map(|(_, number)| Some((*number, self.get(*number)?)))
    }

    pub fn counts(&self) -> GroupCounts {
        self.counts
    }

    /// Changes a group, and what is derived from it.
    fn update<T>(&mut self, number: GroupNumber, change: impl FnOnce(&mut GroupEntry) -> T) -> Option<T> {
        let settle = self.settle;
        let entry = self.get_mut(number)?;
        let before = entry.state();
        let changed = change(entry);
        let (due, after) = (entry.group.complete_from(settle), entry.state());
        self.counts.remove(before);
        self.counts.add(after);
        self.set_due(number, due.map(CompactDuration::from));
        Some(changed)
    }

    fn set_due(&mut self, number: GroupNumber, due: Option<CompactDuration>) {
        let Some(entry) = self.get_mut(number) else { return };
        if let Some(before) = std::mem::replace(&mut entry.due, due) {
            self.due.remove(&(before, number));
        }
        if let Some(due) = due {
            self.due.insert((due, number));
        }
    }

    fn remove_if_empty(&mut self, number: GroupNumber) {
        let Some(entry) = self.get(number) else { return };
        if !entry.phases.is_empty() || entry.group.is_recording() {
            return;
        }
        self.set_due(number, None);
        let index = self.index(number);
        if let Some(entry) = self.entries.get_mut(index).and_then(Option::take) {
            self.counts.remove(entry.state());
            self.by_name.remove(&entry.name);
            self.free.push(number);
        }
    }
}

/// The round of a watch with this membership, if it is a round of this group.
fn round_in(group: &Group, membership: Option<Membership>) -> Option<u32> {
    let membership = membership.filter(|membership| membership.group == group.id());
    membership.map(|membership| membership.round)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(value: &str) -> GroupName {
        let labels = vec![
            ("team".to_owned(), "crm".to_owned()),
            ("group".to_owned(), value.to_owned()),
        ];
        let terms = Arc::new(Terms {
            labels,
            deadline: None,
        });
        assert!(GroupName::of(&terms, "customer").is_none());
        GroupName::of(&terms, "group").unwrap()
    }

    fn groups() -> Groups {
        Groups::new(Arc::from("group"), Duration::from_secs(30), BTreeMap::new())
    }

    #[test]
    fn a_group_is_small() {
        assert!(
            size_of::<Option<GroupEntry>>() <= 112,
            "{}",
            size_of::<Option<GroupEntry>>()
        );
    }

    #[test]
    fn numbers_from_before_a_restart_name_no_group() {
        let mut groups = groups();
        let join = |groups: &mut Groups, value: &str| {
            let joined = groups.join(name(value), 7, Phase::Running, None, Duration::ZERO);
            joined.unwrap().0
        };
        let before = join(&mut groups, "acme");
        groups.restart(Arc::from("group"));
        let after = join(&mut groups, "gale");
        assert!(groups.get(before).is_none());
        groups.leave(before, 7, Phase::Running, None);
        assert_eq!(groups.members(after).collect::<Vec<_>>(), [7]);
        assert_eq!(groups.take_unassigned(5, 8), 0..5);
        assert_eq!(groups.take_unassigned(5, 8), 5..8);
        assert!(!groups.has_unassigned());
    }

    proptest! {
        /// Whatever watches do: groups, members, counts and times agree.
        #[test]
        fn indexes_agree(actions in prop::collection::vec((0_u8..4, 0_usize..6, 0_usize..3), 1..150)) {
            let mut groups = groups();
            let mut watches: Vec<Option<(GroupNumber, Phase, Membership)>> = vec![None; 6];
            for (index, (action, watch, group)) in actions.into_iter().enumerate() {
                let (number, now) = (watch as WatchNumber, Duration::from_secs(index as u64));
                match (action, watches[watch]) {
                    (0, None) => {
                        let joined = groups.join(name(["a", "b", "c"][group]), number, Phase::Pending, None, now);
                        let (of, membership) = joined.unwrap();
                        watches[watch] = Some((of, Phase::Pending, membership));
                    }
                    (1, Some((of, Phase::Pending, membership))) => {
                        groups.change_phase(of, (Phase::Pending, Phase::Failed), Some(membership));
                        watches[watch] = Some((of, Phase::Failed, membership));
                    }
                    (2, Some((of, phase, membership))) => {
                        groups.leave(of, number, phase, Some(membership));
                        watches[watch] = None;
                    }
                    _ => if let Some(of) = groups.pop_due(now) {
                        let (id, _) = (groups.get(of).unwrap().group.id(), groups.first_round(of));
                        let record = groups.start_recording(of, GroupOutcome::Failed).unwrap();
                        if group == 0 {
                            groups.not_recorded(of, id, now);
                        } else {
                            groups.recorded(of, id, record);
                        }
                    },
                }
                let found: Vec<_> = groups.after(None).map(|(number, entry)| (number, entry.state())).collect();
                for (number, _) in &found {
                    let members: Vec<_> = groups.members(*number).collect();
                    let expected: Vec<_> = (0..6).filter(|watch| {
                        watches[*watch as usize].is_some_and(|(of, ..)| of == *number)
                    }).collect();
                    prop_assert_eq!(&members, &expected);
                    prop_assert_eq!(groups.get(*number).unwrap().phases.total(), members.len());
                    prop_assert!(!members.is_empty());
                }
                for (state, count) in groups.counts().iter() {
                    prop_assert_eq!(found.iter().filter(|(_, of)| *of == state).count(), count);
                }
                let due = found.iter().filter(|(number, _)| groups.get(*number).unwrap().due.is_some());
                prop_assert_eq!(due.count(), groups.due.len());
            }
        }
    }
}
