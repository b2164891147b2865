//! What each schedule costs in polls and brings in time: a corpus of backfills is replayed against the core, in
//! simulated time and without a network. The same seed gives the same figures.
//!
//! `cargo bench --bench schedule -- [--seed N] [--svg FILE]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use backfill_watch::core::answer::Answer;
use backfill_watch::core::schedule::Pace;
use backfill_watch::core::watch::{Context, Next, Rules, Watch};
use backfill_watch::core::watch_list::{Labels, WatchKey};
use backfill_watch::simulator::{Course, Estimate, Random, SimulatedOperation};
use jiff::Timestamp;

#[path = "schedule/chart.rs"]
mod chart;

const OPERATIONS: usize = 2_000;
const SEED: u64 = 1;
const COURSES: [(Course, &str); 4] = [
    (Course::Linear, "linear"),
    (Course::FastFirst, "fast first"),
    (Course::SlowFirst, "slow first"),
    (Course::Bursts, "bursts"),
];
const ESTIMATES: [&str; 4] = ["within 5 %", "within 15 %", "within 40 %", "none"];

/// One backfill and the class it belongs to: places in `COURSES` and `ESTIMATES`.
struct Backfill {
    operation: SimulatedOperation,
    course: usize,
    estimate: usize,
}

/// What watching one backfill came to.
struct Outcome {
    course: usize,
    estimate: usize,
    polls: u64,
    /// Seconds from the end to its detection.
    delay: f64,
}

