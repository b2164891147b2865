//! The operations of a project that share a concern, newest first. Operations without it cost nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Attention;
use crate::core::wall_time::WallTime;

/// The most operations of a project that are named for one concern.
pub const MAX_NAMED: usize = 100;

/// Operations by number, and the entries of the newest ones.
#[derive(Debug, Default)]
pub struct ConcernList {
    since: BTreeMap<u32, WallTime>,
    newest: BTreeSet<(Reverse<WallTime>, u32)>,
    /// The entries as of the last view, of at most [`MAX_NAMED`] operations.
    named: BTreeMap<u32, NamedEntry>,
    /// The number of operations in the last view.
    viewed: usize,
    is_changed: bool,
}

#[derive(Debug)]
struct NamedEntry {
    entry: Arc<Attention>,
    /// Whether its operation has changed since.
    is_stale: bool,
}

/// What readers see of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConcernView {
    /// The number of operations.
    pub total: usize,
    /// The entries of the newest ones: at most [`MAX_NAMED`].
    pub named: Arc<[Arc<Attention>]>,
}

impl ConcernList {
    /// Whether it has no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Whether it has this operation.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.since.contains_key(&number)
    }

    /// Notes since when the concern applies to an operation that is new or has changed; `None` if it does not.
    pub fn set(&mut self, number: u32, since: Option<Timestamp>) {
        let Some(since) = since.map(WallTime::from) else {
            self.remove(number);
            return;
        };
        let before = self.since.insert(number, since);
        if before == Some(since) {
            self.touch(number);
            return;
        }
        if let Some(before) = before {
            self.newest.remove(&(Reverse(before), number));
            self.touch(number);
        }
        self.newest.insert((Reverse(since), number));
        self.is_changed = true;
    }

    /// Notes that an operation has changed.
    pub fn touch(&mut self, number: u32) {
        if let Some(named) = self.named.get_mut(&number) {
            named.is_stale = true;
            self.is_changed = true;
        }
    }

    /// Removes an operation. Its number may then belong to another one.
    pub fn remove(&mut self, number: u32) {
        if self.since.is_empty() {
            return;
        }
        if let Some(since) = self.since.remove(&number) {
            self.newest.remove(&(Reverse(since), number));
            self.touch(number);
            self.is_changed = true;
        }
    }

    /// Takes an operation to which the concern has applied for at least this long.
    pub fn pop_older(&mut self, age: Duration, now: Timestamp) -> Option<u32> {
        let number = self.oldest().filter(|(since, _)| is_past(*since, age, now))?.1;
        self.remove(number);
        Some(number)
    }

    /// The time until [`pop_older`](Self::pop_older) takes the next one.
    #[must_use]
    pub fn next_older_in(&self, age: Duration, now: Timestamp) -> Option<Duration> {
        let at = self.oldest()?.0.checked_add(age).ok()?;
        Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
    }

    fn oldest(&self) -> Option<(Timestamp, u32)> {
        let (Reverse(since), number) = self.newest.last()?;
        Some((since.get()?, *number))
    }

    /// What readers see, if that changed since the last call. Only entries that are new or stale are written again.
    pub fn take_view(&mut self, write: impl Fn(u32, Timestamp) -> Option<Attention>) -> Option<ConcernView> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let total = self.since.len();
        let mut is_new = std::mem::replace(&mut self.viewed, total) != total;
        let mut before = std::mem::take(&mut self.named);
        let mut entries = Vec::with_capacity(total.min(MAX_NAMED));
        for (Reverse(since), number) in self.newest.iter().take(MAX_NAMED) {
            let known = before.remove(number);
            let entry = match known {
                Some(NamedEntry {
                    entry,
                    is_stale: false,
                }) => entry,
                known => {
                    let Some(entry) = since.get().and_then(|since| write(*number, since)) else {
                        continue;
                    };
                    let same = known.map(|known| known.entry).filter(|known| **known == entry);
                    is_new |= same.is_none();
                    same.unwrap_or_else(|| Arc::new(entry))
                }
            };
            entries.push(Arc::clone(&entry));
            let is_stale = false;
            self.named.insert(*number, NamedEntry { entry, is_stale });
        }
        (is_new || !before.is_empty()).then(|| ConcernView {
            total,
            named: entries.into(),
        })
    }
}

fn is_past(since: Timestamp, age: Duration, now: Timestamp) -> bool {
    since.checked_add(age).is_ok_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::AttentionKind;
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn entry(number: u32, since: Timestamp) -> Option<Attention> {
        let entry = Attention::new(AttentionKind::OperationFailed, format!("{number}"), "");
        Some(entry.since(Some(since)))
    }

    fn names(view: &ConcernView) -> Vec<&str> {
        view.named.iter().map(|entry| &*entry.message).collect()
    }

    #[test]
    fn the_newest_are_named_and_the_rest_counted() {
        let mut list = ConcernList::default();
        for number in 0..250 {
            list.set(number, Some(at(number.into())));
        }
        let view = list.take_view(entry).unwrap();
        assert_eq!((view.total, view.named.len()), (250, MAX_NAMED));
        assert_eq!(names(&view)[..2], ["249", "248"]);
        assert!(list.take_view(entry).is_none(), "nothing changed");
        // The next ones move up when named ones leave.
        list.remove(249);
        let view = list.take_view(entry).unwrap();
        assert_eq!(
            (view.total, names(&view)[0], names(&view)[99]),
            (249, "248", "149")
        );
        // One that is not named changes the total only.
        list.set(3, None);
        assert_eq!(list.take_view(entry).unwrap().total, 248);
        list.set(77, None);
        list.set(78, Some(at(1_000)));
        assert_eq!(names(&list.take_view(entry).unwrap())[0], "78");
    }

    #[test]
    fn readers_see_a_changed_entry_and_nothing_else() {
        let mut list = ConcernList::default();
        list.set(1, Some(at(1)));
        list.set(2, Some(at(2)));
        list.take_view(entry).unwrap();
        list.set(1, Some(at(1)));
        assert!(list.take_view(entry).is_none(), "it reads the same");
        list.touch(1);
        let other = |number, since| entry(number + 10, since);
        assert_eq!(names(&list.take_view(other).unwrap()), ["2", "11"]);
        list.touch(3);
        assert!(list.take_view(other).is_none());
    }

    #[test]
    fn a_mass_failure_writes_each_entry_at_most_once() {
        let mut list = ConcernList::default();
        let written = Cell::new(0);
        for number in 0..10_000 {
            list.set(number, Some(at(number.into())));
            list.take_view(|number, since| {
                written.set(written.get() + 1);
                entry(number, since)
            });
        }
        assert_eq!(written.get(), 10_000);
    }

    #[test]
    fn old_ones_are_taken_when_their_time_has_come() {
        let mut list = ConcernList::default();
        list.set(1, Some(at(0)));
        list.set(2, Some(at(60)));
        assert_eq!(
            list.next_older_in(DAY, at(10)),
            Some(DAY - Duration::from_secs(10))
        );
        let day = 24 * 3600;
        assert_eq!(list.pop_older(DAY, at(day - 1)), None);
        assert_eq!(list.pop_older(DAY, at(day)), Some(1));
        assert_eq!(list.pop_older(DAY, at(day)), None);
        assert_eq!((list.contains(1), list.contains(2)), (false, true));
    }
}
