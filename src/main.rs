//! The command `backfill-watch`: command line in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context as _;
use backfill_watch::cli::Cli;
use backfill_watch::cli::output::{conclude, usage};
use backfill_watch::signal_mask;
use clap::Parser as _;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => conclude(run(cli)),
        Err(error) => usage(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    signal_mask::unblock().context("cannot unblock the signals that stop this program")?;
    // The daemon polls on a thread of its own (`app`), so one worker is enough.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let ended = runtime.block_on(cli.run());
    // A read that hangs on a network file system must not delay the exit.
    runtime.shutdown_background();
    ended
}
