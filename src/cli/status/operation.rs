//! One operation, as the table shows it. The JSON of 20,000 operations would need much more memory.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde_json::Value;

use super::screen::{Screen, timestamp};
use crate::cli::format;
use crate::cli::progress_bars::phase_style;
use crate::cli::table::{Cell, Column};
use crate::clock;
use crate::core::operation::Status;
use crate::core::phase::Phase;
use crate::core::text::one_line;
use crate::core::watch_list::label_text;

/// The longest text of a cell, in bytes. `--json` has all of it.
const MAX_TEXT: usize = 500;
/// Labels that discovery adds for programs. People need the others first.
const LAST_LABELS: [&str; 2] = ["installation", "integration"];

/// The columns. An ID is never cut, so that it can be copied.
pub(super) const COLUMNS: [Column; 12] = [
    Column::fixed("OPERATION", 0),
    Column::flexible("PROJECT", 5, 20, 20),
    Column::fixed("PHASE", 1).continued(),
    Column::flexible("STATUS", 6, 20, 20),
    Column::fixed("DONE", 2).continued(),
    Column::fixed("RECORDS", 8),
    Column::fixed("RATE", 9),
    Column::fixed("END", 3).continued(),
    Column::fixed("TOOK", 10),
    Column::flexible("LABELS", 4, 32, 40),
    Column::flexible("OBJECTS", 7, 20, 20),
    Column::fixed("SOURCE", 11),
];

/// What differs between the operations of a table, or from the watch list. The rest is not shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Differences {
    pub(super) in_project: bool,
    pub(super) in_source: bool,
}

/// What the table shows of one operation.
#[derive(Debug)]
pub(super) struct OperationRow {
    pub(super) project: String,
    id: String,
    /// As the daemon names it. A newer one may have other phases.
    phase: String,
    status: String,
    labels: String,
    objects: String,
    source: String,
    percent: Option<f64>,
    processed: Option<u64>,
    total: Option<u64>,
    rate: Option<f64>,
    estimated_end: Option<Timestamp>,
    finish: Option<Timestamp>,
    duration: Option<f64>,
    stalled_since: Option<Timestamp>,
    last_answer: Option<Timestamp>,
    is_answered: bool,
}

impl OperationRow {
    pub(super) fn new(operation: &Value, is_project_answered: bool) -> Self {
        let member = |name: &str| one_line(operation[name].as_str().unwrap_or_default(), MAX_TEXT);
        let progress = &operation["progress"];
        let phase = member("phase");
        Self {
            project: member("project"),
            // Not cut, so that it can be copied.
            id: operation["operationId"].as_str().unwrap_or_default().to_owned(),
            status: Status::beyond_phase(&member("status"))
                .unwrap_or_default()
                .to_owned(),
            labels: labels(&operation["labels"]),
            objects: match operation["labels"]["object"].is_string() {
                true => String::new(),
                false => objects(&operation["objects"]),
            },
            source: member("source"),
            percent: progress["percent"].as_f64(),
            processed: progress["recordsProcessed"].as_u64(),
            total: progress["recordsEstimatedTotal"].as_u64(),
            rate: progress["recordsPerSecond"].as_f64(),
            estimated_end: timestamp(&progress["estimatedEndTime"]),
            finish: finish_time(operation),
            duration: operation["durationSeconds"].as_f64(),
            stalled_since: timestamp(&operation["stall"]["since"]),
            last_answer: timestamp(&operation["lastAnswerTime"]),
            is_answered: is_project_answered && is_answered(operation),
            phase,
        }
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        Phase::parse(&self.phase)
    }

    fn is_finished(&self) -> bool {
        self.phase().is_some_and(Phase::is_finished)
    }

    /// Whether it finished before `time`.
    pub(super) fn has_finished_before(&self, time: Timestamp) -> bool {
        self.is_finished() && self.finish.is_some_and(|finish| finish < time)
    }

