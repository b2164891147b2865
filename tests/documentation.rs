//! What the documents say is so: examples load, and names that they name exist.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test tell that it failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use backfill_watch::config::{Environment, Overrides, Settings};
use backfill_watch::core::event::{EventId, EventType};

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../config/config.toml");

/// The contents of the README's code blocks of that language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    let blocks = README.split(fence.as_str()).skip(1);
    let blocks: Vec<&str> = blocks.map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "no block of {language} was found");
    blocks
}

/// The part of the README below that heading.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// What stands in back quotes, outside of code blocks.
fn names(text: &str) -> BTreeSet<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
        .collect()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_backfill-watch"))
        .env_clear()
        .env("COLUMNS", "200")
        .args(arguments)
        .arg("--help")
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    String::from_utf8(output).unwrap()
}

/// All of the product's source.
fn source() -> String {
    let mut source = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                source.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    source
}

/// The path of each setting of the example file, those of `[[webhooks]]` left out: they are those of `[webhook]`.
fn settings() -> Vec<String> {
    let mut table = String::new();
    let mut settings = Vec::new();
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix("[[").and_then(|name| name.split(']').next()) {
            table = format!("{name}[].");
        } else if let Some(name) = line.strip_prefix('[').and_then(|name| name.split(']').next()) {
            table = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && !table.starts_with("webhooks")
        {
            settings.push(format!("{table}{key}").trim_start_matches('.').to_owned());
        }
    }
    assert!(settings.len() > 30, "{settings:?}");
    settings
}

#[test]
fn settings_in_the_readme_load() {
    for block in blocks("toml") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, block).unwrap();
        // Secrets are not there; whether the settings themselves hold is what is asked.
        let none = Environment::default();
        let loaded = Settings::load_without_secrets(Some(&file), &none, &Overrides::default());
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}\n{block}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

#[test]
fn every_setting_is_in_the_readme_and_no_other() {
    let named = names(section("Settings"));
    for setting in settings() {
        assert!(named.contains(setting.as_str()), "`{setting}` is not documented");
    }
    let known = settings();
    let tables = ["ampersand", "poll", "webhook", "http", "log", "metrics"];
    for name in named {
        let is_setting = name
            .split_once('.')
            .is_some_and(|(table, key)| tables.contains(&table) && !key.contains(' '));
        assert!(
            !is_setting || known.iter().any(|setting| setting == name),
            "{name}: there is no such setting"
        );
    }
}

#[test]
fn every_command_in_the_readme_exists_and_every_option_too() {
    let help_of_all = help(&[]);
    let (_, commands) = help_of_all.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let existing: BTreeSet<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();

    let table = section("Commands");
    for name in &existing {
        let named = format!("`backfill-watch {name}`");
        assert!(table.contains(&named), "{name} is not in the table of commands");
    }
    let calls = README.split("backfill-watch ").skip(1);
    let mut looked_at = 0;
    for call in calls {
        let call = call.split(['`', '\n', '#', ';', '>', '|']).next().unwrap();
        let mut words = call.split_whitespace();
        let Some(name) = words.next().filter(|name| existing.contains(name)) else {
            continue;
        };
        let help = help(&[name]);
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{name} has no {option}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 5);
    for row in table
        .lines()
        .filter(|line| line.starts_with("| `backfill-watch "))
    {
        let name = row
            .trim_start_matches("| `backfill-watch ")
            .split('`')
            .next()
            .unwrap();
        let help = help(&[name]);
        for option in names(row).into_iter().filter(|name| name.starts_with("--")) {
            assert!(help.contains(option), "{name} has no {option}");
        }
    }
}

#[test]
fn every_event_is_in_the_readme_and_no_other() {
    let table: BTreeSet<&str> = section("Events")
        .lines()
        .take_while(|line| !line.starts_with("An operation"))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let existing: BTreeSet<&str> = EventType::ALL.iter().map(|event| event.as_str()).collect();
    assert_eq!(table, existing);
}

#[test]
fn the_example_of_an_event_id_is_right() {
    let id = EventId::derive(
        "my-project",
        Some("3efc0f0f"),
        EventType::Succeeded,
        "generation 0",
    );
    assert!(README.contains(r"printf 'my-project\n3efc0f0f\noperation.succeeded\ngeneration 0' | sha256sum"));
    assert!(README.contains(&format!("webhook-id: {id}")));
}

#[test]
fn what_one_sees_at_night_is_what_the_program_says() {
    // Lines of source that a string goes on over are one line of text.
    let source: String = source().split("\\\n").map(str::trim_start).collect();
    let symptoms: Vec<&str> = section("Troubleshooting at 3 a.m.")
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| line.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|symptom| symptom.contains(' '))
        .collect();
    assert!(symptoms.len() > 15, "{symptoms:?}");
    for symptom in symptoms {
        assert!(source.contains(symptom), "nothing says {symptom:?}");
    }
}

#[test]
fn every_metric_in_the_readme_is_served() {
    let source = source();
    let metrics: Vec<&str> = names(README)
        .into_iter()
        .filter_map(|name| name.strip_prefix("backfill_watch_"))
        .collect();
    assert!(!metrics.is_empty());
    for metric in metrics {
        assert!(source.contains(&format!("\"{metric}\"")), "there is no {metric}");
    }
}

#[test]
fn the_readme_tests_as_the_gate_does() {
    let gate = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run"));
    // The package leaves the gate out.
    let Ok(gate) = gate else { return };
    let test = blocks("sh")
        .iter()
        .flat_map(|block| block.lines())
        .find(|line| line.starts_with("cargo test"))
        .unwrap();
    let command = test.split('#').next().unwrap().trim();
    assert!(
        gate.lines().any(|line| line.trim() == command),
        "the gate does not run {command:?}"
    );
}

#[test]
fn what_is_linked_is_there() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "docs/operating.md",
        "deploy/kubernetes/README.md",
    ] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join(document).parent().unwrap().to_owned();
        let text = fs::read_to_string(root.join(document)).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|target| !target.starts_with("http") && !target.starts_with('#'))
        {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            assert!(folder.join(file).exists(), "{document} links {target}");
            if file.ends_with(".md") && !heading.is_empty() {
                let text = fs::read_to_string(folder.join(file)).unwrap();
                let anchor = |line: &str| {
                    line.trim_start_matches('#')
                        .trim()
                        .to_lowercase()
                        .replace(' ', "-")
                };
                let found = text
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{document} links {target}");
            }
        }
    }
}
