//! `backfill-watch discover`: what discovery would find now. A dry run.

mod row;
pub(super) mod search;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use self::row::{Row, Verdict};
use self::search::{Search, SearchTarget};
use super::output::{self, Output};
use super::requests::rejected_key;
use super::terminal::{self, TerminalStyle};
use super::{Failure, RequestArgs, exit, format};
use crate::app;
use crate::clock;
use crate::config::{AmpersandSettings, ProjectSettings, Settings};
use crate::core::answer::Answer;
use crate::core::discovery::{Discovery, DiscoveryRule};

const AFTER_HELP: &str = "\
Examples:
  What the settings find:
    backfill-watch discover

  What would be found in a project, before any settings:
    AMPERSAND_API_KEY=… backfill-watch discover --project my-project

  The operations that would be watched:
    backfill-watch discover --output json | jq -r '.[] | select(.labels).operationId'

Verdicts: new: started within `lookback`, is watched; running: is older and runs, is watched; old: is older and finished, is \
not reported; no backfill yet: is asked for again. The command uses no state: it shows what a first start would find.

Exit codes: 0 the list is complete, perhaps empty; 2 usage or settings; 3 the API could not be reached, or did not \
answer for each object; 4 the API key was rejected.";

/// Show what discovery would find now, and change nothing
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct DiscoverArgs {
    /// Name or ID of the project at Ampersand; by default each project with a [[discover]] table
    #[arg(long, value_name = "NAME")]
    project: Option<String>,

    /// Output format: a table, or a JSON array
    #[arg(long, short, value_enum, default_value = "table")]
    output: OutputFormat,

    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
}

/// Prints what discovery would find.
///
/// # Errors
/// When settings are wrong, or the API does not answer.
pub async fn run(args: DiscoverArgs) -> anyhow::Result<ExitCode> {
    let request = RequestArgs {
        project: args.project,
        config: args.config,
    };
    let settings = request.load()?;
    let mut rows = Vec::new();
    for (project, rules) in searched(&settings)? {
        rows.extend(find(&settings, project, rules).await?);
    }
    print(args.output, &rows)?;
    output::notice(&summary(&rows));
    let unanswered = count(&rows, Verdict::NoAnswer);
    if let Some(row) = rows.iter().find(|row| row.verdict == Verdict::NoAnswer) {
        let message = format!(
            "the API did not answer for {unanswered} of {} objects, first for {} of {}: {}; try again later",
            rows.len(),
            row.object,
            row.group,
            row.reason.as_deref().unwrap_or("no reason given")
        );
        return Err(Failure {
            message,
            code: exit::UNREACHABLE,
        }
        .into());
    }
    Ok(ExitCode::SUCCESS)
}

/// A project and its rules.
type SearchedProject<'a> = (&'a ProjectSettings, Arc<[DiscoveryRule]>);

/// The projects with rules, otherwise the first project with an empty rule.
fn searched(settings: &Settings) -> anyhow::Result<Vec<SearchedProject<'_>>> {
    let projects = &settings.ampersand.projects;
    let configured: Vec<_> = projects
        .iter()
        .filter_map(|project| Some((project, Arc::clone(settings.discovery.get(&project.name)?))))
        .collect();
    if !configured.is_empty() {
        return Ok(configured);
    }
    let Some(project) = projects.first() else {
        anyhow::bail!("no project is configured; use --project NAME");
    };
    output::notice(&format!(
        "no [[discover]] table is configured for project {}, so the daemon finds nothing there. An empty table would find what \
         follows. Add this to the settings:\n\n  [[discover]]\n  project = \"{}\"\n",
        project.name, project.name
    ));
    Ok(vec![(project, [DiscoveryRule::everything()].into())])
}

