//! Checks that the documentation is right: settings load, commands, events, metrics, messages and links exist.
//! `tests/documented_commands.rs` runs the commands, `tests/receivers.rs` the receivers.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

#[path = "support/help.rs"]
mod help;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use assert_cmd::Command;
use backfill_watch::config::{Environment, Overrides, Settings};
use backfill_watch::core::event::{EventId, EventType};
use help::{commands, help};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

const EXAMPLE: &str = include_str!("../config/config.toml");

/// The longest README that a newcomer still reads.
const MAX_README_LINES: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A code block of a page.
struct Block {
    language: String,
    text: String,
}

/// A Markdown file.
struct Page {
    /// From the root of the package.
    path: String,
    text: String,
    blocks: Vec<Block>,
    /// What is in back quotes outside of code blocks.
    names: BTreeSet<String>,
    links: Vec<String>,
    /// The anchors of its headings.
    anchors: BTreeSet<String>,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut page = Self {
            path: path.to_owned(),
            text: text.clone(),
            blocks: Vec::new(),
            names: BTreeSet::new(),
            links: Vec::new(),
            anchors: BTreeSet::new(),
        };
        let mut heading: Option<String> = None;
        let mut block: Option<Block> = None;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.anchors.extend(heading.take().map(|text| anchor(&text)));
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.split(',').next().unwrap().to_owned(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Block {
                        language,
                        text: String::new(),
                    });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    }
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                    page.names.insert(text.into_string());
                }
                _ => {}
            }
        }
        page
    }

    fn is_chapter(&self) -> bool {
        self.path.starts_with("docs/")
    }

    /// Its blocks in a language.
    fn blocks_in(&self, language: &str) -> impl Iterator<Item = &str> {
        let blocks = self.blocks.iter().filter(move |block| block.language == language);
        blocks.map(|block| block.text.as_str())
    }
}

/// The anchor that mdBook and forges give to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

/// All chapters of the book, by path.
fn chapters() -> Vec<Page> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| Page::read(&format!("docs/{name}")))
        .collect()
}

/// All documents of the package: the chapters, and those beside them.
fn pages() -> Vec<Page> {
    let others = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "benches/README.md",
        "deploy/kubernetes/README.md",
    ];
    let others = others.iter().filter(|path| root().join(path).exists());
    others.map(|path| Page::read(path)).chain(chapters()).collect()
}

/// What users read: README and chapters.
fn user_pages() -> Vec<Page> {
    std::iter::once(Page::read("README.md"))
        .chain(chapters())
        .collect()
}

