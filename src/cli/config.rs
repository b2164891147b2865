//! `backfill-watch config show` and `config reference`.

use std::process::ExitCode;

use clap::Subcommand;

use super::SettingsArgs;
use super::output::{self, Output};
use crate::config::{LoadedSettings, SettingValue, settings_reference, table_header};

const AFTER_HELP: &str = "\
Examples:
  backfill-watch config show
  backfill-watch config reference";

const SHOW_AFTER_HELP: &str = "\
Examples:
  backfill-watch config show
  backfill-watch config show --config ./config.toml";

/// Show the settings that apply, or all settings that exist
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the settings that apply as TOML, each with its place
    ///
    /// Secrets are not printed. Of a webhook URL only the host is printed.
    #[command(after_help = SHOW_AFTER_HELP)]
    Show(SettingsArgs),
    /// Print a Markdown table of all settings: type, default, whether a reload applies it, meaning
    Reference,
}

/// Prints the settings.
///
/// # Errors
/// When the settings are wrong, or standard output cannot be written.
pub async fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ConfigCommand::Show(settings) => show(settings),
        ConfigCommand::Reference => {
            let mut out = Output::stdout();
            out.text(&settings_reference())?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(settings: SettingsArgs) -> anyhow::Result<ExitCode> {
    let LoadedSettings {
        warnings, effective, ..
    } = settings.source().load_without_secrets()?;
    for warning in &warnings {
        output::notice(&format!("warning: {warning}"));
    }
    let mut out = Output::stdout();
    let mut table = String::new();
    for value in &effective.values() {
        let (of_value, name) = value.key.rsplit_once('.').unwrap_or(("", &value.key));
        if of_value != table {
            table = of_value.to_owned();
            out.line("")?;
            out.line(&table_header(of_value))?;
        }
        out.line(&line(name, value))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn line(name: &str, value: &SettingValue) -> String {
    let place = value
        .place
        .as_ref()
        .map_or_else(|| "default".to_owned(), ToString::to_string);
    let mark = if value.is_setting { "" } else { "# " };
    format!("{mark}{name} = {}  # {place}", value.value)
}
