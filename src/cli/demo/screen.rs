//! Where the demo shows itself: lines above live bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

use super::bars::Colour;
use crate::report::log::wants_colour;

/// Standard output, as it can be used. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    /// What draws bars; `None` where nothing can be drawn in place.
    pub(super) multi: Option<MultiProgress>,
    pub(super) colour: Colour,
    /// Whether the bars stand still, so that lines go below them.
    ended: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let no_color = std::env::var_os("NO_COLOR");
        let term = std::env::var_os("TERM");
        let is_terminal = io::stdout().is_terminal();
        let colour = if wants_colour(is_terminal, no_color.as_deref(), term.as_deref()) {
            Colour::On
        } else {
            Colour::Off
        };
        let draws = is_terminal && term.is_some_and(|term| term != "dumb");
        Self {
            multi: draws.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout())),
            colour,
            ended: Arc::default(),
            gone: Arc::default(),
        }
    }

    /// The bars are not drawn any more: they stay where they are, and lines go below.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        // The cursor stands at the end of the last bar.
        self.say("");
    }

    /// Prints lines.
    pub(super) fn say(&self, lines: &str) {
        let said = match &self.multi {
            Some(multi) if !self.ended.load(Ordering::Relaxed) => multi.println(lines),
            _ => writeln!(io::stdout(), "{lines}"),
        };
        if said.is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nobody is there to see anything any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// `text` in that colour (an SGR code), if colours are wanted.
    pub(super) fn paint(&self, code: u8, text: &str) -> String {
        match self.colour {
            Colour::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Colour::Off => text.to_owned(),
        }
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
