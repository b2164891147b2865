//! The targets of `fuzz/` without a fuzzer. Every test run replays the corpus; `fuzz/run` also changes it at random.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::SeededRandom;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// How long each target runs on changed inputs, in seconds.
const SECONDS: &str = "BACKFILL_WATCH_FUZZ_SECONDS";
/// What the fuzzer of `fuzz/run` is limited to as well.
const MAX_INPUT: usize = 4096;
/// Pieces that mean something to one target or another.
const PIECES: [&str; 28] = [
    "\n",
    "\n%%\n",
    "\r\n",
    " ",
    "\0",
    "\u{feff}",
    "\u{85}",
    "%",
    "&after=",
    "=",
    "#",
    "\"",
    "\\u0000",
    "{",
    "}",
    "[",
    "null",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "whsec_",
    "AAAA====",
    "project=",
    "deadline=",
    "=\"",
    "é",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs a target on `input`. After a panic of the target it prints the input.
fn run_target(run: targets::Run, input: &[u8]) {
    struct PrintOnPanic<'a>(&'a [u8]);
    impl Drop for PrintOnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input was: {}", self.0.escape_ascii());
            }
        }
    }
    let _print_on_panic = PrintOnPanic(input);
    run(input);
}

/// Some of one input, some of another, and a few changes.
fn change(corpus: &[Vec<u8>], chance: &SeededRandom) -> Vec<u8> {
    let below = |bound: usize| (chance.next_f64() * bound as f64) as usize;
    let mut input = corpus[below(corpus.len())].clone();
    for _ in 0..=below(4) {
        let at = below(input.len() + 1);
        let end = (at + below(16)).min(input.len());
        match below(6) {
            0 => drop(input.drain(at..end)),
            1 => input
                .splice(at..end, PIECES[below(PIECES.len())].bytes())
                .for_each(drop),
            2 => input.insert(at, below(256) as u8),
            3 => input.splice(at..at, input[at..end].to_vec()).for_each(drop),
            4 if at < input.len() => input[at] ^= 1 << below(8),
            _ => {
                let other = &corpus[below(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[below(other.len() + 1)..]);
            }
        }
    }
    input.truncate(MAX_INPUT);
    input
}

fn fuzz(target: &str) {
    let (_, run) = targets::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "the corpus was not found");
    run_target(run, b"");
    for input in &corpus {
        run_target(run, input);
    }
    let seconds = std::env::var(SECONDS).map_or(0, |seconds| seconds.parse().unwrap());
    let seed = clock::wall().as_nanosecond() as u64;
    let (chance, begun) = (SeededRandom::new(seed), clock::instant());
    let mut inputs = 0_u64;
    while clock::instant() - begun < Duration::from_secs(seconds) {
        run_target(run, &change(&corpus, &chance));
        inputs += 1;
    }
    println!(
        "{target}: {} inputs of the corpus, {inputs} changed ones",
        corpus.len()
    );
}

macro_rules! fuzz {
    ($($target:ident)*) => {
        $(#[test] fn $target() { fuzz(stringify!($target)); })*

        #[test]
        fn every_target_is_here() {
            let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

fuzz! { answer query retry_after secrets settings store watch_list }
