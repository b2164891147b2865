//! `backfill-watch run`: the daemon.

use std::process::ExitCode;

use super::{Failure, SettingsArgs, exit};
use crate::app::{self, RunOutcome, RunUntil};
use crate::error::chain;
use crate::report::log;

const AFTER_HELP: &str = "\
Examples:
  As a service, with settings from /etc/backfill-watch/config.toml:
    backfill-watch run

  As a sidecar, with settings from the environment alone:
    AMPERSAND_API_KEY=… BACKFILL_WATCH_AMPERSAND__PROJECT=my-project \\
        backfill-watch run --watch-list /data/watch.list

  In a script, until all listed operations are finished:
    backfill-watch run --until-done --watch-list watch.list --state-dir ./state

Signals: SIGHUP reloads settings, secrets and the watch list. SIGTERM and SIGINT stop; a second one stops at once.

Exit codes: 0 stopped by a signal; 2 wrong settings, an address in use, or an unusable state; 1 an internal error. \
With --until-done: 0, 1 or 2 as described there; 130 and 143 stopped before the end.";

/// Run the daemon
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Exit when all listed operations are finished: 0 if all succeeded, 1 if not, 2 if lines were rejected
    #[arg(long)]
    until_done: bool,
}

/// Runs the daemon until it stops.
///
/// # Errors
/// When settings are wrong or a part of the daemon cannot be built.
pub async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let source = args.settings.source();
    let loaded = source.load()?;
    let log =
        log::init(loaded.settings.log.format, &loaded.settings.log.filter).map_err(|error| Failure {
            message: chain(&error),
            code: exit::USAGE,
        })?;
    for warning in &loaded.warnings {
        tracing::warn!(key = warning.key, help = warning.help, "{}", warning.problem);
    }
    let until = if args.until_done {
        RunUntil::Done
    } else {
        RunUntil::Stopped
    };
    let ending = app::run(source, loaded, log, until).await?;
    Ok(ExitCode::from(match ending {
        // An orderly stop is success for a service, but not with `--until-done`.
        RunOutcome::Stopped(_) if !args.until_done => 0,
        RunOutcome::AllSucceeded => 0,
        RunOutcome::NotAllSucceeded => exit::FAILED,
        RunOutcome::LinesRejected => exit::USAGE,
        RunOutcome::Stopped(signal) | RunOutcome::Forced(signal) => signal.exit_code(),
    }))
}
