//! Where log lines go and how they look. Everything that logs does so through `tracing`, and knows nothing of this.
//!
//! - `pretty`: `timestamp LEVEL message key=value …`, for eyes. A value of several words is quoted, and nothing
//!   that somebody else wrote can begin a new line or move the cursor.
//! - `json`: one flat object a line: `timestamp`, `level`, the event's fields beside `message`, and `target`.
//! - `journald`: the journal's native protocol. `message` is `MESSAGE`, and each field its upper-case name after
//!   `BACKFILL_WATCH_`, so that none meets a field of systemd's own: `journalctl BACKFILL_WATCH_OPERATION_ID=…`.
//!
//! A line that cannot be written (broken pipe, full disk, no journal) is lost, silently: there is nowhere to tell
//! it, and the daemon's work is worth more than its log.

use crate::config::LogFormat as Format;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::Subscriber;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, reload};

use crate::clock;

mod pretty;

/// What the journal calls the program, and, in upper case, what its fields there begin with.
const SYSLOG_IDENTIFIER: &str = "backfill-watch";
const JOURNAL_FIELD_PREFIX: &str = "BACKFILL_WATCH";
/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter's text means nothing.
    #[error("the log filter {filter:?} is not understood; write a level, or directives such as info,h2=warn")]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has set up a log before.
    #[error("the log is set up already")]
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
        // Fails only where the subscriber is gone, and with it every line.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

/// Sets up the log of the process, to standard error. `filter` is a level, or the directives of
/// [`EnvFilter`], as in `info,backfill_watch::report=debug`.
///
/// # Errors
/// [`LogError`], where the filter is not understood, or a log was set up before.
pub fn init(format: Format, filter: &str) -> Result<LogHandle, LogError> {
    let filter = parse_filter(filter)?;
    let stderr = io::stderr();
    let is_terminal = stderr.is_terminal();
    let style = match format {
        Format::Auto => choose(is_terminal, is_journal()),
        Format::Pretty => Style::Pretty,
        Format::Json => Style::Json,
        Format::Journald => Style::Journald,
    };
    let mut no_journal = None;
    let layer = match style {
        Style::Journald => journald().unwrap_or_else(|error| {
            no_journal = Some(error);
            json(io::stderr)
        }),
        Style::Json => json(io::stderr),
        Style::Pretty => {
            let no_color = std::env::var_os("NO_COLOR");
            let term = std::env::var_os("TERM");
            pretty(
                io::stderr,
                wants_colour(is_terminal, no_color.as_deref(), term.as_deref()),
            )
        }
    };
    let (subscriber, handle) = subscriber(filter, layer);
    subscriber.try_init()?;
    if let Some(error) = no_journal {
        let reason = error.to_string();
        tracing::warn!(
            reason,
            "cannot reach the journal, the log goes to standard error as JSON"
        );
    }
    Ok(handle)
}

/// Sets up the log of the process, readable and without colour, to `writer`: for a command that draws on the terminal
/// and must not have it torn.
///
/// # Errors
/// [`LogError`], where the filter is not understood, or a log was set up before.
pub fn init_to<W>(filter: &str, writer: W) -> Result<LogHandle, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (subscriber, handle) = subscriber(parse_filter(filter)?, pretty(writer, false));
    subscriber.try_init()?;
    Ok(handle)
}

/// [`Format`] without [`Format::Auto`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Pretty,
    Json,
    Journald,
}

fn choose(is_terminal: bool, is_journal: bool) -> Style {
    match (is_terminal, is_journal) {
        (true, _) => Style::Pretty,
        (false, true) => Style::Journald,
        (false, false) => Style::Json,
    }
}

/// As <https://no-color.org> asks, and not where the terminal says that it cannot.
pub(crate) fn wants_colour(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Whether standard error is the journal's stream. systemd says which one that was; it may have been redirected
/// since, or the variable may be inherited from somebody else's service.
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

/// The filter, quieted where a library would tell at error level, once a poll, what the daemon tells once an outage;
/// a directive of the user's for the same target comes later and wins.
fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(format!("rustls_platform_verifier=off,{filter}")).map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// What the layers below stand on.
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
        .with_writer(writer)
        .boxed()
}

fn journald() -> io::Result<BoxedLayer> {
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?
        .with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned())
        .with_field_prefix(Some(JOURNAL_FIELD_PREFIX.to_owned()))
        .with_priority_mappings(priorities);
    Ok(layer.boxed())
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
