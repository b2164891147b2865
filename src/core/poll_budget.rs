//! How many polls an adaptive schedule may make: as many as plain backoff would have made by then, and slightly more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Polls earned per poll of plain backoff. The contract allows 1.02; the rest is for random variation.
const POLLS_PER_PLAIN_POLL: f64 = 1.015;
/// Maximum of saved polls, so that they do not come back as a burst.
const MAX_SAVED: f32 = 1e3;
/// Maximum of unused polls per watch, so that sums stay finite.
const MAX_UNUSED: f32 = 1e6;

/// Maximum steps of plain backoff counted within one sleep.
const MAX_STEPS: u32 = 200;

/// Plain backoff, for comparison.
pub trait PlainBackoff {
    /// The mean seconds until its next poll.
    fn sleep(&self) -> f64;
    /// Advances by one poll. Returns whether the following sleeps are equal.
    fn step(&mut self) -> bool;
}

/// The polls of one watch compared with those of plain backoff.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PollBudget {
    /// Polls of plain backoff beyond those made; negative only after a sleep that was cut short.
    unused: f32,
    /// Seconds since the last poll of plain backoff.
    since: f32,
    /// Seconds of the current sleep. It earns polls only when the next poll finds the operation running.
    slept: f32,
}

impl PollBudget {
    /// Polls not made, up to the last poll.
    #[must_use]
    pub fn unused(&self) -> f32 {
        self.unused
    }

    /// The sleep lasted no longer than `elapsed`: it may have been cut short.
    pub fn add_time(&mut self, elapsed: Duration) {
        self.slept = self.slept.min(elapsed.as_secs_f32());
    }

    /// Counts the polls of plain backoff in the sleep that has ended.
    pub fn count_sleep(&mut self, plain: &mut impl PlainBackoff) {
        let slept = f64::from(std::mem::take(&mut self.slept));
        if slept > 0.0 {
            let (polls, since) = polls_within(f64::from(self.since) + slept, plain);
            self.since = since as f32;
            let unused = f64::from(self.unused) + POLLS_PER_PLAIN_POLL * polls - 1.0;
            self.unused = (unused as f32).clamp(-MAX_UNUSED, MAX_UNUSED);
        }
    }

    /// Counts the sleep in which the operation ended, most likely in its middle, and the poll that found it. Of a sleep
    /// in which plain backoff polls often, little is known: it counts as one poll.
    pub fn count_last_sleep(&mut self, plain: &mut impl PlainBackoff) {
        let slept = f64::from(std::mem::take(&mut self.slept));
        if slept > 0.0 {
            let (polls, _) = polls_within(f64::from(self.since) + slept / 2.0, plain);
            let unused = POLLS_PER_PLAIN_POLL * (polls.min(1.0) + 1.0) - 1.0;
            self.unused += unused as f32;
        }
    }

    /// Counts a sleep of plain backoff itself.
    pub fn count_plain_sleep(&mut self) {
        self.unused = (self.unused + (POLLS_PER_PLAIN_POLL - 1.0) as f32).min(MAX_UNUSED);
    }

    /// How many polls are missing for a sleep of `seconds`.
    #[must_use]
    pub fn shortage(&self, seconds: f64, plain: &(impl PlainBackoff + Clone)) -> f32 {
        let (polls, _) = polls_within(f64::from(self.since) + seconds, &mut plain.clone());
        (1.0 - POLLS_PER_PLAIN_POLL * polls - f64::from(self.unused)).max(0.0) as f32
    }

    /// Seconds until plain backoff polls. Every watch can afford that sleep.
    #[must_use]
    pub fn until_plain(&self, plain: &impl PlainBackoff) -> f64 {
        (plain.sleep() - f64::from(self.since)).max(0.0)
    }

    /// Starts a sleep of `seconds` that uses `saved` polls from the savings.
    pub fn start_sleep(&mut self, seconds: f64, saved: f32) {
        self.unused += saved;
        self.slept = seconds as f32;
    }
}

