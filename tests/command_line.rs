//! The command line: help, exit codes, completions and manual pages.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

#[path = "support/help.rs"]
mod help;

use std::fs;
use std::process::Stdio;

use assert_cmd::Command;
use help::commands;

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backfill-watch"));
    command
        .env_clear()
        // Wide, so that no expected text is wrapped.
        .env("COLUMNS", "200")
        .args(arguments);
    command
}

/// The output of a command that succeeds.
fn output(arguments: &[&str]) -> String {
    let output = command(arguments).assert().success().get_output().clone();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a command that is used wrongly.
fn complaint(arguments: &[&str]) -> String {
    let output = command(arguments).assert().code(2).get_output().clone();
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// The examples of `help` that call the program, as words after its name.
fn examples(help: &str) -> Vec<Vec<String>> {
    let text = help.replace("\\\n", " ");
    let calls = text.lines().filter_map(|line| {
        let (_, call) = line.split_once("backfill-watch ")?;
        line.starts_with("  ")
            .then(|| call.split_whitespace().map(str::to_owned).collect())
    });
    calls.collect()
}

#[test]
fn the_help_of_every_command_has_examples_whose_flags_exist() {
    let names = commands();
    for name in ["run", "check", "simulate", "completions", "man"] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    for name in names {
        let help = output(&[&name, "--help"]);
        let (options, after) = help
            .split_once("\nExamples:\n")
            .unwrap_or_else(|| panic!("{name} has no examples:\n{help}"));
        let examples = examples(after);
        assert!(!examples.is_empty(), "{name}: {after}");
        assert!(
            examples.iter().any(|example| example[0] == name),
            "{name}: {after}"
        );
        // An example may begin with another command, whose output this one reads.
        for example in examples.iter().filter(|example| example[0] == name) {
            for flag in example.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let is_documented = options
                    .split(|character: char| character.is_whitespace() || ",=[".contains(character))
                    .any(|word| word == flag);
                assert!(is_documented, "{name} has no {flag}, which an example shows");
            }
        }
    }
}

#[test]
fn the_help_of_the_program_shows_examples_and_exit_codes() {
    let help = output(&["--help"]);
    let known = commands();
    let examples = examples(&help);
    assert!(!examples.is_empty());
    for example in &examples {
        assert!(known.contains(&example[0]), "{example:?}");
    }
    assert!(help.contains("Exit codes: 0 "), "{help}");
    assert_eq!(command(&[]).assert().code(2).get_output().stdout.len(), 0);
    assert_eq!(
        output(&["--version"]),
        format!("backfill-watch {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_usage_suggests_what_may_be_meant() {
    for (arguments, suggestion) in [
        (&["chek"][..], "'check'"),
        (&["run", "--watch-lists", "x"], "'--watch-list'"),
        (&["check", "--life"], "'--live'"),
        (&["completions", "bsh"], "'bash'"),
        (&["simulate", "--course", "lineal"], "'linear'"),
    ] {
        let reported = complaint(arguments);
        assert!(
            reported.starts_with("error: ") && reported.contains(suggestion),
            "{arguments:?}:\n{reported}"
        );
    }
}

#[test]
fn completions_know_every_command_in_every_shell() {
    let commands = commands();
    for shell in SHELLS {
        let script = output(&["completions", shell]);
        for name in &commands {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
        assert!(script.contains("until-done"), "{shell}");
    }
}

#[test]
fn bash_understands_its_completions() {
    let script = output(&["completions", "bash"]);
    let check = "source /dev/stdin && complete -p backfill-watch";
    let reported = Command::new("bash")
        .args(["--norc", "-c", check])
        .write_stdin(script)
        .assert()
        .success();
    let reported = String::from_utf8_lossy(&reported.get_output().stdout).into_owned();
    assert!(reported.contains("-F"), "{reported}");
}

#[test]
fn there_is_a_manual_page_of_every_command() {
    let page = output(&["man"]);
    assert!(page.contains(".TH backfill-watch 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    output(&["man", "--folder", folder.path().to_str().unwrap()]);
    for name in commands() {
        let page = fs::read_to_string(folder.path().join(format!("backfill-watch-{name}.1"))).unwrap();
        assert!(page.contains("Examples:"), "{name}");
    }
    assert!(folder.path().join("backfill-watch.1").exists());
    let reported = command(&["man", "--folder", "/nonexistent/folder"])
        .assert()
        .code(1);
    let reported = String::from_utf8_lossy(&reported.get_output().stderr).into_owned();
    assert!(
        reported.starts_with("error: ") && reported.contains("/nonexistent/folder"),
        "{reported}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut writer = std::process::Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(writer.stdout.take());
    let ended = writer.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert!(ended.status.success());
}
