//! Formats the fields of a readable log line.
//!
//! `tracing-subscriber` writes values unescaped. Many come from outside (API responses, the watch list), so they are
//! escaped here.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::core::text::escape;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Writes the message, then `key=value` for each other field.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = PrettyLine {
            writer,
            is_empty: true,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

struct PrettyLine<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl PrettyLine<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !self.is_empty {
            self.writer.write_char(' ')?;
        }
        self.is_empty = false;
        let text = format!("{value:?}");
        if name == "message" {
            return self.writer.write_str(&escape(&text));
        }
        let (dim, plain) = if self.writer.has_ansi_escapes() {
            (DIM, PLAIN)
        } else {
            ("", "")
        };
        write!(self.writer, "{dim}{name}={plain}")?;
        let mut shown = String::new();
        push_value(&mut shown, &text);
        self.writer.write_str(&shown)
    }
}

/// Appends a value, quoted unless it is one word.
pub(super) fn push_value(line: &mut String, text: &str) {
    // Longer by more than the quotes when something was escaped.
    let quoted = format!("{text:?}");
    let is_one_word = !text.is_empty() && !text.contains([' ', '=']) && quoted.len() == text.len() + 2;
    line.push_str(&escape(if is_one_word { text } else { &quoted }));
}

/// Appends an escaped text.
pub(super) fn push_visibly(line: &mut String, text: &str) {
    line.push_str(&escape(text));
}

impl Visit for PrettyLine<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Without the quotes of `Debug`; `write` adds them where needed.
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // `log.*` fields repeat the line's level and target.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field.name(), value);
        }
    }
}
