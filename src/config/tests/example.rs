//! The shipped examples.

use std::sync::Arc;

use toml::{Table, Value};

use super::super::keys;
use super::{Case, SECRET};
use crate::config::WebhookEventFilter;
use crate::core::watch_list;

const EXAMPLE: &str = include_str!("../../../config/config.toml");
const WATCH_LIST: &str = include_str!("../../../config/watch.list");

/// The settings that name files.
const FILES: [(&str, &str); 5] = [
    ("ampersand", "api_key_file"),
    ("ampersand", "ca_file"),
    ("webhook", "secret_file"),
    ("http", "token_file"),
    ("http", "write_token_file"),
];

/// The example with every setting in it active.
fn uncommented() -> String {
    let setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if setting(rest) => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The paths of all settings of a table, as in the settings table.
fn paths(prefix: &str, table: &Table, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Table(table) if keys::find(&path).is_none() => paths(&path, table, found),
            Value::Array(tables) if tables.iter().all(Value::is_table) => {
                for table in tables {
                    paths(&format!("{path}[]"), table.as_table().unwrap(), found);
                }
            }
            _ => found.push(path),
        }
    }
}

#[test]
fn the_example_as_it_is_has_the_defaults() {
    let printed = format!("{:?}", Case::new(EXAMPLE).settings());
    let without = format!("{:?}", Case::new("").settings());
    assert_eq!(printed, without);
}

#[test]
fn the_example_has_every_setting() {
    let mut found = Vec::new();
    paths("", &uncommented().parse().unwrap(), &mut found);
    let mut expected: Vec<_> = keys::all().map(|key| key.path).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_example_shows_the_defaults() {
    let mut table: Table = uncommented().parse().unwrap();
    // One of the two ways to configure a webhook and a project each; the others have no defaults.
    table.remove("webhooks");
    table["ampersand"].as_table_mut().unwrap().remove("projects");
    for (section, key) in FILES {
        table[section].as_table_mut().unwrap().remove(key);
    }
    table["webhook"].as_table_mut().unwrap().remove("events");
    for key in ["deadline", "labels"] {
        table["discover"][0].as_table_mut().unwrap().remove(key);
    }
    let secrets = [
        ("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET),
        ("AMPERSAND_API_KEY", "k"),
    ];
    let values = |toml: &str| {
        let effective = Case::bare(toml).with(&secrets).load().unwrap().effective;
        effective
            .values()
            .into_iter()
            .map(|value| (value.key, value.value))
            .collect::<Vec<_>>()
    };
    let required = "[ampersand]\nproject = 'my-project'\n[webhook]\nurl = 'https://hooks.example.com/backfills'\n[[discover]]";
    assert_eq!(values(&table.to_string()), values(required));
}

#[test]
fn the_example_is_valid_with_every_setting() {
    let mut table: Table = uncommented().parse().unwrap();
    let webhooks = table.remove("webhooks").unwrap();
    let ampersand = table["ampersand"].as_table_mut().unwrap();
    let projects = ampersand.remove("projects").unwrap();
    for (section, key) in FILES {
        let path = table[section]
            .as_table_mut()
            .unwrap()
            .insert(key.into(), format!("{section}-{key}").into());
        assert!(path.unwrap().as_str().unwrap().starts_with('/'));
    }
    let load = |table: &Table| {
        Case::bare(&table.to_string())
            .file("ampersand-api_key_file", "k")
            .file("ampersand-ca_file", "-----BEGIN CERTIFICATE-----")
            .file("webhook-secret_file", SECRET)
            .file("http-token_file", "t")
            .file("http-write_token_file", "w")
            .settings()
    };
    let single = load(&table);
    assert!(matches!(&single.webhooks[0].events, WebhookEventFilter::Globs(globs) if globs.len() == 3));

    // The same with the tables for several webhooks and projects.
    table.remove("webhook");
    table.insert("webhooks".into(), webhooks);
    table["webhooks"][0]["secret_file"] = "webhook-secret_file".into();
    let ampersand = table["ampersand"].as_table_mut().unwrap();
    ampersand.remove("project");
    ampersand.remove("api_key_file");
    ampersand.insert("projects".into(), projects);
    table["ampersand"]["projects"][0]["api_key_file"] = "ampersand-api_key_file".into();
    let several = load(&table);
    assert_eq!((several.webhooks.len(), several.ampersand.projects.len()), (1, 1));
}

#[test]
fn the_example_watch_list_is_a_list_of_nothing_and_its_examples_are_entries() {
    let projects = [Arc::from("my-project"), Arc::from("staging")];
    let list = watch_list::parse(WATCH_LIST.as_bytes(), &projects);
    assert!(list.entries.is_empty() && list.rejected.is_empty());

    let is_entry = |line: &&str| line.contains('=') && line.starts_with(|c: char| c.is_ascii_digit());
    let examples: Vec<&str> = WATCH_LIST
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(is_entry)
        .collect();
    let list = watch_list::parse(examples.join("\n").as_bytes(), &projects);
    assert_eq!((list.entries.len(), list.rejected), (2, Vec::new()));
    assert_eq!(&*list.entries[1].key.project, "staging");
}
