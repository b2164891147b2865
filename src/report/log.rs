//! Sets up the log: its format and destination. Everything else logs through `tracing`.
//!
//! - `pretty`: `timestamp LEVEL message key=value …`, for people. A value of several words is quoted. Text from outside
//!   cannot begin a line or control the terminal.
//! - `json`: one flat object per line: `timestamp`, `level`, `message`, the fields, and `target`.
//! - `journald`: the journal's native protocol. `message` becomes `MESSAGE`. Field names are upper case with the prefix
//!   `BACKFILL_WATCH_`, so that they differ from systemd's: `journalctl BACKFILL_WATCH_OPERATION_ID=…`.
//!
//! Logging never blocks. Lines wait in a queue for a thread that writes them (`lines`). When the queue is full, lines
//! are dropped and counted.

use crate::config::LogFormat;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, reload};

use crate::clock;
use crate::error::chain;

mod journal;
mod lines;
mod panic;
mod pretty;

use journal::Journal;
use lines::{LogLines, LogRecorder};
pub use lines::{finish, lines_dropped};

/// How long the start waits for the check of the journal.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is invalid.
    #[error("the log filter {filter:?} is invalid; use a level, or directives such as info,h2=warn")]
    Filter {
        /// The filter.
        filter: String,
        /// Why it is invalid.
        source: ParseError,
    },
    /// The thread that writes the log cannot be started.
    #[error("cannot start the thread that writes the log; check the limits of threads and memory")]
    Thread(#[source] io::Error),
    /// The log was set up before.
    #[error("the log is already set up; this is a bug, please report it")]
    SetAlready(#[from] TryInitError),
}

/// Changes the log of the running process.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Replaces the filter. On an error the running one stays.
    ///
    /// # Errors
    /// [`LogError::Filter`].
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse_filter(filter)?;
        // Fails only when the subscriber is gone.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

/// Sets up the log to standard error, and logs panics. `filter` is a level or the directives of [`EnvFilter`], as in
/// `info,backfill_watch::report=debug`.
///
/// # Errors
/// [`LogError`].
pub fn init(format: LogFormat, filter: &str) -> Result<LogHandle, LogError> {
    let filter = parse_filter(filter)?;
    let is_terminal = io::stderr().is_terminal();
    let style = match format {
        LogFormat::Auto if is_terminal => Style::Pretty,
        LogFormat::Auto if is_journal() => Style::Journald,
        LogFormat::Auto => Style::Json,
        LogFormat::Pretty => Style::Pretty,
        LogFormat::Json => Style::Json,
        LogFormat::Journald => Style::Journald,
    };
    let lines = LogLines::of_process().map_err(LogError::Thread)?;
    let no_journal = match style {
        Style::Journald => journal_error(),
        Style::Json | Style::Pretty => None,
    };
    let layer = match style {
        Style::Journald if no_journal.is_none() => LogRecorder(lines).boxed(),
        Style::Journald | Style::Json => json(lines),
        Style::Pretty => {
            let no_color = std::env::var_os("NO_COLOR");
            let term = std::env::var_os("TERM");
            let colour = uses_colour(is_terminal, no_color.as_deref(), term.as_deref());
            pretty(lines, colour)
        }
    };
    let (subscriber, handle) = subscriber(filter, layer);
    subscriber.try_init()?;
    panic::log_panics();
    if let Some(error) = no_journal {
        tracing::warn!(
            error = chain(&error),
            "cannot reach the journal; the log goes to standard error as JSON"
        );
    }
    Ok(handle)
}

/// Sets up a readable log without colour to `writer`, for a command that draws on the terminal.
///
/// # Errors
/// [`LogError`].
pub fn init_to<W>(filter: &str, writer: W) -> Result<LogHandle, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (subscriber, handle) = subscriber(parse_filter(filter)?, pretty(writer, false));
    subscriber.try_init()?;
    Ok(handle)
}

/// [`LogFormat`] without [`LogFormat::Auto`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Pretty,
    Json,
    Journald,
}

/// See <https://no-color.org>. A dumb terminal has no colour.
pub(crate) fn uses_colour(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Whether standard error is the journal's stream. The variable alone does not prove it: standard error may have been
/// redirected, or the variable inherited.
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let stat = io::stderr().as_fd().try_clone_to_owned();
    let stat = stat.and_then(|descriptor| File::from(descriptor).metadata());
    stat.is_ok_and(|stat| is_stream(&stream, stat.dev(), stat.ino()))
}

fn is_stream(journal_stream: &OsStr, device: u64, inode: u64) -> bool {
    journal_stream == OsStr::new(&format!("{device}:{inode}"))
}

/// Parses the filter. A library that logs an error for each failed poll is switched off, since the daemon logs each
/// outage once. A directive of the user for the same target has precedence.
fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(format!("rustls_platform_verifier=off,{filter}")).map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// The type below the layers.
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type BoxedLayer = Box<dyn Layer<Filtered> + Send + Sync>;

fn subscriber(filter: EnvFilter, layer: BoxedLayer) -> (impl Subscriber + Send + Sync, LogHandle) {
    let (filter, handle) = reload::Layer::new(filter);
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    (subscriber, LogHandle { filter: handle })
}

fn pretty<W>(writer: W, colour: bool) -> BoxedLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .fmt_fields(pretty::Fields)
        .with_timer(Clock)
        .with_target(false)
        .with_ansi(colour)
        .log_internal_errors(false)
        .with_writer(writer)
        .boxed()
}

fn json<W>(writer: W) -> BoxedLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_timer(Clock)
        .log_internal_errors(false)
        .with_writer(writer)
        .boxed()
}

/// The error of connecting to the journal. A journal that does not answer in time is no error.
fn journal_error() -> Option<io::Error> {
    let (sender, answer) = mpsc::sync_channel(1);
    let check = move || sender.send(Journal::check());
    match thread::Builder::new().name("journal".to_owned()).spawn(check) {
        Ok(_) => answer.recv_timeout(JOURNAL_TIMEOUT).ok()?.err(),
        Err(error) => Some(error),
    }
}

/// RFC 3339 in UTC, to the millisecond.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", clock::wall())
    }
}

#[cfg(test)]
mod tests;
