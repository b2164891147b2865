//! The output of the demo: lines above live bars on a terminal, otherwise plain lines.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::output::Background;
use crate::cli::progress_bars::{ProgressBars, ProgressView, StandardStream};
use crate::cli::terminal::{self, TerminalStyle, TextStyle};
use crate::cli::text_wrap::wrap;
use crate::clock;
use crate::core::text::escape_lines;

/// The columns before the text of a line of the demo: time and mark.
const LINE_START: usize = "0:00 x ".len();

/// Standard output and the bars. Clones share both.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    /// `None` without a terminal, and after [`Self::leave`].
    bars: Arc<Mutex<Option<ProgressBars>>>,
    output: Background,
    pub(super) style: TerminalStyle,
    /// When the demo began.
    start: Instant,
    closed: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn new() -> io::Result<Self> {
        // Bars are drawn only if the lines go to the same terminal.
        let bars = if io::stdout().is_terminal() {
            ProgressBars::new()
        } else {
            None
        };
        Ok(Self {
            bars: Arc::new(Mutex::new(bars)),
            output: Background::start()?,
            style: TerminalStyle::stdout(),
            start: clock::instant(),
            closed: Arc::default(),
        })
    }

    /// Whether there are bars.
    pub(super) fn draws(&self) -> bool {
        self.bars().is_some()
    }

    /// Redraws the bars, if there are any.
    pub(super) fn draw(&self, view: &ProgressView) {
        if let Some(bars) = self.bars().as_mut() {
            self.note_error(bars.draw(view));
        }
    }

    /// Leaves the bars in place. Later lines are printed below.
    pub(super) fn leave(&self) {
        if let Some(mut bars) = self.bars().take() {
            bars.leave();
        }
    }

    /// Prints a line of the demo with the time since its start.
    pub(super) fn print_line(&self, mark: impl Display, line: &str) {
        let seconds = (clock::instant() - self.start).as_secs();
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        let time = self.paint(TextStyle::Dim, &time);
        self.print(&format!("{time} {mark} {line}"), LINE_START);
    }

    /// Prints lines, above the bars if there are any. On a terminal they are wrapped, with `hang` more blanks before the
    /// rest of each line.
    pub(super) fn print(&self, lines: &str, hang: usize) {
        let width = terminal::columns().map(|width| width.saturating_sub(1));
        let lines = wrap(&self.style.shown(lines), width, hang);
        let result = match self.bars().as_mut() {
            Some(bars) => bars.print(StandardStream::Stdout, &format!("{lines}\n")),
            None => self
                .output
                .print(StandardStream::Stdout, &format!("{}\n", escape_lines(&lines))),
        };
        self.note_error(result);
    }

    /// Waits until all is written.
    pub(super) fn finish(&self) {
        self.output.flush();
    }

    /// Whether the output is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// `text` in this style, if colours are on.
    pub(super) fn paint(&self, text_style: TextStyle, text: &str) -> String {
        self.style.paint(text_style, text)
    }

    fn note_error(&self, result: io::Result<()>) {
        if result.is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    fn bars(&self) -> MutexGuard<'_, Option<ProgressBars>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the log without its time, which the lines of the demo begin with already.
fn without_time(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, rest)| rest).trim()
}

/// The log goes above the bars, line by line.
impl<'w> MakeWriter<'w> for Screen {
    type Writer = ScreenLine<'w>;

    fn make_writer(&'w self) -> Self::Writer {
        ScreenLine(self)
    }
}

/// A writer for single lines of the log.
pub(super) struct ScreenLine<'w>(&'w Screen);

impl Write for ScreenLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let mark = self.0.paint(TextStyle::Yellow, "!");
        self.0.print_line(mark, without_time(&line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_has_no_second_time() {
        assert_eq!(
            without_time("2026-11-28T07:53:33.591Z  WARN cannot be listed project=p\n"),
            "WARN cannot be listed project=p"
        );
        assert_eq!(without_time("word"), "word");
    }
}
