//! The commands, one file each.

pub mod check;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod event_line;
pub mod events;
pub mod format;
pub mod generate;
pub mod list;
pub mod output;
pub mod progress_bars;
pub mod reload;
pub mod replay;
pub mod run;
pub mod simulate;
pub mod status;
pub mod terminal;
pub mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ampersand::ClientError;
use crate::app::SettingsSource;
use crate::config::{ConfigErrors, Environment, Overrides, Settings};
use crate::store::OpenError;

/// Exit codes, as every command uses them.
pub mod exit {
    /// An operation failed, ended otherwise, is gone or expired; or an internal error.
    pub const FAILED: u8 = 1;
    /// Wrong usage or settings, or a state that cannot be used.
    pub const USAGE: u8 = 2;
    /// The API could not be reached.
    pub const UNREACHABLE: u8 = 3;
    /// The API key was rejected.
    pub const CREDENTIALS: u8 = 4;
    /// The time that was allowed passed while operations still ran.
    pub const TIMED_OUT: u8 = 8;
    /// Nobody reads standard output any more: as a process that `SIGPIPE` ended.
    pub const BROKEN_PIPE: u8 = 141;
}

const AFTER_HELP: &str = "\
See it work, without an account:
  backfill-watch demo

Watch one operation from here, without a settings file:
  export AMPERSAND_API_KEY=… BACKFILL_WATCH_AMPERSAND__PROJECT=my-project
  backfill-watch watch 3efc0f0f-4bb9-498f-996c-9893d98ca4b5

Watch whatever a file lists, as a service does:
  backfill-watch run --watch-list watch.list --state-dir ./state

Exit codes: 0 all succeeded; 1 an operation failed, ended otherwise, is gone or expired; 2 usage or \
settings; 3 the API could not be reached; 4 the API key was rejected; 8 the time allowed has passed; 130 \
and 143 ended by SIGINT and SIGTERM.";

/// Watches backfill operations of the Ampersand API until they end, and tells people and programs what it sees.
#[derive(Debug, Parser)]
#[command(name = "backfill-watch", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Watch(watch::WatchArgs),
    List(list::ListArgs),
    Check(check::CheckArgs),
    Config(config::ConfigArgs),
    Events(events::EventsArgs),
    Status(status::StatusArgs),
    Replay(replay::ReplayArgs),
    Reload(reload::ReloadArgs),
    Simulate(simulate::SimulateArgs),
    Demo(demo::DemoArgs),
    Completions(generate::CompletionsArgs),
    Man(generate::ManArgs),
}

impl Cli {
    /// Carries out the command and tells the exit code.
    ///
    /// # Errors
    /// What keeps the command from being carried out, in words for people.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::run(args).await,
            Command::Watch(args) => watch::run(args).await,
            Command::List(args) => list::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Config(args) => config::run(args).await,
            Command::Events(args) => events::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Replay(args) => replay::run(args).await,
            Command::Reload(args) => reload::run(args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Completions(args) => generate::completions(&args),
            Command::Man(args) => generate::man(&args),
        }
    }
}

/// Where settings come from, for every command that reads them.
#[derive(Debug, Clone, clap::Args)]
pub struct SettingsArgs {
    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The file that lists the operations to watch
    #[arg(long, value_name = "FILE")]
    watch_list: Option<PathBuf>,

    /// The folder that keeps the state
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,

    /// Where to serve the status page, health and metrics; "off" for nowhere
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl SettingsArgs {
    /// The daemon that these settings are of.
    #[must_use]
    pub fn daemon(&self) -> daemon::DaemonArgs {
        daemon::DaemonArgs {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
        }
    }

    /// The sources of settings, the environment as it is now.
    #[must_use]
    pub fn source(self) -> SettingsSource {
        SettingsSource {
            path: self.config,
            environment: Environment::capture(),
            overrides: Overrides {
                watch_list: self.watch_list,
                state_dir: self.state_dir,
                listen: self.listen,
                ..Overrides::default()
            },
        }
    }
}

/// Where settings come from, for commands that ask the API themselves.
#[derive(Debug, Clone, clap::Args)]
pub struct RequestArgs {
    /// The project at Ampersand, by name or ID; by default the first of the settings
    #[arg(long, value_name = "NAME")]
    project: Option<String>,

    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl RequestArgs {
    /// Reads the settings, and tells on standard error what is doubtful about them.
    ///
    /// # Errors
    /// When they are wrong.
    pub fn load(self) -> Result<Settings, ConfigErrors> {
        let overrides = Overrides {
            project: self.project,
            ..Overrides::default()
        };
        let loaded =
            Settings::load_for_requests(self.config.as_deref(), &Environment::capture(), &overrides)?;
        for warning in &loaded.warnings {
            output::notice(&format!("warning: {warning}"));
        }
        Ok(loaded.settings)
    }
}

/// Where the state is, for commands that look at it beside the daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArgs {
    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The folder that keeps the daemon's state; by default as the settings say
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// The folder that keeps the state.
    ///
    /// # Errors
    /// When the settings are wrong.
    pub fn state_dir(&self) -> Result<PathBuf, ConfigErrors> {
        if let Some(folder) = &self.state_dir {
            return Ok(folder.clone());
        }
        let environment = Environment::capture();
        Settings::load_without_secrets(self.config.as_deref(), &environment, &Overrides::default())
            .map(|loaded| loaded.settings.state_dir)
    }
}

/// Why a command failed, where that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened and what to do.
    pub message: String,
    /// How to exit.
    pub code: u8,
}

/// How to exit after `error`: 2 for settings that are wrong and a state that cannot be used, the code of a [`Failure`],
/// else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigErrors>() || error.is::<ClientError>() || error.is::<OpenError>() {
        return exit::USAGE;
    }
    error
        .downcast_ref::<Failure>()
        .map_or(exit::FAILED, |failure| failure.code)
}
