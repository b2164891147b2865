//! All messages of the product in one file, `tests/messages.txt`, so that a reviewer reads every word that users see.
//!
//! `BACKFILL_WATCH_BLESS=1 cargo test --test source messages` writes the file again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::product::{LogCall, Module, product, root};

const FILE: &str = "tests/messages.txt";
const BLESS: &str = "BACKFILL_WATCH_BLESS";

const TITLE: &str = "\
All messages of the product, by kind and source file. A test compares this list with the source. After a change:
    BACKFILL_WATCH_BLESS=1 cargo test --test source messages
";

/// The kinds of messages, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Log,
    Error,
    Text,
    Help,
    Metric,
    Page,
    Alert,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::Log => "Log lines: level, message, fields",
            Self::Error => "Errors",
            Self::Text => "Other texts",
            Self::Help => "Help of the command line",
            Self::Metric => "Help of the metrics",
            Self::Page => "The status page",
            Self::Alert => "Alerts",
        }
    }
}

/// The messages of each kind and file.
pub type Messages = BTreeMap<(Kind, String), BTreeSet<String>>;

/// Every message of the product.
pub fn messages() -> Messages {
    let mut messages = Messages::new();
    let mut add = |kind, file: &str, texts: BTreeSet<String>| {
        if !texts.is_empty() {
            messages.insert((kind, file.to_owned()), texts);
        }
    };
    for module in product() {
        add(
            Kind::Log,
            &module.file,
            module.log_calls.iter().filter_map(log_line).collect(),
        );
        add(Kind::Error, &module.file, module.errors.iter().cloned().collect());
        add(
            Kind::Help,
            &module.file,
            module
                .help
                .iter()
                .filter(|text| is_prose(text))
                .cloned()
                .collect(),
        );
        let kind = if module.is_within(&["report::metrics"]) {
            Kind::Metric
        } else {
            Kind::Text
        };
        add(kind, &module.file, texts(module));
    }
    for file in page_files() {
        let source = fs::read_to_string(root().join(&file)).unwrap();
        let texts = if file.ends_with("html") {
            html_texts(&source)
        } else {
            script_texts(&source)
        };
        add(Kind::Page, &file, texts);
    }
    let file = "deploy/monitoring/alerts.yml";
    add(
        Kind::Alert,
        file,
        alerts(&fs::read_to_string(root().join(file)).unwrap()),
    );
    messages
}

/// `warn  message  [field, field]`; nothing of a macro that fills in a message of its caller.
fn log_line(call: &LogCall) -> Option<String> {
    let fields = call.arguments.iter().filter_map(|argument| {
        let name = argument
            .split_once('=')
            .map_or(argument.as_str(), |(name, _)| name);
        let name = name.trim_start_matches(['%', '?']);
        let is_name = name
            .chars()
            .all(|character| character.is_ascii_lowercase() || "_.".contains(character));
        (is_name && !name.is_empty()).then_some(name)
    });
    let fields: Vec<&str> = fields.collect();
    let fields = if fields.is_empty() {
        String::new()
    } else {
        format!("  [{}]", fields.join(", "))
    };
    let message = call.message.as_deref().filter(|message| *message != "{}")?;
    Some(format!("{:<5}  {message}{fields}", call.level))
}

fn texts(module: &Module) -> BTreeSet<String> {
    let logged: BTreeSet<&str> = module
        .log_calls
        .iter()
        .filter_map(|call| call.message.as_deref())
        .collect();
    let strings = module
        .strings
        .iter()
        .filter(|text| !logged.contains(text.as_str()));
    strings
        .filter(|text| is_prose(text) && !is_code(text))
        .cloned()
        .collect()
}

/// The text with `¤` instead of each placeholder.
pub fn without_placeholders(text: &str) -> String {
    let mut depth = 0;
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                shown.push('¤');
            }
            _ if depth == 0 => shown.push(character),
            _ => {}
        }
    }
    shown
}

/// Whether people read it: several words, at least one of them longer than a unit.
fn is_prose(text: &str) -> bool {
    let is_word = |word: &str| {
        let word = word.trim_matches(|character: char| !character.is_alphabetic());
        word.len() > 1
            && word
                .chars()
                .all(|character| character.is_lowercase() || "-'".contains(character))
    };
    let shown = without_placeholders(text);
    shown.split_whitespace().count() > 1 && shown.split_whitespace().any(is_word)
}

