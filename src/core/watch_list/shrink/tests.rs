use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::watch_list::parse;

const DELAY: Duration = Duration::from_secs(30);

fn list(ids: impl IntoIterator<Item = u32>) -> WatchList {
    let text: String = ids.into_iter().map(|id| format!("op-{id}\n")).collect();
    parse(text.as_bytes(), &["main".into()])
}

fn ids(guard: &ShrinkGuard) -> Vec<u32> {
    let entries = guard.list().entries.iter();
    entries
        .map(|entry| entry.key.operation[3..].parse().unwrap())
        .collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A guard of a file that lists these.
fn guarded(listed: impl IntoIterator<Item = u32>) -> ShrinkGuard {
    let mut guard = ShrinkGuard::default();
    let change = guard.change(list(listed), seconds(0), DELAY);
    assert_eq!(
        change,
        ListChange {
            before: 0,
            delayed: 0
        }
    );
    guard
}

fn pending(entries: usize, due: u64) -> Option<PendingRemovals> {
    let due = seconds(due);
    Some(PendingRemovals { entries, due })
}

#[test]
fn what_the_list_had_before_the_start_is_removed_later_unless_it_returns() {
    let mut guard = ShrinkGuard::default();
    guard.resume(list([1]), list(2..20).entries, seconds(5), DELAY);
    assert_eq!(ids(&guard), (1..20).collect::<Vec<u32>>());
    assert_eq!(guard.pending(), pending(18, 35));
    let change = guard.change(list([1, 2, 3]), seconds(6), DELAY);
    assert_eq!(
        change,
        ListChange {
            before: 19,
            delayed: 0
        }
    );
    assert_eq!(guard.pending(), pending(16, 35));
    assert_eq!(guard.expire(seconds(35)), 16);
    assert_eq!(ids(&guard), [1, 2, 3]);
}

#[test]
fn more_than_nine_tenths_of_ten_or_more_are_removed_later() {
    for (listed, kept, delayed) in [
        (9, 0, 0),
        (10, 0, 10),
        (10, 1, 0),
        (11, 1, 10),
        (20, 2, 0),
        (20, 1, 19),
    ] {
        let mut guard = guarded(0..listed);
        let change = guard.change(list(0..kept), seconds(5), DELAY);
        let left = if delayed > 0 { listed } else { kept };
        assert_eq!(
            change,
            ListChange {
                before: listed as usize,
                delayed
            }
        );
        assert_eq!(ids(&guard), Vec::from_iter(0..left), "{listed} become {kept}");
        assert_eq!(guard.expire(seconds(35) - Duration::from_nanos(1)), 0);
        assert_eq!(guard.expire(seconds(35)), delayed);
        assert_eq!(ids(&guard), Vec::from_iter(0..kept));
        assert_eq!(guard.pending(), None);
    }
}

#[test]
fn what_is_added_applies_at_once() {
    let mut guard = guarded(0..20);
    let change = guard.change(list(100..103), seconds(1), DELAY);
    assert_eq!(change.delayed, 20);
    assert_eq!(ids(&guard), Vec::from_iter((100..103).chain(0..20)));
    assert_eq!(guard.pending(), pending(20, 31));
}

#[test]
fn what_returns_is_not_removed_and_the_rest_is_when_it_is_due() {
    let mut guard = guarded(0..20);
    let _ = guard.change(list([]), seconds(0), DELAY);
    // A slow writer: each of these contents lasts for two checks, and none of them counts as a change that removes the rest.
    for written in [1, 5, 12] {
        let change = guard.change(list(0..written), seconds(10), DELAY);
        assert_eq!(change.delayed, 0);
        assert_eq!(ids(&guard), Vec::from_iter(0..20));
        assert_eq!(guard.pending(), pending(20 - written as usize, 30));
    }
    assert_eq!(guard.expire(seconds(30)), 8);
    assert_eq!(ids(&guard), Vec::from_iter(0..12));
}

#[test]
fn a_small_change_during_the_delay_applies_at_once() {
    let mut guard = guarded(0..20);
    let _ = guard.change(list(100..120), seconds(0), DELAY);
    let change = guard.change(list(100..118), seconds(10), DELAY);
    assert_eq!(change.delayed, 0);
    assert_eq!(ids(&guard), Vec::from_iter((100..118).chain(0..20)));
    assert_eq!(guard.pending(), pending(20, 30));
}

#[test]
fn each_change_has_its_own_delay() {
    let mut guard = guarded(0..20);
    let _ = guard.change(list(100..120), seconds(0), DELAY);
    let change = guard.change(list([]), seconds(10), DELAY);
    assert_eq!(
        change,
        ListChange {
            before: 40,
            delayed: 20
        }
    );
    assert_eq!(guard.pending(), pending(40, 30));
    assert_eq!(guard.expire(seconds(30)), 20);
    assert_eq!(ids(&guard), Vec::from_iter(100..120));
    assert_eq!(guard.pending(), pending(20, 40));
    assert_eq!(guard.expire(seconds(40)), 20);
    assert_eq!(ids(&guard), [] as [u32; 0]);
}

#[test]
fn a_reload_removes_at_once() {
    let mut guard = guarded(0..20);
    let _ = guard.change(list([]), seconds(0), DELAY);
    assert_eq!(guard.release(), 20);
    assert_eq!(ids(&guard), [] as [u32; 0]);
    assert_eq!(guard.release(), 0);

    let mut guard = guarded(0..20);
    let _ = guard.change(list(0..1), seconds(0), DELAY);
    let change = guard.change(list(0..2), seconds(1), Duration::ZERO);
    assert_eq!(change.delayed, 0);
    assert_eq!((ids(&guard), guard.pending()), (vec![0, 1], None));
}

#[test]
fn removals_that_are_postponed_wait_the_whole_time_again() {
    let mut guard = guarded(0..20);
    let _ = guard.change(list([]), seconds(0), DELAY);
    guard.postpone(seconds(60), DELAY);
    assert_eq!(guard.expire(seconds(89)), 0);
    assert_eq!(guard.expire(seconds(90)), 20);
}

#[test]
fn labels_are_those_of_the_file() {
    let mut guard = guarded(0..11);
    let labelled = parse(b"op-3 customer=acme\n", &["main".into()]);
    let _ = guard.change(labelled.clone(), seconds(0), DELAY);
    assert_eq!(guard.list().entries[0], labelled.entries[0]);
    assert_eq!(guard.list().entries.len(), 11);
}

#[test]
fn the_list_never_exceeds_its_maximum() {
    let batch = |entries| Batch { due: DELAY, entries };
    let mut batches = [batch(3), batch(4), batch(5)];
    assert_eq!(fit(&mut batches, 5), 5);
    assert_eq!(batches.map(|batch| batch.entries), [3, 2, 0]);
    assert_eq!(fit(&mut batches, 9), 5);
}

fn some_ids() -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(0..30_u32, 0..30)
}

