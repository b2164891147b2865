//! One simulated operation, as the API returns it at any time. Pure: time is an argument.

use std::time::Duration;

use jiff::Timestamp;

use super::count_curve::{CountCurve, CurvePoint};
use crate::core::operation::{ActionType, Metadata, Operation, Progress, Retry, Status};

/// The default integration of operations.
pub const INTEGRATION_ID: &str = "113e9685-9a51-42cc-8662-9d9725b17f14";
/// The default installation of operations.
pub const INSTALLATION_ID: &str = "66438162-5299-4669-a41d-85c5a3b1a83e";
/// The config of all operations.
pub const CONFIG_ID: &str = "a1b2c3d4-e5f6-4789-a012-3456789abcde";

/// The processed fraction of an operation that fails or ends with another status.
const PART_BEFORE_FAILURE: f64 = 0.7;

/// Whether the operation reports an estimated total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SimulatedEstimate {
    /// The exact total.
    Right,
    /// The total times this factor; below 1 the count exceeds the estimate.
    Wrong(f64),
    /// No estimate, as with most providers.
    Missing,
}

/// How an operation ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimulatedOutcome {
    /// `success`, with all records processed.
    Success,
    /// `failure`, after 70 percent of the records.
    Failure,
    /// Another status, after 70 percent of the records.
    Other(String),
}

/// The plan of a simulated operation.
///
/// ```
/// use std::time::Duration;
/// use backfill_watch::simulator::{CountCurve, SimulatedOperation};
///
/// let operation = SimulatedOperation {
///     curve: CountCurve::Stall,
///     ..SimulatedOperation::new("stalling", Duration::from_secs(60), 5_000)
/// };
/// assert_eq!(operation.processed(Duration::from_secs(30)), 2_500);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedOperation {
    /// The operation ID.
    pub id: String,
    /// The ID of the project; empty for the first project of the simulator.
    pub project_id: String,
    /// The integration ID.
    pub integration_id: String,
    /// The installation ID.
    pub installation_id: String,
    /// The names of the objects that are read; progress is reported for the first.
    pub objects: Vec<String>,
    /// How long it runs.
    pub duration: Duration,
    /// How many records there are.
    pub total: u64,
    /// How the count grows.
    pub curve: CountCurve,
    /// The estimated total that it reports.
    pub estimate: SimulatedEstimate,
    /// How it ends.
    pub outcome: SimulatedOutcome,
    /// Its result text; `None` for a default text.
    pub result: Option<String>,
}

impl SimulatedOperation {
    /// A read of `total` `contact` records that succeeds after `duration`, with a linear count and the right estimate.
    #[must_use]
    pub fn new(id: impl Into<String>, duration: Duration, total: u64) -> Self {
        Self {
            id: id.into(),
            project_id: String::new(),
            integration_id: INTEGRATION_ID.to_owned(),
            installation_id: INSTALLATION_ID.to_owned(),
            objects: vec!["contact".to_owned()],
            duration,
            total,
            curve: CountCurve::Linear,
            estimate: SimulatedEstimate::Right,
            outcome: SimulatedOutcome::Success,
            result: None,
        }
    }

