//! `backfill-watch completions` and `man`, for packagers.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use super::output::Output;

const COMPLETIONS_AFTER_HELP: &str = "\
Examples:
  backfill-watch completions bash > /usr/share/bash-completion/completions/backfill-watch
  backfill-watch completions zsh  > /usr/share/zsh/vendor-completions/_backfill-watch
  backfill-watch completions fish > /usr/share/fish/vendor_completions.d/backfill-watch.fish";

/// Print shell completions
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_AFTER_HELP)]
pub struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

const MAN_AFTER_HELP: &str = "\
Examples:
  backfill-watch man | man -l -
  backfill-watch man --folder /usr/share/man/man1";

/// Print the manual page, or write the pages of all commands
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_AFTER_HELP)]
pub struct ManArgs {
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints completions.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "backfill-watch", &mut script);
    print(&script)
}

/// Prints or writes manual pages.
///
/// # Errors
/// When they cannot be written.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let command = Cli::command();
    match &args.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print(&page)
        }
        Some(folder) => {
            clap_mangen::generate_to(command, folder)
                .with_context(|| format!("cannot write manual pages to {}", folder.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout();
    output.raw(bytes)?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}
