//! Lines of an operation's log at Ampersand.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::{self, Json};
use super::text;

/// One line of an operation's log.
///
/// Members that are absent, null or of the wrong type are empty: a partial line still helps to explain a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationLogLine {
    /// When the line was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The severity, as the API writes it: `DEBUG`, `ERROR`, …
    #[serde(default)]
    pub severity: String,
    /// The message.
    #[serde(default)]
    pub message: OperationLogMessage,
}

/// The message of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationLogMessage {
    /// The text.
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

impl OperationLogLine {
    /// Parses a log. Lines without text are left out.
    ///
    /// # Errors
    /// When the text is not a JSON array.
    pub fn parse_all(log: &str) -> serde_json::Result<Vec<Self>> {
        let mut lines = Vec::new();
        json::elements(log, |line| lines.extend(Self::parse(line)))?;
        Ok(lines)
    }

    /// Parses one line; `None` if it has neither a message nor an error.
    #[must_use]
    pub fn parse(line: Json<'_>) -> Option<Self> {
        let mut found = Self::default();
        let (mut msg, mut error) = (None, None);
        line.members(|name, value| match name {
            "timestamp" => found.timestamp = value.time(),
            "severity" => found.severity = value.string().unwrap_or_default(),
            "message" => {
                msg = value.string();
                let message = &mut found.message;
                value.members(|name, value| match name {
                    "msg" => msg = value.string(),
                    "error" => error = value.string(),
                    "operation_id" => message.operation_id = value.string(),
                    "details" => message.details = details(value),
                    _ => {}
                });
            }
            _ => {}
        });
        if msg.is_none() && error.is_none() {
            return None;
        }
        found.message.msg = msg.unwrap_or_default();
        found.message.error = error;
        Some(found)
    }

    /// Calls `each` with every text from the API.
    pub fn for_each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        // Destructured in full, so that no new member is forgotten.
        let Self {
            timestamp: _,
            severity,
            message:
                OperationLogMessage {
                    msg,
                    error,
                    operation_id,
                    details,
                },
        } = self;
        each(severity);
        each(msg);
        error.iter_mut().chain(operation_id).for_each(&mut *each);
        *details = std::mem::take(details)
            .into_iter()
            .map(|(mut name, mut value)| {
                each(&mut name);
                each(&mut value);
                (name, value)
            })
            .collect();
    }

    /// The line in about `max` bytes: details are dropped first, then texts are truncated.
    #[must_use]
    pub fn bounded(mut self, max: usize) -> Self {
        let size = |line: &Self| serde_json::to_string(line).map_or(usize::MAX, |json| json.len());
        if size(&self) > max {
            self.message.details.clear();
            self.severity = text::cut(&self.severity, 32);
            self.message.operation_id = None;
        }
        // Escaping can make a text six times as long; each round halves it.
        let mut limit = max / 2;
        while size(&self) > max && limit > text::CUT_MARK.len() {
            self.message.msg = text::cut(&self.message.msg, limit);
            self.message.error = self.message.error.map(|error| text::cut(&error, limit));
            limit /= 2;
        }
        self
    }

    /// Its message and its error.
    #[must_use]
    pub fn text(&self) -> String {
        let message = &self.message;
        match (&message.error, message.msg.is_empty()) {
            (Some(error), false) => format!("{}: {error}", message.msg),
            (Some(error), true) => error.clone(),
            (None, _) => message.msg.clone(),
        }
    }

    /// Whether its severity is warning or higher.
    #[must_use]
    pub fn is_warning_or_worse(&self) -> bool {
        const WARNING_SEVERITIES: [&str; 8] = [
            "WARN",
            "WARNING",
            "ERROR",
            "CRITICAL",
            "ALERT",
            "EMERGENCY",
            "FATAL",
            "PANIC",
        ];
        WARNING_SEVERITIES
            .iter()
            .any(|word| self.severity.eq_ignore_ascii_case(word))
    }
}

/// Which lines of a log to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSelection {
    /// All of them.
    All,
    /// Errors and warnings.
    Warnings,
}

