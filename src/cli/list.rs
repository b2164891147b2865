//! `backfill-watch list`: the operations of an installation, from the API.

mod pages;
mod row;

use std::process::ExitCode;

use clap::ValueEnum;

use self::pages::{PageError, Pages};
use super::output::{self, Output, OutputError};
use super::requests::rejected_key;
use super::table::Table;
use super::terminal::{self, TerminalStyle};
use super::{Failure, RequestArgs, exit};
use crate::ampersand::ApiError;
use crate::app;
use crate::clock;
use crate::config::{AmpersandSettings, ProjectSettings};
use crate::core::operation::Operation;
use crate::core::text;
use crate::core::watch_list::accepts_id;

const AFTER_HELP: &str = "\
Examples:
  The running operations of a customer:
    backfill-watch list --project my-project --integration ID --installation ID --status in_progress

  Watch them until they are finished:
    backfill-watch list --integration ID --installation ID --status in_progress --output ids \\
        | backfill-watch watch -

Exit codes: 0 the list is complete, perhaps empty; 1 the API refused, its list does not end, or a watch list does \
not accept an ID (with --output ids); 2 usage or settings; 3 the API could not be reached; 4 the API key was \
rejected; 141 standard output was closed.";

/// List the operations of an installation
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ListArgs {
    /// ID of the integration
    #[arg(long, value_name = "ID", value_parser = id)]
    integration: String,

    /// ID of the installation (one customer's use of the integration)
    #[arg(long, value_name = "ID", value_parser = id)]
    installation: String,

    /// Only operations with this status: in_progress, success or failure
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,

    /// Output format: a table, IDs for `watch -`, or a JSON array with all members
    #[arg(long, short, value_enum, default_value = "table")]
    output: OutputFormat,

    #[command(flatten)]
    request: RequestArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Ids,
    Table,
    Json,
}

