//! Rules of what the program prints and logs, checked on the tokens of its source.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test tell that it failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The macros that write a line of the log.
const LOG_MACROS: [&str; 7] = ["trace", "debug", "info", "warn", "error", "event", "line"];
/// What errors are called in this source.
const ERROR_NAMES: [&str; 6] = ["error", "err", "e", "source", "failure", "cause"];

/// Every file below `src/`, those of tests aside, as tokens.
fn product() -> Vec<(PathBuf, TokenStream)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_of_tests = path.file_stem().is_some_and(|name| name == "tests");
            if path.is_dir() && !is_of_tests {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_of_tests {
                let tokens = fs::read_to_string(&path).unwrap().parse().unwrap();
                files.push((path, without_tests(tokens)));
            }
        }
    }
    assert!(files.len() > 50, "the source was not found");
    files
}

/// Leaves out items marked `#[cfg(test)]`.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        let is_of_tests = matches!(&token, TokenTree::Group(group) if compact(group.stream()) == "cfg(test)");
        if !is_of_tests {
            kept.push(token);
            continue;
        }
        // The item ends with its body or with a semicolon.
        for token in tokens.by_ref() {
            let ends = match &token {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                TokenTree::Punct(punct) => punct.as_char() == ';',
                _ => false,
            };
            if ends {
                break;
            }
        }
    }
    kept.into_iter().collect()
}

/// Calls `visit` with each group of tokens, at any depth.
fn each_sequence(tokens: &TokenStream, visit: &mut impl FnMut(&[TokenTree])) {
    let sequence: Vec<TokenTree> = tokens.clone().into_iter().collect();
    visit(&sequence);
    for token in &sequence {
        if let TokenTree::Group(group) = token {
            each_sequence(&group.stream(), visit);
        }
    }
}

/// The arguments of each call of a macro that logs.
fn log_calls(tokens: &TokenStream) -> Vec<Vec<Vec<TokenTree>>> {
    let mut calls = Vec::new();
    each_sequence(tokens, &mut |sequence| {
        for window in sequence.windows(3) {
            let [
                TokenTree::Ident(name),
                TokenTree::Punct(mark),
                TokenTree::Group(group),
            ] = window
            else {
                continue;
            };
            if mark.as_char() == '!' && LOG_MACROS.contains(&name.to_string().as_str()) {
                calls.push(arguments(group.stream()));
            }
        }
    });
    calls
}

fn arguments(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![Vec::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' => arguments.push(Vec::new()),
            _ => arguments.last_mut().unwrap().push(token),
        }
    }
    arguments
}

/// Tokens without the white space between them.
fn compact(tokens: TokenStream) -> String {
    let mut text = String::new();
    let mut was_word = false;
    for token in tokens {
        let (part, is_word) = match &token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                (format!("{open}{}{close}", compact(group.stream())), false)
            }
            TokenTree::Punct(punct) => {
                let space = if punct.spacing() == Spacing::Alone && punct.as_char() == ',' {
                    " "
                } else {
                    ""
                };
                (format!("{}{space}", punct.as_char()), false)
            }
            other => (other.to_string(), true),
        };
        if was_word && is_word {
            text.push(' ');
        }
        text.push_str(&part);
        was_word = is_word;
    }
    text
}

/// What is wrong with how an argument of a log macro shows an error, if it shows one.
fn hides_causes(argument: &[TokenTree]) -> bool {
    let text = compact(argument.iter().cloned().collect());
    let (name, value) = text.split_once('=').unwrap_or(("", &text));
    let shown = value.trim_start_matches(['%', '?', '&', '*']);
    let is_shown_by_itself = value.starts_with(['%', '?']) && ERROR_NAMES.contains(&shown);
    let is_shorthand = name.is_empty() && shown == "error";
    let is_dyn = value.contains("dyn ") && value.contains("Error");
    // In the text of a message, or by a conversion of its own.
    let is_captured = ERROR_NAMES
        .iter()
        .any(|name| text.contains(&format!("{{{name}}}")) || text.contains(&format!("{{{name}:")));
    let is_converted = ERROR_NAMES
        .iter()
        .any(|name| value == format!("{name}.to_string()"));
    // A text that has another name is one already.
    let is_text = value.ends_with(".as_str()")
        || !ERROR_NAMES.contains(&value) && value.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_other = name == "error" && !is_text && !value.starts_with("chain(");
    is_shown_by_itself || is_shorthand || is_dyn || is_captured || is_converted || is_other
}

