//! Live bars on a terminal, one for each operation, drawn over and over at the bottom of what is written.
//!
//! Whoever uses it draws a [`Picture`] now and then, and prints whatever is to stay above the bars. It goes to
//! standard error, so that standard output stays free for results.
//!
//! indicatif was rejected: it fills each line to the terminal's edge and leaves the cursor behind the last bar, so
//! that a narrowed window tears the bars, and a panic's message stands in the middle of one.

mod canvas;
mod layout;
mod row;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;

use self::canvas::Canvas;
pub(super) use self::row::{ink, sign};
use super::terminal::{self, Style};
use crate::core::phase::Phase;

/// How often bars are best drawn: as often as eyes notice.
pub const FRAME: Duration = Duration::from_millis(120);

/// One operation, as its bar shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
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
pub struct Picture {
    /// What concerns more than one operation, such as an outage of the API.
    pub notices: Vec<String>,
    /// The operations with a bar, in an order that stays the same.
    pub bars: Vec<Bar>,
    /// How many operations without a bar are in which phase: they only count in the summary.
    pub others: BTreeMap<Phase, usize>,
}

/// Where a line goes that is to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
}

/// The bars at the bottom of a terminal.
///
/// The cursor always ends in the line below them, visible, so that however the process ends, nothing has to be put
/// back in order.
#[derive(Debug)]
pub struct Bars {
    canvas: Arc<Mutex<Canvas>>,
    terminal: Term,
    style: Style,
    frame: usize,
}

impl Bars {
    /// Bars on standard error; `None` where nothing can be drawn over.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !terminal::is_drawable() {
            return None;
        }
        let canvas = Arc::new(Mutex::new(Canvas::default()));
        erase_before_panics(&canvas);
        Some(Self {
            canvas,
            terminal: Term::stderr(),
            style: Style::stderr(),
            frame: 0,
        })
    }

    /// Draws the picture in place of the last one.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, picture: &Picture) -> io::Result<()> {
        let (height, width) = self.size();
        self.frame = self.frame.wrapping_add(1);
        let lines = layout::lines(picture, width, height, self.style, self.frame);
        let frame = lock(&self.canvas).frame(lines, width);
        write_stderr(&frame)
    }

    /// Writes lines that stay, above where the bars are drawn next.
    ///
    /// # Errors
    /// When the stream takes no more.
    pub fn print(&mut self, stream: Stream, text: &str) -> io::Result<()> {
        self.erase()?;
        match stream {
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            }
            Stream::Stderr => write_stderr(text),
        }
    }

    /// Takes the bars away.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn erase(&mut self) -> io::Result<()> {
        let (_, width) = self.size();
        let erased = lock(&self.canvas).erase(width);
        write_stderr(&erased)
    }

    /// Leaves the bars as they are: what is written from now on comes below.
    pub fn leave(&mut self) {
        lock(&self.canvas).forget();
    }

    /// Rows and columns.
    fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.terminal.size();
        (usize::from(rows), usize::from(columns))
    }
}

/// One write, so that no terminal shows half a frame.
fn write_stderr(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    io::stderr().lock().write_all(text.as_bytes())
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
            let _ = write_stderr(&canvas.erase(usize::from(width)));
        }
        tell(panic);
    }));
}

fn lock(canvas: &Mutex<Canvas>) -> MutexGuard<'_, Canvas> {
    canvas.lock().unwrap_or_else(PoisonError::into_inner)
}
