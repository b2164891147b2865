//! The rules that keep the house in order, checked on the source itself. Each says what it is for; an exception
//! stands beside its rule, with its reason.
//!
//! The source is read as text, without comments, strings and tests: a name that is written out is found, a name that a
//! macro makes is not. That is enough, since the rules are there against habit, not against malice.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test tell that it failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src/`.
struct Module {
    /// As other modules name it: `report::webhook::send`.
    name: String,
    file: PathBuf,
    /// Without comments, contents of strings, and tests; white space is where it was.
    code: String,
    /// The contents of its strings, tests left out.
    strings: String,
}

impl Module {
    fn is_within(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| {
            let rest = self.name.strip_prefix(room);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    }

    /// The lines on which `wanted` stands as a name of its own.
    fn lines_with(&self, wanted: &str) -> Vec<usize> {
        let lines = self.code.lines().enumerate();
        lines
            .filter(|(_, line)| has_name(line, wanted))
            .map(|(index, _)| index + 1)
            .collect()
    }
}

/// Whether `wanted` stands in `line` with nothing before and after it that makes a longer name of its first or last one.
fn has_name(line: &str, wanted: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(wanted).any(|(start, found)| {
        let before = line[..start].chars().next_back();
        let after = line[start + found.len()..].chars().next();
        let begins_earlier = found.starts_with(is_part) && before.is_some_and(is_part);
        let ends_later = found.ends_with(is_part) && after.is_some_and(is_part);
        !begins_earlier && !ends_later
    })
}

/// Parts Rust source into code and the contents of its strings. Both keep the line ends.
fn without_comments(source: &str) -> (String, String) {
    let (mut code, mut strings) = (String::new(), String::new());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = length_of_string(rest, code.chars().next_back()) {
            strings.push_str(&rest[..length]);
            strings.push('\n');
            code.push_str("\"\"");
            length
        } else if let Some(length) = length_of_character(rest) {
            code.push_str("' '");
            length
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        let ends = rest[..length].matches('\n').count();
        code.push_str(&"\n".repeat(ends));
        rest = &rest[length..];
    }
    (code, strings)
}

/// The length of the string literal that `rest` begins with, if it does.
fn length_of_string(rest: &str, before: Option<char>) -> Option<usize> {
    if let Some(inside) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = inside.find(|character| {
            let is_end = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            is_end
        });
        return Some(end.map_or(rest.len(), |end| end + 2));
    }
    let is_name = before.is_some_and(|before| before.is_alphanumeric() || before == '_');
    let raw = rest.strip_prefix('r').filter(|_| !is_name)?;
    let marks = raw.len() - raw.trim_start_matches('#').len();
    raw[marks..].starts_with('"').then(|| {
        let end = format!("\"{}", "#".repeat(marks));
        let start = 1 + marks + 1;
        rest[start..]
            .find(&end)
            .map_or(rest.len(), |at| start + at + end.len())
    })
}

/// The length of the character literal that `rest` begins with, if it does; a lifetime is none.
fn length_of_character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let character = inside.chars().next()?;
    inside[character.len_utf8()..]
        .starts_with('\'')
        .then(|| character.len_utf8() + 2)
}

/// Empties items marked `#[cfg(test)]`: up to the `;` or the `}` that stands under them.
fn without_tests(code: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        kept.push("");
        let indent = &line[..line.len() - line.trim_start().len()];
        for line in lines.by_ref() {
            kept.push("");
            let closes = line.starts_with(indent) && line[indent.len()..].starts_with('}');
            if closes || line.trim_end().ends_with(';') && !line[indent.len()..].starts_with(' ') {
                break;
            }
        }
    }
    kept.join("\n")
}

/// What the product is made of: every file below `src/` but those of tests.
fn product() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
                modules.push(module(&root, path));
            }
        }
    }
    assert!(modules.len() > 50, "the source was not found");
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    modules
}

fn module(root: &Path, file: PathBuf) -> Module {
    let name = file.strip_prefix(root).unwrap().with_extension("");
    let name: Vec<&str> = name.iter().map(|part| part.to_str().unwrap()).collect();
    let name = name.join("::");
    let source = fs::read_to_string(&file).unwrap();
    let product = without_tests(&source);
    let (code, strings) = without_comments(&product);
    Module {
        name: name.strip_suffix("::mod").unwrap_or(&name).to_owned(),
        file,
        code,
        strings,
    }
}

