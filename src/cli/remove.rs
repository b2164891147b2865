//! `backfill-watch remove`: withdraws an operation that was added over HTTP or with `add`.

use std::process::ExitCode;

use super::output::Output;
use super::write_target::{WriteTargetArgs, bad_argument, operation_path, refusal, refused};
use crate::core::watch_list::check_operation_id;

const AFTER_HELP: &str = "\
Examples:
  backfill-watch remove 3efc0f0f-4bb9-498f-996c-9893d98ca4b5

  On another host:
    backfill-watch remove 3efc0f0f-4bb9-498f-996c-9893d98ca4b5 --url https://ops.example.com --token-file write-token

Exit codes: 0 removed; 2 refused, for example because the operation is in the watch list only; 3 no daemon answers.";

/// The status of an ID that several projects watch.
const AMBIGUOUS: u16 = 409;
/// The status of a removal.
const REMOVED: u16 = 204;

/// Remove an operation that was added with `add` or over HTTP
///
/// An operation that the watch list or discovery asks for is watched further. Its line in a watch list is not changed. Uses the
/// control socket, or HTTP with --url.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct RemoveArgs {
    /// Operation ID
    #[arg(value_name = "ID")]
    id: String,

    /// Its project, if several projects watch an operation with this ID
    #[arg(long, value_name = "NAME")]
    project: Option<String>,

    #[command(flatten)]
    target: WriteTargetArgs,
}

/// Removes the operation.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub async fn run(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    check_operation_id(&args.id).map_err(|problem| bad_argument(&args.id, &problem))?;
    let daemon = args.target.open().await?;
    let project = match args.project {
        Some(project) => project,
        None => {
            let found = daemon.read_json(&format!("/api/operations/{}", args.id)).await?;
            if found.status == AMBIGUOUS {
                return Err(refusal(
                    "several projects watch an operation with this ID; choose one with --project".to_owned(),
                ));
            }
            match found.body["project"].as_str() {
                Some(project) if found.is_ok() => project.to_owned(),
                _ => return Err(refused(&daemon, &found)),
            }
        }
    };
    let path = operation_path(&project, &args.id);
    let answer = daemon.delete(&path).await?;
    if answer.status != REMOVED {
        return Err(refused(&daemon, &answer));
    }
    let left = daemon.read_json(&path).await?;
    let source = left.body["source"].as_str().filter(|_| left.is_ok());
    let still = match source {
        Some(source) => format!("; it is still watched, because of its source {source}"),
        None => String::new(),
    };
    let mut out = Output::stdout();
    out.line(&format!("removed {} from project {project}{still}", args.id))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
