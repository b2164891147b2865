//! Bounding text that somebody else wrote.

/// Put at the end of a text that was cut.
pub const CUT_MARK: &str = "…";

/// `text` itself if it has at most `max` bytes, else as much of its beginning as fits with [`CUT_MARK`].
///
/// Cuts between characters, so the answer is valid UTF-8 and has at most `max` bytes (never less than the mark).
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

/// Whether `kept` is what [`cut`] makes of `text`.
#[must_use]
pub fn is_cut_of(kept: &str, text: &str, max: usize) -> bool {
    if text.len() <= max {
        return kept == text;
    }
    kept == cut(text, max)
}

/// [`cut`], with control characters replaced, so that the text fits on one line of a log or a terminal.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(&clean, max)
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
        assert_eq!(one_line(" a\nb\u{1b}[31mc\t", 100), "a b [31mc");
    }
}
