//! The whole daemon in a simulated world: API, receivers, disk, clock, watch list and its own deaths, all from a seed.
//!
//! `BACKFILL_WATCH_WORLD_SEED=… cargo test --test world` runs one world again; `BACKFILL_WATCH_WORLD_RUNS=10000` runs so
//! many fresh ones; `BACKFILL_WATCH_WORLD_JOURNAL=1` prints what happened in a world that failed.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells that it failed")]

mod api;
mod dice;
mod disk;
mod life;
mod plan;
mod receivers;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use backfill_watch::{chance::Chance, clock};

use life::{Run, run};

/// So many fresh worlds, where nobody asks for more.
const RUNS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().expect("a number"))
}

fn tell(seed: u64, run: &Run) -> String {
    let journal = if std::env::var_os("BACKFILL_WATCH_WORLD_JOURNAL").is_some() {
        run.journal.join("\n")
    } else {
        run.journal[run.journal.len().saturating_sub(20)..].join("\n")
    };
    let broken = run.broken.as_deref().unwrap_or("nothing");
    format!("{journal}\nbroken: {broken}\nBACKFILL_WATCH_WORLD_SEED={seed} cargo test --test world")
}

/// Seeds that failed once, each with a word on what it found.
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

fn hold(seeds: impl Iterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.collect();
    let begin = clock::instant();
    let (next, events, polls) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while failures.len() < 3
                        && let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let run = run(*seed);
                        events.fetch_add(run.events as u64, Ordering::Relaxed);
                        polls.fetch_add(run.polls as u64, Ordering::Relaxed);
                        if run.broken.is_some() {
                            failures.push(tell(*seed, &run));
                        }
                    }
                    failures
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    println!(
        "{} worlds, {} events, {} polls in {:.1} s, {} broken",
        seeds.len(),
        events.into_inner(),
        polls.into_inner(),
        begin.elapsed().as_secs_f64(),
        failures.len()
    );
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn fresh_worlds_hold() {
    if let Some(seed) = number("BACKFILL_WATCH_WORLD_SEED") {
        return hold(std::iter::once(seed));
    }
    let first = (Chance::new().draw() * 1e15) as u64;
    let runs = number("BACKFILL_WATCH_WORLD_RUNS").unwrap_or(RUNS);
    hold(first..first + runs);
}

#[test]
fn worlds_that_failed_once_hold() {
    hold(failed_once().into_iter());
}

#[test]
fn a_seed_gives_the_same_world_each_time() {
    for seed in 1..=10 {
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
