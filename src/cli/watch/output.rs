//! Output of events: above live bars, as plain lines, or as JSON.

use std::io::{self, IsTerminal as _};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event_text::{event_text, logs};
use super::notices::Hint;
use crate::cli::event_line::event_line;
use crate::cli::output::notice;
use crate::cli::progress_bars::{ProgressBars, ProgressView, StandardStream};
use crate::cli::terminal::{TerminalStyle, TextStyle};
use crate::core::event::{Event, EventType};
use crate::core::text::{escape_json, escape_lines};

/// The most lines that wait for standard output.
const LINES: usize = 64;

/// The requested output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Bars on a terminal, otherwise plain lines.
    Default,
    /// One JSON object per line.
    Json,
    /// Nothing.
    Nothing,
}

/// Prints events.
#[derive(Debug)]
pub(super) struct EventPrinter {
    show: Show,
    bars: Option<ProgressBars>,
    /// Plain lines or JSON on standard output; `None` if the lines above the bars go there.
    lines: Option<OutputLines>,
    repetitions: Repetitions,
}

/// Finds progress that a line shows already.
#[derive(Debug, Default)]
struct Repetitions {
    /// Project, operation and time of the last start.
    started: Option<(String, String, Timestamp)>,
}

impl Repetitions {
    /// Whether this is the progress at the start, which the line of the start shows.
    fn find(&mut self, event: &Event) -> bool {
        let Some(data) = event.data.operation() else {
            return false;
        };
        let at = (data.project.clone(), data.operation_id.clone(), event.time);
        match event.event_type {
            EventType::Started => self.started = Some(at),
            EventType::Progress => return self.started.as_ref() == Some(&at),
            _ => {}
        }
        false
    }
}

impl EventPrinter {
    pub(super) fn new(show: Show) -> Self {
        let to_terminal = io::stdout().is_terminal();
        let bars = match show {
            Show::Nothing => None,
            // JSON and bars on one terminal would overwrite each other.
            Show::Json if to_terminal => None,
            Show::Json | Show::Default => ProgressBars::new(),
        };
        let lines = match show {
            Show::Nothing => None,
            Show::Default if to_terminal && bars.is_some() => None,
            Show::Json | Show::Default => Some(OutputLines::new()),
        };
        Self {
            show,
            bars,
            lines,
            repetitions: Repetitions::default(),
        }
    }

    /// Whether there are bars.
    pub(super) fn is_live(&self) -> bool {
        self.bars.is_some()
    }

    /// Prints an event. Waits while standard output is blocked.
    ///
    /// # Errors
    /// When standard output is closed; [`finish`](Self::finish) returns the cause.
    pub(super) async fn print(&mut self, event: &Event) -> Result<(), Closed> {
        if let Some(bars) = &mut self.bars {
            let (stream, style) = match self.lines {
                Some(_) => (StandardStream::Stderr, TerminalStyle::stderr()),
                None => (StandardStream::Stdout, TerminalStyle::stdout()),
            };
            if let Some(text) = event_text(event, style)
                && let Err(error) = bars.print(stream, &text)
                && stream == StandardStream::Stdout
            {
                return Err(Closed(Some(error)));
            }
        }
        let Some(lines) = &self.lines else { return Ok(()) };
        if self.show == Show::Default && self.repetitions.find(event) {
            return Ok(());
        }
        lines
            .send(match self.show {
                Show::Json => json(event),
                Show::Default | Show::Nothing => plain(event),
            })
            .await
    }

    /// Draws the bars, if there are any.
    pub(super) fn draw(&mut self, view: impl FnOnce() -> ProgressView) {
        if let Some(bars) = &mut self.bars {
            // Without the terminal, results are still written to standard output.
            let _ = bars.draw(&view());
        }
    }

    /// Prints a hint, unless it is shown next to the bars.
    pub(super) fn hint(&mut self, hint: &Hint) {
        match &mut self.bars {
            Some(_) if hint.is_in_notices => {}
            Some(bars) => {
                let style = TerminalStyle::stderr();
                let line = style.shown(&hint.text);
                let line = style.paint(TextStyle::Yellow, &format!("! {line}"));
                // Without the terminal, results are still written to standard output.
                let _ = bars.print(StandardStream::Stderr, &format!("{line}\n"));
            }
            None if self.show == Show::Nothing => {}
            None => notice(&hint.text),
        }
    }

    /// Removes the bars.
    pub(super) fn erase(&mut self) {
        if let Some(mut bars) = self.bars.take() {
            let _ = bars.erase();
        }
    }

    /// Leaves the bars in place. Later output is written below.
    pub(super) fn leave(&mut self) {
        if let Some(mut bars) = self.bars.take() {
            bars.leave();
        }
    }

    /// Waits until all lines are written.
    ///
    /// # Errors
    /// When standard output could not be written.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self.lines.take() {
            Some(lines) => lines.finish().await,
            None => Ok(()),
        }
    }
}

/// Standard output is closed; with the cause, if it is known yet.
#[derive(Debug)]
pub(super) struct Closed(pub(super) Option<io::Error>);

/// Writes lines on its own thread, so that a blocked reader does not delay a stop.
#[derive(Debug)]
struct OutputLines {
    sender: mpsc::Sender<String>,
    writing: JoinHandle<io::Result<()>>,
}

impl OutputLines {
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

/// The ID, type, time and data of the event, as in `backfill-watch events --json`.
fn json(event: &Event) -> String {
    let mut body = event.body();
    if io::stdout().is_terminal() {
        body = escape_json(&body).into_owned();
    }
    // An ID needs no JSON escapes, and the body is a non-empty object.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;

    #[test]
    fn progress_at_the_start_is_not_printed_again() {
        let event = |event_type, operation: &str, second: i64| {
            let key = WatchKey {
                project: "p".into(),
                operation: operation.into(),
            };
            let time = Timestamp::from_second(second).unwrap();
            Event::operation(
                &key,
                event_type,
                "",
                time,
                Watch::default().data(&key, &Vec::new(), time),
            )
        };
        let mut repetitions = Repetitions::default();
        assert!(!repetitions.find(&event(EventType::Started, "a", 1)));
        assert!(repetitions.find(&event(EventType::Progress, "a", 1)));
        assert!(!repetitions.find(&event(EventType::Progress, "b", 1)));
        assert!(!repetitions.find(&event(EventType::Progress, "a", 2)));
    }
}