    /// The operation described by an ID of the form `op-<milliseconds>-<total>-<s|f>-<anything>`: its duration, its
    /// number of records, and success or failure. `None` for any other ID.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        let mut parts = id.splitn(5, '-');
        if parts.next()? != "op" {
            return None;
        }
        let duration = Duration::from_millis(parts.next()?.parse().ok()?);
        let total = parts.next()?.parse().ok()?;
        let outcome = match parts.next()? {
            "s" => SimulatedOutcome::Success,
            "f" => SimulatedOutcome::Failure,
            _ => return None,
        };
        parts.next().filter(|rest| !rest.is_empty())?;
        Some(Self {
            outcome,
            ..Self::new(id, duration, total)
        })
    }

    /// The number of records processed at `elapsed` since the start.
    #[must_use]
    pub fn processed(&self, elapsed: Duration) -> u64 {
        self.count(self.position(elapsed))
    }

    /// Whether the operation is in its stall at `elapsed` since the start.
    #[must_use]
    pub fn is_stalled(&self, elapsed: Duration) -> bool {
        let (from, to) = CountCurve::STALL;
        self.curve == CountCurve::Stall
            && (self.duration.mul_f64(from)..self.duration.mul_f64(to)).contains(&elapsed)
    }

    /// The operation as the API returns it at `elapsed` since its start at `created`.
    #[must_use]
    pub fn at(&self, created: Timestamp, elapsed: Duration) -> Operation {
        let position = self.position(elapsed);
        let (status, result) = if elapsed < self.duration {
            (Status::InProgress, None)
        } else {
            (self.last_status(), Some(self.result()))
        };
        Operation {
            project_id: Some(self.project_id.clone()),
            integration_id: Some(self.integration_id.clone()),
            config_id: Some(CONFIG_ID.to_owned()),
            installation_id: Some(self.installation_id.clone()),
            action_type: Some(ActionType::Read),
            result,
            create_time: Some(created),
            metadata: Some(Metadata {
                objects: Some(self.objects.clone()),
                retry: self.retry(created, position),
                progress: Some(self.progress(elapsed)),
            }),
            ..Operation::new(self.id.clone(), status)
        }
    }

    /// The progress at `elapsed` since the start.
    pub(super) fn progress(&self, elapsed: Duration) -> Progress {
        Progress {
            installation_id: Some(self.installation_id.clone()),
            object_name: Some(self.object().to_owned()),
            operation_id: Some(self.id.clone()),
            records_processed: Some(self.processed(elapsed)),
            records_estimated_total: self.estimated_total(),
        }
    }

    /// The name of the first object.
    pub(super) fn object(&self) -> &str {
        self.objects.first().map_or("contact", String::as_str)
    }

    /// The result text.
    pub(super) fn result(&self) -> String {
        if let Some(result) = &self.result {
            return result.clone();
        }
        let (object, count) = (self.object(), self.processed(self.duration));
        match &self.outcome {
            SimulatedOutcome::Success if self.total == 0 => format!("[{object}] No new data found"),
            SimulatedOutcome::Success => format!("[{object}] {count} records read"),
            SimulatedOutcome::Failure => format!(
                "[{object}] Read failed after {count} records: the provider refused the request (403 REQUEST_LIMIT_EXCEEDED)"
            ),
            SimulatedOutcome::Other(status) => format!("[{object}] {status} after {count} records"),
        }
    }

    fn last_status(&self) -> Status {
        match &self.outcome {
            SimulatedOutcome::Success => Status::Success,
            SimulatedOutcome::Failure => Status::Failure,
            SimulatedOutcome::Other(status) => Status::Other(status.clone()),
        }
    }

    fn position(&self, elapsed: Duration) -> CurvePoint {
        let life = if elapsed >= self.duration {
            1.0
        } else {
            elapsed.as_secs_f64() / self.duration.as_secs_f64()
        };
        self.curve.at(life)
    }

    fn count(&self, position: CurvePoint) -> u64 {
        let reach = match self.outcome {
            SimulatedOutcome::Success => 1.0,
            SimulatedOutcome::Failure | SimulatedOutcome::Other(_) => PART_BEFORE_FAILURE,
        };
        let part = position.fraction * reach;
        if part >= 1.0 {
            self.total
        } else {
            ((self.total as f64 * part + 1e-6) as u64).min(self.total)
        }
    }

    fn estimated_total(&self) -> Option<u64> {
        match self.estimate {
            SimulatedEstimate::Right => Some(self.total),
            SimulatedEstimate::Wrong(factor) => Some((self.total as f64 * factor) as u64),
            SimulatedEstimate::Missing => None,
        }
    }

    /// Operations that will be retried report `retry` from the start, so that the second attempt is an increase.
    fn retry(&self, created: Timestamp, position: CurvePoint) -> Option<Retry> {
        (self.curve == CountCurve::Restart).then(|| {
            let last = match position.attempt {
                1 => created,
                _ => later(created, self.duration.mul_f64(CountCurve::RESTART)),
            };
            Retry {
                attempts: Some(position.attempt),
                last_attempt: Some(last),
                last_notified: None,
            }
        })
    }
}

