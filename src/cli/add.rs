//! `backfill-watch add`: adds an operation to the running daemon.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::output::Output;
use super::write_target::{WriteTargetArgs, bad_argument, refused};
use crate::core::watch_list::{LineProblem, check_operation_id, parse_label};

const AFTER_HELP: &str = "\
Examples:
  backfill-watch add 3efc0f0f-4bb9-498f-996c-9893d98ca4b5 customer=\"Gale Ltd\" object=contact

  Report it if it is not finished in two hours:
    backfill-watch add 3efc0f0f-4bb9-498f-996c-9893d98ca4b5 project=staging deadline=2h

  On another host:
    backfill-watch add 3efc0f0f-4bb9-498f-996c-9893d98ca4b5 --url https://ops.example.com --token-file write-token

Exit codes: 0 added; 2 refused; 3 no daemon answers.";

/// Add an operation to the running daemon
///
/// The operation is stored before the command ends, and is watched also after a restart. If it was added before, its labels and
/// its deadline are replaced. Uses the control socket, or HTTP with --url.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct AddArgs {
    /// Operation ID
    #[arg(value_name = "ID")]
    id: String,

    /// Labels, as in a watch list; project= selects a project, deadline= is a time, or a duration such as 1h30m
    #[arg(value_name = "KEY=VALUE")]
    labels: Vec<String>,

    #[command(flatten)]
    target: WriteTargetArgs,
}

/// Adds the operation.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub async fn run(args: AddArgs) -> anyhow::Result<ExitCode> {
    let operation = operation(&args.id, &args.labels)?;
    let daemon = args.target.open().await?;
    let answer = daemon
        .post_json("/api/operations", &json!({ "operations": [operation] }))
        .await?;
    if !answer.is_ok() {
        return Err(refused(&daemon, &answer));
    }
    let count = |name: &str| answer.body[name].as_u64();
    let what = match (count("added"), count("updated")) {
        (Some(1), Some(0)) => "added",
        (Some(0), Some(1)) => "updated",
        _ => return Err(daemon.foreign(&answer)),
    };
    let project = match operation["project"].as_str() {
        Some(project) => format!(" in project {project}"),
        None => String::new(),
    };
    let mut out = Output::stdout();
    out.line(&format!("{what} {}{project}", args.id))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The operation as the API expects it.
fn operation(id: &str, arguments: &[String]) -> anyhow::Result<Value> {
    check_operation_id(id).map_err(|problem| bad_argument(id, &problem))?;
    let mut operation = json!({ "id": id });
    let mut labels = Map::new();
    for argument in arguments {
        let (key, value) = parse_label(argument).map_err(|problem| bad_argument(argument, &problem))?;
        let is_reserved = matches!(&*key, "project" | "deadline");
        let members = match operation.as_object_mut() {
            Some(operation) if is_reserved => operation,
            _ => &mut labels,
        };
        if members.contains_key(&key) {
            return Err(bad_argument(argument, &LineProblem::RepeatedLabel { key }));
        }
        members.insert(key, value.into());
    }
    operation["labels"] = labels.into();
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Value, String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        operation("op-1", &arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_become_an_operation() {
        assert_eq!(parsed(&[]).unwrap(), json!({"id": "op-1", "labels": {}}));
        assert_eq!(
            parsed(&["customer=Gale Ltd", "project=staging", "deadline=1h30m"]).unwrap(),
            json!({"id": "op-1", "labels": {"customer": "Gale Ltd"}, "project": "staging", "deadline": "1h30m"})
        );
        for (arguments, reason) in [
            (&["acme"][..], "acme: \"acme\" is not a label"),
            (&["a=1", "a=2"], "occurs twice"),
            (&["project=a", "project=b"], "occurs twice"),
        ] {
            let refused = parsed(arguments).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(operation("a b", &[]).is_err());
        // A label with the name of a member stays a label.
        assert_eq!(parsed(&["id=7"]).unwrap()["labels"], json!({"id": "7"}));
    }
}
