//! One line of a watch list.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Labels, LineProblem, MAX_ID_LEN, MAX_LABEL_KEY_CHARS, MAX_LABELS, MAX_LINE_BYTES, WatchKey};
use crate::core::deadline::Deadline;

/// A column, and the problem there.
type ColumnProblem = (u32, LineProblem);
/// The same with an offset in bytes.
type OffsetProblem = (usize, LineProblem);

/// A valid line.
pub(super) struct ParsedLine {
    pub key: WatchKey,
    pub labels: Labels,
    /// The column of its ID.
    pub column: u32,
    /// The problem of an unusable deadline.
    pub deadline: Result<Option<Deadline>, ColumnProblem>,
}

/// Parses one line without its end: an entry, `None` (blank or comment), or a problem.
pub(super) fn parse_line(
    raw: &[u8],
    projects: &Arc<[Arc<str>]>,
) -> Result<Option<ParsedLine>, ColumnProblem> {
    if raw.len() > MAX_LINE_BYTES {
        let fitting = String::from_utf8_lossy(&raw[..MAX_LINE_BYTES]);
        return Err((
            column_after(&fitting),
            LineProblem::LineTooLong { bytes: raw.len() },
        ));
    }
    let line = str::from_utf8(raw).map_err(|error| {
        let valid = String::from_utf8_lossy(&raw[..error.valid_up_to()]);
        (column_after(&valid), LineProblem::NotUtf8)
    })?;
    let column = |offset: usize| column_after(&line[..offset]);
    // Most lines are visible ASCII, and long lists are read often.
    let is_plain = raw.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain && let Some((offset, c)) = line.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
        return Err((column(offset), LineProblem::ControlCharacter(c)));
    }
    let parsed = parse_text(line, projects).map_err(|(offset, problem)| (column(offset), problem))?;
    Ok(parsed.map(|(id_offset, deadline, key, labels)| ParsedLine {
        key,
        labels,
        column: column(id_offset),
        deadline: deadline.map_err(|(offset, problem)| (column(offset), problem)),
    }))
}

type ParsedText = (usize, Result<Option<Deadline>, OffsetProblem>, WatchKey, Labels);

fn parse_text(line: &str, projects: &Arc<[Arc<str>]>) -> Result<Option<ParsedText>, OffsetProblem> {
    let Some(id_offset) = next_word(line, 0) else {
        return Ok(None);
    };
    let id = word_at(line, id_offset);
    check_id(id).map_err(|(within, problem)| (id_offset + within, problem))?;

    let mut project: Option<Arc<str>> = None;
    let mut deadline: Option<Result<Deadline, OffsetProblem>> = None;
    let mut labels = Labels::new();
    let mut end = id_offset + id.len();
    while let Some(offset) = next_word(line, end) {
        let Label {
            key,
            value,
            value_offset,
            end: label_end,
        } = label_at(line, offset)?;
        end = label_end;
        let is_repeated = match key {
            "project" => project.is_some(),
            "deadline" => deadline.is_some(),
            _ => labels.iter().any(|(earlier, _)| earlier == key),
        };
        if is_repeated {
            return Err((offset, LineProblem::repeated_label(key)));
        }
        match key {
            "project" => {
                let known = projects.iter().find(|name| ***name == *value);
                let known =
                    known.ok_or_else(|| (value_offset, LineProblem::unknown_project(&value, projects)))?;
                project = Some(Arc::clone(known));
            }
            "deadline" => {
                let parsed = Deadline::parse(&value);
                let unusable = |problem| (value_offset, LineProblem::unusable_deadline(&value, problem));
                deadline = Some(parsed.map_err(unusable));
            }
            _ if labels.len() == MAX_LABELS => return Err((offset, LineProblem::TooManyLabels)),
            _ => labels.push((key.to_owned(), value.into_owned())),
        }
    }

    let project = match (project, projects.first()) {
        (Some(named), _) => named,
        (None, Some(first)) => Arc::clone(first),
        (None, None) => return Err((id_offset, LineProblem::unknown_project("", projects))),
    };
    let key = WatchKey {
        project,
        operation: id.into(),
    };
    Ok(Some((id_offset, deadline.transpose(), key, labels)))
}

/// The start of the next word, at or after an offset; `None` at the end and before a comment.
fn next_word(line: &str, from: usize) -> Option<usize> {
    let rest = line[from..].trim_start();
    (!rest.is_empty() && !rest.starts_with('#')).then(|| line.len() - rest.len())
}

/// The word that begins at `offset`, up to the next white space.
fn word_at(line: &str, offset: usize) -> &str {
    let rest = &line[offset..];
    rest.split_once(char::is_whitespace)
        .map_or(rest, |(word, _)| word)
}

/// The column, from 1, of the character that follows `prefix`.
fn column_after(prefix: &str) -> u32 {
    u32::try_from(prefix.chars().count() + 1).unwrap_or(u32::MAX)
}

/// Whether a watch list accepts this as an operation ID.
#[must_use]
pub fn accepts_id(id: &str) -> bool {
    !id.is_empty() && check_id(id).is_ok()
}

/// Checks an operation ID that is not part of a line.
///
/// # Errors
/// Why a watch list does not accept it.
pub fn check_operation_id(id: &str) -> Result<(), LineProblem> {
    if id.is_empty() {
        return Err(LineProblem::MissingId);
    }
    check_id(id).map_err(|(_, problem)| problem)
}