fn id(text: &str) -> Result<String, String> {
    match text {
        "" | "." | ".." => Err("not an ID".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Prints the operations.
///
/// # Errors
/// When settings are wrong, or the API does not return the list.
pub async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let settings = args.request.load()?;
    let ampersand = &settings.ampersand;
    let Some(project) = ampersand.projects.first() else {
        anyhow::bail!("no project is configured; use --project NAME");
    };
    let mut pages = Pages::new(
        app::client(ampersand).await?,
        &project.name,
        &args.integration,
        &args.installation,
        project.api_key.read_line()?.into(),
        ampersand.max_requests_per_second,
    );
    let mut printer = Printer::new(args.output);
    while let Some(page) = pages
        .next()
        .await
        .map_err(|error| failure(error, project, ampersand))?
    {
        let matching = page.into_iter().filter(|operation| {
            args.status
                .as_deref()
                .is_none_or(|status| operation.status.as_str() == status)
        });
        printer.print(matching)?;
    }
    let Printed { matched, refused } = printer.finish()?;
    if refused > 0 {
        let message = format!(
            "{refused} of {matched} operations were not printed because a watch list does not accept their IDs; use \
             --output json to see all"
        );
        return Err(Failure {
            message,
            code: exit::FAILED,
        }
        .into());
    }
    if matched == 0 {
        output::notice(&explain_empty(pages.total(), args.status.as_deref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Why the list is empty.
fn explain_empty(total: usize, status: Option<&str>) -> String {
    match status {
        Some(status) if total > 0 => {
            let known = ["in_progress", "success", "failure"];
            let similar = known.iter().find(|known| {
                **known != status && strsim::damerau_levenshtein(&status.to_lowercase(), known) <= 3
            });
            let hint = similar.map_or_else(String::new, |known| format!("; did you mean {known}?"));
            format!("none of the installation's {total} operations has the status {status:?}{hint}")
        }
        _ => "the installation has no operations; check --integration and --installation".to_owned(),
    }
}

fn failure(error: PageError, project: &ProjectSettings, ampersand: &AmpersandSettings) -> Failure {
    let error = match error {
        PageError::Api(error) => error,
        PageError::Paging(paging) => {
            let message = format!(
                "the list is incomplete because the API does not end it: {paging}; try again later, and report it to \
                 Ampersand if it happens again"
            );
            return Failure {
                message,
                code: exit::FAILED,
            };
        }
    };
    let (code, message) = match error {
        ApiError::Unauthorized(reason) | ApiError::Forbidden(reason) => {
            return rejected_key(project, &reason);
        }
        ApiError::NotFound(reason) => (
            exit::FAILED,
            format!("not found: {reason}; check --project, --integration and --installation"),
        ),
        ApiError::Refused(reason) => (exit::FAILED, format!("the API refused the list: {reason}")),
        ApiError::Throttled { reason, .. } => (
            exit::UNREACHABLE,
            format!("the API asks for a longer pause: {reason}; try again later"),
        ),
        ApiError::Failed(failure) | ApiError::Unprocessed(failure) => (
            exit::UNREACHABLE,
            format!(
                "no list from the API at {}: {}",
                ampersand.base_url, failure.reason
            ),
        ),
    };
    Failure { message, code }
}

/// How many rows of a table are printed together, with aligned columns.
const TABLE_ROWS: usize = 1_000;
/// How many of the IDs that are not printed are named.
const MAX_IDS_NAMED: usize = 20;
/// The longest such ID, in bytes.
const MAX_ID_SHOWN: usize = 200;

/// Prints operations page by page, a table in parts.
struct Printer {
    out: Output,
    format: OutputFormat,
    table: Table,
    printed: Printed,
}

/// What was printed.
#[derive(Debug, Clone, Copy, Default)]
struct Printed {
    /// The operations to print.
    matched: usize,
    /// Those of them whose IDs a watch list does not accept.
    refused: usize,
}

impl Printer {
    fn new(format: OutputFormat) -> Self {
        Self {
            out: Output::stdout(),
            format,
            table: Table::new(&row::HEADER, TerminalStyle::stdout(), terminal::columns()),
            printed: Printed::default(),
        }
    }

    fn print(&mut self, operations: impl Iterator<Item = Operation>) -> anyhow::Result<()> {
        for operation in operations {
            match self.format {
                OutputFormat::Ids if accepts_id(&operation.id) => self.out.line(&operation.id)?,
                OutputFormat::Ids => self.refuse(&operation.id),
                OutputFormat::Table => {
                    self.table.add(row::row(&operation, clock::wall()));
                    if self.table.rows() == TABLE_ROWS {
                        self.write_table()?;
                    }
                }
                OutputFormat::Json => {
                    let start = if self.printed.matched == 0 { "[\n" } else { ",\n" };
                    self.out.raw(start.as_bytes())?;
                    self.out.json(&serde_json::to_string(&operation)?)?;
                }
            }
            self.printed.matched += 1;
        }
        Ok(self.out.flush()?)
    }

    fn finish(mut self) -> Result<Printed, OutputError> {
        match self.format {
            OutputFormat::Ids => {}
            OutputFormat::Table => self.write_table()?,
            OutputFormat::Json if self.printed.matched == 0 => self.out.raw(b"[]\n")?,
            OutputFormat::Json => self.out.raw(b"\n]\n")?,
        }
        self.out.flush()?;
        Ok(self.printed)
    }

    /// Reports an ID that would be read as something else in a watch list.
    fn refuse(&mut self, id: &str) {
        self.printed.refused += 1;
        if self.printed.refused <= MAX_IDS_NAMED {
            let id = text::cut(id, MAX_ID_SHOWN);
            output::notice(&format!(
                "not printed: {id:?} is not an operation ID that a watch list accepts"
            ));
        }
    }

    fn write_table(&mut self) -> Result<(), OutputError> {
        let table = self.table.take();
        self.out.text(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_explained() {
        assert!(explain_empty(0, None).contains("check --integration"));
        assert!(explain_empty(0, Some("success")).contains("check --integration"));
        assert_eq!(
            explain_empty(3, Some("in-progress")),
            "none of the installation's 3 operations has the status \"in-progress\"; did you mean in_progress?"
        );
        assert!(explain_empty(3, Some("failure")).ends_with("\"failure\""));
    }
}