    /// The order of the table: problems, then what runs, then what succeeded; the last to finish first.
    pub(super) fn order(&self) -> impl Ord + use<'_> {
        let urgency = self.phase().unwrap_or(Phase::Pending).urgency();
        let finish = self.finish.filter(|_| self.is_finished());
        // Those of one customer are next to each other.
        (urgency, Reverse(finish), &*self.project, &*self.labels, &*self.id)
    }

    pub(super) fn cells(&self, differences: Differences, screen: &Screen) -> Vec<Cell> {
        let show = |is_shown: bool, text: &str| if is_shown { text.to_owned() } else { String::new() };
        let phase_style = self.phase().map(phase_style);
        vec![
            self.id.clone().into(),
            show(differences.in_project, &self.project).into(),
            Cell::styled(self.phase.clone(), phase_style),
            show(self.is_finished(), &self.status).into(),
            self.done().into(),
            self.records().into(),
            self.rate
                .filter(|_| self.is_answered && self.phase() == Some(Phase::Running))
                .map(format::rate)
                .unwrap_or_default()
                .into(),
            self.end(screen).into(),
            self.duration
                .filter(|_| self.is_finished())
                .map(format::seconds)
                .unwrap_or_default()
                .into(),
            self.labels.clone().into(),
            self.objects.clone().into(),
            show(differences.in_source, &self.source).into(),
        ]
    }

    /// The percentage, otherwise the count.
    fn done(&self) -> String {
        match (self.percent, self.processed) {
            (Some(percent), _) => format!("{percent:>5.1}%"),
            (None, Some(processed)) => format!("{:>6}", format::short_count(processed)),
            (None, None) => String::new(),
        }
    }

    fn records(&self) -> String {
        match (self.processed, self.total) {
            (Some(processed), Some(total)) => {
                format!("{} of {}", format::count(processed), format::count(total))
            }
            // A small count is shown as done already.
            (Some(processed), None) if processed >= 1_000 => format::count(processed),
            (Some(_), None) | (None, _) => String::new(),
        }
    }

    fn end(&self, screen: &Screen) -> String {
        let age = |time: Timestamp| format::time(clock::between(time, screen.now));
        if self.is_finished() {
            return self
                .finish
                .map(|finish| format!("{} ago", age(finish)))
                .unwrap_or_default();
        }
        if !self.is_answered {
            return match self.last_answer {
                Some(time) => format!("last answer {} ago", age(time)),
                None => "no answer yet".to_owned(),
            };
        }
        match (self.phase(), self.stalled_since) {
            (Some(Phase::Stalled), Some(since)) => format!("stalled {}", age(since)),
            _ => self
                .estimated_end
                .map(|end| until(end, screen))
                .unwrap_or_default(),
        }
    }
}

/// `in 4m 00s`, or `soon`.
pub(super) fn until(time: Timestamp, screen: &Screen) -> String {
    match time > screen.now {
        true => format!("in {}", format::time(clock::between(screen.now, time))),
        false => "soon".to_owned(),
    }
}

/// Whether the last poll returned the operation.
pub(super) fn is_answered(operation: &Value) -> bool {
    operation["lastError"].is_null()
        || timestamp(&operation["lastAnswerTime"]) >= timestamp(&operation["lastPollTime"])
}

/// When a finished operation ended, or when that was seen.
pub(super) fn finish_time(operation: &Value) -> Option<Timestamp> {
    ["finishTime", "lastAnswerTime", "lastPollTime"]
        .into_iter()
        .find_map(|name| timestamp(&operation[name]))
}

/// `key=value` for each label, those for programs last.
pub(super) fn labels(labels: &Value) -> String {
    let mut labels: Vec<(&String, &Value)> = labels.as_object().into_iter().flatten().collect();
    labels.sort_by_key(|(name, _)| LAST_LABELS.contains(&&***name));
    let labels: Vec<String> = labels
        .into_iter()
        .map(|(name, value)| label_text(name, value.as_str().unwrap_or_default()))
        .collect();
    one_line(&labels.join(" "), MAX_TEXT)
}

pub(super) fn objects(objects: &Value) -> String {
    let objects = objects.as_array().into_iter().flatten();
    let objects: Vec<&str> = objects.filter_map(Value::as_str).collect();
    one_line(&objects.join(" "), MAX_TEXT)
}
