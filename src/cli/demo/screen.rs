//! Where the demo shows itself: lines above live bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::cli::output::Background;
use crate::cli::progress_bars::{ProgressBars, ProgressView, StandardStream};
use crate::cli::terminal::{TerminalStyle, TextStyle};
use crate::core::text::escape_lines;

/// The terminal, or whatever standard output is. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    /// `None` where nothing is drawn, or not any more.
    bars: Arc<Mutex<Option<ProgressBars>>>,
    output: Background,
    pub(super) style: TerminalStyle,
    gone: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn new() -> io::Result<Self> {
        // ProgressBars among lines that go somewhere else would be a riddle.
        let bars = if io::stdout().is_terminal() {
            ProgressBars::new()
        } else {
            None
        };
        Ok(Self {
            bars: Arc::new(Mutex::new(bars)),
            output: Background::start()?,
            style: TerminalStyle::stdout(),
            gone: Arc::default(),
        })
    }

    /// Whether there are bars.
    pub(super) fn draws(&self) -> bool {
        self.bars().is_some()
    }

    /// Draws the bars anew, if there are any.
    pub(super) fn draw(&self, view: &ProgressView) {
        if let Some(bars) = self.bars().as_mut() {
            self.mind(bars.draw(view));
        }
    }

    /// Leaves the bars as they are; lines go below from now on.
    pub(super) fn leave(&self) {
        if let Some(mut bars) = self.bars().take() {
            bars.leave();
        }
    }

    /// Prints lines, above the bars if there are any.
    pub(super) fn say(&self, lines: &str) {
        let said = match self.bars().as_mut() {
            Some(bars) => bars.print(StandardStream::Stdout, &format!("{lines}\n")),
            None => self
                .output
                .print(StandardStream::Stdout, &format!("{}\n", escape_lines(lines))),
        };
        self.mind(said);
    }

    /// Waits until all is written.
    pub(super) fn finish(&self) {
        self.output.flush();
    }

    /// Whether nobody is there to see anything any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// `text` in this style, if colours are on.
    pub(super) fn paint(&self, text_style: TextStyle, text: &str) -> String {
        self.style.paint(text_style, text)
    }

    fn mind(&self, shown: io::Result<()>) {
        if shown.is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn bars(&self) -> MutexGuard<'_, Option<ProgressBars>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log goes above the bars, line by line.
impl<'w> MakeWriter<'w> for Screen {
    type Writer = LogLine<'w>;

    fn make_writer(&'w self) -> Self::Writer {
        LogLine(self)
    }
}

/// A writer that gets one line of the log at a time.
pub(super) struct LogLine<'w>(&'w Screen);

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.say(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