/// Checks an operation ID. The error has the offset of the problem.
fn check_id(token: &str) -> Result<(), OffsetProblem> {
    let of_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    // The first byte of a character beyond ASCII is not allowed in an ID either.
    let wrong = token.bytes().position(|byte| !of_id(byte));
    let wrong = wrong.and_then(|offset| Some((offset, token[offset..].chars().next()?)));
    match wrong {
        // `customer=acme` at the start of a line: the ID is missing or comes after the labels.
        Some((_, '=')) => Err((0, LineProblem::MissingId)),
        Some((offset, c)) => Err((offset, LineProblem::IdCharacter(c))),
        None if token.len() > MAX_ID_LEN => {
            let characters = token.len();
            Err((MAX_ID_LEN, LineProblem::IdTooLong { characters }))
        }
        None if matches!(token, "." | "..") => Err((0, LineProblem::IdIsDots)),
        None => Ok(()),
    }
}

struct Label<'a> {
    key: &'a str,
    value: Cow<'a, str>,
    value_offset: usize,
    /// Where the label ends.
    end: usize,
}

/// Splits an argument of a command into the key and the value of a label, as a line has it. Since it is one argument, white
/// space in its value needs no quotes.
///
/// # Errors
/// Why it cannot be part of a line.
pub fn parse_label(argument: &str) -> Result<(String, String), LineProblem> {
    let (key, value) = argument
        .split_once('=')
        .ok_or_else(|| LineProblem::not_a_label(argument))?;
    if let Some(c) = argument.chars().find(|c| c.is_control()) {
        return Err(LineProblem::ControlCharacter(c));
    }
    if !matches!(key, "project" | "deadline") {
        check_label_key(key)?;
    }
    if !value.starts_with('"') {
        return Ok((key.to_owned(), value.to_owned()));
    }
    match quoted_at(value, 0) {
        Ok((text, end)) if end == value.len() => Ok((key.to_owned(), text)),
        Ok(_) => Err(LineProblem::TextAfterQuote),
        Err((_, problem)) => Err(problem),
    }
}

/// Parses the label that begins at `offset`.
fn label_at(line: &str, offset: usize) -> Result<Label<'_>, OffsetProblem> {
    let word = word_at(line, offset);
    let (key, value) = word
        .split_once('=')
        .ok_or_else(|| (offset, LineProblem::not_a_label(word)))?;
    check_key(key).map_err(|(within, problem)| (offset + within, problem))?;
    let value_offset = offset + key.len() + 1;
    let (value, end) = if value.starts_with('"') {
        let (value, end) = quoted_at(line, value_offset)?;
        (Cow::Owned(value), end)
    } else {
        (Cow::Borrowed(value), offset + word.len())
    };
    Ok(Label {
        key,
        value,
        value_offset,
        end,
    })
}

/// Whether `key` can be the key of a label. The error has the offset of the problem.
fn check_key(key: &str) -> Result<(), OffsetProblem> {
    if key.is_empty() {
        return Err((0, LineProblem::LabelWithoutKey));
    }
    if let Some(quote) = key.find(['"', '\'']) {
        return Err((quote, LineProblem::QuoteInKey));
    }
    if let Some((within, _)) = key.char_indices().nth(MAX_LABEL_KEY_CHARS) {
        return Err((within, LineProblem::LabelKeyTooLong));
    }
    Ok(())
}

/// Checks the key of a label that is not part of a line.
///
/// # Errors
/// Why it cannot be the key of a label.
pub fn check_label_key(key: &str) -> Result<(), LineProblem> {
    check_key(key).map_err(|(_, problem)| problem)?;
    if matches!(key, "project" | "deadline") {
        return Err(LineProblem::ReservedKey);
    }
    let is_wrong = |c: char| c == '=' || c.is_whitespace() || c.is_control();
    match key.find(is_wrong) {
        Some(_) => Err(LineProblem::LabelKeyCharacter),
        None => Ok(()),
    }
}

/// Parses the quoted value that begins at `offset`; returns its text and its end.
fn quoted_at(line: &str, offset: usize) -> Result<(String, usize), OffsetProblem> {
    let inside = offset + 1;
    let mut text = String::new();
    let mut characters = line[inside..].char_indices();
    while let Some((at, character)) = characters.next() {
        let at = inside + at;
        match character {
            '"' => {
                let end = at + 1;
                return match line[end..].chars().next() {
                    Some(next) if !next.is_whitespace() => Err((end, LineProblem::TextAfterQuote)),
                    _ => Ok((text, end)),
                };
            }
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                Some((_, other)) => return Err((at, LineProblem::UnknownEscape(other))),
                None => break,
            },
            '\t' => return Err((at, LineProblem::ControlCharacter('\t'))),
            other => text.push(other),
        }
    }
    Err((offset, LineProblem::UnclosedQuote))
}

/// A label as written in a watch list, quoted if needed.
#[must_use]
pub fn label_text(key: &str, value: &str) -> String {
    if value.starts_with('"') || value.contains(char::is_whitespace) {
        let escaped = value.replace('\\', r"\\").replace('"', r#"\""#);
        format!("{key}=\"{escaped}\"")
    } else {
        format!("{key}={value}")
    }
}
