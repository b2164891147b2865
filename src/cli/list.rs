//! `backfill-watch list`: an installation's operations, as the API lists them.

mod pages;
mod table;

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use console::Term;

use self::pages::Pages;
use self::table::Table;
use super::terminal::Style;
use super::{AskArgs, Failure, exit};
use crate::ampersand::ApiError;
use crate::app;
use crate::clock;
use crate::config::{Ampersand, Project};
use crate::core::operation::Operation;

const AFTER_HELP: &str = "\
Examples:
  What runs for a customer:
    backfill-watch list --project my-project --integration ID --installation ID --status in_progress

  Watch all of it to the end:
    backfill-watch list --integration ID --installation ID --status in_progress --output ids \\
        | backfill-watch watch -

Exit codes: 0 listed, be it nothing; 1 the API refused; 2 usage or settings; 3 the API could not be \
reached; 4 the API key was rejected.";

/// List an installation's operations
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ListArgs {
    /// The integration, by ID
    #[arg(long, value_name = "ID", value_parser = id)]
    integration: String,

    /// The installation (one customer's instance of the integration), by ID
    #[arg(long, value_name = "ID", value_parser = id)]
    installation: String,

    /// Only operations with this status: in_progress, success, failure
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,

    /// How to print them: a table for people, IDs for `watch -`, or all that the API tells as a JSON array
    #[arg(long, short, value_enum, default_value = "table")]
    output: OutputFormat,

    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Ids,
    Table,
    Json,
}

fn id(text: &str) -> Result<String, String> {
    match text {
        "" | "." | ".." => Err("this is no ID".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Lists.
///
/// # Errors
/// When settings are wrong, or the API gives no list.
pub async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let settings = args.ask.load()?;
    let ampersand = &settings.ampersand;
    // There is one at least; the first is the default.
    let Some(project) = ampersand.projects.first() else {
        anyhow::bail!("no project is configured; give --project NAME");
    };
    let mut pages = Pages::new(
        app::client(ampersand).await?,
        &project.name,
        &args.integration,
        &args.installation,
        project.api_key.read_line()?.into(),
    );
    let mut printer = Printer::new(args.output);
    while let Some(page) = pages
        .next()
        .await
        .map_err(|error| failure(error, project, ampersand))?
    {
        let wanted = page.into_iter().filter(|operation| {
            args.status
                .as_deref()
                .is_none_or(|status| operation.status.as_str() == status)
        });
        if let Err(error) = printer.print(wanted) {
            return closed(error);
        }
    }
    let printed = match printer.finish() {
        Ok(printed) => printed,
        Err(error) => return closed(error),
    };
    if printed == 0 {
        let _ = writeln!(io::stderr(), "{}", nothing(pages.seen(), args.status.as_deref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Somebody saw enough of it, or it cannot be written.
fn closed(error: io::Error) -> anyhow::Result<ExitCode> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(ExitCode::SUCCESS);
    }
    Err(anyhow::Error::new(error).context("cannot write to standard output"))
}

/// Why the list is empty.
fn nothing(seen: usize, status: Option<&str>) -> String {
    match status {
        Some(status) if seen > 0 => {
            let known = ["in_progress", "success", "failure"];
            let meant = known.iter().find(|known| {
                **known != status && strsim::damerau_levenshtein(&status.to_lowercase(), known) <= 3
            });
            let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            format!("none of the installation's {seen} operations has the status {status:?}{hint}")
        }
        _ => "the installation has no operations; if it should, check --integration and --installation"
            .to_owned(),
    }
}

fn failure(error: ApiError, project: &Project, ampersand: &Ampersand) -> Failure {
    let (code, message) = match error {
        ApiError::Unauthorized(reason) | ApiError::Forbidden(reason) => (
            exit::CREDENTIALS,
            format!(
                "the API key of project {}, from {}, is rejected: {reason}\nPut the key of this project there, and check \
                 at Ampersand that it is active.",
                project.name, project.api_key
            ),
        ),
        ApiError::NotFound(reason) => (
            exit::FAILED,
            format!("there is no such list; check --project, --integration and --installation: {reason}"),
        ),
        ApiError::Refused(reason) => (exit::FAILED, format!("the API refuses to list: {reason}")),
        ApiError::Throttled { reason, .. } => (
            exit::UNREACHABLE,
            format!("the API asks to be left alone for longer; try again later: {reason}"),
        ),
        ApiError::Failed(failure) | ApiError::Unprocessed(failure) => (
            exit::UNREACHABLE,
            format!(
                "the API at {} gives no list: {}",
                ampersand.base_url, failure.reason
            ),
        ),
    };
    Failure { message, code }
}

/// Prints operations as they come, a table when all are there.
struct Printer {
    out: BufWriter<io::Stdout>,
    format: OutputFormat,
    table: Table,
    printed: usize,
}

impl Printer {
    fn new(format: OutputFormat) -> Self {
        Self {
            out: BufWriter::new(io::stdout()),
            format,
            table: Table::default(),
            printed: 0,
        }
    }

    fn print(&mut self, operations: impl Iterator<Item = Operation>) -> io::Result<()> {
        for operation in operations {
            match self.format {
                OutputFormat::Ids => writeln!(self.out, "{}", operation.id)?,
                OutputFormat::Table => self.table.add(&operation, clock::wall()),
                OutputFormat::Json => {
                    let start = if self.printed == 0 { "[\n" } else { ",\n" };
                    self.out.write_all(start.as_bytes())?;
                    serde_json::to_writer(&mut self.out, &operation)?;
                }
            }
            self.printed += 1;
        }
        self.out.flush()
    }

    fn finish(mut self) -> io::Result<usize> {
        match self.format {
            OutputFormat::Ids => {}
            OutputFormat::Table => {
                let size = Term::stdout().size_checked();
                let columns = size.map(|(_, columns)| usize::from(columns));
                let table = self.table.render(Style::stdout(), columns);
                self.out.write_all(table.as_bytes())?;
            }
            OutputFormat::Json if self.printed == 0 => self.out.write_all(b"[]\n")?,
            OutputFormat::Json => self.out.write_all(b"\n]\n")?,
        }
        self.out.flush()?;
        Ok(self.printed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_explained() {
        assert!(nothing(0, None).contains("check --integration"));
        assert!(nothing(0, Some("success")).contains("check --integration"));
        assert_eq!(
            nothing(3, Some("in-progress")),
            "none of the installation's 3 operations has the status \"in-progress\"; did you mean in_progress?"
        );
        assert!(nothing(3, Some("failure")).ends_with("\"failure\""));
    }
}