/// Names that belong into some rooms alone.
#[track_caller]
fn assert_only_within(names: &[&str], rooms: &[&str], why: &str) {
    let mut found = Vec::new();
    for module in product().iter().filter(|module| !module.is_within(rooms)) {
        for name in names {
            for line in module.lines_with(name) {
                found.push(format!("{}:{line}: {name}", module.file.display()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "{why}; allowed in {rooms:?}, but found:\n{}",
        found.join("\n")
    );
}

#[test]
fn the_core_names_no_other_module_and_nothing_that_does_input_or_output() {
    /// Pure: data, arithmetic, text.
    const PURE: [&str; 11] = [
        "httpdate",
        "backoff",
        "base64",
        "humantime",
        "jiff",
        "secrecy",
        "serde",
        "serde_json",
        "sha2",
        "strsim",
        "thiserror",
    ];
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let impure: Vec<String> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .map(|name| name.replace('-', "_"))
        .filter(|name| !PURE.contains(&name.as_str()))
        .collect();
    assert!(impure.iter().any(|name| name == "tokio"));
    let mut found = Vec::new();
    for module in product().iter().filter(|module| module.is_within(&["core"])) {
        for (index, line) in module.code.lines().enumerate() {
            let outside = impure.iter().any(|name| has_name(line, &format!("{name}::")));
            let std = ["fs", "net", "io", "env", "process", "thread", "os"]
                .iter()
                .any(|name| has_name(line, &format!("std::{name}")));
            let clock = has_name(line, "Instant") || has_name(line, "SystemTime");
            let elsewhere = line
                .match_indices("crate::")
                .any(|(at, name)| !line[at + name.len()..].starts_with("core::"));
            if outside || std || clock || elsewhere {
                found.push(format!(
                    "{}:{}: {}",
                    module.file.display(),
                    index + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(
        found.is_empty(),
        "time, chance and everything that is asked of the world come to the core as arguments:\n{}",
        found.join("\n")
    );
}

#[test]
fn each_way_to_the_world_has_its_room() {
    assert_only_within(
        &["reqwest"],
        &["ampersand", "report::webhook", "outbound", "cli::daemon"],
        "whoever sends requests knows time limits, redirects and keys",
    );
    assert_only_within(&["rusqlite"], &["store"], "the database is the store's alone");
    assert_only_within(&["axum"], &["http", "simulator"], "only these serve HTTP");
    assert_only_within(
        &["hyper", "hyper_util"],
        // `ampersand::transport` and `outbound` tell hyper's errors apart, below reqwest's: a connection that was closed
        // in the middle of an answer from one that could not be made. `outbound` reads the proxies as reqwest does.
        &["http", "simulator", "ampersand::transport", "outbound"],
        "only these serve HTTP",
    );
    assert_only_within(
        &["backoff"],
        &["core::schedule"],
        "it is unmaintained, so it stays behind one door",
    );
    assert_only_within(&["sd_notify"], &["systemd"], "one place talks to systemd");
}

#[test]
fn sql_is_written_in_the_store_alone() {
    let is_sql = |text: &str| {
        [
            "SELECT ",
            "INSERT INTO ",
            "INSERT OR ",
            "DELETE FROM ",
            "CREATE TABLE ",
            "PRAGMA ",
        ]
        .iter()
        .any(|word| text.contains(word))
    };
    let modules = product();
    let with_sql: Vec<&str> = modules
        .iter()
        .filter(|module| is_sql(&module.strings))
        .map(|module| module.name.as_str())
        .collect();
    assert!(!with_sql.is_empty(), "the store's was not found");
    for name in with_sql {
        assert!(name.starts_with("store"), "{name} writes SQL");
    }
}

#[test]
fn tasks_have_an_owner_that_joins_them() {
    // Who owns tasks, and how they are joined.
    let owners = [
        "app",             // a `JoinSet` of whatever lives as long as the daemon
        "polling",         // `JoinSet`s of runners, of each project's task, and of its requests and commits
        "report::webhook", // `JoinSet`s of deliveries and their outcomes
        "store::threads",  // two threads, joined when the store is closed
        "http",            // a `JoinSet` of connections
        "spool",           // a thread that may be blocked in a write; it ends with the process
        "report::log",     // a thread that may be blocked by the journal; it ends with the process
    ];
    let mut found = Vec::new();
    for module in product() {
        if module.is_within(&["simulator"]) {
            continue;
        }
        for (index, line) in module.code.lines().enumerate() {
            let detached = [
                "tokio::spawn",
                "task::spawn",
                "task::spawn_local",
                "thread::spawn",
            ]
            .iter()
            .any(|name| has_name(line, name));
            let spawns = has_name(line, "spawn") && !module.is_within(&owners);
            if detached || spawns {
                found.push(format!(
                    "{}:{}: {}",
                    module.file.display(),
                    index + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(
        found.is_empty(),
        "a task that nobody joins outlives the stop; put it into a set that its owner joins:\n{}",
        found.join("\n")
    );
    assert_only_within(
        &[
            ".fetch.fetch",
            ".fetch.last_lines",
            ".fetch.installation",
            ".fetch.project_exists",
        ],
        &["polling::answers", "ampersand"],
        "one place sends the daemon's requests, so that the gate lets all of them through",
    );
}

/// From what starts everything to what decides: a module imports only from those after it.
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
    "watch_list",
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

#[test]
fn imports_follow_the_flow_of_data_and_form_no_cycle() {
    let place = |name: &str| ORDER.iter().position(|module| *module == name);
    let mut found = Vec::new();
    for module in product() {
        let own = module.name.split("::").next().unwrap_or_default();
        let Some(own_place) = place(own) else {
            assert!(["lib", "main"].contains(&own), "{own} has no place in the order");
            continue;
        };
        for (at, _) in module.code.match_indices("crate::") {
            let rest = &module.code[at + "crate::".len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let imported = place(&rest[..end]);
            if imported.is_none_or(|imported| imported < own_place) {
                found.push(format!("{}: crate::{}", module.file.display(), &rest[..end]));
            }
        }
    }
    assert!(
        found.is_empty(),
        "imports against the order of `ORDER`:\n{}",
        found.join("\n")
    );
}

#[test]
fn nothing_is_told_before_it_is_committed() {
    assert_only_within(
        &["tell::tell"],
        // The command line puts the parts together and hands the log to the recorder as one of its reporters.
        &["record", "app", "cli::run", "cli::demo"],
        "events reach the log through the recorder, which commits them first",
    );
    assert_only_within(
        &[".commit"],
        &["record", "store"],
        "what is committed is told, so that both happen in one place",
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
fn one_place_looks_at_the_clock() {
    assert_only_within(
        &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"],
        &["clock"],
        "time is an argument",
    );
}

/// Every place that uses the bytes of a secret, as SECURITY.md lists them.
#[test]
fn secrets_are_exposed_where_the_threat_model_says_and_never_compared_by_equals() {
    let security = include_str!("../SECURITY.md");
    let mut listed = Vec::new();
    for line in security.lines().filter(|line| line.starts_with("| `src/")) {
        listed.extend(line.split('`').nth(1).map(str::to_owned));
    }
    let mut exposing = Vec::new();
    for module in product() {
        let lines = module.lines_with("expose_secret");
        for (index, line) in module.code.lines().enumerate() {
            let compares = line.contains("==") || line.contains("!=");
            assert!(
                !(compares && lines.contains(&(index + 1))),
                "{}: compare secrets in constant time",
                module.file.display()
            );
        }
        // Imports alone do not use it.
        if module.code.contains(".expose_secret()") {
            let file = module.file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
            exposing.push(file.display().to_string());
        }
    }
    exposing.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, exposing);
}

#[test]
fn nothing_is_unsafe_unbounded_or_ends_the_process_on_its_own() {
    assert_only_within(&["unsafe"], &[], "there is no reason for it here");
    assert_only_within(
        &["unbounded_channel", "mpsc::channel()"],
        &[],
        "overload is a value",
    );
    assert_only_within(
        &["process::exit", "process::abort"],
        &[],
        "the exit code is `main`'s to return",
    );
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}

/// The reader of the source itself: a rule that sees nothing would hold for ever.
mod reader {
    use super::{has_name, without_comments, without_tests};

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = "a // b\n\"c \\\" // d\" e /* f\n g */ h r#\"i \" j\"# k '\"' l \"m\" 'n: o";
        let (code, strings) = without_comments(source);
        for name in ["a", "e", "h", "k", "l", "n", "o"] {
            assert!(has_name(&code, name), "{name}: {code}");
        }
        for name in ["b", "c", "d", "f", "g", "i", "j", "m"] {
            assert!(!has_name(&code, name), "{name}: {code}");
        }
        assert!(has_name(&strings, "i") && has_name(&strings, "m") && !has_name(&strings, "b"));
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn tests_are_not_part_of_the_product() {
        let source = "mod a {\n    #[cfg(test)]\n    use b;\n    fn c() {}\n}\n#[cfg(test)]\nmod d {\n    fn e() {}\n}\n\
                      #[cfg(test)]\nmod f;\nfn g() {}\n";
        let product = without_tests(source);
        for name in ["a", "c", "g"] {
            assert!(has_name(&product, name), "{name}: {product}");
        }
        for name in ["b", "d", "e", "f"] {
            assert!(!has_name(&product, name), "{name}: {product}");
        }
        assert_eq!(product.lines().count(), source.lines().count());
    }

    #[test]
    fn names_are_found_whole() {
        assert!(has_name("let x = tokio::spawn(y);", "tokio::spawn"));
        assert!(!has_name("tokio::spawn_blocking(y)", "tokio::spawn"));
        assert!(!has_name("unsafe_code", "unsafe"));
        assert!(has_name("set.spawn(y)", "spawn"));
        assert!(has_name("use tokio::time;", "tokio::") && !has_name("my_tokio::time", "tokio::"));
        assert!(has_name("store.commit(y)", ".commit") && !has_name("store.commits(y)", ".commit"));
    }
}