/// SQL, HTML, or headers.
fn is_code(text: &str) -> bool {
    const MARKS: [&str; 14] = [
        "SELECT ",
        " FROM ",
        "INSERT ",
        "UPDATE ",
        "DELETE ",
        "CREATE ",
        "PRAGMA ",
        "REINDEX ",
        " AND ",
        "WHERE ",
        "quote(",
        "row_checksum(",
        "content-type:",
        "default-src",
    ];
    MARKS.iter().any(|mark| text.contains(mark)) || text.trim_start().starts_with('<')
}

/// The texts between the tags, and those of attributes that are read.
fn html_texts(source: &str) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for part in source.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        for name in ["alt", "aria-label", "placeholder", "title"] {
            if let Some((_, rest)) = tag.split_once(&format!(" {name}=\"")) {
                texts.insert(rest.split('"').next().unwrap().to_owned());
            }
        }
        texts.insert(text.trim().to_owned());
    }
    texts.retain(|text| text.contains(char::is_alphabetic) && !text.starts_with("{{"));
    texts
}

/// The document and the scripts of the status page.
fn page_files() -> Vec<String> {
    let page = "src/http/status_page";
    let mut files = vec![format!("{page}/page.html"), format!("{page}/page.js")];
    let modules = fs::read_dir(root().join(page).join("modules")).unwrap();
    let names = modules.map(|module| module.unwrap().file_name().into_string().unwrap());
    files.extend(names.map(|name| format!("{page}/modules/{name}")));
    files.sort();
    files
}

/// The strings of a script that people read.
fn script_texts(source: &str) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let mut rest = line;
        while let Some(start) = rest.find(['"', '`']) {
            let quote = rest[start..].chars().next().unwrap();
            let Some((text, after)) = rest[start + 1..].split_once(quote) else {
                break;
            };
            let is_selector = ["M", "use strict", "#", "."]
                .iter()
                .any(|mark| text.starts_with(mark));
            if is_prose(&text.replace("${", "{")) && !is_selector {
                texts.insert(text.to_owned());
            }
            rest = after;
        }
    }
    texts
}

/// The summary and the description of each alert.
fn alerts(source: &str) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    let mut alert = "";
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        let key = key.trim_start_matches([' ', '-']);
        if key == "alert" {
            alert = value;
        }
        if key == "summary" || key == "description" {
            let mut value = value.trim_matches(['>', '-', '"']).to_owned();
            let indent = |line: &str| line.len() - line.trim_start().len();
            while let Some(next) = lines.next_if(|next| indent(next) > indent(line)) {
                value = format!("{value} {}", next.trim());
            }
            texts.insert(format!("{alert} {key}: {}", value.trim()));
        }
    }
    texts
}

fn written(messages: &Messages) -> String {
    let mut text = TITLE.to_owned();
    let mut last = None;
    for ((kind, file), texts) in messages {
        if last != Some(*kind) {
            text.push_str(&format!("\n# {}\n", kind.title()));
            last = Some(*kind);
        }
        text.push_str(&format!("\n## {file}\n\n"));
        for message in texts {
            text.push_str(&format!("{}\n", message.trim_end().replace('\n', "\n    ")));
        }
    }
    text
}

#[test]
fn the_list_of_messages_is_up_to_date() {
    let written = written(&messages());
    let path = root().join(FILE);
    if std::env::var_os(BLESS).is_some() {
        fs::write(path, written).unwrap();
        return;
    }
    let before = fs::read_to_string(path).unwrap_or_default();
    if before == written {
        return;
    }
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), written.lines().collect());
    let removed = old.difference(&new).map(|line| format!("- {line}\n"));
    let added = new.difference(&old).map(|line| format!("+ {line}\n"));
    let changes: String = removed.chain(added).collect();
    panic!(
        "{FILE} differs from the source. Read the new texts, then write it again:\n\
         {BLESS}=1 cargo test --test source messages\n{changes}"
    );
}

#[test]
fn prose_is_distinguished_from_names() {
    for text in [
        "{} left",
        "cannot read {file}",
        "webhook \"{name}\" fails: {error}",
    ] {
        assert!(is_prose(text), "{text}");
    }
    for text in [
        "pending",
        "{} {}",
        "{key}={value}",
        "GET /a HTTP/1.1",
        "text/html",
    ] {
        assert!(!is_prose(text), "{text}");
    }
}
