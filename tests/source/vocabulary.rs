//! Words that are not used in messages, documents, comments and names, each with what to write instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::messages::{messages, without_placeholders};
use crate::product::root;

/// The forms of a word, separated by `|`, and its replacement.
const WORDS: [(&str, &str); 30] = [
    ("afresh|anew", "again"),
    ("are over|is over|was over|were over", "finished"),
    ("bad mood", "with faults"),
    ("dice", "random numbers"),
    (
        "give up|gives up|given up|giving up|gave up",
        "expires, becomes a dead letter, stops retrying",
    ),
    ("go on|goes on|going on|went on", "continues"),
    ("goes out|go out|went out", "is sent"),
    ("heed|heeds|heeded|heeding", "follows, applies"),
    ("held|holds|holding", "applies, is valid, contains, keeps"),
    ("hence|thus|thereby", "so"),
    ("in spite of", "despite"),
    ("in vain", "without a result"),
    (
        "learn|learns|learned|learnt|lesson|lessons|teach|teaches|taught",
        "history, sample",
    ),
    ("left alone", "wait"),
    ("lest", "so that … not"),
    ("likewise", "also"),
    (
        "looked for|look for|looked at|looks at|looks for",
        "checks, reads, searches",
    ),
    ("loud|loudness", "level"),
    ("meanwhile", "until then, at the same time"),
    ("mend|mends|mended|mending", "fix, repair"),
    ("obey|obeys|obeyed", "follows"),
    ("parted|parts by", "separated"),
    ("room|rooms", "module; disk space"),
    ("said|says", "reports, returns, describes"),
    (
        "stand still|stands still|stood still|standing still",
        "does not change",
    ),
    ("stands|stood", "is, is in"),
    (
        "tell|tells|telling|told",
        "report, log, show, print, know, distinguish",
    ),
    ("trouble|troubles", "error, failure, problem"),
    ("wants|wanted", "needs, expects, requires"),
    ("whoever|whomever", "anyone who, a client that"),
];

/// Words that are not a part of a name. Standard terms such as `held` of a lock are allowed.
const WORDS_OF_NAMES: [(&str, &str); 15] = [
    ("afresh|anew", "again"),
    ("dice", "random"),
    ("happening|happenings", "event"),
    ("heed|heeds|heeded|heeding", "follow, apply"),
    ("hold|holds", "apply, keep, is_valid"),
    (
        "ignorant|learn|learns|learned|learnt|lesson|lessons|teach|teaches|taught",
        "history, sample",
    ),
    ("look|looks|looked|looking", "check, find, measure"),
    ("loud|loudness", "level"),
    ("mend|mends|mended|mending|obey|obeys|obeyed", "repair; follow"),
    ("parted|whoever|whomever", "separated; anyone"),
    ("said|say|says", "report, return"),
    ("sick", "unhealthy"),
    ("stand|stands|stood", "state, is"),
    ("tell|tells|telling|told|trouble|troubles", "report; failure"),
    ("want|wants", "need, expect, select"),
];

/// Each old word in `text` with the words around it, and what to write instead.
fn old_words(text: &str) -> Vec<String> {
    const AROUND: usize = 40;
    let text = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    let is_part = |character: char| character.is_alphanumeric() || "_-".contains(character);
    let mut found = Vec::new();
    for (forms, instead) in WORDS {
        for (form, (start, _)) in forms
            .split('|')
            .flat_map(|form| text.match_indices(form).map(move |found| (form, found)))
        {
            let (before, after) = (&text[..start], &text[start + form.len()..]);
            let is_whole =
                !before.ends_with(is_part) && !after.starts_with(is_part) && !after.starts_with('=');
            if is_whole {
                let before = before
                    .char_indices()
                    .rev()
                    .nth(AROUND)
                    .map_or(before, |(at, _)| &before[at..]);
                let after = after
                    .char_indices()
                    .nth(AROUND)
                    .map_or(after, |(at, _)| &after[..at]);
                found.push(format!("{form:?} in …{before}{form}{after}… (write: {instead})"));
            }
        }
    }
    found
}

