//! Entries about one operation.

use jiff::Timestamp;

use super::{Attention, AttentionKind, MAX_REASON};
use crate::core::deadline::Deadline;
use crate::core::event::millis;
use crate::core::operation_name::OperationName;
use crate::core::phase::Phase;
use crate::core::text;
use crate::core::watch::Watch;
use crate::core::watch_list::Labels;

/// Why an operation needs attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// Its polls fail or are refused.
    Unreachable,
    /// Its count does not rise.
    Stalled,
    /// Its deadline has passed.
    Overdue,
    /// It finished without success.
    Failed,
}

/// An operation that may need attention.
#[derive(Debug, Clone, Copy)]
pub struct ConcernedOperation<'a> {
    /// Its project.
    pub project: &'a str,
    /// Its ID.
    pub id: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// The label that groups are formed by.
    pub group_label: &'a str,
    /// When it should be finished.
    pub deadline: Option<Deadline>,
    /// Its watch.
    pub watch: &'a Watch,
}

impl Concern {
    /// Every concern.
    pub const ALL: [Self; 4] = [Self::Unreachable, Self::Stalled, Self::Overdue, Self::Failed];

    /// The kind of its entries.
    #[must_use]
    pub fn kind(self) -> AttentionKind {
        match self {
            Self::Unreachable => AttentionKind::OperationUnreachable,
            Self::Stalled => AttentionKind::OperationStalled,
            Self::Overdue => AttentionKind::OperationOverdue,
            Self::Failed => AttentionKind::OperationFailed,
        }
    }

    /// Since when it concerns the operation; `None` if it does not.
    #[must_use]
    pub fn since(self, operation: &ConcernedOperation<'_>, now: Timestamp) -> Option<Timestamp> {
        let watch = operation.watch;
        let since = match self {
            Self::Unreachable => watch.outage(),
            Self::Stalled => watch.stall().map(|stall| stall.since.unwrap_or(now)),
            Self::Overdue => watch.overdue_since(operation.id, operation.deadline, now),
            Self::Failed => watch.failure_time(now),
        };
        // After the clock was set back, an end in the future would be shown until then.
        since.map(|since| since.min(now))
    }

    /// The entry for an operation.
    #[must_use]
    pub fn entry(self, operation: &ConcernedOperation<'_>, since: Timestamp) -> Attention {
        let message = match (self.message(operation.watch, since), operation.identity()) {
            (message, Some(identity)) => format!("{identity}: {message}"),
            (message, None) => message,
        };
        Attention::new(self.kind(), message, self.action(operation.watch.phase()))
            .of_project(operation.project)
            .of_subject(operation.id)
            .since(Some(since))
    }

    fn message(self, watch: &Watch, since: Timestamp) -> String {
        let error = watch.last_error().map(|error| text::one_line(error, MAX_REASON));
        match self {
            Self::Unreachable => {
                let error = error.unwrap_or_else(|| "no poll succeeds".to_owned());
                format!("polls of this operation fail: {error}")
            }
            Self::Stalled => match watch.records_processed() {
                Some(count) => format!("count unchanged at {} records", text::count(count)),
                None => "the API shows no record count".to_owned(),
            },
            Self::Overdue => format!("not finished by its deadline, {}", millis(since)),
            Self::Failed => failure(watch, error),
        }
    }