proptest! {
    /// For any row of files: what a file lists applies at once. What it does not list applies only if it applied before, and
    /// is gone when the delay has passed since the last change.
    #[test]
    fn additions_are_never_late_and_removals_are_bounded(
        files in prop::collection::vec((some_ids(), 0..40_u64), 1..12),
    ) {
        let mut guard = ShrinkGuard::default();
        let mut now = 0;
        for (file, pause) in &files {
            now += pause;
            let _ = guard.expire(seconds(now));
            let before: BTreeSet<u32> = ids(&guard).into_iter().collect();
            let change = guard.change(list(file.iter().copied()), seconds(now), DELAY);
            let after: BTreeSet<u32> = ids(&guard).into_iter().collect();
            prop_assert_eq!(guard.list().entries.len(), after.len(), "an entry occurs twice");
            prop_assert!(after.is_superset(file));
            prop_assert!(after.difference(file).all(|id| before.contains(id)));
            let gone = before.difference(file).count();
            let is_large = before.len() >= 10 && gone * 10 > before.len() * 9;
            if is_large {
                prop_assert!(after.is_superset(&before));
            } else {
                prop_assert_eq!(change.delayed, 0);
            }
            let waiting = guard.pending().map_or(0, |pending| pending.entries);
            prop_assert_eq!(after.len() - file.len(), waiting);
        }
        let _ = guard.expire(seconds(now) + DELAY);
        let last = &files[files.len() - 1].0;
        prop_assert_eq!(ids(&guard), Vec::from_iter(last.iter().copied()));
        prop_assert_eq!(guard.pending(), None);
    }
}
