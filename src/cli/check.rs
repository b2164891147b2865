//! `backfill-watch check`: settings and watch list, every problem with its place.

mod daemon_check;

use std::io;
use std::process::ExitCode;

use daemon_check::DaemonCheck;

use super::daemon::DaemonArgs;
use super::output::{self, Output, OutputError};
use super::{Failure, SettingsArgs, exit};
use crate::app;
use crate::config::{ConfigProblem, Settings, SettingsCheck};
use crate::core::key_verdict::KeyVerdict;
use crate::core::watch_list::{self, LineError, UnusableList, WatchList};
use crate::watch_list::{WatchListError, read};

const AFTER_HELP: &str = "\
Examples:
  backfill-watch check
  backfill-watch check --live --config ./config.toml --watch-list ./watch.list

Exit codes: 0 nothing is wrong; 2 settings or watch list are wrong; with --live also 3 the API could not be
reached and 4 an API key is rejected.";

/// Check settings and watch list, and print every problem with its place
///
/// What only the running daemon may read, such as the credentials of its unit, is asked of the daemon.
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
    let daemon = args.settings.daemon();
    let checkable = args.settings.source().check();
    for warning in &checkable.warnings {
        output::notice(&format!("warning: {warning}"));
    }
    let asked = match checkable.unread.is_empty() {
        true => None,
        false => Some(DaemonCheck::ask(&daemon, args.live, &checkable.file).await),
    };
    let by = match judge(&checkable, asked.as_ref())? {
        Reader::Command => "",
        Reader::Daemon => "; secrets as the daemon reads them",
    };
    let settings = &checkable.settings;
    // What is wrong with a certificate shows only when it is used.
    app::client(&settings.ampersand).await?;
    let mut out = Output::stdout();
    out.line(&format!("settings: good ({}{by})", summary(settings)))?;
    let mut code = check_list(&checkable, &daemon, &mut out).await?;
    out.flush()?;
    if args.live {
        let asked = asked.as_ref().and_then(|asked| asked.as_ref().ok());
        code = check_keys(settings, asked, &mut out).await?.or(code);
    }
    out.flush()?;
    Ok(ExitCode::from(code.unwrap_or(0)))
}

/// Who read the secrets.
enum Reader {
    Command,
    Daemon,
}

/// Whether the settings are good; the daemon's word counts for the secrets that cannot be read here.
fn judge(checkable: &SettingsCheck, asked: Option<&anyhow::Result<DaemonCheck>>) -> anyhow::Result<Reader> {
    let Some(asked) = asked else {
        return match &checkable.errors {
            Some(errors) => Err(errors.clone().into()),
            None => Ok(Reader::Command),
        };
    };
    let mut lines: Vec<String> = checkable.errors.iter().map(ToString::to_string).collect();
    match asked {
        Ok(asked) => {
            // It reads the same file, so that most of what is wrong is known already.
            let known = lines.concat();
            lines.extend(asked.errors().into_iter().filter(|line| !known.contains(&**line)));
        }
        Err(why) => {
            lines.extend(checkable.unread.iter().map(ConfigProblem::to_string));
            lines.push(format!(
                "the daemon cannot be asked for what only it can read: {why:#}"
            ));
        }
    }
    if lines.is_empty() {
        return Ok(Reader::Daemon);
    }
    Err(Failure {
        message: lines.join("\n"),
        code: exit::USAGE,
    }
    .into())
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

async fn check_list(
    checkable: &SettingsCheck,
    daemon: &DaemonArgs,
    out: &mut Output,
) -> Result<Option<u8>, OutputError> {
    let settings = &checkable.settings;
    let path = &settings.watch_list;
    let projects = app::project_names(&settings.ampersand);
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(WatchListError::Missing) => {
            output::notice(&format!(
                "warning: watch list {} is not there; the daemon waits for it. Create it, one operation ID per line",
                path.display()
            ));
            return Ok(None);
        }
        Err(error) => {
            let mut words = crate::error::chain(&error);
            if matches!(&error, WatchListError::Refused { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
            {
                match DaemonCheck::ask(daemon, false, &checkable.file).await {
                    Ok(asked) if asked.list_path() == path.display().to_string() => {
                        return list_of_daemon(&asked, out);
                    }
                    Ok(asked) => {
                        let other = asked.list_path();
                        words = format!("{words}; and the daemon has another list, {other}");
                    }
                    Err(why) => {
                        words = format!("{words}; and the daemon cannot be asked: {why:#}");
                    }
                }
            }
            output::error(&format!("watch list {}: {words}", path.display()));
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
        Some(UnusableList::NoLineParses) => {
            "no other line has an operation, so the list would not be used".to_owned()
        }
        Some(UnusableList::NotText) => {
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

/// Prints what the daemon found in its watch list.
fn list_of_daemon(asked: &DaemonCheck, out: &mut Output) -> Result<Option<u8>, OutputError> {
    let (path, remarks) = (asked.list_path(), asked.list_problems());
    if remarks.is_empty() {
        out.line(&format!("watch list: good (as the daemon reads it, in {path})"))?;
        return Ok(None);
    }
    for remark in &remarks {
        output::notice(remark);
    }
    output::error(&format!("lines of the watch list {path} are wrong"));
    Ok(Some(exit::USAGE))
}

async fn check_keys(
    settings: &Settings,
    asked: Option<&DaemonCheck>,
    out: &mut Output,
) -> anyhow::Result<Option<u8>> {
    let ampersand = &settings.ampersand;
    let client = app::client(ampersand).await?;
    // The gravest wins: credentials over an API that cannot be reached.
    let mut code = None;
    for project in &ampersand.projects {
        let name = &project.name;
        let verdict = match (project.api_key.read_line(), asked) {
            (Ok(key), _) => client.probe(name, &key.into()).await.into(),
            (Err(_), Some(asked)) => asked.key(name),
            (Err(error), None) => return Err(error.into()),
        };
        match verdict {
            KeyVerdict::Good => {
                out.line(&format!("API key of project {name}: good"))?;
                out.flush()?;
            }
            KeyVerdict::Rejected(reason) => {
                code = Some(exit::CREDENTIALS);
                output::error(&format!(
                    "API key of project {name}: rejected ({reason}); is it the key of this project, and still active?"
                ));
            }
            KeyVerdict::Unknown(reason) => {
                code = code.or(Some(exit::UNREACHABLE));
                output::error(&format!(
                    "API key of project {name}: not known ({reason}); try again later"
                ));
            }
            KeyVerdict::Unreachable(reason) => {
                code = code.or(Some(exit::UNREACHABLE));
                output::error(&format!(
                    "API key of project {name}: the API cannot be asked at {}: {reason}",
                    ampersand.base_url
                ));
            }
        }
    }
    Ok(code)
}
