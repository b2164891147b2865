//! `backfill-watch check`: checks settings, watch list and the directory of the state.

mod daemon_check;
mod host;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use daemon_check::DaemonCheck;

use super::discover::search::Search;
use super::output::{self, Output, OutputError};
use super::problems::{line_problem, more_lines};
use super::{DaemonArgs, Failure, SettingsArgs, discover, exit, format};
use crate::ampersand::ClientError;
use crate::app;
use crate::config::{ConfigProblem, ProjectSettings, Settings, SettingsCheck};
use crate::core::key_verdict::KeyVerdict;
use crate::core::watch_list::{self, LineError, UnusableList, WatchList};
use crate::error::RUN_AS_ROOT;
use crate::sources::watch_list::{WatchListError, read};

const AFTER_HELP: &str = "\
Examples:
  backfill-watch check
  backfill-watch check --live --config ./config.toml --watch-list ./watch.list

Exit codes: 0 no problems; 2 settings or watch list have errors, or the state cannot be written; with --live also
3 the API could not be reached and 4 an API key is rejected.";

/// Check settings, watch list and the directory of the state, and print all problems
///
/// It also prints whether the daemon runs.
/// Files that only the running daemon can read, such as the credentials of its unit, are checked by the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Also ask the API whether each key is good, and what discovery searches
    #[arg(long)]
    live: bool,
}

/// Prints valid parts to standard output and problems to standard error.
///
/// # Errors
/// When settings are wrong.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let daemon = args.settings.daemon();
    let checked = args.settings.source().check();
    for warning in &checked.warnings {
        output::notice(&format!("warning: {warning}"));
    }
    let by_daemon = match checked.unread.is_empty() {
        true => None,
        false => Some(DaemonCheck::request(&daemon, args.live, &checked.file).await),
    };
    let note = match verdict(&checked, by_daemon.as_ref())? {
        Reader::Command => "",
        Reader::Daemon => "; secrets checked by the daemon",
    };
    let settings = &checked.settings;
    // Building a client checks the certificates. Those of the system are no setting, and the daemon may see others.
    if let Err(error) = app::client(&settings.ampersand).await {
        match error.downcast_ref() {
            Some(ClientError::NoTrust { .. }) => output::notice(&format!("warning: {error}")),
            _ => return Err(error),
        }
    }
    let mut out = Output::stdout();
    out.line(&format!("settings: good ({}{note})", summary(settings)))?;
    let of_list = check_list(&checked, &daemon, &mut out).await?;
    let found = host::check_daemon(&daemon, &mut out).await?;
    let of_state = host::check_state(settings, &found, &mut out)?;
    let mut code = of_list.or(of_state);
    out.flush()?;
    if args.live {
        let by_daemon = by_daemon.as_ref().and_then(|check| check.as_ref().ok());
        code = check_keys(settings, by_daemon, &mut out).await?.or(code);
    }
    out.flush()?;
    Ok(ExitCode::from(code.unwrap_or(0)))
}

/// Who read the secrets.
enum Reader {
    Command,
    Daemon,
}