async fn find(
    settings: &Settings,
    project: &ProjectSettings,
    rules: Arc<[DiscoveryRule]>,
) -> anyhow::Result<Vec<Row>> {
    let ampersand = &settings.ampersand;
    let mut search = Search::new(target(settings, project).await?, rules);
    let error = |answer: Answer| failure(&answer, project, ampersand);
    search.list().await.map_err(error)?;
    for warning in warnings(&project.name, search.discovery(), search.unusable()) {
        output::notice(&format!("warning: {warning}"));
    }
    Ok(search.find().await.map_err(error)?)
}

/// What a search of a project needs.
///
/// # Errors
/// When the key cannot be read, or the client cannot be built.
pub(super) async fn target<'a>(
    settings: &'a Settings,
    project: &'a ProjectSettings,
) -> anyhow::Result<SearchTarget<'a>> {
    Ok(SearchTarget {
        client: app::client(&settings.ampersand).await?,
        project: &project.name,
        api_key: project.api_key.read_line()?.into(),
        max_requests_per_second: settings.ampersand.max_requests_per_second,
        active_statuses: &settings.poll.watch.active_statuses,
    })
}

/// What is odd about the lists of a project.
pub(super) fn warnings(project: &str, discovery: &Discovery, unusable: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let (installations, _) = discovery.counts();
    if installations == 0 {
        warnings.push(format!(
            "project {project} has no installations yet; their backfills are found when customers install"
        ));
    } else {
        warnings.extend(discovery.unmatched_rules().map(|index| {
            format!(
                "[[discover]] table {} of project {project} matches none of the {installations} installations; check its \
                 integrations and groups",
                index + 1
            )
        }));
    }
    if unusable > 0 {
        warnings.push(format!(
            "project {project}: {unusable} installations or objects cannot be used, because their IDs or names cannot be part \
             of a URL"
        ));
    }
    warnings
}

/// The failure when the API does not answer.
pub(super) fn failure(answer: &Answer, project: &ProjectSettings, ampersand: &AmpersandSettings) -> Failure {
    let reason = answer.reason().unwrap_or_default();
    let (code, message) = match answer {
        Answer::Unauthorized(_) | Answer::Forbidden(_) => return rejected_key(project, reason),
        Answer::NotFound(_) => (
            exit::USAGE,
            format!(
                "the API does not know project {}: {reason}; check its name, and that the API key belongs to it",
                project.name
            ),
        ),
        Answer::Throttled { .. } => (
            exit::UNREACHABLE,
            format!("the API asks for a longer pause: {reason}; try again later"),
        ),
        Answer::Refused(_) => (
            exit::UNREACHABLE,
            format!("the API refused a request: {reason}; check ampersand.base_url"),
        ),
        Answer::Operation(_) | Answer::Failed(_) | Answer::Unprocessed(_) => (
            exit::UNREACHABLE,
            format!("no answer from the API at {}: {reason}", ampersand.base_url),
        ),
    };
    Failure { message, code }
}

fn print(format: OutputFormat, rows: &[Row]) -> anyhow::Result<()> {
    let mut out = Output::stdout();
    match format {
        OutputFormat::Json => {
            out.json(&serde_json::to_string_pretty(rows)?)?;
            out.raw(b"\n")?;
        }
        OutputFormat::Table => {
            let style = TerminalStyle::stdout();
            for line in row::lines(rows, style, terminal::columns(), clock::wall()) {
                out.line(&style.shown(&line))?;
            }
        }
    }
    Ok(out.flush()?)
}

fn count(rows: &[Row], verdict: Verdict) -> usize {
    rows.iter().filter(|row| row.verdict == verdict).count()
}

