//! `backfill-watch check`: settings and watch list, every problem with its place.

use std::io::Write as _;
use std::process::ExitCode;

use super::{SettingsArgs, exit};
use crate::app;
use crate::config::{Loaded, Settings};
use crate::core::answer::Answer;
use crate::core::watch_list;
use crate::watch_list::{ReadError, read};

const AFTER_HELP: &str = "\
Examples:
  backfill-watch check
  backfill-watch check --live --config ./config.toml --watch-list ./watch.list

Exit codes: 0 nothing is wrong; 2 settings or watch list are wrong; with --live also 3 the API could not be
reached and 4 an API key is rejected.";

/// Check settings and watch list, and tell every problem with its place
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Also ask the API whether each project's key is good; nothing is changed there
    #[arg(long)]
    live: bool,
}

/// Checks, and says what was found: what is well on standard output, what is not on standard error.
///
/// # Errors
/// When settings are wrong.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let Loaded {
        settings, warnings, ..
    } = args.settings.source().load()?;
    let mut err = std::io::stderr().lock();
    for warning in &warnings {
        writeln!(err, "warning: {warning}")?;
    }
    drop(err);
    say(&format!("settings: good ({})", summary(&settings)));
    let mut code = check_list(&settings)?;
    if args.live {
        code = check_keys(&settings).await?.or(code);
    }
    Ok(ExitCode::from(code.unwrap_or(0)))
}

fn summary(settings: &Settings) -> String {
    let projects: Vec<&str> = settings
        .ampersand
        .projects
        .iter()
        .map(|project| &*project.name)
        .collect();
    format!(
        "project{} {}, {} webhook{}, state in {}",
        if projects.len() == 1 { "" } else { "s" },
        projects.join(", "),
        settings.webhooks.len(),
        if settings.webhooks.len() == 1 { "" } else { "s" },
        settings.state_dir.display()
    )
}

fn check_list(settings: &Settings) -> anyhow::Result<Option<u8>> {
    let path = &settings.watch_list;
    let projects = app::project_names(&settings.ampersand);
    let mut err = std::io::stderr().lock();
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing) => {
            writeln!(
                err,
                "warning: watch list {} is not there; the daemon waits for it. Create it, one operation ID per line",
                path.display()
            )?;
            return Ok(None);
        }
        Err(error) => {
            writeln!(
                err,
                "error: watch list {}: {}",
                path.display(),
                crate::error::chain(&error)
            )?;
            return Ok(Some(exit::USAGE));
        }
    };
    let list = watch_list::parse(&bytes, &projects);
    for rejected in &list.rejected {
        writeln!(
            err,
            "{}:{}:{}: {}",
            path.display(),
            rejected.line,
            rejected.column,
            rejected.problem
        )?;
    }
    let unnamed = list.rejected_total - list.rejected.len();
    if unnamed > 0 {
        writeln!(err, "{}: {unnamed} more lines are wrong", path.display())?;
    }
    let count = list.entries.len();
    let found = format!("{count} operation{}", if count == 1 { "" } else { "s" });
    if list.rejected_total == 0 {
        say(&format!("watch list: good ({found} in {})", path.display()));
        return Ok(None);
    }
    writeln!(
        err,
        "error: {} of the watch list's lines are wrong and would be skipped ({found} {})",
        list.rejected_total,
        if count == 1 { "holds" } else { "hold" }
    )?;
    Ok(Some(exit::USAGE))
}

async fn check_keys(settings: &Settings) -> anyhow::Result<Option<u8>> {
    let ampersand = &settings.ampersand;
    let client = app::client(ampersand).await?;
    // The gravest wins: credentials over an API that cannot be reached.
    let mut code = None;
    for project in &ampersand.projects {
        let name = &project.name;
        let answer = client
            .probe(name, &project.api_key.read_line()?.into())
            .await
            .of_repeated();
        match answer {
            Answer::Operation(_) | Answer::NotFound(_) => say(&format!("API key of project {name}: good")),
            Answer::Unauthorized(reason) | Answer::Forbidden(reason) => {
                code = Some(exit::CREDENTIALS);
                complain(&format!(
                    "API key of project {name}: rejected ({reason}); is it the key of this project, and still active?"
                ));
            }
            Answer::Throttled { reason, .. } | Answer::Refused(reason) => {
                code = code.or(Some(exit::UNREACHABLE));
                complain(&format!(
                    "API key of project {name}: no telling ({reason}); try again later"
                ));
            }
            Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                code = code.or(Some(exit::UNREACHABLE));
                complain(&format!(
                    "API key of project {name}: the API cannot be asked at {}: {}",
                    ampersand.base_url, failure.reason
                ));
            }
        }
    }
    Ok(code)
}

/// Says what is well. A closed pipe is nobody's problem.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "error: {line}");
}