/// The polls of plain backoff within `seconds` of its last one, and the seconds since the last of them.
fn polls_within(mut seconds: f64, plain: &mut impl PlainBackoff) -> (f64, f64) {
    let mut polls = 0.0;
    for _ in 0..MAX_STEPS {
        let sleep = plain.sleep();
        // The rounding of a sleep's end must not cost a poll.
        if sleep <= 0.0 || seconds < sleep * (1.0 - 1e-6) {
            return (polls, seconds.max(0.0));
        }
        polls += 1.0;
        seconds -= sleep;
        if plain.step() {
            let more = (seconds / plain.sleep() + 1e-6).floor().max(0.0);
            return (polls + more, (seconds - more * plain.sleep()).max(0.0));
        }
    }
    (polls, 0.0)
}

/// Polls that finished operations did not use, for others.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SavedPolls(f32);

impl SavedPolls {
    /// Their number.
    #[must_use]
    pub fn polls(&self) -> f32 {
        self.0
    }

    /// Adds polls, or removes them if negative.
    pub fn add(&mut self, polls: f32) {
        self.0 = (self.0 + polls).clamp(-MAX_SAVED, MAX_SAVED);
    }

    /// Takes polls, if there are enough.
    #[must_use]
    pub fn take(&mut self, polls: f32) -> bool {
        let suffices = polls <= self.0;
        if suffices {
            self.0 -= polls;
        }
        suffices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps 1, 2, 4 and then always 8 seconds.
    #[derive(Clone)]
    struct Doubling(f64);

    impl PlainBackoff for Doubling {
        fn sleep(&self) -> f64 {
            self.0
        }

        fn step(&mut self) -> bool {
            let next = (2.0 * self.0).min(8.0);
            std::mem::replace(&mut self.0, next) == next
        }
    }

    #[test]
    fn a_long_sleep_earns_the_polls_that_plain_backoff_makes_in_it() {
        let (mut budget, mut plain) = (PollBudget::default(), Doubling(1.0));
        // Plain backoff polls after 1, 3, 7, 15 and 23 seconds.
        assert_eq!(budget.shortage(25.0, &plain), 0.0);
        budget.start_sleep(25.0, 0.0);
        assert_eq!(budget.unused(), 0.0, "nothing is earned before the next poll");
        budget.count_sleep(&mut plain);
        assert!((f64::from(budget.unused()) - (5.0 * POLLS_PER_PLAIN_POLL - 1.0)).abs() < 1e-5);
        assert_eq!(budget.until_plain(&plain), 6.0);
        let before = budget.unused();
        budget.start_sleep(1.0, 0.0);
        budget.count_sleep(&mut plain);
        assert_eq!(budget.unused(), before - 1.0);
    }

    #[test]
    fn the_last_sleep_earns_one_poll_at_most_and_the_one_that_finds_the_end() {
        let (mut budget, mut plain) = (PollBudget::default(), Doubling(1.0));
        budget.start_sleep(14.0, 0.0);
        // Plain backoff polls after 1, 3 and 7 seconds, and once after the end.
        budget.count_last_sleep(&mut plain);
        let earned = (2.0 * POLLS_PER_PLAIN_POLL - 1.0) as f32;
        assert!((budget.unused() - earned).abs() < 1e-5);
        budget.count_last_sleep(&mut plain);
        assert!((budget.unused() - earned).abs() < 1e-5, "it counts once");
    }

    #[test]
    fn a_sleep_that_was_cut_short_earns_no_more_than_it_lasted() {
        let (mut budget, mut plain) = (PollBudget::default(), Doubling(1.0));
        budget.start_sleep(25.0, 0.0);
        budget.add_time(Duration::from_millis(500));
        budget.count_sleep(&mut plain);
        assert_eq!(budget.unused(), -1.0);
        assert!(budget.shortage(1.0, &plain) > 0.9);
    }

    #[test]
    fn saved_polls_are_taken_only_if_there_are_enough() {
        let mut savings = SavedPolls::default();
        assert!(!savings.take(0.5));
        savings.add(1.0);
        assert!(savings.take(0.75) && !savings.take(0.5) && savings.take(0.25));
        savings.add(-5.0);
        savings.add(5.5);
        assert!(!savings.take(0.75) && savings.take(0.5), "a debt is paid first");
        savings.add(f32::MAX);
        assert_eq!(savings.polls(), MAX_SAVED);
    }

    #[test]
    fn a_watch_that_was_stored_without_a_budget_starts_with_none() {
        assert_eq!(
            serde_json::from_str::<PollBudget>("{}").unwrap(),
            PollBudget::default()
        );
    }
}
