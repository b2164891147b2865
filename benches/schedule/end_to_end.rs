//! The comparison with the built daemon and the simulator, with all times divided by a hundred.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use backfill_watch::simulator::{SimulatedOperation, Simulator, SimulatorConfig};

use super::{Backfill, LONG, Outcome, backoff, corpus, mean_delay, mean_polls, replay, row};

/// A second on the wire is so many of the simulation's.
const SCALE: u32 = 100;

/// Watches `count` backfills by plain backoff and adaptively, on the wire and in simulation.
pub fn compare(count: usize, seed: u64) -> anyhow::Result<()> {
    println!(
        "{count} backfills, seed {seed}, a hundred times as fast; delays are in seconds of the simulation\n"
    );
    println!("| where | schedule | polls | mean | p50 | p90 | p99 |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let corpus = corpus(seed, LONG, count);
    let runtime = tokio::runtime::Runtime::new()?;
    for (name, adaptive) in [("plain", false), ("adaptive", true)] {
        // On the wire a backfill begins when it is asked for first.
        let simulated = replay(&corpus, &backoff(adaptive), 0.0, seed)?;
        row("simulated", name, simulated.iter());
        let seen = runtime.block_on(watch(&corpus, adaptive))?;
        row("on the wire", name, seen.iter());
        println!(
            "| difference | {name} | {:+.1} % | {:+.2} s | | | |",
            100.0 * (mean_polls(seen.iter()) / mean_polls(simulated.iter()) - 1.0),
            mean_delay(seen.iter()) - mean_delay(simulated.iter())
        );
    }
    Ok(())
}

async fn watch(corpus: &[Backfill], adaptive: bool) -> anyhow::Result<Vec<Outcome>> {
    let simulator = Simulator::start(SimulatorConfig::default()).await?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("watch.list");
    let mut lines = String::new();
    for backfill in corpus {
        let duration = backfill.operation.duration / SCALE;
        simulator.add_waiting(SimulatedOperation {
            duration,
            ..backfill.operation.clone()
        });
        lines += &format!("{}\n", backfill.operation.id);
    }
    std::fs::write(&list, lines)?;
    let schedule = backoff(adaptive);
    let scaled = |interval: Duration| format!("{}ms", (interval / SCALE).as_millis());
    let run = Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .args(["run", "--until-done", "--listen", "off"])
        .arg("--watch-list")
        .arg(&list)
        .arg("--state-dir")
        .arg(folder.path().join("state"))
        .env_clear()
        .env("AMPERSAND_API_KEY", "simulated-key")
        .envs([
            ("BACKFILL_WATCH_AMPERSAND__PROJECT", "my-project"),
            ("BACKFILL_WATCH_AMPERSAND__BASE_URL", &simulator.base_url()),
            ("BACKFILL_WATCH_AMPERSAND__MAX_REQUESTS_PER_SECOND", "100000"),
            (
                "BACKFILL_WATCH_POLL__INITIAL_INTERVAL",
                &scaled(schedule.initial_interval),
            ),
            (
                "BACKFILL_WATCH_POLL__MIN_INTERVAL",
                &scaled(schedule.min_interval),
            ),
            (
                "BACKFILL_WATCH_POLL__MAX_INTERVAL",
                &scaled(schedule.max_interval),
            ),
            ("BACKFILL_WATCH_POLL__ADAPTIVE", &adaptive.to_string()),
            ("BACKFILL_WATCH_LOG__FILTER", "error"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("the daemon does not start")?;
    let ended = tokio::task::spawn_blocking(move || {
        let mut run = run;
        run.wait()
    });
    let status = ended.await??;
    anyhow::ensure!(status.success(), "the daemon ended with {status}");
    corpus
        .iter()
        .map(|backfill| {
            let instants = simulator.instants_of(&backfill.operation.id);
            let (first, last) = instants
                .first()
                .zip(instants.last())
                .context("a backfill that was never polled")?;
            let duration = backfill.operation.duration / SCALE;
            Ok(Outcome {
                course: backfill.course,
                estimate: backfill.estimate,
                polls: simulator.requests_of(&backfill.operation.id),
                delay: ((*last - *first).saturating_sub(duration) * SCALE).as_secs_f64(),
            })
        })
        .collect()
}