/// The last `max` errors and warnings of `lines`, oldest first; lines without a time come first.
#[must_use]
pub fn last_warnings(mut lines: Vec<OperationLogLine>, max: usize) -> Vec<OperationLogLine> {
    lines.retain(OperationLogLine::is_warning_or_worse);
    last_lines(lines, max)
}

/// Like [`last_warnings`], for every severity.
#[must_use]
pub fn last_lines(mut lines: Vec<OperationLogLine>, max: usize) -> Vec<OperationLogLine> {
    lines.sort_by_key(|line| line.timestamp);
    lines.split_off(lines.len().saturating_sub(max))
}

/// The details, with values other than strings as JSON.
fn details(value: Json<'_>) -> BTreeMap<String, String> {
    let mut details = BTreeMap::new();
    value.members(|name, value| {
        let text = value.string().unwrap_or_else(|| value.text().to_owned());
        details.insert(name.to_owned(), text);
    });
    details
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(line: &Value) -> Option<OperationLogLine> {
        OperationLogLine::parse_all(&format!("[{line}]")).unwrap().pop()
    }

    #[test]
    fn every_member_is_kept() {
        let line = parse(&json!({
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
        let plain = parse(&json!({"message": "hello", "timestamp": "yesterday", "severity": 7}));
        assert_eq!(plain.map(|line| line.message.msg).as_deref(), Some("hello"));
        let bare = parse(&json!({"message": {"error": "boom", "details": "none"}})).unwrap();
        assert_eq!(bare.message.error.as_deref(), Some("boom"));
        let half = OperationLogLine::parse_all(
            r#"[{"severity":"\ud800","message":{"msg":"x","error":"\ud800","details":{"a":1e999,"b":"\ud800"}}}]"#,
        );
        let half = half.unwrap().pop().unwrap();
        assert_eq!((half.severity.as_str(), half.message.error), ("", None));
        assert_eq!(half.message.details["a"], "1e999");
        for nothing in [json!(null), json!([]), json!({}), json!({"message": {"msg": 7}})] {
            assert_eq!(parse(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn every_text_is_given() {
        let mut line = parse(&json!({
            "severity": "a",
            "message": {"msg": "b", "error": "c", "operation_id": "d", "details": {"e": "f", "g": [1]}},
        }))
        .unwrap();
        line.for_each_text(&mut |text| text.insert(0, '-'));
        let printed = serde_json::to_value(&line).unwrap();
        assert_eq!(
            printed,
            json!({"severity": "-a", "message": {"msg": "-b", "error": "-c", "operation_id": "-d",
                "details": {"-e": "-f", "-g": "-[1]"}}})
        );
    }

    #[test]
    fn the_last_warnings_come_in_order_of_time() {
        let line = |second: i64, severity: &str| OperationLogLine {
            timestamp: Timestamp::from_second(second).ok(),
            severity: severity.to_owned(),
            message: OperationLogMessage {
                msg: second.to_string(),
                ..OperationLogMessage::default()
            },
        };
        let lines = vec![
            line(5, "error"),
            line(1, "ERROR"),
            line(3, "Warning"),
            line(9, "INFO"),
            line(4, "WARN"),
        ];
        let texts: Vec<_> = last_warnings(lines.clone(), 3)
            .into_iter()
            .map(|l| l.message.msg)
            .collect();
        assert_eq!(texts, ["3", "4", "5"]);
        assert_eq!(last_warnings(lines.clone(), 10).len(), 4);
        assert_eq!(last_lines(lines.clone(), 100).len(), lines.len());
    }

    #[test]
    fn a_long_line_is_cut_and_a_short_one_is_not() {
        let line = OperationLogLine {
            timestamp: Timestamp::from_second(1).ok(),
            severity: "ERROR".into(),
            message: OperationLogMessage {
                msg: "\u{1}".repeat(5000),
                error: Some("e".repeat(5000)),
                ..OperationLogMessage::default()
            },
        };
        let cut = line.bounded(1024);
        assert!(serde_json::to_string(&cut).unwrap().len() <= 1024);
        assert!(cut.message.msg.ends_with(text::CUT_MARK));
        let short = OperationLogLine {
            severity: "WARN".into(),
            ..OperationLogLine::default()
        };
        assert_eq!(short.clone().bounded(1024), short);
    }
}
