//! The lines at the bottom of the terminal, and the bytes that update them.

use std::fmt::Write as _;

use console::measure_text_width;

/// Hides the cursor, stops wrapping and starts a synchronised update where the terminal supports it. [`END`] ends all.
///
/// Terminals differ in the width of some characters, such as joined emoji: a line that is too wide is cut, not wrapped.
const BEGIN: &str = "\x1b[?2026h\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?2026l";

/// The drawn lines. The cursor is at the start of the line below them.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    lines: Vec<String>,
    width: usize,
}

impl Canvas {
    /// The bytes that replace the drawn lines. Each line must be narrower than the terminal.
    pub(super) fn frame(&mut self, lines: Vec<String>, width: usize) -> String {
        if lines == self.lines && width == self.width {
            return String::new();
        }
        let mut out = String::from(BEGIN);
        self.go_to_top(&mut out, width);
        let same_width = width == self.width;
        for (index, line) in lines.iter().enumerate() {
            if same_width && self.lines.get(index) == Some(line) {
                out.push('\n');
            } else {
                // Writing to a string cannot fail.
                let _ = write!(out, "{line}\x1b[K\r\n");
            }
        }
        if lines.len() < self.lines.len() || !same_width {
            out.push_str("\x1b[J");
        }
        out.push_str(END);
        self.lines = lines;
        self.width = width;
        out
    }

    /// The bytes that remove all lines.
    pub(super) fn erase(&mut self, width: usize) -> String {
        if self.lines.is_empty() {
            return String::new();
        }
        let mut out = String::new();
        self.go_to_top(&mut out, width);
        out.push_str("\x1b[J");
        self.lines.clear();
        out
    }

    /// Leaves the drawn lines in place.
    pub(super) fn forget(&mut self) {
        self.lines.clear();
    }

    fn go_to_top(&self, out: &mut String, width: usize) {
        // A narrowed terminal has wrapped the lines.
        let rows: usize = self
            .lines
            .iter()
            .map(|line| measure_text_width(line).div_ceil(width.max(1)).max(1))
            .sum();
        out.push('\r');
        if rows > 0 {
            let _ = write!(out, "\x1b[{rows}A");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn frame(canvas: &mut Canvas, texts: &[&str], width: usize) -> String {
        let frame = canvas.frame(lines(texts), width);
        let inner = frame.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        inner.unwrap_or(&frame).to_owned()
    }

    #[test]
    fn only_what_changed_is_written_again() {
        let mut canvas = Canvas::default();
        assert_eq!(
            frame(&mut canvas, &["one", "two"], 80),
            "\rone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J"
        );
        assert_eq!(frame(&mut canvas, &["one", "two"], 80), "");
        assert_eq!(frame(&mut canvas, &["one", "2"], 80), "\r\x1b[2A\n2\x1b[K\r\n");
        assert_eq!(frame(&mut canvas, &["one"], 80), "\r\x1b[2A\n\x1b[J");
        assert_eq!(canvas.erase(80), "\r\x1b[1A\x1b[J");
        assert_eq!(canvas.erase(80), "");
    }

    #[test]
    fn lines_wrapped_by_a_narrowed_terminal_are_counted() {
        let mut canvas = Canvas::default();
        let _ = frame(&mut canvas, &["\x1b[31m1234567890\x1b[0m", "123"], 80);
        // Three rows of at most four columns, and one.
        assert_eq!(
            frame(&mut canvas, &["12", "3"], 4),
            "\r\x1b[4A12\x1b[K\r\n3\x1b[K\r\n\x1b[J"
        );
    }

    #[test]
    fn forgotten_lines_are_not_erased() {
        let mut canvas = Canvas::default();
        let _ = frame(&mut canvas, &["one"], 80);
        canvas.forget();
        assert_eq!(canvas.erase(80), "");
    }
}
