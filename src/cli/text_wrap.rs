//! Wraps text at words.

use console::measure_text_width;

/// A column narrower than this is not wrapped; the terminal breaks its lines.
const NARROWEST: usize = 10;

/// `text` in lines of at most `width` columns, broken at blanks; unchanged without a width.
///
/// Continuation lines are indented like their line, and by `hang` more. Longer words are broken anywhere.
#[must_use]
pub fn wrap(text: &str, width: Option<usize>, hang: usize) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| wrap_line(line, width, hang))
        .collect();
    lines.join("\n")
}

fn wrap_line(line: &str, width: usize, hang: usize) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len() + hang;
    if measure_text_width(line) <= width || width < indent + NARROWEST {
        return line.to_owned();
    }
    let mut wrapped = String::new();
    let mut column = 0;
    let mut has_words = false;
    let mut blanks = 0;
    for (index, word) in line.split(' ').enumerate() {
        blanks += usize::from(index > 0);
        if word.is_empty() {
            continue;
        }
        let size = measure_text_width(word);
        if has_words && column + blanks + size > width {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            wrapped.push_str(&" ".repeat(blanks));
            column += blanks;
        }
        column = add_word(&mut wrapped, word, column, width, indent);
        (has_words, blanks) = (true, 0);
    }
    wrapped
}

/// Adds a word at this column. Returns the column after it.
fn add_word(wrapped: &mut String, word: &str, mut column: usize, width: usize, indent: usize) -> usize {
    let size = measure_text_width(word);
    if column + size <= width || word.contains('\x1b') {
        wrapped.push_str(word);
        return column + size;
    }
    let mut encoded = [0; 4];
    for c in word.chars() {
        let c = &*c.encode_utf8(&mut encoded);
        let size = measure_text_width(c);
        if column + size > width {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            column = indent;
        }
        wrapped.push_str(c);
        column += size;
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_words_and_indented() {
        let text = "one two three four\n  five six  seven eight\n\nnine";
        assert_eq!(wrap(text, None, 2), text);
        assert_eq!(wrap(text, Some(40), 2), text);
        assert_eq!(
            wrap(text, Some(14), 2),
            "one two three\n  four\n  five six\n    seven\n    eight\n\nnine"
        );
    }

    #[test]
    fn long_words_are_broken_and_wide_characters_count_twice() {
        assert_eq!(
            wrap("id 0123456789abcdefghij", Some(14), 2),
            "id\n  0123456789ab\n  cdefghij"
        );
        assert_eq!(wrap("連絡先株式会社", Some(12), 0), "連絡先株式会\n社");
        let painted = "\x1b[31mone two\x1b[0m three four";
        assert_eq!(wrap(painted, Some(14), 0), "\x1b[31mone two\x1b[0m three\nfour");
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let text = "a 連絡先 word  and-a-very-long-one-without-any-blank 12 \u{301}\n      indented text of some words";
        for width in 20..60 {
            for line in wrap(text, Some(width), 3).lines() {
                assert!(measure_text_width(line) <= width, "{width}: {line:?}");
            }
        }
        assert_eq!(wrap(text, Some(3), 2), text, "too narrow to wrap");
    }
}
