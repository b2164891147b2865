//! Paragraphs that fit into the terminal.

use console::measure_text_width;

/// `text` in lines of at most `width` columns, between words. The first line follows `start`; the others are indented by as
/// much. A longer word has a line of its own.
#[must_use]
pub fn wrap(start: &str, text: &str, width: Option<usize>) -> Vec<String> {
    let indent = measure_text_width(start);
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let needed = measure_text_width(word);
        if used > 0 && used + 1 + needed > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += needed;
    }
    lines.push(line);
    for (index, line) in lines.iter_mut().enumerate() {
        match index {
            0 => line.insert_str(0, start),
            _ => line.insert_str(0, &" ".repeat(indent)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_has_a_hanging_indent() {
        assert_eq!(
            wrap("ERROR  ", "the API is unreachable: connection refused", Some(30)),
            ["ERROR  the API is unreachable:", "       connection refused"]
        );
        assert_eq!(
            wrap("\u{1b}[31mE\u{1b}[0m ", "a b", None),
            ["\u{1b}[31mE\u{1b}[0m a b"]
        );
        // A word is never cut, and a very narrow terminal still gets some text on each line.
        let long = "x".repeat(40);
        assert_eq!(
            wrap("> ", &format!("a {long} b"), Some(30)),
            ["> a", &format!("  {long}"), "  b"]
        );
        assert_eq!(wrap("> ", "", Some(30)), ["> "]);
    }
}
