//! Rules of the architecture, checked on the source. Each assertion gives its reason; an exception has its reason beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::product::{Module, has_name, product, root};

/// Names that only some modules may use.
#[track_caller]
fn assert_only_within(names: &[&str], modules: &[&str], why: &str) {
    let others = product().iter().filter(|module| !module.is_within(modules));
    let found: Vec<String> = others
        .flat_map(|module| names.iter().flat_map(|name| module.places_of(name)))
        .collect();
    assert_none(&found, &format!("{why}; allowed in {modules:?} alone"));
    // A renamed item would make the rule protect nothing.
    let mut allowed = product().iter().filter(|module| module.is_within(modules));
    let is_used = allowed.any(|module| names.iter().any(|name| !module.places_of(name).is_empty()));
    assert!(
        modules.is_empty() || is_used,
        "{names:?} is used nowhere in {modules:?}"
    );
}

#[track_caller]
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn the_core_is_pure() {
    /// Data, arithmetic, text.
    const PURE: [&str; 12] = [
        "httpdate",
        "backoff",
        "base64",
        "globset",
        "humantime",
        "jiff",
        "secrecy",
        "serde",
        "serde_json",
        "sha2",
        "strsim",
        "thiserror",
    ];
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut impure: Vec<String> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .filter(|name| !PURE.contains(&name.as_str()))
        .map(|name| format!("{}::", name.replace('-', "_")))
        .collect();
    assert!(impure.iter().any(|name| name == "tokio::"));
    let std = ["fs", "net", "io", "env", "process", "thread", "os"];
    impure.extend(std.iter().map(|name| format!("std::{name}")));
    impure.extend(["Instant", "SystemTime"].map(str::to_owned));
    let mut found = Vec::new();
    for module in product().iter().filter(|module| module.is_within(&["core"])) {
        for name in &impure {
            found.extend(module.places_of(name));
        }
        let others = imports(module).filter(|(target, _)| target != "core");
        found.extend(others.map(|(_, place)| place));
    }
    assert_none(
        &found,
        "`core` uses no other module, does no input or output, and gets time and randomness as arguments",
    );
}

#[test]
fn each_library_for_input_and_output_has_its_modules() {
    assert_only_within(
        &["reqwest"],
        &["ampersand", "report::webhook", "outbound", "cli::daemon"],
        "every HTTP client needs time limits, redirects and secrets handled",
    );
    assert_only_within(&["rusqlite"], &["store"], "only the store uses the database");
    assert_only_within(&["axum"], &["http", "simulator"], "only these serve HTTP");
    assert_only_within(
        &["hyper", "hyper_util"],
        // `ampersand::transport` and `outbound` distinguish errors below reqwest's: a connection that was closed within a
        // response from one that failed. `outbound` reads the proxy settings as reqwest does.
        &["http", "simulator", "ampersand::transport", "outbound"],
        "only these serve HTTP",
    );
    assert_only_within(
        &["backoff"],
        &["core::schedule"],
        "the crate is unmaintained, so only one file depends on it",
    );
    assert_only_within(&["sd_notify"], &["systemd"], "one module notifies systemd");
}

#[test]
fn sql_is_in_the_store_alone() {
    const SQL: [&str; 6] = [
        "SELECT ",
        "INSERT INTO ",
        "INSERT OR ",
        "DELETE FROM ",
        "CREATE TABLE ",
        "PRAGMA ",
    ];
    let has_sql = |module: &&Module| {
        let mut texts = module.literals.iter();
        texts.any(|text| SQL.iter().any(|keyword| text.contains(keyword)))
    };
    let (store, others): (Vec<&Module>, Vec<_>) = product()
        .iter()
        .filter(has_sql)
        .partition(|module| module.is_within(&["store"]));
    assert!(!store.is_empty(), "the store's SQL was not found");
    let others: Vec<String> = others.iter().map(|module| module.file.clone()).collect();
    assert_none(&others, "only the store has SQL");
}

