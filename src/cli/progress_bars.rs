//! Live bars on a terminal, one for each operation, drawn over and over at the bottom of what is written.
//!
//! Whoever uses it draws a [`ProgressView`] now and then, and prints whatever is to stay above the bars. It goes to
//! standard error, so that standard output stays free for results.
//!
//! indicatif was rejected: it fills each line to the terminal's edge and leaves the cursor behind the last bar, so
//! that a narrowed window tears the bars, and a panic's message stands in the middle of one.

mod canvas;
mod layout;
mod row;

use std::collections::BTreeMap;
use std::io;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;

use self::canvas::Canvas;
pub(super) use self::row::{phase_style, sign};
use super::output::Background;
use super::terminal::{self, TerminalStyle};
use crate::core::phase::Phase;
use crate::core::text::escape_lines;
pub use crate::stdio::StandardStream;

/// How often bars are best drawn: as often as eyes notice.
pub const FRAME: Duration = Duration::from_millis(120);

/// One operation, as its bar shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressBar {
    /// What it is called: objects, and enough of the ID.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Records processed.
    pub processed: Option<u64>,
    /// Records expected.
    pub total: Option<u64>,
    /// How far it is; without an estimate there is none.
    pub percent: Option<f64>,
    /// Records a second.
    pub per_second: Option<f64>,
    /// How long it may still take.
    pub left: Option<Duration>,
    /// Why nothing newer is known of it.
    pub trouble: Option<String>,
}

/// All that is shown at a time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProgressView {
    /// What concerns more than one operation, such as an outage of the API.
    pub notices: Vec<String>,
    /// The operations with a bar, in an order that stays the same.
    pub bars: Vec<ProgressBar>,
    /// How many operations without a bar are in which phase: they only count in the summary.
    pub others: BTreeMap<Phase, usize>,
}

/// The bars at the bottom of a terminal.
///
/// The cursor always ends in the line below them, visible, so that however the process ends, nothing has to be put
/// back in order.
#[derive(Debug)]
pub struct ProgressBars {
    canvas: Arc<Mutex<Canvas>>,
    output: Background,
    terminal: Term,
    style: TerminalStyle,
    frame: usize,
}

impl ProgressBars {
    /// ProgressBars on standard error; `None` where nothing can be drawn over.
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

    /// Draws the picture in place of the last one.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, view: &ProgressView) -> io::Result<()> {
        // A terminal that is stopped or slow is drawn on when it has shown everything.
        if !self.output.is_idle() {
            return Ok(());
        }
        let (height, width) = self.size();
        self.frame = self.frame.wrapping_add(1);
        let lines = layout::lines(view, width, height, self.style, self.frame);
        let frame = lock(&self.canvas).frame(lines, width);
        self.output.print(StandardStream::Stderr, &frame)
    }

    /// Writes lines that stay, above where the bars are drawn next.
    ///
    /// # Errors
    /// When the stream takes no more.
    pub fn print(&mut self, stream: StandardStream, text: &str) -> io::Result<()> {
        self.clear()?;
        self.output.print(stream, &escape_lines(text))
    }

    /// Takes the bars away, and waits until all is written.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn erase(&mut self) -> io::Result<()> {
        let cleared = self.clear();
        self.output.flush();
        cleared
    }

    /// Leaves the bars as they are, and waits until all is written: what is written from now on comes below.
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

/// A panic's message comes where the bars were; else the next frame would be drawn over it.
fn erase_before_panics(canvas: &Arc<Mutex<Canvas>>) {
    let canvas = Arc::downgrade(canvas);
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if let Some(canvas) = canvas.upgrade()
            && let Ok(mut canvas) = canvas.try_lock()
        {
            let (_, width) = Term::stderr().size();
            let _ = StandardStream::Stderr.write_all(canvas.erase(usize::from(width)).as_bytes());
        }
        tell(panic);
    }));
}

fn lock(canvas: &Mutex<Canvas>) -> MutexGuard<'_, Canvas> {
    canvas.lock().unwrap_or_else(PoisonError::into_inner)
}
