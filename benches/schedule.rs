//! Polls and delays of each schedule: backfills are replayed against the core, in simulated time and without a network.
//! The same seed gives the same figures.
//!
//! `cargo bench --bench schedule -- [--seed N] [--svg FILE]`, and `-- --wire` for the same over HTTP, in scaled time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use backfill_watch::core::answer::Answer;
use backfill_watch::core::operation_kind::OperationKinds;
use backfill_watch::core::schedule::ScheduleSettings;
use backfill_watch::core::watch::{NextStep, Watch, WatchContext, WatchSettings};
use backfill_watch::core::watch_list::{Labels, WatchKey};
use backfill_watch::simulator::{CountCurve, SeededRandom, SimulatedEstimate, SimulatedOperation};
use jiff::Timestamp;

#[path = "schedule/chart.rs"]
mod chart;
#[path = "schedule/end_to_end.rs"]
mod end_to_end;
#[path = "schedule/mixes.rs"]
mod mixes;

const OPERATIONS: usize = 2_000;
const SEED: u64 = 1;
/// The number of seeds for the goals.
const SEEDS: u64 = 8;
/// How long backfills last, in seconds.
const LONG: (f64, f64) = (180.0, 6_000.0);
/// Backfills that end before a rate is known.
const SHORT: (f64, f64) = (10.0, 180.0);
/// So many objects are read again and again in the corpus that has something to add_to_history, each so many times.
const OBJECTS: usize = 100;
const TIMES: usize = 20;
/// The list names a backfill within so many seconds of its start.
const LISTED_WITHIN: f64 = 2.0;
/// So many are watched on the wire.
const ON_THE_WIRE: usize = 500;
const COURSES: [(CountCurve, &str); 4] = [
    (CountCurve::Linear, "linear"),
    (CountCurve::FastFirst, "fast first"),
    (CountCurve::SlowFirst, "slow first"),
    (CountCurve::Bursts, "bursts"),
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

const HELP: &str =
    "--seed N (the corpus), --svg FILE (draw the chart), --wire [N] (N backfills against the simulator)";

fn main() -> anyhow::Result<()> {
    let (mut seed, mut svg, mut wire) = (SEED, None, None);
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => seed = arguments.next().context("--seed needs a number")?.parse()?,
            "--svg" => svg = Some(PathBuf::from(arguments.next().context("--svg needs a file")?)),
            "--wire" => wire = Some(arguments.next_if(|next| !next.starts_with('-'))),
            // Cargo adds it.
            "--bench" => {}
            other => anyhow::bail!("unknown argument {other:?}; there are: {HELP}"),
        }
    }
    match wire {
        Some(count) => end_to_end::compare(count.map_or(Ok(ON_THE_WIRE), |count| count.parse())?, seed),
        None => simulate(seed, svg),
    }
}