#[test]
fn tasks_have_an_owner_that_joins_them() {
    let owners = [
        "app",             // a `JoinSet` of whatever runs as long as the daemon
        "polling",         // `JoinSet`s of runners, of each project's task, and of its requests and commits
        "report::webhook", // `JoinSet`s of deliveries and their outcomes
        "store::threads",  // two threads, joined when the store is closed
        "http",            // a `JoinSet` of connections
        "spool",           // a thread that may be blocked in a write; it ends with the process
        "report::log",     // a thread that may be blocked by the journal; it ends with the process
        "simulator",       // ends with the process or with the test
    ];
    assert_only_within(
        &["spawn"],
        &owners,
        "a task outlives the stop unless its owner joins it",
    );
    assert_only_within(
        &[
            "tokio::spawn",
            "task::spawn",
            "task::spawn_local",
            "thread::spawn",
        ],
        &["simulator"],
        "spawn a task into a set that its owner joins",
    );
    assert_only_within(
        &[
            ".fetch.fetch",
            ".fetch.last_lines",
            ".fetch.installation",
            ".fetch.project_exists",
        ],
        &["polling::answers", "polling::key_checks", "ampersand"],
        "these send what the gate admits",
    );
}

/// From the command line to the decisions: a module imports only from those after it.
const ORDER: [&str; 23] = [
    "cli",
    "app",
    "systemd",
    "http",
    "health",
    "polling",
    "report",
    "record",
    "board",
    "sources",
    "ampersand",
    "outbound",
    "config",
    "store",
    "simulator",
    "spool",
    "stdio",
    "open_files",
    "signal_mask",
    "error",
    "random",
    "clock",
    "core",
];

/// The top-level modules that a module names by `crate::`, each with the place.
fn imports(module: &Module) -> impl Iterator<Item = (String, String)> {
    module.chains.iter().filter_map(|chain| {
        let target = chain.text.strip_prefix("crate::")?.split([':', '(']).next()?;
        let place = format!("{}:{}: {}", module.file, chain.line, chain.text);
        Some((target.to_owned(), place))
    })
}

#[test]
fn imports_follow_the_data_flow() {
    let position = |name: &str| ORDER.iter().position(|module| *module == name);
    let mut found = Vec::new();
    for module in product() {
        let own = module.name.split("::").next().unwrap_or_default();
        let Some(own) = position(own) else {
            assert!(["lib", "main"].contains(&own), "{own} has no position in `ORDER`");
            continue;
        };
        let against =
            imports(module).filter(|(target, _)| position(target).is_none_or(|target| target < own));
        found.extend(against.map(|(_, place)| place));
    }
    assert_none(&found, "imports against `ORDER`");
}

/// The module that a name in `module` refers to, if it is one of the product's.
fn module_of<'a>(name: &'a str, module: &'a str, modules: &BTreeSet<&str>) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut segments = name.split("::").peekable();
    match *segments.peek()? {
        "crate" => {
            base.clear();
            segments.next();
        }
        "self" => drop(segments.next()),
        "super" => {
            while segments.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        // A child module; whatever else is imported by name is found where it is imported.
        _ => {}
    }
    base.extend(segments);
    (1..=base.len())
        .rev()
        .map(|length| base[..length].join("::"))
        .find(|name| modules.contains(name.as_str()))
}

/// A module and the ones below it count as one. A parent may name its children and the children their parent.
#[test]
fn modules_form_no_cycle() {
    let modules: BTreeSet<&str> = product().iter().map(|module| module.name.as_str()).collect();
    let mut edges: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for module in product() {
        for chain in &module.chains {
            let Some(target) = module_of(&chain.text, &module.name, &modules) else {
                continue;
            };
            let own: Vec<&str> = module.name.split("::").collect();
            let other: Vec<&str> = target.split("::").collect();
            let shared = own.iter().zip(&other).take_while(|(a, b)| a == b).count();
            if shared < own.len() && shared < other.len() {
                let place = format!("{}:{}: {}", module.file, chain.line, chain.text);
                let targets = edges.entry(own[..=shared].join("::")).or_default();
                targets.entry(other[..=shared].join("::")).or_insert(place);
            }
        }
    }
    // A module that imports nothing, or that nothing imports, is in no cycle.
    loop {
        let count = edges.values().map(BTreeMap::len).sum::<usize>();
        let importing: BTreeSet<String> = edges.keys().cloned().collect();
        for targets in edges.values_mut() {
            targets.retain(|target, _| importing.contains(target));
        }
        let imported: BTreeSet<String> = edges.values().flat_map(BTreeMap::keys).cloned().collect();
        edges.retain(|module, targets| imported.contains(module) && !targets.is_empty());
        if edges.values().map(BTreeMap::len).sum::<usize>() == count {
            break;
        }
    }
    let found: Vec<String> = edges
        .into_iter()
        .flat_map(|(module, targets)| {
            let lines = targets.into_iter();
            lines.map(move |(target, place)| format!("{module} -> {target}: {place}"))
        })
        .collect();
    assert_none(&found, "modules import each other in a cycle");
}

