//! Truncating and escaping text from other programs.

use std::borrow::Cow;

/// Ends a truncated text.
pub const CUT_MARK: &str = "…";

/// Truncates `text` to at most `max` bytes, including [`CUT_MARK`], between two characters.
///
/// The result is never shorter than the mark if something was cut.
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(CUT_MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT_MARK}", &text[..end])
}

/// Whether `kept` is `text` after [`cut`].
#[must_use]
pub fn is_cut_of(kept: &str, text: &str, max: usize) -> bool {
    if text.len() <= max {
        return kept == text;
    }
    kept == cut(text, max)
}

/// Whether a character can start a line, move the cursor or change the direction of text in a terminal.
#[must_use]
pub fn is_control(c: char) -> bool {
    matches!(
        c,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Escapes control characters ([`is_control`]) as in a Rust string: `\n`, `\u{202e}`.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// [`escape`] except for line ends and colours, for text that this program wrote for a terminal.
#[must_use]
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && is_control(c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = length_of_colour(rest);
        let kept = if c == '\n' || !is_control(c) {
            c.len_utf8()
        } else {
            colour
        };
        if kept == 0 {
            escaped.extend(c.escape_default());
        } else {
            escaped.push_str(&rest[..kept]);
        }
        rest = &rest[kept.max(c.len_utf8())..];
    }
    Cow::Owned(escaped)
}

/// The length of a colour or weight (`ESC [ … m`) at the start of `text`; 0 if there is none.
fn length_of_colour(text: &str) -> usize {
    let Some(codes) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';');
    match end {
        Some(end) if codes[end..].starts_with('m') => 2 + end + 1,
        _ => 0,
    }
}

/// Escapes control characters in a JSON document as JSON does. Line ends between members stay.
#[must_use]
pub fn escape_json(document: &str) -> Cow<'_, str> {
    if !document.contains(|c| c != '\n' && is_control(c)) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if c != '\n' && is_control(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// [`escape`], [`cut`] and trim, for one line of a log or a terminal. An escape is never cut.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let mut line = String::new();
    let mut fits = 0;
    for c in text.chars() {
        if is_control(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        if line.len() + CUT_MARK.len() <= max {
            fits = line.len();
        }
        if line.len() > max {
            line.truncate(fits);
            return line + CUT_MARK;
        }
    }
    line
}

/// A count with thousands separators: `12,345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun, which takes an `s` unless it is one: `1 event`, `12,345 events`.
#[must_use]
pub fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_stays_and_long_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        let long = "ü".repeat(100);
        let short = cut(&long, 20);
        assert!(short.len() <= 20 && short.ends_with(CUT_MARK) && short.starts_with('ü'));
    }

    #[test]
    fn one_line_has_no_control_characters() {
        assert_eq!(one_line(" a\nb\u{1b}[31mc\t", 100), r"a\nb\u{1b}[31mc");
        assert_eq!(
            one_line("a\u{202e}b\u{2028}c\u{2066}\u{85}", 100),
            r"a\u{202e}b\u{2028}c\u{2066}"
        );
        assert_eq!(one_line("it's \"x\" \\ ü", 100), "it's \"x\" \\ ü");
    }

    #[test]
    fn one_line_is_cut_between_characters_and_not_within_an_escape() {
        assert_eq!(one_line("abcdefghijkl", 12), "abcdefghijkl");
        let controls = "\u{202e}".repeat(10);
        for max in 10..60 {
            let line = one_line(&controls, max);
            let escapes = line.strip_suffix(CUT_MARK).unwrap();
            assert!(
                line.len() <= max && escapes.replace(r"\u{202e}", "").is_empty(),
                "{line}"
            );
        }
        assert_eq!(one_line(&"ü".repeat(8), 15), format!("üüüüüü{CUT_MARK}"));
    }

    #[test]
    fn lines_and_colours_stay_where_they_are_meant() {
        let styled = "\u{1b}[1mID\u{1b}[0m\n\u{1b}[38;5;1mü\n";
        assert_eq!(escape_lines(styled), styled);
        let hostile = "a\u{1b}[2Jb\u{1b}]0;x\u{7}\u{1b}[m\u{202e}\r\n\u{1b}[31";
        assert_eq!(
            escape_lines(hostile),
            "a\\u{1b}[2Jb\\u{1b}]0;x\\u{7}\u{1b}[m\\u{202e}\\r\n\\u{1b}[31"
        );
    }

    #[test]
    fn json_means_the_same_when_it_is_escaped() {
        let document = "{\"a\":\"\u{202e}\u{2028}ü\u{9b}\"}\n";
        let escaped = escape_json(document);
        assert_eq!(escaped, "{\"a\":\"\\u202e\\u2028ü\\u009b\"}\n");
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parsed(&escaped), parsed(document));
    }

    #[test]
    fn every_control_character_is_escaped_and_nothing_else() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            let text = c.to_string();
            let is_escaped = escape(&text) != text;
            let code = u32::from(c);
            let listed = matches!(code, 0..0x20 | 0x7f..=0x9f | 0x2028..=0x202e | 0x2066..=0x2069);
            assert_eq!(is_escaped, listed, "{code:#x}");
        }
    }
}
