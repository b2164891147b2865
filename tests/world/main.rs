//! The whole daemon in a simulated world: API, receivers, disk, clock, watch list, clients and crashes, all from one seed.
//! Seeds from 10^15 on also give groups, deadlines, discovery and changes over HTTP.
//!
//! Each run generates new worlds, and repeats the first extended ones and those of `seeds.txt`, which failed before. `BACKFILL_WATCH_WORLD_SEED=… cargo test --test world` runs
//! one world again; `BACKFILL_WATCH_WORLD_RUNS=10000` runs so many new extended ones; `BACKFILL_WATCH_WORLD_JOURNAL=1` prints what happened in a world that failed.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports that it failed")]

mod api;
mod clients;
mod daemon_runs;
mod disk;
mod extras;
mod random;
mod receivers;
mod scenario;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use backfill_watch::{clock, random::RandomSource};

use daemon_runs::{Outcome, run};
use extras::EXTENDED;

/// The number of new worlds in a test run, unless set by the environment.
const RUNS: u64 = 120;
/// The number of extended worlds in a test run: the same each time, as their promises are not exact yet about a clock that is set.
const EXTENDED_RUNS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().expect("a number"))
}

fn describe(seed: u64, run: &Outcome) -> String {
    let journal = if std::env::var_os("BACKFILL_WATCH_WORLD_JOURNAL").is_some() {
        run.journal.join("\n")
    } else {
        run.journal[run.journal.len().saturating_sub(20)..].join("\n")
    };
    let broken = run.broken.as_deref().unwrap_or("nothing");
    format!("{journal}\nbroken: {broken}\nBACKFILL_WATCH_WORLD_SEED={seed} cargo test --test world")
}

/// Seeds that failed before, each with a note about the defect.
fn failed_once() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines();
    let seeds = lines.filter_map(|line| {
        line.split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .next()
    });
    seeds.map(|seed| seed.parse().unwrap()).collect()
}

/// No world takes longer than this, by the clock of the machine, unless it goes round in circles without time passing.
const LONGEST: Duration = Duration::from_secs(60);

/// What was counted in all runs.
#[derive(Default)]
struct Counts {
    events: usize,
    polls: usize,
    failures: Vec<String>,
}

fn check_scenarios(seeds: impl Iterator<Item = u64>) {
    let seeds: Arc<[u64]> = seeds.collect();
    let begin = clock::instant();
    let next = Arc::new(AtomicUsize::new(0));
    let (sender, results) = mpsc::channel();
    for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
        let (seeds, next, sender) = (Arc::clone(&seeds), Arc::clone(&next), sender.clone());
        // Not joined: a world that hangs is reported with its seed, and ends with the process.
        thread::spawn(move || {
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let run = run(*seed);
                if sender.send((*seed, run)).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut open: BTreeSet<u64> = seeds.iter().copied().collect();
    let mut counts = Counts::default();
    while !open.is_empty() {
        let Ok((seed, run)) = results.recv_timeout(LONGEST) else {
            let started = next.load(Ordering::Relaxed).min(seeds.len());
            let hung: Vec<u64> = seeds[..started]
                .iter()
                .copied()
                .filter(|seed| open.contains(seed))
                .collect();
            counts
                .failures
                .push(format!("these worlds panicked, or do not end: {hung:?}"));
            break;
        };
        open.remove(&seed);
        counts.events += run.events;
        counts.polls += run.polls;
        if run.broken.is_some() {
            counts.failures.push(describe(seed, &run));
            if counts.failures.len() == 10 {
                break;
            }
        }
    }
    println!(
        "{} worlds, {} events, {} polls in {:.1} s, {} broken",
        seeds.len() - open.len(),
        counts.events,
        counts.polls,
        begin.elapsed().as_secs_f64(),
        counts.failures.len()
    );
    assert!(counts.failures.is_empty(), "\n{}", counts.failures.join("\n\n"));
}

#[test]
fn generated_scenarios_keep_all_promises() {
    if let Some(seed) = number("BACKFILL_WATCH_WORLD_SEED") {
        return check_scenarios(std::iter::once(seed));
    }
    let (begin, runs) = match number("BACKFILL_WATCH_WORLD_RUNS") {
        Some(runs) => (EXTENDED, runs),
        None => (0, RUNS),
    };
    let first = begin + (RandomSource::new().fraction() * 9e14) as u64;
    check_scenarios(first..first + runs);
}

#[test]
fn extended_scenarios_keep_all_promises() {
    check_scenarios(EXTENDED..EXTENDED + EXTENDED_RUNS);
}

#[test]
fn scenarios_that_failed_before_keep_all_promises() {
    check_scenarios(failed_once().into_iter());
}

#[test]
fn a_seed_gives_the_same_world_each_time() {
    for seed in (1..=3).chain(EXTENDED + 1..=EXTENDED + 10) {
        let (first, second) = (run(seed), run(seed));
        let differs = first
            .journal
            .iter()
            .zip(&second.journal)
            .position(|(a, b)| a != b);
        if let Some(line) = differs {
            panic!(
                "seed {seed}, line {line}:\n{}\n{}",
                first.journal[line], second.journal[line]
            );
        }
        assert_eq!(first.journal.len(), second.journal.len(), "seed {seed}");
    }
}
