//! The shipped examples.

use std::sync::Arc;

use toml::{Table, Value};

use super::super::keys::KEYS;
use super::{Case, SECRET};
use crate::config::WebhookEventFilter;
use crate::core::watch_list;

const EXAMPLE: &str = include_str!("../../../config/config.toml");
const WATCH_LIST: &str = include_str!("../../../config/watch.list");

/// The example with every setting in it switched on.
fn uncommented() -> String {
    let setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if setting(rest) => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The paths of all settings of a table, as in [`KEYS`].
fn paths(prefix: &str, table: &Table, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Table(table) => paths(&path, table, found),
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
    let mut expected = KEYS.to_vec();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn what_the_example_shows_as_defaults_are_the_defaults() {
    let mut table: Table = uncommented().parse().unwrap();
    let webhooks = table.remove("webhooks").unwrap();
    let ampersand = table["ampersand"].as_table_mut().unwrap();
    let projects = ampersand.remove("projects").unwrap();
    for (section, key) in [
        ("ampersand", "api_key_file"),
        ("ampersand", "ca_file"),
        ("webhook", "secret_file"),
        ("http", "token_file"),
    ] {
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
            .settings()
    };
    let shown = load(&table);
    let defaults = Case::new("[webhook]\nurl = 'https://hooks.example.com/backfills'")
        .with(&[("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)])
        .settings();
    assert_eq!(shown.poll, defaults.poll);
    assert_eq!(shown.log, defaults.log);
    assert_eq!(shown.metrics, defaults.metrics);
    assert_eq!(
        (
            shown.watch_list,
            shown.watch_list_refresh,
            shown.watch_list_shrink_delay
        ),
        (
            defaults.watch_list,
            defaults.watch_list_refresh,
            defaults.watch_list_shrink_delay
        )
    );
    assert_eq!(
        (shown.retention, shown.shutdown_timeout),
        (defaults.retention, defaults.shutdown_timeout)
    );
    assert_eq!(shown.state_dir, defaults.state_dir);
    assert_eq!(
        (shown.http.listen, shown.http.unauthenticated),
        (defaults.http.listen, defaults.http.unauthenticated)
    );
    let limits = |settings: &crate::config::AmpersandSettings| {
        (
            settings.base_url.clone(),
            settings.request_timeout,
            settings.max_concurrent_requests,
            settings.max_requests_per_second,
        )
    };
    assert_eq!(limits(&shown.ampersand), limits(&defaults.ampersand));
    let of_webhook = |webhook: &crate::config::WebhookSettings| {
        (
            webhook.name.clone(),
            webhook.url.clone(),
            webhook.max_in_flight,
            webhook.max_backlog,
            webhook.plain_http,
        )
    };
    assert_eq!(of_webhook(&shown.webhooks[0]), of_webhook(&defaults.webhooks[0]));
    assert!(matches!(&shown.webhooks[0].events, WebhookEventFilter::Globs(globs) if globs.len() == 2));

    // The same with the tables for several of each.
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
