//! Lines of an operation's log, as the API keeps it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text;

/// One line of an operation's log.
///
/// Members that are absent, null or not what the contract says are left empty: a log is read to explain a
/// failure, and half a line explains more than none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the line was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// How grave it is, as the API writes it: `DEBUG`, `ERROR`, …
    #[serde(default)]
    pub severity: String,
    /// What it says.
    #[serde(default)]
    pub message: LogMessage,
}

/// What a line of a log says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMessage {
    /// The message for people.
    #[serde(default)]
    pub msg: String,
    /// The error, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The operation that the line belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// Further details by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl LogLine {
    /// The line that the API wrote as `json`; `None` if there is neither a message nor an error in it.
    #[must_use]
    pub fn from_api(json: &Value) -> Option<Self> {
        let line = json.as_object()?;
        let message = line.get("message")?;
        let (msg, rest) = match message {
            Value::String(msg) => (Some(msg.clone()), None),
            Value::Object(members) => (member(members, "msg"), Some(members)),
            _ => (None, None),
        };
        let error = rest.and_then(|members| member(members, "error"));
        if msg.is_none() && error.is_none() {
            return None;
        }
        Some(Self {
            timestamp: member(line, "timestamp").and_then(|time| time.parse().ok()),
            severity: member(line, "severity").unwrap_or_default(),
            message: LogMessage {
                msg: msg.unwrap_or_default(),
                error,
                operation_id: rest.and_then(|members| member(members, "operation_id")),
                details: rest.map(details).unwrap_or_default(),
            },
        })
    }

    /// The line in at most about `max` bytes: long texts are cut, and details go before the message does.
    #[must_use]
    pub fn bounded(mut self, max: usize) -> Self {
        let size = |line: &Self| serde_json::to_string(line).map_or(usize::MAX, |json| json.len());
        if size(&self) > max {
            self.message.details.clear();
            self.severity = text::cut(&self.severity, 32);
            self.message.operation_id = None;
        }
        // Escaping can make hostile text six times as long as it is; each turn halves what is left.
        let mut room = max / 2;
        while size(&self) > max && room > text::CUT_MARK.len() {
            self.message.msg = text::cut(&self.message.msg, room);
            self.message.error = self.message.error.map(|error| text::cut(&error, room));
            room /= 2;
        }
        self
    }

    /// Whether the line tells of an error or a warning, by its severity.
    #[must_use]
    pub fn is_warning_or_worse(&self) -> bool {
        const GRAVE: [&str; 8] = [
            "WARN",
            "WARNING",
            "ERROR",
            "CRITICAL",
            "ALERT",
            "EMERGENCY",
            "FATAL",
            "PANIC",
        ];
        GRAVE.iter().any(|word| self.severity.eq_ignore_ascii_case(word))
    }
}

/// The last `max` errors and warnings of `lines`, oldest first. Lines without a time keep their place
/// before those that have one.
#[must_use]
pub fn last_warnings(mut lines: Vec<LogLine>, max: usize) -> Vec<LogLine> {
    lines.retain(LogLine::is_warning_or_worse);
    lines.sort_by_key(|line| line.timestamp);
    lines.split_off(lines.len().saturating_sub(max))
}

fn member(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name)?.as_str().map(str::to_owned)
}

/// `details`, with whatever is not a string written as JSON.
fn details(message: &Map<String, Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(members)) = message.get("details") else {
        return BTreeMap::new();
    };
    members
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_member_is_kept() {
        let line = LogLine::from_api(&json!({
            "timestamp": "2023-07-13T21:34:44.816354Z",
            "severity": "ERROR",
            "message": {"msg": "read failed", "error": "401", "operation_id": "op",
                        "details": {"request": "GET /users", "attempt": 3}, "extra": []},
        }))
        .unwrap();
        assert_eq!(line.timestamp, "2023-07-13T21:34:44.816354Z".parse().ok());
        assert_eq!(
            (line.severity.as_str(), line.message.msg.as_str()),
            ("ERROR", "read failed")
        );
        assert_eq!(line.message.error.as_deref(), Some("401"));
        assert_eq!(line.message.operation_id.as_deref(), Some("op"));
        assert_eq!(line.message.details["request"], "GET /users");
        assert_eq!(line.message.details["attempt"], "3");
    }

    #[test]
    fn half_a_line_is_kept_and_an_empty_one_is_not() {
        let plain = LogLine::from_api(&json!({"message": "hello", "timestamp": "yesterday", "severity": 7}));
        assert_eq!(plain.map(|line| line.message.msg).as_deref(), Some("hello"));
        let bare = LogLine::from_api(&json!({"message": {"error": "boom", "details": "none"}})).unwrap();
        assert_eq!(bare.message.error.as_deref(), Some("boom"));
        for nothing in [json!(null), json!([]), json!({}), json!({"message": {"msg": 7}})] {
            assert_eq!(LogLine::from_api(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_last_warnings_come_in_order_of_time() {
        let line = |second: i64, severity: &str| LogLine {
            timestamp: Timestamp::from_second(second).ok(),
            severity: severity.to_owned(),
            message: LogMessage {
                msg: second.to_string(),
                ..LogMessage::default()
            },
        };
        let lines = vec![
            line(5, "error"),
            line(1, "ERROR"),
            line(3, "Warning"),
            line(9, "INFO"),
            line(4, "WARN"),
        ];
        let told: Vec<_> = last_warnings(lines.clone(), 3)
            .into_iter()
            .map(|l| l.message.msg)
            .collect();
        assert_eq!(told, ["3", "4", "5"]);
        assert_eq!(last_warnings(lines, 10).len(), 4);
    }

    #[test]
    fn a_long_line_is_cut_and_a_short_one_is_not() {
        let line = LogLine {
            timestamp: Timestamp::from_second(1).ok(),
            severity: "ERROR".into(),
            message: LogMessage {
                msg: "\u{1}".repeat(5000),
                error: Some("e".repeat(5000)),
                ..LogMessage::default()
            },
        };
        let cut = line.bounded(1024);
        assert!(serde_json::to_string(&cut).unwrap().len() <= 1024);
        assert!(cut.message.msg.ends_with(text::CUT_MARK));
        let short = LogLine {
            severity: "WARN".into(),
            ..LogLine::default()
        };
        assert_eq!(short.clone().bounded(1024), short);
    }
}