#[test]
fn an_error_is_logged_with_all_its_causes() {
    let mut found = Vec::new();
    let mut calls = 0;
    for (file, tokens) in product() {
        for call in log_calls(&tokens) {
            calls += 1;
            let wrong = call.iter().filter(|argument| hides_causes(argument));
            found.extend(wrong.map(|argument| {
                let text = compact(argument.iter().cloned().collect());
                format!("{}: {text}", file.display())
            }));
        }
    }
    assert!(calls > 50, "the log lines were not found");
    assert!(
        found.is_empty(),
        "log an error as `error = chain(&error)`, which prints its causes in every format (text as \
         `error = text.as_str()`):\n{}",
        found.join("\n")
    );
}

#[test]
fn standard_streams_are_written_in_one_place() {
    const MACROS: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];
    let mut found = Vec::new();
    for (file, tokens) in product() {
        if file.ends_with("src/stdio.rs") {
            continue;
        }
        each_sequence(&tokens, &mut |sequence| {
            for (index, token) in sequence.iter().enumerate() {
                let TokenTree::Ident(name) = token else { continue };
                let name = name.to_string();
                let rest: String = sequence[index + 1..]
                    .iter()
                    .take(4)
                    .map(|token| compact(token.clone().into()))
                    .collect();
                let is_macro = MACROS.contains(&name.as_str()) && rest.starts_with('!');
                // Whether it is a terminal, and which file it is, may be asked anywhere.
                let asks = [".is_terminal(", ".as_fd("].iter().any(|question| {
                    rest.starts_with(&format!("(){question}"))
                        || rest == format!("(){}", &question[..question.len() - 1])
                });
                let before: String = sequence[index.saturating_sub(3)..index]
                    .iter()
                    .map(|token| compact(token.clone().into()))
                    .collect();
                let is_stream =
                    matches!(name.as_str(), "stdout" | "stderr") && before.ends_with("io::") && !asks;
                if is_macro || is_stream {
                    found.push(format!("{}: {before}{name}{rest}", file.display()));
                }
            }
        });
    }
    assert!(
        found.is_empty(),
        "the streams of the standard library block, and lose what a descriptor that does not block refuses; print through \
         `cli::output`, and log through `tracing`:\n{}",
        found.join("\n")
    );
}

/// The reader of the source itself: a rule that sees nothing would always be kept.
mod reader {
    use super::*;

    fn wrong(source: &str) -> usize {
        let calls = log_calls(&source.parse().unwrap());
        assert_eq!(calls.len(), 1, "{source}");
        calls[0].iter().filter(|argument| hides_causes(argument)).count()
    }

    #[test]
    fn errors_without_their_causes_are_found() {
        for source in [
            r#"select! { _ = x => { tracing::warn!(%error, "m") } }"#,
            r#"tracing::warn!(error = &error as &dyn std::error::Error, "m")"#,
            r#"warn!(reason = %e, "m")"#,
            r#"warn!(reason = ?source, "m")"#,
            r#"warn!(error, "m")"#,
            r#"warn!("m: {error}")"#,
            r#"warn!(reason = format!("{error:#}"), "m")"#,
            r#"warn!(reason = error.to_string(), "m")"#,
            r#"warn!(error = error.to_string(), "m")"#,
        ] {
            assert_eq!(wrong(source), 1, "{source}");
        }
        for source in [
            r#"warn!(%file, error = chain(&error), reason = %problem, "m {name}")"#,
            r#"warn!(error = reason, endpoint, "m")"#,
            r#"warn!(error = error.as_str(), count, "m: error")"#,
        ] {
            assert_eq!(wrong(source), 0, "{source}");
        }
    }

    #[test]
    fn tests_are_left_out() {
        let source = "#[cfg(test)] mod tests { a!() } fn b() {} #[cfg(test)] use c; fn d() {}";
        let kept = compact(without_tests(source.parse().unwrap()));
        assert!(kept.contains("fn b()") && kept.contains("fn d()"), "{kept}");
        assert!(!kept.contains('a') && !kept.contains('c'), "{kept}");
    }
}