/// The part of a page below a heading of the second level.
fn section(page: &str, heading: &str) -> String {
    let text = Page::read(page).text;
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The first cell of each row of a section's tables, without back quotes.
fn first_cells(section: &str) -> Vec<&str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// All of the product's source.
fn source() -> String {
    let mut source = String::new();
    let mut folders = vec![root().join("src")];
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

/// The path of each setting of the example file. Those of `[[webhooks]]` are left out: they are those of `[webhook]`.
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
fn the_readme_is_short() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(
        lines <= MAX_README_LINES,
        "{lines} lines: move what is not a first step to docs/"
    );
}

#[test]
fn settings_in_the_documentation_load() {
    let mut loaded_blocks = 0;
    for page in user_pages() {
        for block in page.blocks_in("toml") {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("config.toml");
            // A part of the settings is shown without the project that every file needs.
            let project = match block.contains("[ampersand]") || block.contains("[[ampersand.projects]]") {
                true => "",
                false => "[ampersand]\nproject = \"my-project\"\n",
            };
            fs::write(&file, format!("{block}\n{project}")).unwrap();
            // Secrets are missing here; only the settings are checked.
            let none = Environment::default();
            let loaded = Settings::load_without_secrets(Some(&file), &none, &Overrides::default());
            let loaded = loaded.unwrap_or_else(|error| panic!("{}: {error}\n{block}", page.path));
            assert!(loaded.warnings.is_empty(), "{}: {:?}", page.path, loaded.warnings);
            loaded_blocks += 1;
        }
    }
    assert!(loaded_blocks > 4);
}

#[test]
fn every_setting_is_documented_and_no_other() {
    let reference = Page::read("docs/settings.md");
    let known = settings();
    for setting in &known {
        let key = setting.rsplit('.').next().unwrap();
        let is_named = reference.names.contains(setting) || reference.names.contains(key);
        assert!(is_named, "`{setting}` is not in docs/settings.md");
    }
    let tables = ["ampersand", "poll", "webhook", "http", "log", "metrics"];
    for page in user_pages() {
        for name in &page.names {
            let is_setting = name.split_once('.').is_some_and(|(table, key)| {
                tables.contains(&table) && key.chars().all(|c| c.is_ascii_lowercase() || "_.[]".contains(c))
            });
            assert!(
                !is_setting || known.contains(name) || name.ends_with(".md") || name.ends_with(".rs"),
                "{}: there is no setting {name}",
                page.path
            );
        }
    }
}

#[test]
fn every_command_is_documented_and_every_option_exists() {
    let helps: BTreeMap<String, String> = commands()
        .into_iter()
        .map(|name| (name.clone(), help(&[&name])))
        .collect();
    let table = Page::read("docs/commands.md").text;
    for name in helps.keys() {
        let named = format!("`backfill-watch {name}`");
        assert!(
            table.contains(&named),
            "{name} is not in the table of docs/commands.md"
        );
    }
    for row in table
        .lines()
        .filter(|line| line.starts_with("| `backfill-watch "))
    {
        let name = row
            .trim_start_matches("| `backfill-watch ")
            .split('`')
            .next()
            .unwrap();
        let help = &helps[name];
        for option in row.split('`').filter(|part| part.starts_with("--")) {
            assert!(help.contains(option), "{name} has no {option}");
        }
    }
    let mut checked = 0;
    for page in user_pages() {
        let text = page.text.replace("\\\n", " ");
        for call in text.split("backfill-watch ").skip(1) {
            let call = call.split(['`', '\n', '#', ';', '>', '|', '&']).next().unwrap();
            let mut words = call.split_whitespace();
            let Some((name, help)) = words.next().and_then(|name| helps.get_key_value(name)) else {
                continue;
            };
            for option in words.filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{}: {name} has no {option}", page.path);
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn every_event_is_documented_and_no_other() {
    let section = section("docs/events.md", "Types");
    let table: BTreeSet<&str> = first_cells(&section).into_iter().collect();
    let existing: BTreeSet<&str> = EventType::ALL.iter().map(|event| event.as_str()).collect();
    assert_eq!(table, existing);
    for page in user_pages() {
        for name in &page.names {
            let is_event = ["operation.", "group.", "api."]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            let is_event = is_event && !name.contains('*');
            assert!(
                !is_event || existing.contains(name.as_str()),
                "{}: there is no event {name}",
                page.path
            );
        }
    }
}

#[test]
fn the_examples_of_an_event_are_right() {
    let id = EventId::derive(
        "my-project",
        Some("3efc0f0f"),
        EventType::Succeeded,
        "generation 0",
    );
    let events = Page::read("docs/events.md");
    let command = r"printf 'my-project\n3efc0f0f\noperation.succeeded\ngeneration 0' | sha256sum";
    assert!(events.text.contains(command));
    let webhooks = Page::read("docs/webhooks.md");
    assert!(webhooks.text.contains(&format!("webhook-id: {id}")));
    for body in events.blocks_in("json") {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(EventType::ALL.iter().any(|event| body["type"] == event.as_str()));
    }
}

#[test]
fn every_message_in_troubleshooting_is_in_the_program() {
    // `tests/source` checks that this list is complete.
    let list = fs::read_to_string(root().join("tests/messages.txt")).unwrap();
    let section = section("docs/troubleshooting.md", "By message");
    let messages = first_cells(&section);
    assert!(messages.len() > 20, "{messages:?}");
    let missing: Vec<&&str> = messages
        .iter()
        .filter(|message| !list.contains(**message))
        .collect();
    assert!(missing.is_empty(), "the program has no message {missing:?}");
}

#[test]
fn the_problems_of_the_example_are_what_check_prints() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let settings = "watchlist = \"watch.list\"\n[poll]\nmax_interval = \"1 fortnight\"\n";
    fs::write(&file, settings).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_backfill-watch"));
    check.env_clear().arg("check").arg("--config").arg(&file);
    let output = check.assert().code(2).get_output().clone();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let printed = printed.replace(&file.display().to_string(), "/etc/backfill-watch/config.toml");
    let configuration = Page::read("docs/configuration.md");
    let shown = configuration.blocks_in("text").next().unwrap();
    for line in shown.lines() {
        assert!(printed.contains(line), "{line:?} is not in\n{printed}");
    }
}

#[test]
fn every_metric_in_the_documentation_is_served() {
    let source = source();
    let mut checked = 0;
    for page in user_pages() {
        let metrics = page
            .names
            .iter()
            .filter_map(|name| name.strip_prefix("backfill_watch_"));
        for metric in metrics {
            let name = metric.split('{').next().unwrap();
            let ends = [format!("\"{name}\""), format!("{{PREFIX}}_{name}\"")];
            let is_served = ends.iter().any(|end| source.contains(end));
            assert!(is_served, "{}: there is no metric {name}", page.path);
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
}

#[test]
fn the_readme_tests_as_the_gate_does() {
    let gate = fs::read_to_string(root().join(".ci/run"));
    // The package does not contain it.
    let Ok(gate) = gate else { return };
    let readme = Page::read("README.md");
    let test = readme
        .blocks_in("sh")
        .flat_map(str::lines)
        .find(|line| line.starts_with("cargo test"))
        .unwrap();
    let command = test.split('#').next().unwrap().trim();
    assert!(
        gate.lines().any(|line| line.trim() == command),
        "the gate does not run {command:?}"
    );
}

#[test]
fn receivers_in_the_documentation_are_those_that_are_tested() {
    let webhooks = Page::read("docs/webhooks.md");
    for (language, file) in [
        ("python", "docs/receivers/receiver.py"),
        ("ts", "docs/receivers/receiver.ts"),
        ("rust", "examples/receiver.rs"),
    ] {
        let tested = fs::read_to_string(root().join(file)).unwrap();
        let shown: Vec<&str> = webhooks.blocks_in(language).collect();
        assert_eq!(shown, [tested], "docs/webhooks.md differs from {file}");
    }
}

#[test]
fn every_alert_has_a_runbook() {
    let rules = fs::read_to_string(root().join("deploy/monitoring/alerts.yml")).unwrap();
    let runbooks = Page::read("docs/alerts.md");
    let values = |key: &str| -> Vec<String> {
        let lines = rules
            .lines()
            .map(|line| line.trim_start().trim_start_matches("- "));
        lines
            .filter_map(|line| Some(line.strip_prefix(key)?.to_owned()))
            .collect()
    };
    let alerts = values("alert: ");
    assert!(alerts.len() > 15, "{alerts:?}");
    let urls: Vec<String> = alerts
        .iter()
        .map(|alert| format!("docs/alerts.md#{}", alert.to_lowercase()))
        .collect();
    assert_eq!(values("runbook_url: "), urls);
    for alert in alerts {
        assert!(
            runbooks.text.contains(&format!("\n### {alert}\n")),
            "{alert} has no section"
        );
        assert!(
            runbooks.text.contains(&format!("| [`{alert}`]")),
            "{alert} is not in the table"
        );
    }
}

#[test]
fn every_chapter_is_in_the_summary() {
    let listed: BTreeSet<String> = Page::read("docs/SUMMARY.md")
        .links
        .iter()
        .map(|link| format!("docs/{link}"))
        .collect();
    let chapters: BTreeSet<String> = chapters()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path != "docs/SUMMARY.md")
        .collect();
    assert_eq!(listed, chapters);
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{}", path.display()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    for page in pages() {
        let folder = Path::new(&page.path).parent().unwrap();
        for link in &page.links {
            if let Some(address) = link.split_once("://") {
                let is_address = address.0.starts_with("http") && link.parse::<reqwest::Url>().is_ok();
                if !is_address {
                    problems.push(format!("{}: {link} is not an address", page.path));
                }
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => PathBuf::from(&page.path),
                file => normal(&folder.join(file)),
            };
            if !root().join(&target).exists() {
                problems.push(format!("{}: {link} does not exist", page.path));
            } else if page.is_chapter() && !target.starts_with("docs") {
                problems.push(format!("{}: {link} is not a part of the book", page.path));
            } else if !heading.is_empty() && !Page::read(target.to_str().unwrap()).anchors.contains(heading) {
                problems.push(format!("{}: {link} names no heading", page.path));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_file_in_the_documentation_exists() {
    let folders = [
        "benches/",
        "config/",
        "deploy/",
        "docs/",
        "examples/",
        "fuzz/",
        "src/",
        "tests/",
    ];
    for page in user_pages() {
        for name in &page.names {
            let is_file = folders.iter().any(|folder| name.starts_with(folder));
            let is_file = is_file && !name.contains([' ', '*', '…', '{']);
            // Made by following the text.
            let is_made = name.starts_with("fuzz/corpus") || name.starts_with("deploy/container/secrets");
            let file = name.split(['#', ':']).next().unwrap();
            assert!(
                !is_file || is_made || root().join(file).exists(),
                "{}: there is no {name}",
                page.path
            );
        }
    }
}