#[test]
fn nothing_is_reported_before_it_is_committed() {
    assert_only_within(
        &["event_log_line::log_event"],
        // It gives the log to the recorder as one of its reporters.
        &["app"],
        "events reach the log through the recorder, which commits them first",
    );
    assert_only_within(
        &[".commit"],
        &["record", "store"],
        "one place commits and then reports",
    );
}

#[test]
fn the_product_does_not_depend_on_the_simulator() {
    assert_only_within(
        &["simulator"],
        &["simulator", "cli::simulate", "cli::demo", "lib"],
        "it is there for trying and testing",
    );
}

#[test]
fn one_module_reads_the_clock() {
    assert_only_within(
        &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"],
        &["clock"],
        "time is an argument",
    );
}

/// Every place that uses the bytes of a secret is in the table of SECURITY.md.
#[test]
fn secrets_are_exposed_where_the_threat_model_lists_it_and_never_compared_by_equals() {
    let security = include_str!("../../SECURITY.md");
    let rows = security.lines().filter(|line| line.starts_with("| `src/"));
    let listed: BTreeSet<&str> = rows.filter_map(|line| line.split('`').nth(1)).collect();
    let exposing = product().iter().filter(|module| {
        let mut chains = module.chains.iter();
        chains.any(|chain| has_name(&chain.text, ".expose_secret"))
    });
    let exposing: Vec<&Module> = exposing.collect();
    let files: BTreeSet<&str> = exposing.iter().map(|module| module.file.as_str()).collect();
    assert_eq!(listed, files);
    for module in exposing {
        let source = fs::read_to_string(root().join(&module.file)).unwrap();
        for line in source.lines().filter(|line| line.contains("expose_secret")) {
            let compares = line.contains("==") || line.contains("!=");
            assert!(!compares, "{}: compare secrets in constant time", module.file);
        }
    }
}

#[test]
fn nothing_is_unsafe_or_unbounded_or_ends_the_process() {
    assert_only_within(&["unsafe"], &[], "there is no reason for it here");
    assert_only_within(
        &["unbounded_channel", "mpsc::channel()"],
        &[],
        "a queue has a capacity, and what happens when it is full is decided",
    );
    assert_only_within(
        &["process::exit", "process::abort"],
        &[],
        "`main` returns the exit code",
    );
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}

#[test]
fn no_function_has_two_adjacent_bools() {
    let mut found = Vec::new();
    for module in product() {
        for function in &module.functions {
            if function.bools.windows(2).any(|pair| pair == [true, true]) {
                found.push(format!("{}:{}: {}", module.file, function.line, function.name));
            }
        }
    }
    assert_none(
        &found,
        "callers confuse two adjacent `bool`s; use an enum or a struct",
    );
}

#[test]
fn paths_in_the_documents_of_maintainers_exist() {
    const ROOTS: [&str; 5] = [".", "src", "src/config", "src/store", "tests/world"];
    let mut found = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let names = text.split('`').skip(1).step_by(2);
        let is_path = |name: &&str| {
            let is_file = [".rs", ".md", ".toml", ".txt"]
                .iter()
                .any(|end| name.ends_with(end));
            (is_file || name.ends_with('/')) && !name.contains(' ')
        };
        for name in names.filter(is_path) {
            if !ROOTS.iter().any(|folder| root().join(folder).join(name).exists()) {
                found.push(format!("{document}: {name}"));
            }
        }
    }
    assert_none(&found, "these paths do not exist");
}