/// Whether the settings are valid. The daemon's check counts for secrets that this user cannot read.
fn verdict(
    checked: &SettingsCheck,
    by_daemon: Option<&anyhow::Result<DaemonCheck>>,
) -> anyhow::Result<Reader> {
    let Some(by_daemon) = by_daemon else {
        return match &checked.errors {
            Some(errors) => Err(errors.clone().into()),
            None => Ok(Reader::Command),
        };
    };
    let mut lines: Vec<String> = checked.errors.iter().map(ToString::to_string).collect();
    match by_daemon {
        Ok(check) => {
            // It reads the same file, so most errors are known already.
            let known = lines.concat();
            lines.extend(check.errors().into_iter().filter(|line| !known.contains(&**line)));
        }
        Err(why) => {
            lines.extend(checked.unread.iter().map(ConfigProblem::to_string));
            lines.push(format!("the daemon cannot check them either: {why:#}"));
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
    checked: &SettingsCheck,
    daemon: &DaemonArgs,
    out: &mut Output,
) -> Result<Option<u8>, OutputError> {
    let settings = &checked.settings;
    let path = &settings.watch_list;
    let projects = app::project_names(&settings.ampersand);
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(WatchListError::Missing) if !settings.requires_watch_list => {
            let sources = match settings.discovery.is_empty() {
                true => "the HTTP API",
                false => "discovery and the HTTP API",
            };
            out.line(&format!(
                "watch list: none ({} does not exist; watches come from {sources})",
                path.display()
            ))?;
            return Ok(None);
        }
        Err(WatchListError::Missing) => {
            output::notice(&format!(
                "warning: watch list {} does not exist; the daemon waits for it; create it with one operation ID per line",
                path.display()
            ));
            return Ok(None);
        }
        Err(error) => {
            let mut reason = crate::error::chain(&error);
            if matches!(&error, WatchListError::Refused { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
            {
                match DaemonCheck::request(daemon, false, &checked.file).await {
                    Ok(check) if check.watch_list().path() == path.display().to_string() => {
                        return print_list_of_daemon(&check, out);
                    }
                    Ok(check) => {
                        let other = check.watch_list().path().to_owned();
                        reason = format!("{reason}; the daemon uses another watch list: {other}");
                    }
                    Err(why) => {
                        reason = format!("{reason}; the daemon cannot check it either: {why:#}");
                    }
                }
            }
            output::error(&format!("watch list {}: {reason}", path.display()));
            return Ok(Some(exit::USAGE));
        }
    };
    let list = watch_list::parse(&bytes, &projects);
    print_line_problems(&path.display().to_string(), &list);
    let found = format::operations(list.entries.len());
    if list.rejected_total == 0 {
        out.line(&format!("watch list: good ({found} in {})", path.display()))?;
        return Ok(None);
    }
    let effect = match list.unusable() {
        None => format!("the other lines apply ({found})"),
        Some(UnusableList::NoLineParses) => "no line is valid, so the list would not be used".to_owned(),
        Some(UnusableList::NotText) => {
            "the file is not text, so the list would not be used; save it as UTF-8".to_owned()
        }
    };
    output::error(&format!("{}; {effect}", list.rejected_text()));
    Ok(Some(exit::USAGE))
}

/// Prints the problems of single lines, each with its place.
fn print_line_problems(file: &str, list: &WatchList) {
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
            let problem = problem.to_string();
            output::notice(&line_problem(
                file,
                (*line).into(),
                (*column).into(),
                kind,
                &problem,
            ));
        }
        if let Some(more) = more_lines(file, kind, lines.len(), total) {
            output::notice(&more);
        }
    }
}

/// Prints the daemon's check of its watch list.
fn print_list_of_daemon(check: &DaemonCheck, out: &mut Output) -> Result<Option<u8>, OutputError> {
    let list = check.watch_list();
    let (path, problems) = (list.path(), list.problems());
    if problems.is_empty() {
        out.line(&format!("watch list: good (checked by the daemon, in {path})"))?;
        return Ok(None);
    }
    for problem in &problems {
        output::notice(problem);
    }
    output::error(&format!("the watch list {path} has errors"));
    Ok(Some(exit::USAGE))
}

async fn check_keys(
    settings: &Settings,
    by_daemon: Option<&DaemonCheck>,
    out: &mut Output,
) -> anyhow::Result<Option<u8>> {
    let ampersand = &settings.ampersand;
    let client = app::client(ampersand).await?;
    // A rejected key wins over an unreachable API.
    let mut code = None;
    for project in &ampersand.projects {
        let name = &project.name;
        let verdict = match (project.api_key.read_line(), by_daemon) {
            (Ok(key), _) => client.probe(name, &key.into()).await.into(),
            (Err(_), Some(check)) => check.key(name),
            (Err(error), None) => return Err(error.into()),
        };
        match verdict {
            KeyVerdict::Good => {
                out.line(&format!("API key of project {name}: good"))?;
                out.flush()?;
                code = check_discovery(settings, project, out).await?.max(code);
            }
            KeyVerdict::Rejected(reason) => {
                code = Some(exit::CREDENTIALS);
                output::error(&format!(
                    "API key of project {name}: rejected ({reason}); replace it with an active key of this project"
                ));
            }
            KeyVerdict::Unknown(reason) => {
                code = code.or(Some(exit::UNREACHABLE));
                output::error(&format!(
                    "API key of project {name}: unknown ({reason}); try again later"
                ));
            }
            KeyVerdict::Unreachable(reason) => {
                code = code.or(Some(exit::UNREACHABLE));
                output::error(&format!(
                    "API key of project {name}: no answer from the API at {}: {reason}",
                    ampersand.base_url
                ));
            }
        }
    }
    Ok(code)
}

/// Prints what discovery would search in a project, if it has rules.
async fn check_discovery(
    settings: &Settings,
    project: &ProjectSettings,
    out: &mut Output,
) -> anyhow::Result<Option<u8>> {
    let name = &project.name;
    let Some(rules) = settings.discovery.get(name) else {
        return Ok(None);
    };
    if project.api_key.read_line().is_err() {
        output::notice(&format!(
            "discovery of project {name}: not checked, because only the daemon can read the API key; {RUN_AS_ROOT}"
        ));
        return Ok(None);
    }
    let mut search = Search::new(discover::target(settings, project).await?, Arc::clone(rules));
    if let Err(answer) = search.list().await {
        let Failure { message, code } = discover::failure(&answer, project, &settings.ampersand);
        output::error(&format!("discovery of project {name}: {message}"));
        return Ok(Some(code));
    }
    let (installations, objects) = search.discovery().counts();
    out.line(&format!(
        "discovery of project {name}: {objects} objects to search in {installations} installations; `backfill-watch discover` \
         lists their backfills"
    ))?;
    out.flush()?;
    for warning in discover::warnings(name, search.discovery(), search.unusable()) {
        output::notice(&format!("warning: {warning}"));
    }
    Ok(None)
}