    fn action(self, phase: Phase) -> &'static str {
        match (self, phase) {
            (Self::Unreachable, _) => {
                "check the ID, and that the API key may read this operation; polls continue automatically"
            }
            (Self::Stalled, _) => {
                "check the provider and the customer's connection; the event operation.stalled has the last log lines"
            }
            (Self::Overdue, _) => "check the provider; if it needs more time, set another deadline",
            (Self::Failed, Phase::Gone) => {
                "check the ID and the project; to watch it again, remove it from its source and add it again"
            }
            (Self::Failed, Phase::Expired) => {
                "check the provider; to watch it again, remove it from its source and add it again"
            }
            (Self::Failed, Phase::Ended) => {
                "if this status means running, add it to poll.active_statuses; otherwise start the backfill again"
            }
            (Self::Failed, _) => {
                "fix the cause, then start the backfill again; the event operation.failed has the last log lines"
            }
        }
    }

    /// The entry for the operations that are not named.
    #[must_use]
    pub fn more(self, project: &str, count: usize) -> Attention {
        let operations = match count {
            1 => "1 more operation".to_owned(),
            count => format!("{} more operations", text::count(count as u64)),
        };
        let (message, action) = match self {
            Self::Unreachable => (
                "cannot be polled",
                "`backfill-watch events --type operation.unreachable` names each",
            ),
            Self::Stalled => (
                "stalled",
                "`backfill-watch events --type operation.stalled` names each",
            ),
            Self::Overdue => (
                "did not finish by the deadline",
                "`backfill-watch events --type operation.overdue` names each",
            ),
            Self::Failed => (
                "finished without success",
                "`backfill-watch status --phase failed,ended,gone,expired` names each",
            ),
        };
        Attention::new(self.kind(), format!("{operations} {message}"), action)
            .of_project(project)
            .of_count(count)
    }
}

fn failure(watch: &Watch, error: Option<String>) -> String {
    let result = watch
        .result()
        .map(|result| text::one_line(result, MAX_REASON))
        .filter(|result| !result.is_empty());
    let because = |reason: Option<String>| reason.map_or_else(String::new, |reason| format!(": {reason}"));
    match watch.phase() {
        Phase::Gone => format!("the API no longer knows the operation{}", because(error)),
        Phase::Expired => format!(
            "the operation did not finish within poll.give_up_after{}",
            because(error.map(|error| format!("last error: {error}")))
        ),
        Phase::Ended => {
            let status = text::one_line(watch.status_text().unwrap_or_default(), MAX_REASON);
            format!("the operation ended with status \"{status}\"{}", because(result))
        }
        _ => format!("the operation failed{}", because(result)),
    }
}

