//! The output of the demo: lines above live bars on a terminal, otherwise plain lines.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::cli::output::Background;
use crate::cli::progress_bars::{ProgressBars, ProgressView, StandardStream};
use crate::cli::terminal::{TerminalStyle, TextStyle};
use crate::core::text::escape_lines;

/// Standard output and the bars. Clones share both.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    /// `None` without a terminal, and after [`Self::leave`].
    bars: Arc<Mutex<Option<ProgressBars>>>,
    output: Background,
    pub(super) style: TerminalStyle,
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

    /// Prints lines, above the bars if there are any.
    pub(super) fn print(&self, lines: &str) {
        let result = match self.bars().as_mut() {
            Some(bars) => bars.print(StandardStream::Stdout, &format!("{lines}\n")),
            None => self
                .output
                .print(StandardStream::Stdout, &format!("{}\n", escape_lines(lines))),
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
        self.0.print(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