/// `wait` after `time`, or the end of time.
pub(super) fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(100);

    fn at(operation: &SimulatedOperation, seconds: u64) -> Operation {
        operation.at(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
    }

    fn progress(operation: &Operation) -> Progress {
        operation.metadata.clone().unwrap().progress.unwrap()
    }

    #[test]
    fn a_success_counts_up_to_its_total_and_reports_success() {
        let operation = SimulatedOperation::new("a", LIFE, 5000);
        let half = at(&operation, 50);
        assert_eq!(
            (half.status.clone(), half.result.clone()),
            (Status::InProgress, None)
        );
        assert_eq!(progress(&half).records_processed, Some(2500));
        assert_eq!(progress(&half).records_estimated_total, Some(5000));
        let end = at(&operation, 100);
        assert_eq!(end.status, Status::Success);
        assert_eq!(end.result.as_deref(), Some("[contact] 5000 records read"));
        assert_eq!(progress(&end).records_processed, Some(5000));
        assert_eq!(end.create_time, Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn it_runs_until_the_last_millisecond() {
        let operation = SimulatedOperation::new("a", LIFE, 10);
        let before = operation.at(Timestamp::UNIX_EPOCH, LIFE - Duration::from_millis(1));
        assert_eq!(before.status, Status::InProgress);
        assert_eq!(at(&operation, 100).status, Status::Success);
        let at_once = SimulatedOperation::new("b", Duration::ZERO, 0);
        assert_eq!(
            at(&at_once, 0).result.as_deref(),
            Some("[contact] No new data found")
        );
    }

    #[test]
    fn a_failure_stops_short_and_gives_a_reason() {
        let operation = SimulatedOperation {
            outcome: SimulatedOutcome::Failure,
            ..SimulatedOperation::new("a", LIFE, 1000)
        };
        let end = at(&operation, 200);
        assert_eq!(end.status, Status::Failure);
        assert_eq!(progress(&end).records_processed, Some(700));
        assert!(end.result.unwrap().contains("after 700 records"));
    }

    #[test]
    fn other_statuses_and_own_results_are_returned_verbatim() {
        let operation = SimulatedOperation {
            outcome: SimulatedOutcome::Other("cancelled".into()),
            result: Some("stopped by hand".into()),
            ..SimulatedOperation::new("a", LIFE, 1000)
        };
        let end = at(&operation, 100);
        assert_eq!(end.status, Status::Other("cancelled".into()));
        assert_eq!(end.result.as_deref(), Some("stopped by hand"));
    }

    #[test]
    fn estimates_can_be_wrong_or_missing() {
        let with = |estimate| {
            let operation = SimulatedOperation {
                estimate,
                ..SimulatedOperation::new("a", LIFE, 1000)
            };
            progress(&at(&operation, 1)).records_estimated_total
        };
        assert_eq!(with(SimulatedEstimate::Wrong(0.5)), Some(500));
        assert_eq!(with(SimulatedEstimate::Missing), None);
    }

    #[test]
    fn a_restart_raises_the_attempts_and_counts_from_zero() {
        let operation = SimulatedOperation {
            curve: CountCurve::Restart,
            ..SimulatedOperation::new("a", LIFE, 1000)
        };
        let attempts = |seconds| at(&operation, seconds).metadata.unwrap().retry.unwrap();
        assert_eq!(attempts(49).attempts, Some(1));
        assert_eq!(attempts(50).attempts, Some(2));
        assert_eq!(
            attempts(70).last_attempt,
            Some(Timestamp::from_second(50).unwrap())
        );
        assert!(operation.processed(Duration::from_secs(49)) > operation.processed(Duration::from_secs(51)));
    }

    #[test]
    fn ids_describe_the_operation() {
        let operation = SimulatedOperation::from_id("op-1500-200-f-0000019").unwrap();
        assert_eq!(operation.duration, Duration::from_millis(1500));
        assert_eq!(
            (operation.total, operation.outcome),
            (200, SimulatedOutcome::Failure)
        );
        for id in [
            "op-1-2-s",
            "op-1-2-s-",
            "op-1-2-x-1",
            "op-a-2-s-1",
            "op--1-2-s-1",
            "xx-1-2-s-1",
            "",
            "op-99999999999999999999-1-s-1",
        ] {
            assert_eq!(SimulatedOperation::from_id(id), None, "{id}");
        }
    }

    #[test]
    fn extreme_values_are_harmless() {
        let operation = SimulatedOperation {
            curve: CountCurve::Restart,
            estimate: SimulatedEstimate::Wrong(f64::INFINITY),
            ..SimulatedOperation::new("a", Duration::MAX, u64::MAX)
        };
        for elapsed in [Duration::ZERO, Duration::MAX / 2, Duration::MAX] {
            let returned = operation.at(Timestamp::MAX, elapsed);
            assert_eq!(returned.id, "a");
        }
        assert_eq!(operation.processed(Duration::MAX), u64::MAX);
    }
}
