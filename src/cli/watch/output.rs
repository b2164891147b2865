//! Where events are told: above live bars, as plain lines, or as JSON.

use std::io::{self, IsTerminal as _};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event_text::{logs, sentence};
use crate::cli::event_line::event_line;
use crate::cli::output::notice;
use crate::cli::progress_bars::{ProgressBars, ProgressView, StandardStream};
use crate::cli::terminal::TerminalStyle;
use crate::core::event::Event;
use crate::core::text::{escape_json, escape_lines};

/// Lines that wait for standard output; more wait with the events.
const LINES: usize = 64;

/// What the user asked to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Whatever suits the terminal.
    Usual,
    /// One JSON object a line.
    Json,
    /// Nothing.
    Nothing,
}

/// Tells events.
#[derive(Debug)]
pub(super) struct Output {
    show: Show,
    bars: Option<ProgressBars>,
    /// Standard output, unless the lines that stay above the bars go there.
    lines: Option<Lines>,
}

impl Output {
    pub(super) fn new(show: Show) -> Self {
        let to_terminal = io::stdout().is_terminal();
        let bars = match show {
            Show::Nothing => None,
            // Two kinds of output on one terminal would tear each other.
            Show::Json if to_terminal => None,
            Show::Json | Show::Usual => ProgressBars::new(),
        };
        let lines = match show {
            Show::Nothing => None,
            Show::Usual if to_terminal && bars.is_some() => None,
            Show::Json | Show::Usual => Some(Lines::new()),
        };
        Self { show, bars, lines }
    }

    /// Whether there are bars.
    pub(super) fn is_live(&self) -> bool {
        self.bars.is_some()
    }

    /// Tells an event. Waits while standard output takes no more.
    ///
    /// # Errors
    /// When standard output is closed; [`finish`](Self::finish) tells why.
    pub(super) async fn tell(&mut self, event: &Event) -> Result<(), Closed> {
        if let Some(bars) = &mut self.bars {
            let (stream, style) = match self.lines {
                Some(_) => (StandardStream::Stderr, TerminalStyle::stderr()),
                None => (StandardStream::Stdout, TerminalStyle::stdout()),
            };
            if let Some(text) = sentence(event, style)
                && let Err(error) = bars.print(stream, &text)
                && stream == StandardStream::Stdout
            {
                return Err(Closed(Some(error)));
            }
        }
        let Some(lines) = &self.lines else { return Ok(()) };
        lines
            .send(match self.show {
                Show::Json => json(event),
                Show::Usual | Show::Nothing => plain(event),
            })
            .await
    }

    /// Draws the bars, if there are any.
    pub(super) fn draw(&mut self, view: impl FnOnce() -> ProgressView) {
        if let Some(bars) = &mut self.bars {
            // A terminal that is gone is nobody's any more; results still have their own way.
            let _ = bars.draw(&view());
        }
    }

    /// Tells what no event tells, where there are no bars to show it.
    pub(super) fn hint(&self, text: &str) {
        if self.bars.is_none() && self.show != Show::Nothing {
            notice(text);
        }
    }

    /// Takes the bars away.
    pub(super) fn erase(&mut self) {
        if let Some(mut bars) = self.bars.take() {
            let _ = bars.erase();
        }
    }

    /// Leaves the bars where they are; what is written from now on comes below.
    pub(super) fn leave(&mut self) {
        if let Some(mut bars) = self.bars.take() {
            bars.leave();
        }
    }

    /// Waits until all lines are written.
    ///
    /// # Errors
    /// When standard output took no more.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self.lines.take() {
            Some(lines) => lines.finish().await,
            None => Ok(()),
        }
    }
}

/// Standard output takes no more; why, if that is known yet.
#[derive(Debug)]
pub(super) struct Closed(pub(super) Option<io::Error>);

/// Writes lines on a thread of its own, so that a reader who takes a break keeps nobody from stopping.
#[derive(Debug)]
struct Lines {
    sender: mpsc::Sender<String>,
    writing: JoinHandle<io::Result<()>>,
}

impl Lines {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(LINES);
        let writing = tokio::task::spawn_blocking(|| write(receiver));
        Self { sender, writing }
    }

    async fn send(&self, line: String) -> Result<(), Closed> {
        self.sender.send(line).await.map_err(|_| Closed(None))
    }

    async fn finish(self) -> io::Result<()> {
        drop(self.sender);
        self.writing
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn write(mut lines: mpsc::Receiver<String>) -> io::Result<()> {
    while let Some(line) = lines.blocking_recv() {
        StandardStream::Stdout.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The event's ID, type, time and data, as `backfill-watch events --json` gives them.
fn json(event: &Event) -> String {
    let mut body = event.body();
    if io::stdout().is_terminal() {
        body = escape_json(&body).into_owned();
    }
    // An ID has no characters that JSON escapes, and a body is an object that is not empty.
    format!("{{\"id\":\"{}\",{}\n", event.id, &body[1..])
}

fn plain(event: &Event) -> String {
    let data = serde_json::to_value(&event.data).unwrap_or_default();
    let mut text = event_line(event.time, event.event_type, &data);
    text.push('\n');
    if let Some(data) = event.data.operation() {
        let style = TerminalStyle {
            colour: false,
            unicode: true,
        };
        text.push_str(&logs(&data.logs, style));
    }
    escape_lines(&text).into_owned()
}