fn simulate(seed: u64, svg: Option<PathBuf>) -> anyhow::Result<()> {
    println!(
        "{OPERATIONS} backfills, seed {seed}; the delay is that from the end to its detection, in seconds\n"
    );
    let long = corpus(seed, LONG, OPERATIONS);
    let outcomes = Outcomes::of(&long, seed)?;
    head();
    outcomes.rows("all", |_| true);
    for (course, (_, course_name)) in COURSES.iter().enumerate() {
        for (estimate, estimate_name) in ESTIMATES.iter().enumerate() {
            outcomes.rows(&format!("{course_name}, {estimate_name}"), |outcome| {
                (outcome.course, outcome.estimate) == (course, estimate)
            });
        }
    }
    if let Some(path) = svg {
        let lines = outcomes.schedules().map(|(name, outcomes)| chart::Line {
            name,
            polls: mean_polls(outcomes.iter()),
            delays: sorted(outcomes.iter()),
        });
        std::fs::write(&path, chart::draw(&lines))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Outcomes::of(&corpus(seed, SHORT, OPERATIONS), seed)?.rows("10 s to 3 min, all", |_| true);

    learning(seed)?;

    println!("\n| seed | polls beside plain backoff | mean delay beside it | linear within 5 % |");
    println!("| --- | ---: | ---: | ---: |");
    for seed in SEED..SEED + SEEDS {
        let outcomes = Outcomes::of(&corpus(seed, LONG, OPERATIONS), seed)?;
        let [polls, delay, linear] = outcomes.beside_plain();
        let met = polls <= 0.02 * mean_polls(outcomes.plain.iter()) && delay <= 0.5 && linear <= 0.25;
        let missed = if met { "" } else { " (missed)" };
        println!("| {seed} | {polls:+.2} | {delay:.3} | {linear:.3}{missed} |");
    }
    if !mixes::table()? {
        println!("\nNot every row meets its goals.");
    }
    Ok(())
}

/// The effect of the history of finished operations.
fn learning(seed: u64) -> anyhow::Result<()> {
    println!("\n{OBJECTS} objects, each read {TIMES} times\n");
    head();
    let again = again_and_again(seed);
    let plain = replay(&again, &backoff(false), LISTED_WITHIN, seed)?;
    let with_history = replay(&again, &backoff(true), LISTED_WITHIN, seed)?;
    // The same as if each were the first of its kind.
    let first_times: Vec<Backfill> = again
        .into_iter()
        .enumerate()
        .map(|(number, mut backfill)| {
            backfill.operation.objects = vec![format!("object {number}")];
            backfill
        })
        .collect();
    let firsts = replay(&first_times, &backoff(true), LISTED_WITHIN, seed)?;
    for (class, estimates) in [("all", 0..4), ("with an estimate", 0..3), ("none", 3..4)] {
        let is_of = |outcome: &Outcome| estimates.contains(&outcome.estimate);
        for (name, outcomes) in [
            ("plain", &plain),
            ("adaptive, first of its kind", &firsts),
            ("adaptive", &with_history),
        ] {
            row(class, name, outcomes.iter().filter(|outcome| is_of(outcome)));
        }
    }
    Ok(())
}

/// What each schedule came to over one corpus.
struct Outcomes {
    plain: Vec<Outcome>,
    fixed: Vec<Outcome>,
    adaptive: Vec<Outcome>,
}

impl Outcomes {
    fn of(corpus: &[Backfill], seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            plain: replay(corpus, &backoff(false), LISTED_WITHIN, seed)?,
            fixed: replay(corpus, &every_five_seconds(), LISTED_WITHIN, seed)?,
            adaptive: replay(corpus, &backoff(true), LISTED_WITHIN, seed)?,
        })
    }

    fn schedules(&self) -> [(&'static str, &[Outcome]); 3] {
        [
            ("plain", &self.plain),
            ("fixed 5 s", &self.fixed),
            ("adaptive", &self.adaptive),
        ]
    }

    fn rows(&self, class: &str, is_of: impl Fn(&Outcome) -> bool) {
        for (name, outcomes) in self.schedules() {
            row(class, name, outcomes.iter().filter(|outcome| is_of(outcome)));
        }
    }

    /// What the goals are about: polls more than plain backoff needs, and the mean delay as a part of that of plain
    /// backoff, over all and over those that are easy.
    fn beside_plain(&self) -> [f64; 3] {
        let delay = |outcomes: &[Outcome], is_of: fn(&Outcome) -> bool| {
            mean_delay(outcomes.iter().filter(|outcome| is_of(outcome)))
        };
        let part = |is_of| delay(&self.adaptive, is_of) / delay(&self.plain, is_of);
        [
            mean_polls(self.adaptive.iter()) - mean_polls(self.plain.iter()),
            part(|_| true),
            part(|outcome| (outcome.course, outcome.estimate) == (0, 0)),
        ]
    }
}

