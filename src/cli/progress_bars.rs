//! Live bars on a terminal, one per operation, redrawn below the printed lines on standard error.
//!
//! indicatif was rejected: it fills each line to the edge and leaves the cursor behind the last bar, so a narrowed window
//! tears the bars, and the message of a panic overwrites one.

mod canvas;
mod content;
mod layout;
mod row;

use std::collections::BTreeMap;
use std::io;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;

use self::canvas::Canvas;
pub use self::content::ProgressBar;
pub(super) use self::row::{phase_style, sign};
use super::output::Background;
use super::terminal::{self, TerminalStyle};
use super::text_wrap::wrap;
use crate::core::phase::Phase;
use crate::core::text::escape_lines;
pub use crate::stdio::StandardStream;

/// The indentation of wrapped lines.
pub const HANG: usize = 2;

/// The time between two frames.
pub const FRAME: Duration = Duration::from_millis(120);

/// The content of all bars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProgressView {
    /// Notices about several operations, such as an outage of the API.
    pub notices: Vec<String>,
    /// The bars, in a stable order.
    pub bars: Vec<ProgressBar>,
    /// Operations without a bar, counted by phase for the summary.
    pub without_bar: BTreeMap<Phase, usize>,
}

/// The bars at the bottom of a terminal.
///
/// The cursor always ends in the line below them, visible. So the terminal needs no reset, however the process ends.
#[derive(Debug)]
pub struct ProgressBars {
    canvas: Arc<Mutex<Canvas>>,
    output: Background,
    terminal: Term,
    style: TerminalStyle,
    frame: usize,
}

impl ProgressBars {
    /// Bars on standard error; `None` without a suitable terminal.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !terminal::is_drawable() {
            return None;
        }
        let output = Background::start().ok()?;
        let canvas = Arc::new(Mutex::new(Canvas::default()));
        erase_before_panics(&canvas);
        Some(Self {
            canvas,
            output,
            terminal: Term::stderr(),
            style: TerminalStyle::stderr(),
            frame: 0,
        })
    }

    /// Redraws the bars.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn draw(&mut self, view: &ProgressView) -> io::Result<()> {
        // Frames are skipped while a stopped or slow terminal has not shown the last one.
        if !self.output.is_idle() {
            return Ok(());
        }
        let (height, width) = self.size();
        self.frame = self.frame.wrapping_add(1);
        let lines = layout::lines(view, width, height, self.style, self.frame);
        let frame = lock(&self.canvas).frame(lines, width);
        self.output.print(StandardStream::Stderr, &frame)
    }

    /// Writes lines above the bars, wrapped at words.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn print(&mut self, stream: StandardStream, text: &str) -> io::Result<()> {
        self.clear()?;
        // The last column stays free, because terminals differ in how they wrap there.
        let (_, width) = self.size();
        let text = wrap(&escape_lines(text), Some(width.saturating_sub(1)), HANG);
        self.output.print(stream, &text)
    }

    /// Removes the bars, and waits until all is written.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn erase(&mut self) -> io::Result<()> {
        let cleared = self.clear();
        self.output.flush();
        cleared
    }

    /// Leaves the bars in place, and waits until all is written. Later output is written below.
    pub fn leave(&mut self) {
        lock(&self.canvas).forget();
        self.output.flush();
    }

    fn clear(&mut self) -> io::Result<()> {
        let (_, width) = self.size();
        let erased = lock(&self.canvas).erase(width);
        self.output.print(StandardStream::Stderr, &erased)
    }

    /// Rows and columns.
    fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.terminal.size();
        (usize::from(rows), usize::from(columns))
    }
}

/// Removes the bars before the message of a panic, so that the next frame does not overwrite it.
fn erase_before_panics(canvas: &Arc<Mutex<Canvas>>) {
    let canvas = Arc::downgrade(canvas);
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if let Some(canvas) = canvas.upgrade()
            && let Ok(mut canvas) = canvas.try_lock()
        {
            let (_, width) = Term::stderr().size();
            let _ = StandardStream::Stderr.write_all(canvas.erase(usize::from(width)).as_bytes());
        }
        previous(panic);
    }));
}

fn lock(canvas: &Mutex<Canvas>) -> MutexGuard<'_, Canvas> {
    canvas.lock().unwrap_or_else(PoisonError::into_inner)
}
