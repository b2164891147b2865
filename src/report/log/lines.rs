//! Queues log lines for a writer thread.

use std::io;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;

use super::journal::{Journal, Record};
use crate::clock;
use crate::spool::{Priority, Spool};
use crate::stdio::StandardStream;

/// The size of the queue in bytes.
const CAPACITY: usize = 8 * 1024 * 1024;
/// How long the end of the process waits for queued lines.
const FLUSH: Duration = Duration::from_secs(1);
/// The wait before a failed write is repeated.
const RETRY: Duration = Duration::from_millis(250);
/// The shortest interval between two reports of dropped lines.
const REPORT: Duration = Duration::from_secs(5);

/// The queue of the process.
static LINES: OnceLock<LogLines> = OnceLock::new();

/// A queued line.
#[derive(Debug)]
pub(super) enum LogLine {
    /// Bytes for standard error.
    Text(Vec<u8>),
    /// Fields for the journal.
    Record(Record),
}

/// Adds lines to the queue; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogLines(Spool<LogLine>);

impl LogLines {
    /// The queue of this process, started with the first call.
    pub(super) fn of_process() -> io::Result<Self> {
        if let Some(lines) = LINES.get() {
            return Ok(lines.clone());
        }
        let mut sink = Sink::default();
        let spool = Spool::start("log", CAPACITY, move |lines, spool| sink.write(lines, spool))?;
        Ok(LINES.get_or_init(|| Self(spool)).clone())
    }

    pub(super) fn push(&self, level: Level, size: usize, line: LogLine) {
        let priority = if level <= Level::WARN {
            Priority::Important
        } else {
            Priority::Ordinary
        };
        self.0.push(priority, size, line);
    }
}

/// Copies logged fields for the writer thread.
pub(super) struct LogRecorder(pub(super) LogLines);

impl<S: Subscriber> Layer<S> for LogRecorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let record = Record::of(event);
        let (level, size) = (*event.metadata().level(), record.size());
        self.0.push(level, size, LogLine::Record(record));
    }
}

/// How many lines were dropped since the start of the process.
#[must_use]
pub fn lines_dropped() -> u64 {
    LINES.get().map_or(0, |lines| lines.0.dropped())
}

/// Ends the process's output to standard error: writes `last` after the queued lines. Takes at most a second while
/// standard error is blocked.
pub fn finish(last: &str) {
    match LINES.get() {
        Some(lines) => {
            if !last.is_empty() {
                lines.push(Level::ERROR, last.len(), LogLine::Text(last.as_bytes().to_vec()));
            }
            lines.0.flush(FLUSH);
        }
        None => {
            // Standard error is closed: there is nowhere to report it.
            let _ = StandardStream::Stderr.write_all(last.as_bytes());
        }
    }
}

/// Writes lines to their destination.
#[derive(Debug, Default)]
struct Sink {
    journal: Journal,
    reported: u64,
    last_report: Option<Instant>,
}

impl Sink {
    fn write(&mut self, lines: Vec<LogLine>, spool: &Spool<LogLine>) {
        let mut text = Vec::new();
        for line in lines {
            match line {
                LogLine::Text(bytes) => text.extend(bytes),
                LogLine::Record(record) => {
                    while self.journal.write(&record).is_err() {
                        thread::sleep(RETRY);
                    }
                }
            }
        }
        let mut written = 0;
        // A full disk or a lost terminal may recover; the queue bounds the memory until then.
        while StandardStream::Stderr.write_rest(&text, &mut written).is_err() {
            thread::sleep(RETRY);
        }
        self.report(spool);
    }

    /// Reports dropped lines once writing works again.
    fn report(&mut self, spool: &Spool<LogLine>) {
        let dropped = spool.dropped();
        let may_report = !spool.has_waiting()
            || self
                .last_report
                .is_none_or(|last| clock::instant() - last >= REPORT);
        if dropped > self.reported && may_report {
            tracing::warn!(
                lines = dropped - self.reported,
                lines_in_total = dropped,
                "log lines were dropped because they could not be written fast enough"
            );
            self.reported = dropped;
            self.last_report = Some(clock::instant());
        }
    }
}

/// Receives a finished line from the layers.
#[derive(Debug)]
pub(super) struct Writer<'l> {
    lines: &'l LogLines,
    level: Level,
}

impl<'l> MakeWriter<'l> for LogLines {
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

/// The layers write each line with one call.
impl io::Write for Writer<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines
            .push(self.level, line.len(), LogLine::Text(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