/// The same backfills for the same seed; they last between so many seconds.
fn corpus(seed: u64, (shortest, longest): (f64, f64), count: usize) -> Vec<Backfill> {
    let random = SeededRandom::new(seed);
    let between = |low: f64, high: f64| low + (high - low) * random.next_f64();
    let log_between = |low: f64, high: f64| low * (high / low).powf(random.next_f64());
    (0..count)
        .map(|number| {
            let duration = Duration::from_secs_f64(log_between(shortest, longest));
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
                // Each of its own kind, which has no history.
                objects: vec![format!("object {number}")],
                curve: COURSES[course].0,
                estimate: if missing {
                    SimulatedEstimate::Missing
                } else {
                    SimulatedEstimate::Wrong(factor)
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

/// The first backfills of [`corpus`] many times, in no order: each lasts about as long every time (within 15 % mostly, by a
/// normal distribution of its logarithm), and its estimate errs by about as much (within 2 %).
fn again_and_again(seed: u64) -> Vec<Backfill> {
    let random = SeededRandom::new(seed.wrapping_mul(3));
    // The sum of twelve is as good as normal.
    let normal = || (0..12).map(|_| random.next_f64()).sum::<f64>() - 6.0;
    let firsts = corpus(seed, LONG, OBJECTS);
    let mut again: Vec<(u64, Backfill)> = (0..OBJECTS * TIMES)
        .map(|number| {
            let first = &firsts[number % OBJECTS];
            let duration = first.operation.duration.mul_f64((0.15 * normal()).exp());
            let estimate = match first.operation.estimate {
                SimulatedEstimate::Wrong(factor) => {
                    SimulatedEstimate::Wrong(factor * (1.0 + 0.01 * normal()))
                }
                other => other,
            };
            let operation = SimulatedOperation {
                id: format!("op-{number}"),
                duration,
                estimate,
                ..first.operation.clone()
            };
            let backfill = Backfill { operation, ..*first };
            (random.next_u64(), backfill)
        })
        .collect();
    again.sort_unstable_by_key(|(place, _)| *place);
    again.into_iter().map(|(_, backfill)| backfill).collect()
}

/// The default settings.
fn backoff(adaptive: bool) -> ScheduleSettings {
    ScheduleSettings {
        adaptive,
        ..ScheduleSettings::DEFAULT
    }
}

fn every_five_seconds() -> ScheduleSettings {
    ScheduleSettings {
        initial_interval: Duration::from_secs(5),
        max_interval: Duration::from_secs(5),
        randomization: 0.0,
        ..backoff(false)
    }
}

fn replay(
    corpus: &[Backfill],
    schedule: &ScheduleSettings,
    listed_within: f64,
    seed: u64,
) -> anyhow::Result<Vec<Outcome>> {
    let mut kinds = OperationKinds::default();
    corpus
        .iter()
        .zip(0_u64..)
        .map(|(backfill, number)| {
            // Other numbers than the corpus was drawn from, and the same for each schedule.
            let random = SeededRandom::new(!seed ^ (number << 32));
            watch(backfill, schedule, listed_within, &random, &mut kinds)
        })
        .collect()
}

/// Watches one backfill from its first seconds to its end.
fn watch(
    backfill: &Backfill,
    schedule: &ScheduleSettings,
    listed_within: f64,
    random: &SeededRandom,
    kinds: &mut OperationKinds,
) -> anyhow::Result<Outcome> {
    let operation = &backfill.operation;
    let key = WatchKey {
        project: Arc::from("my-project"),
        operation: Arc::from(operation.id.as_str()),
    };
    let labels = Labels::default();
    let settings = WatchSettings {
        stalled_after: Duration::from_mins(30),
        silent_after: Some(Duration::from_hours(6)),
        unreachable_after: Duration::from_mins(5),
        not_found_grace: Duration::from_mins(2),
        give_up_after: None,
        active_statuses: vec!["in_progress".to_owned()],
        progress_step: 10.0,
        progress_interval: Duration::from_mins(1),
    };
    let created = Timestamp::UNIX_EPOCH;
    let mut watch = Watch::default();
    let mut elapsed = Duration::from_secs_f64(listed_within * random.next_f64());
    let mut before = elapsed;
    loop {
        let answer = Answer::Operation(Box::new(operation.at(created, elapsed)));
        let cx = WatchContext {
            key: &key,
            labels: &labels,
            deadline: None,
            settings: &settings,
            schedule,
            kinds,
            now: created.checked_add(elapsed)?,
            elapsed: elapsed - before,
            blocked: Duration::ZERO,
            random_fraction: random.next_f64(),
            project_proven: Some(Duration::ZERO),
            project_answered: Some(Duration::ZERO),
            all_others_refused: false,
        };
        match watch.observe(&answer, &cx).next {
            NextStep::Finished | NextStep::Unchanged => break,
            NextStep::PollAfter(wait) => {
                before = elapsed;
                elapsed += wait;
            }
        }
    }
    watch.add_to_history(kinds);
    Ok(Outcome {
        course: backfill.course,
        estimate: backfill.estimate,
        polls: watch.polls(),
        delay: elapsed.saturating_sub(operation.duration).as_secs_f64(),
    })
}

/// Of a table of [`row`]s.
fn head() {
    println!("| backfills | schedule | polls | mean | p50 | p90 | p99 |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
}

fn row<'a>(class: &str, schedule: &str, outcomes: impl Iterator<Item = &'a Outcome> + Clone) {
    let delays = sorted(outcomes.clone());
    println!(
        "| {class} | {schedule} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} |",
        mean_polls(outcomes),
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

fn mean_polls<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> f64 {
    mean(outcomes.map(|outcome| outcome.polls as f64))
}

fn mean_delay<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> f64 {
    mean(outcomes.map(|outcome| outcome.delay))
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