/// The files below a folder of the package that people read, by path.
pub fn documents(path: &Path, found: &mut BTreeMap<String, String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            documents(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_none_or(|extension| extension != "svg")
        && let Ok(text) = fs::read_to_string(path)
    {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        found.insert(name, text);
    }
}

/// Fails with all old words. A word is not searched across the end of a paragraph.
fn assert_plain(texts: impl IntoIterator<Item = (String, String)>) {
    let mut found = Vec::new();
    for (file, text) in texts {
        for paragraph in text.split("\n\n") {
            found.extend(old_words(paragraph).iter().map(|word| format!("{file}: {word}")));
        }
    }
    assert!(
        found.is_empty(),
        "{} old words; docs/glossary.md has the terms:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn messages_are_in_plain_words() {
    assert_plain(messages().into_iter().flat_map(|((_, file), texts)| {
        texts
            .into_iter()
            .map(move |text| (file.clone(), without_placeholders(&text)))
    }));
}

#[test]
fn documents_are_in_plain_words() {
    let mut found = BTreeMap::new();
    for path in [
        ".ci/run",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Cargo.toml",
        "benches/README.md",
        "clippy.toml",
        "config",
        "deploy",
        "docs",
        "fuzz/run",
        "tests/container-image",
        "tests/systemd-container",
    ] {
        documents(&root().join(path), &mut found);
    }
    assert_plain(found);
}

#[test]
fn comments_are_in_plain_words() {
    let mut found = BTreeMap::new();
    for path in ["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"] {
        documents(&root().join(path), &mut found);
    }
    found.retain(|file, _| file.ends_with(".rs") && !file.ends_with("vocabulary.rs"));
    for text in found.values_mut() {
        // A paragraph for each comment; what follows code on its line is a comment of one line.
        let mut comments = String::new();
        for line in text.lines() {
            match line.trim().strip_prefix("//") {
                Some(comment) => comments.push_str(comment.trim_start_matches(['/', '!'])),
                None => {
                    comments.push_str("\n\n");
                    if let Some((_, comment)) = line.split_once(" // ") {
                        comments.push_str(comment);
                    }
                }
            }
            comments.push('\n');
        }
        *text = comments;
    }
    assert_plain(found);
}

/// The words of a name in lower case: `PollerWait` and `poller_wait` are `poller` and `wait`.
fn words_of_name(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_upper = true;
    for character in name.chars() {
        let is_upper = character.is_uppercase();
        if character == '_' || (is_upper && !was_upper) {
            words.push(String::new());
        }
        if character != '_' {
            words.last_mut().unwrap().extend(character.to_lowercase());
        }
        was_upper = is_upper;
    }
    words
}

/// The old words in the names of all items, variables and methods, with their lines.
fn old_names(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => old_names(group.stream(), found),
            TokenTree::Ident(ident) => {
                let words = words_of_name(&ident.to_string());
                let instead = WORDS_OF_NAMES
                    .iter()
                    .find(|(forms, _)| forms.split('|').any(|form| words.iter().any(|word| word == form)));
                if let Some((_, instead)) = instead {
                    let line = ident.span().start().line;
                    found.push(format!("{line}: {ident} (write: {instead})"));
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[test]
fn names_are_in_plain_words() {
    let mut files = BTreeMap::new();
    for path in ["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"] {
        documents(&root().join(path), &mut files);
    }
    files.retain(|file, _| file.ends_with(".rs"));
    assert!(files.len() > 100, "{}", files.len());
    let mut found = Vec::new();
    for (file, source) in files {
        let mut names = Vec::new();
        old_names(source.parse().unwrap(), &mut names);
        found.extend(names.iter().map(|name| format!("{file}:{name}")));
    }
    assert!(
        found.is_empty(),
        "{} old words in names; docs/glossary.md has the terms:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn old_words_are_found_in_names() {
    let mut found = Vec::new();
    let source = "fn is_told(x: u8) -> LessonOfOne { vec![let_it_look(\"told\")] } // told";
    old_names(source.parse().unwrap(), &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
    for name in ["retold", "threshold", "Standard", "WITHHOLD", "lookup"] {
        let mut found = Vec::new();
        old_names(name.parse().unwrap(), &mut found);
        assert_eq!(found, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn old_words_are_found_whole() {
    for text in [
        "nothing is told",
        "Whoever reads",
        "it is\n    over",
        "stands still",
    ] {
        assert!(!old_words(text).is_empty(), "{text}");
    }
    for text in [
        "over HTTP",
        "give_up_after",
        "the standard",
        "retold",
        "whitespace",
    ] {
        assert_eq!(old_words(text), Vec::<String>::new(), "{text}");
    }
}
