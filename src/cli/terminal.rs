//! What the terminal supports.

use std::borrow::Cow;
use std::env;
use std::io::{self, IsTerminal as _};

use console::Term;

use crate::report::log::uses_colour;

/// What one output supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Whether to use colours.
    pub colour: bool,
    /// Whether more than ASCII can be shown.
    pub unicode: bool,
}

/// A colour or weight. Only the sixteen colours of the terminal's theme are used, which are legible on its background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// Success.
    Green,
    /// Failure.
    Red,
    /// A temporary problem.
    Yellow,
    /// Running.
    Cyan,
    /// Finished without success or failure.
    Magenta,
    /// Less important than the rest.
    Dim,
    /// More important than the rest.
    Bold,
}

impl TerminalStyle {
    /// The style of standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self::new(io::stderr().is_terminal())
    }

    /// The style of standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(io::stdout().is_terminal())
    }

    fn new(is_terminal: bool) -> Self {
        Self {
            colour: uses_colour(
                is_terminal,
                env::var_os("NO_COLOR").as_deref(),
                env::var_os("TERM").as_deref(),
            ),
            unicode: shows_unicode(is_terminal, |name| env::var(name).ok()),
        }
    }

    /// The mark of a text that was cut.
    #[must_use]
    pub fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// `text` in characters that can be shown.
    #[must_use]
    pub fn shown(self, text: &str) -> Cow<'_, str> {
        if self.unicode || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let shown = text.chars().map(|c| match c {
            '…' => '~',
            c if c.is_ascii() => c,
            _ => '?',
        });
        Cow::Owned(shown.collect())
    }

    /// `text` in this style, if colours are on.
    #[must_use]
    pub fn paint(self, text_style: TextStyle, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match text_style {
            TextStyle::Red => 31,
            TextStyle::Green => 32,
            TextStyle::Yellow => 33,
            TextStyle::Magenta => 35,
            TextStyle::Cyan => 36,
            TextStyle::Dim => 2,
            TextStyle::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The width of standard output, if it is a terminal.
#[must_use]
pub fn columns() -> Option<usize> {
    let size = Term::stdout().size_checked();
    size.map(|(_, columns)| usize::from(columns))
}

/// The width of standard error, if it is a terminal.
#[must_use]
pub fn error_columns() -> Option<usize> {
    let size = Term::stderr().size_checked();
    size.map(|(_, columns)| usize::from(columns))
}

/// The height of standard output, if it is a terminal.
#[must_use]
pub fn rows() -> Option<usize> {
    let size = Term::stdout().size_checked();
    size.map(|(rows, _)| usize::from(rows))
}

/// Whether bars can be drawn on standard error.
#[must_use]
pub fn is_drawable() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether the locale has more than ASCII. Without a locale, a terminal shows ASCII, and files are UTF-8.
fn shows_unicode(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    // The Linux console lacks most of the signs.
    if variable("TERM").is_some_and(|term| term == "linux") {
        return false;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let Some(locale) = locale else {
        return !is_terminal;
    };
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides_about_unicode() {
        let to = |is_terminal, set: &'static [(&'static str, &'static str)]| {
            shows_unicode(is_terminal, |name| {
                let found = set.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let with = |set| to(true, set);
        assert!(!with(&[]) && !with(&[("LANG", "")]));
        assert!(to(false, &[]) && !to(false, &[("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "POSIX"), ("LANG", "en_US.UTF-8")]));
        assert!(with(&[("LANG", "en_US.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!with(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!with(&[("LANG", "C.UTF-8"), ("TERM", "linux")]));
    }

    #[test]
    fn what_cannot_be_shown_is_replaced() {
        let style = |unicode| TerminalStyle {
            colour: false,
            unicode,
        };
        assert_eq!(style(false).shown("Zoë 連… x"), "Zo? ?~ x");
        assert_eq!(style(true).shown("Zoë 連…"), "Zoë 連…");
    }

    #[test]
    fn without_colour_text_is_unchanged() {
        let style = |colour| TerminalStyle {
            colour,
            unicode: true,
        };
        assert_eq!(style(false).paint(TextStyle::Red, "x"), "x");
        assert_eq!(style(true).paint(TextStyle::Red, "x"), "\x1b[31mx\x1b[0m");
    }
}