impl ConcernedOperation<'_> {
    /// What the operation reads, and whose it is, as far as that is known.
    fn identity(&self) -> Option<String> {
        OperationName::new(self.labels, self.watch.objects(), self.group_label).phrase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::answer::Answer;
    use crate::core::operation::Operation;
    use crate::core::operation_kind::OperationKinds;
    use crate::core::schedule::ScheduleSettings;
    use crate::core::watch::{WatchContext, WatchSettings};
    use crate::core::watch_list::WatchKey;
    use std::time::Duration;

    fn start() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn operation(members: serde_json::Value) -> Answer {
        let mut all = serde_json::json!({
            "id": "op", "installationId": "i", "createTime": "2026-11-23T11:00:00Z", "status": "in_progress",
            "metadata": {"objects": ["contact"], "progress": {"recordsProcessed": 120_000}},
        });
        all.as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        let operation: Operation = serde_json::from_value(all).unwrap();
        Answer::Operation(Box::new(operation))
    }

    /// A watch after these answers, each 31 minutes after the one before.
    fn watch(answers: &[Answer]) -> Watch {
        let (key, kinds) = (
            WatchKey {
                project: "p".into(),
                operation: "op".into(),
            },
            OperationKinds::default(),
        );
        let settings = WatchSettings {
            stalled_after: Duration::from_mins(30),
            silent_after: None,
            unreachable_after: Duration::from_mins(5),
            not_found_grace: Duration::from_mins(2),
            give_up_after: None,
            active_statuses: Vec::new(),
            progress_step: 10.0,
            progress_interval: Duration::from_mins(1),
        };
        let mut watch = Watch::default();
        let mut now = start();
        for answer in answers {
            let elapsed = Duration::from_mins(31);
            let cx = WatchContext {
                key: &key,
                labels: &Labels::new(),
                deadline: None,
                settings: &settings,
                schedule: &ScheduleSettings::DEFAULT,
                kinds: &kinds,
                now,
                elapsed,
                blocked: Duration::ZERO,
                random_fraction: 0.5,
                project_proven: Some(Duration::ZERO),
                project_answered: Some(Duration::ZERO),
                all_others_refused: false,
            };
            let _ = watch.observe(answer, &cx);
            now = now.checked_add(elapsed).unwrap();
        }
        watch
    }

    /// Since when the only concern lasts, and its entry.
    fn entry(watch: &Watch, labels: &[(&str, &str)]) -> (Concern, Timestamp, Attention) {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let operation = ConcernedOperation {
            project: "p",
            id: "op",
            labels: &labels,
            group_label: "group",
            deadline: None,
            watch,
        };
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        let mut found = Concern::ALL.into_iter().filter_map(|concern| {
            let since = concern.since(&operation, now)?;
            Some((concern, since, concern.entry(&operation, since)))
        });
        let first = found.next().unwrap();
        assert!(found.next().is_none(), "two concerns");
        first
    }

    #[test]
    fn a_stall_names_customer_object_and_count() {
        let unchanged = || operation(serde_json::json!({}));
        let watch = watch(&[unchanged(), unchanged(), unchanged()]);
        let (concern, since, entry) = entry(&watch, &[("group", "Gale Ltd"), ("team", "crm")]);
        assert_eq!(concern, Concern::Stalled);
        assert_eq!(
            entry.message,
            "contact of Gale Ltd: count unchanged at 120,000 records"
        );
        assert_eq!(since, start());
        assert_eq!(
            (entry.subject.as_deref(), entry.project.as_deref()),
            (Some("op"), Some("p"))
        );
    }

    #[test]
    fn an_unreachable_operation_has_the_words_of_the_api() {
        let refused = || Answer::Refused("400 Bad Request".to_owned());
        let watch = watch(&[operation(serde_json::json!({})), refused(), refused(), refused()]);
        let (concern, _, entry) = entry(&watch, &[]);
        assert_eq!(concern, Concern::Unreachable);
        assert_eq!(
            entry.message,
            "contact: polls of this operation fail: 400 Bad Request"
        );
    }

    #[test]
    fn each_end_without_success_has_its_reason() {
        let missing = || Answer::NotFound("404 Not Found".to_owned());
        for (answers, message) in [
            (
                vec![operation(
                    serde_json::json!({"status": "failure", "result": "quota\\nexceeded"}),
                )],
                "contact of x: the operation failed: quota\\\\nexceeded",
            ),
            (
                vec![operation(serde_json::json!({"status": "failure"}))],
                "contact of x: the operation failed",
            ),
            (
                vec![operation(serde_json::json!({"status": "canceled"}))],
                "contact of x: the operation ended with status \"canceled\"",
            ),
            (
                vec![missing(), missing(), missing()],
                "x: the API no longer knows the operation: 404 Not Found",
            ),
        ] {
            let (concern, _, entry) = entry(&watch(&answers), &[("customer", "x")]);
            assert_eq!(concern, Concern::Failed);
            assert_eq!(entry.message, message.replace("\\\\n", "\\n"));
        }
        let running = watch(&[operation(serde_json::json!({}))]);
        let succeeded = watch(&[operation(serde_json::json!({"status": "success"}))]);
        for watch in [running, succeeded] {
            let operation = ConcernedOperation {
                project: "p",
                id: "op",
                labels: &Labels::new(),
                group_label: "group",
                deadline: None,
                watch: &watch,
            };
            let concerns = Concern::ALL
                .into_iter()
                .filter_map(|concern| concern.since(&operation, start()));
            assert_eq!(concerns.count(), 0);
        }
    }

    #[test]
    fn the_rest_is_counted() {
        let more = Concern::Failed.more("p", 12_345);
        assert_eq!((more.count, more.subject), (12_345, None));
        assert_eq!(more.message, "12,345 more operations finished without success");
    }
}
