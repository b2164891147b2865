//! `backfill-watch check`: settings and watch list, every problem with its place.

use std::process::ExitCode;

use super::output::{self, Output, OutputError};
use super::{SettingsArgs, exit};
use crate::app;
use crate::config::{Loaded, Settings};
use crate::core::answer::Answer;
use crate::core::watch_list::{self, LineError, Unusable, WatchList};
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
    for warning in &warnings {
        output::notice(&format!("warning: {warning}"));
    }
    let mut out = Output::stdout();
    out.line(&format!("settings: good ({})", summary(&settings)))?;
    let mut code = check_list(&settings, &mut out)?;
    out.flush()?;
    if args.live {
        code = check_keys(&settings, &mut out).await?.or(code);
    }
    out.flush()?;
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

fn check_list(settings: &Settings, out: &mut Output) -> Result<Option<u8>, OutputError> {
    let path = &settings.watch_list;
    let projects = app::project_names(&settings.ampersand);
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing) => {
            output::notice(&format!(
                "warning: watch list {} is not there; the daemon waits for it. Create it, one operation ID per line",
                path.display()
            ));
            return Ok(None);
        }
        Err(error) => {
            output::error(&format!(
                "watch list {}: {}",
                path.display(),
                crate::error::chain(&error)
            ));
            return Ok(Some(exit::USAGE));
        }
    };
    let list = watch_list::parse(&bytes, &projects);
    print_remarks(&path.display().to_string(), &list);
    let count = list.entries.len();
    let found = format!("{count} operation{}", if count == 1 { "" } else { "s" });
    if list.rejected_total == 0 {
        out.line(&format!("watch list: good ({found} in {})", path.display()))?;
        return Ok(None);
    }
    let rejected = list.rejected_total;
    let effect = match list.unusable() {
        None => format!("they would be skipped ({found} would be watched)"),
        Some(Unusable::NoLineParses) => {
            "no other line has an operation, so the list would not be used".to_owned()
        }
        Some(Unusable::NotText) => {
            "most have characters that no text has, so the list would not be used; save it as UTF-8"
                .to_owned()
        }
    };
    output::error(&format!("{rejected} lines of the watch list are wrong; {effect}"));
    Ok(Some(exit::USAGE))
}

/// Prints what concerns single lines, each with its place.
fn print_remarks(file: &str, list: &WatchList) {
    let kinds: [(&str, &[LineError], usize); 3] = [
        ("", &list.rejected, list.rejected_total),
        ("warning: ", &list.without_deadline, list.without_deadline_total),
        ("note: ", &list.repeated, list.repeated_total),
    ];
    for (kind, lines, total) in kinds {
        for LineError {
            line,
            column,
            problem,
        } in lines
        {
            output::notice(&format!("{file}:{line}:{column}: {kind}{problem}"));
        }
        if total > lines.len() {
            let more = total - lines.len();
            output::notice(&format!("{file}: {kind}{more} more lines likewise"));
        }
    }
}

async fn check_keys(settings: &Settings, out: &mut Output) -> anyhow::Result<Option<u8>> {
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
            Answer::Operation(_) | Answer::NotFound(_) => {
                out.line(&format!("API key of project {name}: good"))?;
                out.flush()?;
            }
            Answer::Unauthorized(reason) | Answer::Forbidden(reason) => {
                code = Some(exit::CREDENTIALS);
                output::error(&format!(
                    "API key of project {name}: rejected ({reason}); is it the key of this project, and still active?"
                ));
            }
            Answer::Throttled { reason, .. } | Answer::Refused(reason) => {
                code = code.or(Some(exit::UNREACHABLE));
                output::error(&format!(
                    "API key of project {name}: no telling ({reason}); try again later"
                ));
            }
            Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                code = code.or(Some(exit::UNREACHABLE));
                output::error(&format!(
                    "API key of project {name}: the API cannot be asked at {}: {}",
                    ampersand.base_url, failure.reason
                ));
            }
        }
    }
    Ok(code)
}