/// The numbers of each verdict that is there.
fn summary(rows: &[Row]) -> String {
    let watched = count(rows, Verdict::New) + count(rows, Verdict::Running);
    let rest = [
        (count(rows, Verdict::Old), "older and finished"),
        (count(rows, Verdict::NoBackfill), "without a backfill yet"),
        (
            count(rows, Verdict::Duplicate),
            "with the operation of another object",
        ),
        (count(rows, Verdict::NoAnswer), "without an answer"),
    ];
    let mut text = format!(
        "{} object{}: {} would be watched",
        format::count(rows.len() as u64),
        if rows.len() == 1 { "" } else { "s" },
        format::count(watched as u64)
    );
    for (number, what) in rest.into_iter().filter(|(number, _)| *number > 0) {
        text.push_str(&format!(", {} {what}", format::count(number as u64)));
    }
    text
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::*;

    fn row(verdict: Verdict) -> Row {
        Row {
            project: "p".to_owned(),
            group: "acme\u{1b}".to_owned(),
            object: "contact".to_owned(),
            installation_id: "i".to_owned(),
            integration: "read".to_owned(),
            verdict,
            operation_id: Some("op".to_owned()),
            create_time: "2026-11-24T11:59:00Z".parse().ok(),
            reason: None,
            labels: Vec::new(),
            deadline: None,
        }
    }

    const PLAIN: TerminalStyle = TerminalStyle {
        colour: false,
        unicode: true,
    };

    #[test]
    fn ids_and_verdicts_are_whole_beside_a_long_group() {
        const OPERATION: &str = "0af438d2-9be4-4c5e-8a37-5f0c2b6f9d11";
        const INSTALLATION: &str = "1bf438d2-9be4-4c5e-8a37-5f0c2b6f9d22";
        let mut long = row(Verdict::New);
        long.group = "g".repeat(74);
        let mut empty = row(Verdict::NoBackfill);
        empty.operation_id = None;
        let mut rows = [long, row(Verdict::Running), empty];
        for row in &mut rows {
            row.installation_id = INSTALLATION.to_owned();
            row.operation_id = row.operation_id.is_some().then(|| OPERATION.to_owned());
        }
        for width in 60..=240 {
            let lines = row::lines(&rows, PLAIN, Some(width), "2026-11-24T12:00:09Z".parse().unwrap());
            let text = lines.join("\n");
            for line in &lines {
                assert!(measure_text_width(line) <= width, "{width}: {line}");
            }
            assert_eq!(text.matches(OPERATION).count(), 2, "{width}:\n{text}");
            assert_eq!(text.matches(INSTALLATION).count(), 3, "{width}:\n{text}");
            for shown in ["new", "running", "no backfill yet", "contact"] {
                assert!(text.contains(shown), "{shown} at {width} in\n{text}");
            }
        }
    }

    #[test]
    fn the_summary_names_each_number_that_is_there() {
        assert_eq!(summary(&[]), "0 objects: 0 would be watched");
        assert_eq!(summary(&[row(Verdict::New)]), "1 object: 1 would be watched");
        let rows = [Verdict::New, Verdict::Running, Verdict::Old, Verdict::NoBackfill].map(row);
        assert_eq!(
            summary(&rows),
            "4 objects: 2 would be watched, 1 older and finished, 1 without a backfill yet"
        );
    }

    #[test]
    fn a_row_is_one_line_and_one_json_object() {
        let now = "2026-11-24T12:00:09Z".parse().unwrap();
        assert_eq!(
            row::lines(&[row(Verdict::New)], PLAIN, None, now),
            [
                "GROUP       OBJECT   VERDICT  STARTED     OPERATION  INSTALLATION",
                "acme\\u{1b}  contact  new      1m 09s ago  op         i"
            ]
        );
        let mut other = row(Verdict::Old);
        other.project = "q".to_owned();
        let lines = row::lines(&[row(Verdict::New), other], PLAIN, None, now);
        assert!(
            lines[0].starts_with("PROJECT  GROUP") && lines[2].starts_with("q        acme"),
            "{lines:?}"
        );
        let mut found = row(Verdict::NoBackfill);
        found.labels = vec![("team".to_owned(), "crm".to_owned())];
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["verdict"], "no_backfill");
        assert_eq!(json["labels"]["team"], "crm");
        assert_eq!(json["createTime"], "2026-11-24T11:59:00Z");
        assert!(json.get("reason").is_none() && json.get("deadline").is_none());
    }
}
