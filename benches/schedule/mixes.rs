//! The goals for each mix of backfills: by number of kinds, by spread of durations, with and without estimates.

use std::time::Duration;

use backfill_watch::core::schedule::ScheduleSettings;
use backfill_watch::simulator::{CountCurve, SeededRandom, SimulatedEstimate, SimulatedOperation};

use super::{Backfill, COURSES, LONG, Outcome, SEED, SEEDS, SHORT, backoff, mean_delay, mean_polls, replay};

/// How many backfills of a mix are watched on each seed.
const OPERATIONS: usize = 1_000;
/// The most polls beside those of plain backoff.
const POLLS: f64 = 1.02;
/// The most delay beside that of plain backoff.
const DELAY: f64 = 1.0;
/// And the most where the end can be predicted.
const PREDICTED: f64 = 0.5;
/// The part of a turn that spreads any number of points evenly over it.
const GOLDEN: f64 = 0.618_033_988_75;

/// The shortest and the longest duration of backfills that end within seconds, in seconds.
const SECONDS: (f64, f64) = (0.1, 10.0);

/// How many kinds the backfills of a mix are of.
#[derive(Clone, Copy, PartialEq)]
enum OperationKinds {
    Few(usize),
    Own,
}

/// Prints the table of the goals. `Ok(true)` if every row meets its goals.
pub fn table() -> anyhow::Result<bool> {
    println!(
        "\n{OPERATIONS} backfills on each of {SEEDS} seeds; polls and delays beside those of plain backoff, the goals in brackets\n"
    );
    println!(
        "| kinds | spread | estimates | plain: polls | delay | adaptive: polls | delay | polls, worst seed | mean delay | |"
    );
    println!("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    let mut all_met = true;
    for estimates in [true, false] {
        for (kinds, name) in [
            (OperationKinds::Few(1), "one"),
            (OperationKinds::Few(30), "30"),
            (OperationKinds::Own, "each its own"),
        ] {
            for spread in [1.0, 3.0, 30.0] {
                let is_predicted = estimates || (kinds != OperationKinds::Own && spread < 30.0);
                let goal = if is_predicted { PREDICTED } else { DELAY };
                let pairs = (SEED..SEED + SEEDS)
                    .map(|seed| Pair::of(&mix(seed, kinds, spread, estimates), seed))
                    .collect::<anyhow::Result<Vec<Pair>>>()?;
                let with = if estimates { "yes" } else { "no" };
                all_met &= row(&format!("{name} | {spread} | {with}"), goal, &pairs);
            }
        }
    }
    for (name, goal, mix) in ADVERSARIES {
        let pairs = (SEED..SEED + SEEDS)
            .map(|seed| Pair::of(&mix(seed), seed))
            .collect::<anyhow::Result<Vec<Pair>>>()?;
        all_met &= row(&format!("{name} | | "), *goal, &pairs);
    }
    Ok(all_met)
}

/// Both schedules over the same backfills.
struct Pair {
    plain: Vec<Outcome>,
    adaptive: Vec<Outcome>,
}

impl Pair {
    fn of(backfills: &[Backfill], seed: u64) -> anyhow::Result<Self> {
        let run = |schedule: ScheduleSettings| replay(backfills, &schedule, super::LISTED_WITHIN, seed);
        Ok(Self {
            plain: run(backoff(false))?,
            adaptive: run(backoff(true))?,
        })
    }

    fn polls(&self) -> f64 {
        mean_polls(self.adaptive.iter()) / mean_polls(self.plain.iter())
    }
}

/// Whether the row meets its goals.
fn row(name: &str, goal: f64, pairs: &[Pair]) -> bool {
    let over = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let [plain_polls, plain_delay, polls, delay] = [
        over(|pair| mean_polls(pair.plain.iter())),
        over(|pair| mean_delay(pair.plain.iter())),
        over(|pair| mean_polls(pair.adaptive.iter())),
        over(|pair| mean_delay(pair.adaptive.iter())),
    ];
    let worst = pairs.iter().map(Pair::polls).fold(0.0, f64::max);
    let beside = delay / plain_delay;
    let is_met = worst <= POLLS && beside <= goal;
    println!(
        "| {name} | {plain_polls:.2} | {plain_delay:.2} | {polls:.2} | {delay:.2} | {worst:.3} ({POLLS}) | {beside:.3} ({goal}) | {} |",
        if is_met { "met" } else { "missed" }
    );
    is_met
}

/// Backfills whose durations are spread log-uniformly over a range whose ends are `spread` times apart, within that
/// of all backfills. Each kind has a range of its own.
fn mix(seed: u64, kinds: OperationKinds, spread: f64, estimates: bool) -> Vec<Backfill> {
    let random = SeededRandom::new(seed.wrapping_mul(7));
    let (shortest, longest) = LONG;
    // The kinds fill the range evenly: with one kind, over the seeds.
    let middle = |kind: usize| {
        let place = ((kind as f64 + seed as f64) * GOLDEN).fract();
        shortest * spread.sqrt() * (longest / shortest / spread).powf(place)
    };
    (0..OPERATIONS)
        .map(|number| {
            let kind = match kinds {
                OperationKinds::Few(count) => random.next_u64() as usize % count,
                OperationKinds::Own => number,
            };
            let seconds = middle(kind) * spread.powf(random.next_f64() - 0.5);
            let course = random.next_u64() as usize % COURSES.len();
            let estimate = if estimates {
                estimate(&random)
            } else {
                SimulatedEstimate::Missing
            };
            backfill(&random, number, kind, seconds, COURSES[course].0, estimate)
        })
        .collect()
}

/// Within 5 % (70 %), 15 % (20 %) or 40 % (10 %).
fn estimate(random: &SeededRandom) -> SimulatedEstimate {
    let within = match random.next_f64() {
        part if part < 0.7 => 0.05,
        part if part < 0.9 => 0.15,
        _ => 0.4,
    };
    SimulatedEstimate::Wrong(1.0 + within * (2.0 * random.next_f64() - 1.0))
}

fn backfill(
    random: &SeededRandom,
    number: usize,
    kind: usize,
    seconds: f64,
    course: CountCurve,
    estimate: SimulatedEstimate,
) -> Backfill {
    let total = (1e3 * 1e3_f64.powf(random.next_f64())) as u64;
    Backfill {
        operation: SimulatedOperation {
            objects: vec![format!("object {kind}")],
            curve: course,
            estimate,
            ..SimulatedOperation::new(format!("op-{number}"), Duration::from_secs_f64(seconds), total)
        },
        course: 0,
        estimate: 0,
    }
}

/// A mix, by its seed.
type Mix = fn(u64) -> Vec<Backfill>;

/// Mixes that mislead, and the most delay beside that of plain backoff: where an end is always expected far too late, the
/// sleeps are those of `max_interval`, and a little longer than plain backoff's.
const ADVERSARIES: &[(&str, f64, Mix)] = &[
    ("nine of ten have nothing to do", 1.0, |seed| {
        each(seed, |random| {
            let long = random.next_f64() < 0.1;
            let seconds = if long {
                log_between(random, LONG)
            } else {
                log_between(random, (1.0, 10.0))
            };
            (0, seconds, CountCurve::Linear, SimulatedEstimate::Missing)
        })
    }),
    ("two lengths", 1.0, |seed| {
        each(seed, |random| {
            let middle = if random.next_f64() < 0.5 { 400.0 } else { 3_000.0 };
            (
                0,
                middle * 1.2_f64.powf(random.next_f64()),
                CountCurve::Linear,
                SimulatedEstimate::Missing,
            )
        })
    }),
    ("each time twice as long, then short again", 1.0, |seed| {
        let turn = std::cell::Cell::new(0_i32);
        each(seed, |random| {
            turn.set((turn.get() + 1) % 6);
            (
                0,
                150.0 * 2_f64.powi(turn.get()) * 1.1_f64.powf(random.next_f64()),
                CountCurve::Linear,
                SimulatedEstimate::Missing,
            )
        })
    }),
    ("estimates a third of the total", 1.0, |seed| {
        drawn(seed, own, LONG, CountCurve::Linear, |_| {
            SimulatedEstimate::Wrong(1.0 / 3.0)
        })
    }),
    ("estimates three times the total", 1.1, |seed| {
        drawn(seed, own, LONG, CountCurve::Linear, |_| {
            SimulatedEstimate::Wrong(3.0)
        })
    }),
    ("estimates wrong by any factor up to 4", 1.0, |seed| {
        each(seed, |random| {
            let factor = 4_f64.powf(2.0 * random.next_f64() - 1.0);
            (
                random.next_u64() as usize % 30,
                log_between(random, LONG),
                CountCurve::Linear,
                SimulatedEstimate::Wrong(factor),
            )
        })
    }),
    ("counts that stall, then jump", 1.0, |seed| {
        drawn(seed, own, LONG, CountCurve::Stall, estimate)
    }),
    ("rates that slow down, no estimate", 1.0, |seed| {
        drawn(seed, own, LONG, CountCurve::FastFirst, missing)
    }),
    ("over within seconds, each its own kind", 1.0, |seed| {
        drawn(seed, own, SECONDS, CountCurve::Linear, estimate)
    }),
    ("over within seconds, one kind", 1.0, |seed| {
        drawn(seed, one, SECONDS, CountCurve::Linear, estimate)
    }),
    ("10 s to 3 min, no estimate, one kind", 1.0, |seed| {
        drawn(seed, one, SHORT, CountCurve::Linear, missing)
    }),
    ("10 s to 3 min, no estimate, own", 1.0, |seed| {
        drawn(seed, own, SHORT, CountCurve::Linear, missing)
    }),
    ("10 s to 3 min, estimates, own", 1.0, |seed| {
        drawn(seed, own, SHORT, CountCurve::Linear, estimate)
    }),
];

/// All are of one kind.
fn one(_: &SeededRandom) -> usize {
    0
}

/// Each is of its own kind, so there is no history.
fn own(random: &SeededRandom) -> usize {
    random.next_u64() as usize
}

fn missing(_: &SeededRandom) -> SimulatedEstimate {
    SimulatedEstimate::Missing
}

/// Backfills whose durations are spread log-uniformly over `lengths`.
fn drawn(
    seed: u64,
    kind: impl Fn(&SeededRandom) -> usize,
    lengths: (f64, f64),
    course: CountCurve,
    estimate: impl Fn(&SeededRandom) -> SimulatedEstimate,
) -> Vec<Backfill> {
    each(seed, |random| {
        (
            kind(random),
            log_between(random, lengths),
            course,
            estimate(random),
        )
    })
}

fn each(
    seed: u64,
    draw: impl Fn(&SeededRandom) -> (usize, f64, CountCurve, SimulatedEstimate),
) -> Vec<Backfill> {
    let random = SeededRandom::new(seed.wrapping_mul(11));
    (0..OPERATIONS)
        .map(|number| {
            let (kind, seconds, course, estimate) = draw(&random);
            backfill(&random, number, kind, seconds, course, estimate)
        })
        .collect()
}

fn log_between(random: &SeededRandom, (low, high): (f64, f64)) -> f64 {
    low * (high / low).powf(random.next_f64())
}
