//! The commands, one file each.

pub mod add;
pub mod check;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod discover;
pub mod event_line;
pub mod events;
pub mod format;
pub mod generate;
pub mod list;
pub mod output;
pub mod problems;
pub mod progress_bars;
pub mod reload;
pub mod remove;
pub mod replay;
pub mod requests;
pub mod run;
pub mod simulate;
pub mod status;
pub mod table;
pub mod terminal;
pub mod text_wrap;
pub mod watch;
pub mod write_target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::ampersand::ClientError;
use crate::app::SettingsSource;
use crate::config::{ConfigErrors, Environment, Overrides, Settings};
use crate::http::BindError;
use crate::store::OpenError;

/// Exit codes, as every command uses them.
pub mod exit {
    /// An operation failed, ended otherwise, is gone or expired; or an internal error.
    pub const FAILED: u8 = 1;
    /// Wrong usage or settings, or an unusable state.
    pub const USAGE: u8 = 2;
    /// The API could not be reached.
    pub const UNREACHABLE: u8 = 3;
    /// The API key was rejected.
    pub const CREDENTIALS: u8 = 4;
    /// `--timeout` passed while operations were still running.
    pub const TIMED_OUT: u8 = 8;
    /// Standard output is closed: the code of a process ended by `SIGPIPE`.
    pub const BROKEN_PIPE: u8 = 141;
}

const AFTER_HELP: &str = "\
Try it without an account:
  backfill-watch demo

Watch one operation without a settings file:
  export AMPERSAND_API_KEY=… BACKFILL_WATCH_AMPERSAND__PROJECT=my-project
  backfill-watch watch 3efc0f0f-4bb9-498f-996c-9893d98ca4b5

Watch the operations in a file, as a service does:
  backfill-watch run --watch-list watch.list --state-dir ./state

Exit codes: 0 all succeeded; 1 an operation failed, ended otherwise, is gone or expired; 2 usage or \
settings; 3 the API could not be reached; 4 the API key was rejected; 8 --timeout passed; 130 and 143 stopped \
by SIGINT and SIGTERM.";

/// Watches backfill operations of the Ampersand API until they end, and reports progress, stalls, success and failure
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
    Discover(discover::DiscoverArgs),
    List(list::ListArgs),
    Add(add::AddArgs),
    Remove(remove::RemoveArgs),
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
    /// Runs the command and returns its exit code.
    ///
    /// # Errors
    /// Any failure of the command, as it is printed.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::run(args).await,
            Command::Watch(args) => watch::run(args).await,
            Command::Discover(args) => discover::run(args).await,
            Command::List(args) => list::run(args).await,
            Command::Add(args) => add::run(args).await,
            Command::Remove(args) => remove::run(args).await,
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

/// The sources of settings.
#[derive(Debug, Clone, clap::Args)]
pub struct SettingsArgs {
    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Watch list: one operation ID per line, then labels
    #[arg(long, value_name = "FILE")]
    watch_list: Option<PathBuf>,

    /// Directory of the state: watches, event log and outbox
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,

    /// Address of the status page, health, metrics and HTTP API, or "off"
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl SettingsArgs {
    /// The daemon with these settings.
    #[must_use]
    pub fn daemon(&self) -> DaemonArgs {
        DaemonArgs {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
        }
    }

    /// The sources of settings, with the current environment.
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

/// The sources of settings for commands that send requests to the API.
#[derive(Debug, Clone, clap::Args)]
pub struct RequestArgs {
    /// Name or ID of the project at Ampersand; by default the first one in the settings
    #[arg(long, value_name = "NAME")]
    project: Option<String>,

    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl RequestArgs {
    /// Loads the settings, and prints warnings to standard error.
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

/// Which daemon, or which state, a command is for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DaemonArgs {
    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The state directory of the daemon; by default from the settings
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

impl DaemonArgs {
    /// The state directory.
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

impl DaemonArgs {
    /// The label that groups are formed by. Without valid settings it is the default.
    #[must_use]
    pub fn group_label(&self) -> Arc<str> {
        let environment = Environment::capture();
        let none = Overrides::default();
        Settings::load_without_secrets(self.config.as_deref(), &environment, &none)
            .map_or_else(|_| Arc::from("group"), |loaded| loaded.settings.groups.by)
    }
}

/// A failure with its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The failure and what to do.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

/// The exit code of an error: 2 for wrong settings and an unusable state, that of a [`Failure`], otherwise 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigErrors>()
        || error.is::<ClientError>()
        || error.is::<OpenError>()
        || error.is::<BindError>()
    {
        return exit::USAGE;
    }
    error
        .downcast_ref::<Failure>()
        .map_or(exit::FAILED, |failure| failure.code)
}
