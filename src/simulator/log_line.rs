//! The log of a simulated operation, as `GET …/operations/{id}/logs` answers it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::count_curve::CountCurve;
use super::operation::{SimulatedOperation, SimulatedOutcome, later};

/// One line of an operation's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SimulatedLogLine {
    /// When it was written.
    pub timestamp: Timestamp,
    /// `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    pub severity: &'static str,
    /// Its content.
    pub message: LogMessage,
}

/// The content of a log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogMessage {
    /// The message text.
    pub msg: String,
    /// The error, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The operation ID.
    pub operation_id: String,
    /// Other details, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<&'static str, String>,
}

impl SimulatedOperation {
    /// The log lines that were written, oldest first, when `elapsed` has passed since the start at `created`.
    #[must_use]
    pub fn logs(&self, created: Timestamp, elapsed: Duration) -> Vec<SimulatedLogLine> {
        let object = self.object();
        let mut lines = vec![self.line(created, 0.0, "DEBUG", format!("Reading {object}"), None)];
        for quarter in [0.25, 0.5, 0.75] {
            let count = self.processed(self.duration.mul_f64(quarter));
            lines.push(self.line(
                created,
                quarter,
                "INFO",
                format!("{count} records of {object} read"),
                None,
            ));
        }
        match self.curve {
            CountCurve::Stall => lines.push(self.line(
                created,
                CountCurve::STALL.0,
                "WARNING",
                "The provider's rate limit is reached, waiting".to_owned(),
                None,
            )),
            CountCurve::Restart => lines.push(self.line(
                created,
                CountCurve::RESTART,
                "WARNING",
                "The attempt broke off, starting again".to_owned(),
                Some("connection reset by provider"),
            )),
            CountCurve::Linear | CountCurve::FastFirst | CountCurve::SlowFirst | CountCurve::Bursts => {}
        }
        match &self.outcome {
            SimulatedOutcome::Success => lines.push(self.line(created, 1.0, "INFO", self.result(), None)),
            SimulatedOutcome::Failure => {
                for (life, error) in [
                    (0.9, "429 Too Many Requests"),
                    (0.95, "403 REQUEST_LIMIT_EXCEEDED"),
                ] {
                    let msg = format!("A page of {object} could not be read, trying again");
                    lines.push(self.line(created, life, "WARNING", msg, Some(error)));
                }
                let error = Some("403 REQUEST_LIMIT_EXCEEDED");
                lines.push(self.line(created, 1.0, "ERROR", self.result(), error));
            }
            SimulatedOutcome::Other(_) => lines.push(self.line(created, 1.0, "WARNING", self.result(), None)),
        }
        lines.sort_by_key(|line| line.timestamp);
        let now = later(created, elapsed);
        lines.retain(|line| line.timestamp <= now);
        lines
    }

    fn line(
        &self,
        created: Timestamp,
        life: f64,
        severity: &'static str,
        msg: String,
        error: Option<&str>,
    ) -> SimulatedLogLine {
        let mut details = BTreeMap::new();
        details.insert("object", self.object().to_owned());
        SimulatedLogLine {
            timestamp: later(created, self.moment(life)),
            severity,
            message: LogMessage {
                msg,
                error: error.map(str::to_owned),
                operation_id: self.id.clone(),
                details,
            },
        }
    }

    /// The time after the start at which the part `life` of the duration has passed.
    fn moment(&self, life: f64) -> Duration {
        // `mul_f64` by exactly one may round up, and then overflow for the longest durations.
        if life >= 1.0 {
            self.duration
        } else {
            self.duration.mul_f64(life)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(100);

    #[test]
    fn a_failure_leaves_warnings_and_an_error_but_not_before_it_fails() {
        let operation = SimulatedOperation {
            outcome: SimulatedOutcome::Failure,
            ..SimulatedOperation::new("a", LIFE, 1000)
        };
        let severities = |seconds| -> Vec<&str> {
            let lines = operation.logs(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds));
            lines.iter().map(|line| line.severity).collect()
        };
        assert_eq!(severities(0), ["DEBUG"]);
        assert_eq!(
            severities(99),
            ["DEBUG", "INFO", "INFO", "INFO", "WARNING", "WARNING"]
        );
        assert_eq!(severities(100).last(), Some(&"ERROR"));
    }

    #[test]
    fn a_line_has_the_members_of_the_contract() {
        let operation = SimulatedOperation::new("a", LIFE, 1000);
        let line = &operation.logs(Timestamp::UNIX_EPOCH, Duration::ZERO)[0];
        assert_eq!(
            serde_json::to_string(line).unwrap(),
            r#"{"timestamp":"1970-01-01T00:00:00Z","severity":"DEBUG","message":{"msg":"Reading contact","operation_id":"a","details":{"object":"contact"}}}"#
        );
    }

    #[test]
    fn every_course_and_fate_has_a_log_in_order() {
        for curve in CountCurve::ALL {
            for outcome in [
                SimulatedOutcome::Success,
                SimulatedOutcome::Failure,
                SimulatedOutcome::Other("x".into()),
            ] {
                let operation = SimulatedOperation {
                    curve,
                    outcome,
                    ..SimulatedOperation::new("a", LIFE, 1000)
                };
                let lines = operation.logs(Timestamp::UNIX_EPOCH, Duration::MAX);
                assert!(lines.len() >= 5 && lines.is_sorted_by_key(|line| line.timestamp));
            }
        }
    }
}
