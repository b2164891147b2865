//! The command `backfill-watch`: command line in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use backfill_watch::cli::{Cli, exit, exit_code};
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The daemon polls on a thread of its own (`app`); what is around that is little.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the asynchronous runtime: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = runtime.block_on(cli.run()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(exit_code(&error))
    });
    // A read that hangs on a dead file system must not keep the process from ending.
    runtime.shutdown_background();
    code
}
