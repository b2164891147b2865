//! The way of log lines to standard error or the journal: a bounded queue and a thread of its own.

use std::io;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::journal::{Journal, Record};
use crate::clock;
use crate::spool::{Priority, Spool};
use crate::stdio::StandardStream;

/// How many bytes of lines wait while they cannot be written.
const CAPACITY: usize = 8 * 1024 * 1024;
/// How long the end of the process waits for lines that are not yet written.
const FLUSH: Duration = Duration::from_secs(1);
/// Between two attempts to write to a stream that reports an error.
const RETRY: Duration = Duration::from_millis(250);
/// Between two reports of dropped lines, while lines keep being dropped.
const REPORT: Duration = Duration::from_secs(5);

/// The queue of the process's log. It is one for the process, as the subscriber of `tracing` is.
static LINES: OnceLock<Lines> = OnceLock::new();

/// A line on its way.
#[derive(Debug)]
pub(super) enum Line {
    /// Bytes for standard error.
    Text(Vec<u8>),
    /// Fields for the journal.
    Record(Record),
}

/// The queue of log lines; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lines(Spool<Line>);

impl Lines {
    /// The queue of this process, started when this is called first.
    pub(super) fn of_process() -> io::Result<Self> {
        if let Some(lines) = LINES.get() {
            return Ok(lines.clone());
        }
        let mut sink = Sink::default();
        let spool = Spool::start("log", CAPACITY, move |lines, spool| sink.write(lines, spool))?;
        Ok(LINES.get_or_init(|| Self(spool)).clone())
    }

    pub(super) fn push(&self, level: Level, size: usize, line: Line) {
        let rank = if level <= Level::WARN {
            Priority::Important
        } else {
            Priority::Ordinary
        };
        self.0.push(rank, size, line);
    }
}

/// How many lines were dropped since the start of the process, because they could not be written.
#[must_use]
pub fn lines_dropped() -> u64 {
    LINES.get().map_or(0, |lines| lines.0.dropped())
}

/// Ends the process's output to standard error: writes `last` after all lines that wait.
///
/// With a log this takes at most a second, even while standard error is blocked.
pub fn finish(last: &str) {
    match LINES.get() {
        Some(lines) => {
            if !last.is_empty() {
                lines.push(Level::ERROR, last.len(), Line::Text(last.as_bytes().to_vec()));
            }
            lines.0.flush(FLUSH);
        }
        None => {
            // Nobody can be informed of a standard error that is closed.
            let _ = StandardStream::Stderr.write_all(last.as_bytes());
        }
    }
}

/// Writes lines where they belong, one call after the other.
#[derive(Debug, Default)]
struct Sink {
    journal: Journal,
    reported: u64,
    last_report: Option<Instant>,
}

impl Sink {
    fn write(&mut self, lines: Vec<Line>, spool: &Spool<Line>) {
        let mut text = Vec::new();
        for line in lines {
            match line {
                Line::Text(bytes) => text.extend(bytes),
                Line::Record(record) => {
                    while self.journal.write(&record).is_err() {
                        thread::sleep(RETRY);
                    }
                }
            }
        }
        let mut written = 0;
        // A full disk and a terminal that is gone may come back; meanwhile the queue bounds what waits.
        while StandardStream::Stderr.write_rest(&text, &mut written).is_err() {
            thread::sleep(RETRY);
        }
        self.report(spool);
    }

    /// Reports dropped lines as soon as writing works again.
    fn report(&mut self, spool: &Spool<Line>) {
        let dropped = spool.dropped();
        let may_report = !spool.has_waiting()
            || self
                .last_report
                .is_none_or(|last| clock::instant() - last >= REPORT);
        if dropped > self.reported && may_report {
            tracing::warn!(
                lines = dropped - self.reported,
                lines_in_total = dropped,
                "log lines were dropped, because they could not be written fast enough"
            );
            self.reported = dropped;
            self.last_report = Some(clock::instant());
        }
    }
}

/// What the layers write a finished line to.
#[derive(Debug)]
pub(super) struct Writer<'l> {
    lines: &'l Lines,
    level: Level,
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Writer<'l>;

    fn make_writer(&'l self) -> Self::Writer {
        Writer {
            lines: self,
            level: Level::INFO,
        }
    }

    fn make_writer_for(&'l self, metadata: &Metadata<'_>) -> Self::Writer {
        Writer {
            lines: self,
            level: *metadata.level(),
        }
    }
}

/// The layers write each line by one call.
impl io::Write for Writer<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.push(self.level, line.len(), Line::Text(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
