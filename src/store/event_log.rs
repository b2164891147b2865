//! The types of the event log: events, pages and cursors.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::IgnoredAny;

use super::StoreReadError;
use crate::core::event::EventType;

/// A position between two events of a log. Its text is opaque, and names the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(super) store: String,
    /// The start of the daemon that wrote the row before it. `None` for rows of version 0.1.
    pub(super) start: Option<String>,
    pub(super) row: i64,
    /// The last row that had been pruned when this cursor was made. Only later pruning makes the cursor invalid.
    pub(super) pruned_through: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.store)?;
        if let Some(start) = &self.start {
            write!(f, ".{start}")?;
        }
        write!(f, "-{}", self.row)?;
        if self.pruned_through > self.row {
            write!(f, "-{}", self.pruned_through)?;
        }
        Ok(())
    }
}

impl Cursor {
    /// Whether this position is after `other` in the same log.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        self.row > other.row
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor; use the `cursor` of an event, or omit it to start with the oldest event")]
pub struct MalformedCursor;

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let mut parts = text.split('-');
        let log = parts.next().unwrap_or_default();
        let (store, start) = match log.split_once('.') {
            Some((store, start)) => (store, Some(start)),
            None => (log, None),
        };
        if !is_name(store) || start.is_some_and(|start| !is_name(start)) {
            return Err(MalformedCursor);
        }
        let row = number(parts.next().unwrap_or_default())?;
        let pruned_through = parts.next().map_or(Ok(0), number)?;
        if parts.next().is_some() {
            return Err(MalformedCursor);
        }
        Ok(Self {
            store: store.to_owned(),
            start: start.map(str::to_owned),
            row,
            pruned_through,
        })
    }
}

fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn number(text: &str) -> Result<i64, MalformedCursor> {
    // `parse` alone would accept signs.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MalformedCursor);
    }
    text.parse().map_err(|_| MalformedCursor)
}

/// A filter for events of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventLogFilter {
    /// Only events of this operation ID, in any project.
    pub operation: Option<String>,
    /// With `operation`, only events of this project.
    pub project: Option<String>,
    /// Only events of these types.
    pub types: Option<Vec<EventType>>,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The position after it.
    pub cursor: Cursor,
    /// Its ID.
    pub id: String,
    /// Its type.
    pub event_type: EventType,
    /// When it was observed.
    pub timestamp: Timestamp,
    /// Its body, as webhooks deliver it.
    pub body: String,
}

impl StoredEvent {
    /// Whether it is valid JSON. A damaged event would break the JSON of its whole page.
    pub(super) fn is_intact(&self) -> bool {
        let needs_no_escape = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        self.id.bytes().all(needs_no_escape) && is_json(&self.body) && is_json(self.data())
    }

    /// `data` of the body, as JSON.
    #[must_use]
    pub fn data(&self) -> &str {
        // `Event::body` writes `data` last, and neither type nor timestamp contains this text.
        self.body
            .split_once("\"data\":")
            .and_then(|(_, data)| data.strip_suffix('}'))
            .unwrap_or("null")
    }

    /// The event as one JSON object with `id`, `cursor`, `type`, `timestamp` and `data`.
    #[must_use]
    pub fn to_json(&self) -> String {
        // IDs, cursors, types and timestamps need no escapes.
        format!(
            r#"{{"id":"{}","cursor":"{}","type":"{}","timestamp":"{:.3}","data":{}}}"#,
            self.id,
            self.cursor,
            self.event_type,
            self.timestamp,
            self.data()
        )
    }
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The matching events. It may be empty although more follow.
    pub events: Vec<StoredEvent>,
    /// Where the next page starts.
    pub next: Cursor,
    /// Whether the log has rows after `next`.
    pub more: bool,
}

/// Why the log cannot be read from a cursor.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The cursor belongs to another state, or to events that were recorded after the backup that this state was
    /// restored from.
    #[error(
        "this cursor belongs to another state directory, or to events that a restored backup does not have; start without a cursor"
    )]
    Foreign,
    /// Events after the cursor are no longer kept.
    #[error("events after this cursor are no longer kept; start without a cursor")]
    Expired,
    /// The state cannot be read.
    #[error(transparent)]
    Read(#[from] StoreReadError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nonsense_is_not() {
        for text in ["0a1b-42", "0a1b-42-50", "0a1b.9f-42", "0a1b.9f-42-50"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "-",
            "0a1b",
            "0a1b-",
            "-1",
            "0a1b--1",
            "0a1b-+1",
            "xy-1",
            "0a-1e3",
            "0a-1-",
            "0a-1-2-3",
            "0a-9999999999999999999",
            "0a.-1",
            ".0a-1",
            "0a.xy-1",
            "0a.9f.9f-1",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(MalformedCursor), "{text}");
        }
    }

    #[test]
    fn a_damaged_event_is_known() {
        let event = |id: &str, body: &str| StoredEvent {
            cursor: "0a-1".parse().unwrap(),
            id: id.into(),
            event_type: EventType::Started,
            timestamp: Timestamp::UNIX_EPOCH,
            body: body.into(),
        };
        assert!(event("evt_1", r#"{"type":"x","data":{"a":[1]}}"#).is_intact());
        for (id, body) in [
            ("evt_1", r#"{"type":"x","data":{"a":[1}}"#),
            ("evt_1", r#"{"type":"x","data":}"#),
            ("evt_1", r#"{"type":"x","data":1},{}"#),
            ("evt_1", "operation.started"),
            ("evt\"1", r#"{"type":"x","data":{}}"#),
        ] {
            assert!(!event(id, body).is_intact(), "{id} {body}");
        }
    }

    #[test]
    fn data_is_the_end_of_the_body() {
        let event = StoredEvent {
            cursor: "0a-1".parse().unwrap(),
            id: "evt_1".into(),
            event_type: EventType::Started,
            timestamp: "2026-11-23T12:00:00Z".parse().unwrap(),
            body: r#"{"type":"operation.started","timestamp":"2026-11-23T12:00:00.000Z","data":{"x":"\"data\":"}}"#
                .into(),
        };
        let json: serde_json::Value = serde_json::from_str(&event.to_json()).unwrap();
        assert_eq!(json["data"]["x"], "\"data\":");
        assert_eq!(json["cursor"], "0a-1");
        assert_eq!(json["timestamp"], "2026-11-23T12:00:00.000Z");
    }
}