fn main() -> anyhow::Result<()> {
    let (mut seed, mut svg) = (SEED, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => seed = arguments.next().context("--seed needs a number")?.parse()?,
            "--svg" => svg = Some(PathBuf::from(arguments.next().context("--svg needs a file")?)),
            // Cargo adds it.
            "--bench" => {}
            other => anyhow::bail!("unknown argument {other:?}; try --seed N or --svg FILE"),
        }
    }
    let corpus = corpus(seed);
    let plain = replay(&corpus, &backoff(false), seed)?;
    let fixed = replay(&corpus, &every_five_seconds(), seed)?;
    let adaptive = replay(&corpus, &backoff(true), seed)?;
    let unspread = Pace {
        randomization: 0.0,
        ..backoff(false)
    };
    let unspread_adaptive = Pace {
        adaptive: true,
        ..unspread.clone()
    };
    println!(
        "{OPERATIONS} backfills, seed {seed}; the delay is that from the end to its detection, in seconds\n"
    );
    println!("| backfills | schedule | polls | mean | p50 | p90 | p99 |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let schedules = [("plain", &plain), ("fixed 5 s", &fixed), ("adaptive", &adaptive)];
    for (name, outcomes) in schedules {
        row("all", name, outcomes.iter());
    }
    row(
        "all",
        "plain, not randomised",
        replay(&corpus, &unspread, seed)?.iter(),
    );
    row(
        "all",
        "adaptive, not randomised",
        replay(&corpus, &unspread_adaptive, seed)?.iter(),
    );
    for (course, (_, course_name)) in COURSES.iter().enumerate() {
        for (estimate, estimate_name) in ESTIMATES.iter().enumerate() {
            for (name, outcomes) in schedules {
                let class = outcomes
                    .iter()
                    .filter(|outcome| (outcome.course, outcome.estimate) == (course, estimate));
                row(&format!("{course_name}, {estimate_name}"), name, class);
            }
        }
    }
    if let Some(path) = svg {
        let delays = schedules.map(|(name, outcomes)| chart::Line {
            name,
            polls: mean(outcomes.iter().map(|outcome| outcome.polls as f64)),
            delays: sorted(outcomes.iter()),
        });
        std::fs::write(&path, chart::draw(&delays))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The same backfills for the same seed.
fn corpus(seed: u64) -> Vec<Backfill> {
    let random = Random::new(seed);
    let between = |low: f64, high: f64| low + (high - low) * random.next_f64();
    let log_between = |low: f64, high: f64| low * (high / low).powf(random.next_f64());
    (0..OPERATIONS)
        .map(|number| {
            let duration = Duration::from_secs_f64(log_between(180.0, 6_000.0));
            let total = log_between(1e3, 1e6) as u64;
            let course = (random.next_u64() % 4) as usize;
            let (missing, which) = (random.next_f64() < 0.25, random.next_f64());
            let (estimate, within) = match which {
                _ if missing => (3, 0.0),
                part if part < 0.7 => (0, 0.05),
                part if part < 0.9 => (1, 0.15),
                _ => (2, 0.4),
            };
            let factor = 1.0 + between(-within, within);
            let operation = SimulatedOperation {
                course: COURSES[course].0,
                estimate: if missing {
                    Estimate::Missing
                } else {
                    Estimate::Wrong(factor)
                },
                ..SimulatedOperation::new(format!("op-{number}"), duration, total)
            };
            Backfill {
                operation,
                course,
                estimate,
            }
        })
        .collect()
}

/// The settings that the product has unless told otherwise.
fn backoff(adaptive: bool) -> Pace {
    Pace {
        initial_interval: Duration::from_secs(2),
        min_interval: Duration::from_secs(2),
        max_interval: Duration::from_mins(1),
        multiplier: 1.5,
        randomization: 0.2,
        adaptive,
    }
}

fn every_five_seconds() -> Pace {
    Pace {
        initial_interval: Duration::from_secs(5),
        max_interval: Duration::from_secs(5),
        randomization: 0.0,
        ..backoff(false)
    }
}

fn replay(corpus: &[Backfill], pace: &Pace, seed: u64) -> anyhow::Result<Vec<Outcome>> {
    // Other numbers than the corpus was drawn from.
    let random = Random::new(!seed);
    corpus
        .iter()
        .map(|backfill| watch(backfill, pace, &random))
        .collect()
}

/// Watches one backfill from its first seconds to its end.
fn watch(backfill: &Backfill, pace: &Pace, random: &Random) -> anyhow::Result<Outcome> {
    let operation = &backfill.operation;
    let key = WatchKey {
        project: Arc::from("my-project"),
        operation: Arc::from(operation.id.as_str()),
    };
    let labels = Labels::default();
    let rules = Rules {
        stalled_after: Duration::from_mins(30),
        unreachable_after: Duration::from_mins(5),
        not_found_grace: Duration::from_mins(2),
        give_up_after: None,
        active_statuses: vec!["in_progress".to_owned()],
        progress_step: 10.0,
        progress_interval: Duration::from_mins(1),
    };
    let created = Timestamp::UNIX_EPOCH;
    let mut watch = Watch::default();
    // The list names the backfill within two seconds of its start.
    let mut elapsed = Duration::from_secs_f64(2.0 * random.next_f64());
    let mut before = elapsed;
    loop {
        let answer = Answer::Operation(Box::new(operation.at(created, elapsed)));
        let cx = Context {
            key: &key,
            labels: &labels,
            rules: &rules,
            pace,
            now: created.checked_add(elapsed)?,
            elapsed: elapsed - before,
            held: Duration::ZERO,
            chance: random.next_f64(),
            project_known: true,
            project_answered: Some(Duration::ZERO),
        };
        match watch.observe(&answer, &cx).next {
            Next::Over => break,
            Next::PollAfter(wait) => {
                before = elapsed;
                elapsed += wait;
            }
        }
    }
    Ok(Outcome {
        course: backfill.course,
        estimate: backfill.estimate,
        polls: watch.polls(),
        delay: elapsed.saturating_sub(operation.duration).as_secs_f64(),
    })
}

fn row<'a>(class: &str, schedule: &str, outcomes: impl Iterator<Item = &'a Outcome> + Clone) {
    let delays = sorted(outcomes.clone());
    println!(
        "| {class} | {schedule} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} |",
        mean(outcomes.map(|outcome| outcome.polls as f64)),
        mean(delays.iter().copied()),
        quantile(&delays, 0.5),
        quantile(&delays, 0.9),
        quantile(&delays, 0.99),
    );
}

fn sorted<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<f64> {
    let mut delays: Vec<f64> = outcomes.map(|outcome| outcome.delay).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The value that the part `part` of all values does not exceed.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
