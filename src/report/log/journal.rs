//! Writes log lines in the journal's protocol with `tracing-journald`.
//!
//! That crate blocks while the journal does. So the fields are copied where a line is logged, and passed to the crate on
//! the writer thread.

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Value, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use super::pretty;

/// The journal's name of the program, and the prefix of its fields.
const SYSLOG_IDENTIFIER: &str = "backfill-watch";
const FIELD_PREFIX: &str = "BACKFILL_WATCH";
/// The journal's socket.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The fields that `MESSAGE` repeats, so that it is readable by itself, in this order.
const IN_MESSAGE: [&str; 20] = [
    "operation_id",
    "group",
    "outcome",
    "labels",
    "project",
    "endpoint",
    "file",
    "key",
    "status",
    "percent",
    "duration_seconds",
    "deadline",
    "not_succeeded",
    "lines",
    "signal",
    "result",
    "reason",
    "error",
    "last_log",
    "help",
];

/// The fields of one line.
#[derive(Debug)]
pub(super) struct Record {
    metadata: &'static Metadata<'static>,
    /// Indexed like the fields.
    values: Vec<Option<Owned>>,
}

#[derive(Debug, Clone)]
enum Owned {
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

impl Owned {
    fn as_value(&self) -> &dyn Value {
        match self {
            Self::Text(text) => text,
            Self::Unsigned(number) => number,
            Self::Signed(number) => number,
            Self::Float(number) => number,
            Self::Bool(truth) => truth,
        }
    }
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
        }
    }
}

impl Record {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut record = Self {
            metadata,
            values: vec![None; metadata.fields().len()],
        };
        event.record(&mut record);
        let message = record.message();
        if let Some(field) = metadata.fields().field("message") {
            record.set(&field, Owned::Text(message));
        }
        record
    }

    /// The approximate size in bytes.
    pub(super) fn size(&self) -> usize {
        let texts = self.values.iter().flatten().map(|value| match value {
            Owned::Text(text) => text.len(),
            _ => 0,
        });
        size_of::<Owned>() * self.values.len() + texts.sum::<usize>()
    }

    fn get(&self, name: &str) -> Option<&Owned> {
        let field = self.metadata.fields().field(name)?;
        self.values.get(field.index())?.as_ref()
    }

    /// A field as text; empty if absent.
    #[cfg(test)]
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).map(ToString::to_string).unwrap_or_default()
    }

    fn set(&mut self, field: &Field, value: Owned) {
        if let Some(place) = self.values.get_mut(field.index()) {
            *place = Some(value);
        }
    }

    /// The message and the fields that a reader needs to understand it.
    fn message(&self) -> String {
        let mut message = String::new();
        if let Some(text) = self.get("message") {
            pretty::push_visibly(&mut message, &text.to_string());
        }
        for name in IN_MESSAGE {
            let Some(value) = self.get(name) else { continue };
            message.push(' ');
            if name == "labels" {
                // Labels are `key=value` already.
                pretty::push_visibly(&mut message, &value.to_string());
            } else {
                message.push_str(name);
                message.push('=');
                pretty::push_value(&mut message, &value.to_string());
            }
        }
        message
    }

    /// Passes the line to `journal` as if it was logged now.
    pub(super) fn replay(&self, journal: &impl Subscriber) {
        let values: Vec<Option<&dyn Value>> = self
            .values
            .iter()
            .map(|value| value.as_ref().map(Owned::as_value))
            .collect();
        let values = self.metadata.fields().value_set_all(&values);
        journal.event(&Event::new(self.metadata, &values));
    }
}

impl Visit for Record {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Owned::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Owned::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Owned::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Owned::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Owned::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Owned::Text(format!("{value:?}")));
    }
}

/// The connection to the journal, opened with the first line.
#[derive(Default)]
pub(super) struct Journal(Option<Connection>);

struct Connection {
    journal: Layered<tracing_journald::Layer, Registry>,
    probe: UnixDatagram,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("Journal");
        shown.field(&self.0.is_some()).finish()
    }
}

impl Journal {
    /// Checks whether the journal can be reached. Blocks while the journal does.
    pub(super) fn check() -> io::Result<()> {
        Connection::open().map(drop)
    }

    /// Writes a line. Blocks while the journal does.
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let connection = match &mut self.0 {
            Some(connection) => connection,
            None => self.0.insert(Connection::open()?),
        };
        // The crate discards errors. An empty message, which the journal ignores, reveals them.
        connection.probe.send_to(&[], SOCKET)?;
        record.replay(&connection.journal);
        Ok(())
    }
}

impl Connection {
    fn open() -> io::Result<Self> {
        let priorities = PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        };
        let layer = tracing_journald::layer()?
            .with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned())
            .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
            .with_priority_mappings(priorities);
        Ok(Self {
            journal: tracing_subscriber::registry().with(layer),
            probe: UnixDatagram::unbound()?,
        })
    }
}
