//! The help of the built binary.

use std::process::Command;

/// The help of the program, or of a command.
pub fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .env_clear()
        // Wide, so that no expected text is wrapped.
        .env("COLUMNS", "200")
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the help lists, `help` itself aside.
pub fn commands() -> Vec<String> {
    let help = help(&[]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let names = commands.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        (!name.starts_with(' ')).then(|| name.split(' ').next().unwrap().to_owned())
    });
    names.filter(|name| name != "help").collect()
}
