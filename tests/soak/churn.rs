//! A watch list of which a part is replaced all the time.

use std::collections::VecDeque;
use std::fmt::Write as _;

use backfill_watch::simulator::SeededRandom;

/// Lines of the list, always.
pub const WATCHES: usize = 10_000;
/// How many of them come and go.
const PASSING: usize = 1_000;
/// How many stay, and run all the time.
pub const STAYING: usize = WATCHES - PASSING;
/// How many of these are replaced at a time. Each stays for 100 changes, and is finished by then.
const REPLACED: usize = 10;

/// Changes after which every passing line was replaced, and what left first is forgotten: from then on as much goes as
/// comes.
pub const TURN: usize = PASSING / REPLACED + 40;

/// The list, and what it becomes.
pub struct Churn {
    chance: SeededRandom,
    passing: VecDeque<String>,
    made: usize,
    changes: usize,
}

impl Churn {
    pub fn new() -> Self {
        let mut churn = Self {
            chance: SeededRandom::new(7),
            passing: VecDeque::new(),
            made: 0,
            changes: 0,
        };
        for _ in 0..PASSING {
            churn.add();
        }
        churn
    }

    /// How many lines were replaced by others.
    pub fn replaced(&self) -> usize {
        self.made - PASSING
    }

    /// An operation of 2 to 22 seconds, one in ten of which fails.
    fn add(&mut self) {
        let milliseconds = 2_000 + (self.chance.next_f64() * 20_000.0) as u64;
        let fate = if self.made % 10 == 3 { 'f' } else { 's' };
        self.passing
            .push_back(format!("op-{milliseconds}-1000-{fate}-{}", self.made));
        self.made += 1;
    }

    /// The list as it is.
    pub fn list(&self) -> String {
        let mut list = String::new();
        for id in &self.passing {
            writeln!(list, "{id} customer=acme").unwrap();
        }
        for n in 0..STAYING {
            // Some get another label with each change. All of them run for longer than any test.
            let label = if n < 100 { self.changes } else { 0 };
            writeln!(list, "op-1000000000-100000-s-stays-{n} change={label}").unwrap();
        }
        list
    }

    /// The list with the oldest passing lines replaced.
    pub fn next(&mut self) -> String {
        self.changes += 1;
        for _ in 0..REPLACED {
            self.passing.pop_front();
            self.add();
        }
        self.list()
    }
}
