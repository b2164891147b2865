//! Everything about one operation.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use super::attention;
use super::lookup::is_outage;
use super::operation::{finish_time, is_answered, labels, objects, until};
use super::screen::{Screen, timestamp};
use crate::cli::event_line::event_line;
use crate::cli::format;
use crate::cli::progress_bars::phase_style;
use crate::cli::table::{Cell, Column, FittedTable};
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::event::EventType;
use crate::core::operation_log::OperationLogLine;
use crate::core::phase::Phase;
use crate::core::text::{one_line, plural};

/// The longest text of a member, in bytes.
const MAX_TEXT: usize = 4_096;
/// The width of the names of members.
const NAME: usize = 14;
/// The width of the bar.
const BAR: usize = 30;
/// The last events, without progress, that are shown.
const SHOWN_EVENTS: usize = 20;
/// The width of the time in [`event_line`], and that of time and type.
const TIME_COLUMN: usize = 26;
const EVENT_COLUMNS: usize = 52;
/// A narrower terminal gets the type of an event in the paragraph.
const WIDE: usize = 100;
/// The most deliveries that are shown.
const SHOWN_DELIVERIES: usize = 20;

const DELIVERIES: [Column; 6] = [
    Column::fixed("WEBHOOK", 0).continued(),
    Column::fixed("EVENT", 1).continued(),
    Column::fixed("STATE", 2).continued(),
    Column::fixed("ATTEMPTS", 4),
    Column::fixed("NEXT ATTEMPT", 3).continued(),
    Column::flexible("LAST ERROR", 5, 24, 40),
];

/// One operation with what belongs to it.
#[derive(Debug)]
pub(super) struct Detail {
    /// The answer of the API, with `events` and `attention`.
    pub(super) operation: Value,
    /// Whether the daemon has a webhook.
    pub(super) has_webhooks: bool,
    /// The options that lead commands to the same daemon.
    pub(super) options: String,
}

impl Detail {
    pub(super) fn lines(&self, screen: &Screen) -> Vec<String> {
        let mut lines = Vec::new();
        let entries = self.operation["attention"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        if !entries.is_empty() {
            lines.extend(attention::lines(entries, true, screen));
        }
        lines.extend(self.members(screen));
        lines.extend(self.events(screen));
        lines.extend(self.log_lines(screen));
        lines.extend(self.deliveries(screen));
        lines.extend(self.commands(screen));
        lines
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = self.operation[name].as_str().filter(|text| !text.is_empty());
        text.map(|text| one_line(text, MAX_TEXT))
    }

    fn phase(&self) -> Option<Phase> {
        Phase::parse(self.operation["phase"].as_str()?)
    }

    fn is_finished(&self) -> bool {
        self.phase().is_some_and(Phase::is_finished)
    }

    fn is_answered(&self) -> bool {
        let mut entries = self.operation["attention"].as_array().into_iter().flatten();
        is_answered(&self.operation) && !entries.any(is_outage)
    }

    fn members(&self, screen: &Screen) -> Vec<String> {
        let operation = &self.operation;
        let is_finished = self.is_finished();
        let at = |name: &str| timestamp(&operation[name]).map(|time| moment(time, screen));
        let mut lines = Vec::new();
        let mut add = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                lines.extend(screen.paragraph(&format!("{name:<NAME$}"), &text));
            }
        };
        add("Operation", self.text("operationId"));
        add("Project", self.text("project"));
        add("Phase", Some(self.phase_text(screen)));
        add("Status", self.text("status"));
        add("Result", self.text("result"));
        add(
            "Labels",
            Some(labels(&operation["labels"])).filter(|text| !text.is_empty()),
        );
        add(
            "Objects",
            Some(objects(&operation["objects"])).filter(|text| !text.is_empty()),
        );
        add("Source", self.sources());
        add("Installation", self.text("installationId"));
        add("Integration", self.text("integrationId"));
        add("Progress", self.progress(screen));
        let estimated_end = timestamp(&operation["progress"]["estimatedEndTime"]);
        let estimated_end = estimated_end.filter(|_| !is_finished && self.is_answered());
        add("Expected end", estimated_end.map(|time| moment(time, screen)));
        add("Created", at("createTime"));
        let finish = finish_time(operation).filter(|_| is_finished);
        add("Finished", finish.map(|time| moment(time, screen)));
        let duration = operation["durationSeconds"].as_f64().filter(|_| is_finished);
        add("Duration", duration.map(format::seconds));
        add("Deadline", at("deadline"));
        let polls = operation["polls"].as_u64().map(|polls| plural(polls, "poll"));
        let last_poll = at("lastPollTime").zip(polls);
        add(
            "Last poll",
            last_poll.map(|(time, polls)| format!("{time}, {polls}")),
        );
        add("Last answer", at("lastAnswerTime"));
        let is_paused = self.operation["attention"].as_array().is_some_and(|entries| {
            entries
                .iter()
                .any(|entry| entry["kind"] == "credentials_rejected")
        });
        let next_poll = match is_paused {
            true => Some("when the API key is accepted".to_owned()),
            false => at("nextPollTime"),
        };
        add("Next poll", next_poll.filter(|_| !is_finished));
        add("Last error", self.text("lastError"));
        lines.push(String::new());
        lines
    }

    /// The phase, with the reason of a stall.
    fn phase_text(&self, screen: &Screen) -> String {
        let name = self.text("phase").unwrap_or_default();
        let mut text = match self.phase() {
            Some(phase) => screen.style.paint(phase_style(phase), &name),
            None => name,
        };
        let stall = &self.operation["stall"];
        if let Some(reason) = stall["reason"].as_str() {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {}", one_line(reason, MAX_TEXT));
            if let Some(age) = screen.age(&stall["since"]) {
                let _ = write!(text, " for {age}");
            }
        }
        text
    }

    fn sources(&self) -> Option<String> {
        let sources = self.operation["sources"].as_array().into_iter().flatten();
        let sources: Vec<&str> = sources.filter_map(Value::as_str).collect();
        match sources.as_slice() {
            [] => self.text("source"),
            some => Some(one_line(&some.join(", "), MAX_TEXT)),
        }
    }

    /// The bar, then percentage, count and rate.
    fn progress(&self, screen: &Screen) -> Option<String> {
        let progress = &self.operation["progress"];
        let processed = progress["recordsProcessed"].as_u64()?;
        let mut text = String::new();
        if let Some(percent) = progress["percent"].as_f64() {
            let phase_style = self.phase().map_or(TextStyle::Dim, phase_style);
            let done = (percent / 100.0 * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
            let (full, rest) = if screen.style.unicode {
                ("━", "─")
            } else {
                ("=", "-")
            };
            text.push_str(&screen.style.paint(phase_style, &full.repeat(done)));
            text.push_str(&screen.style.paint(TextStyle::Dim, &rest.repeat(BAR - done)));
            let _ = write!(text, " {percent:.1}%, ");
        }
        let _ = write!(text, "{}", format::count(processed));
        match progress["recordsEstimatedTotal"].as_u64() {
            Some(total) => {
                let _ = write!(text, " of {} records", format::count(total));
            }
            None => text.push_str(" records"),
        }
        if progress["estimateExceeded"] == true {
            text.push_str(", more than the estimate");
        }
        let rate = progress["recordsPerSecond"].as_f64();
        if let Some(rate) = rate.filter(|_| !self.is_finished() && self.is_answered()) {
            let _ = write!(text, ", {}", format::rate(rate));
        }
        Some(text)
    }

    /// The last events without progress, oldest first.
    fn events(&self, screen: &Screen) -> Vec<String> {
        let mut lines = vec![heading("Events", screen)];
        if let Some(error) = self.text("eventsError") {
            lines.extend(screen.paragraph("  ", &format!("cannot be read: {error}")));
            lines.push(String::new());
            return lines;
        }
        let parsed = self.event_list().filter_map(|event| {
            let event_type = EventType::parse(event["type"].as_str()?)?;
            Some((timestamp(&event["timestamp"])?, event_type, &event["data"]))
        });
        let events: Vec<(Timestamp, EventType, &Value)> = parsed
            .filter(|(_, event_type, data)| *event_type != EventType::Progress && data.is_object())
            .collect();
        let hidden = events.len().saturating_sub(SHOWN_EVENTS);
        if hidden > 0 {
            lines.push(format!(
                "  {} {} earlier events",
                screen.style.ellipsis(),
                format::count(hidden as u64)
            ));
        }
        if events.is_empty() {
            lines.push("  none yet".to_owned());
        }
        let is_wide = screen.width.is_none_or(|width| width >= WIDE);
        let start = if is_wide { EVENT_COLUMNS } else { TIME_COLUMN };
        for (time, event_type, data) in &events[hidden..] {
            let mut data = (*data).clone();
            // They are shown above.
            data["operationId"] = Value::String(String::new());
            data["labels"].take();
            let line = event_line(*time, *event_type, &data);
            let (start, rest) = line.split_at_checked(start).unwrap_or((&line, ""));
            lines.extend(screen.paragraph(&format!("  {start}"), rest.trim_start()));
        }
        lines.push(String::new());
        lines
    }

    fn event_list(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.operation["events"].as_array().into_iter().flatten()
    }

    /// The log lines of the last event that has some.
    fn log_lines(&self, screen: &Screen) -> Vec<String> {
        let mut with_logs = self.event_list().rev().map(|event| &event["data"]["logs"]);
        let Some(Value::Array(logs)) =
            with_logs.find(|logs| logs.as_array().is_some_and(|logs| !logs.is_empty()))
        else {
            return Vec::new();
        };
        let mut lines = vec![heading("Log of the operation", screen)];
        for line in logs {
            let line = OperationLogLine::deserialize(line).unwrap_or_default();
            let time = line.timestamp.map(|time| format!("{time:.0} "));
            let text = format!("{}{} {}", time.unwrap_or_default(), line.severity, line.text());
            lines.extend(screen.paragraph("  ", &one_line(&text, MAX_TEXT)));
        }
        lines.push(String::new());
        lines
    }

    fn deliveries(&self, screen: &Screen) -> Vec<String> {
        let mut lines = vec![heading("Webhooks", screen)];
        match self.operation["deliveries"].as_array() {
            None => lines.push("  cannot be read: the state is not readable".to_owned()),
            Some(deliveries) if deliveries.is_empty() => lines.push(match self.has_webhooks {
                true => "  all recorded events are delivered".to_owned(),
                false => "  none is configured".to_owned(),
            }),
            Some(deliveries) => {
                let mut table = FittedTable::new(&DELIVERIES);
                for delivery in deliveries.iter().take(SHOWN_DELIVERIES) {
                    table.add(delivery_cells(delivery, screen));
                }
                let width = screen.width.map(|width| width.saturating_sub(2));
                let shown = table.lines(screen.style, width, None).0;
                lines.extend(shown.into_iter().map(|line| format!("  {line}")));
                let more = deliveries.len().saturating_sub(SHOWN_DELIVERIES);
                if more > 0 {
                    lines.push(format!(
                        "  {} {} more",
                        screen.style.ellipsis(),
                        format::count(more as u64)
                    ));
                }
            }
        }
        lines.push(String::new());
        lines
    }

    /// Commands for the next steps.
    fn commands(&self, screen: &Screen) -> Vec<String> {
        let id = self.text("operationId").unwrap_or_default();
        let options = &self.options;
        let mut lines = vec![heading("Next steps", screen)];
        let mut add = |text: &str, command: &str| {
            lines.push(format!("  {text}:"));
            lines.push(format!("    backfill-watch {command}{options}"));
        };
        let deliveries = self.operation["deliveries"].as_array().into_iter().flatten();
        let has_dead_letters = deliveries
            .into_iter()
            .any(|delivery| delivery["state"] == "dead_letter");
        if has_dead_letters {
            add(
                "Deliver its events again, after the receiver works",
                &format!("replay --operation {id}"),
            );
        }
        add(
            "All its events, also progress",
            &format!("events --operation {id}"),
        );
        if self.phase().is_some_and(Phase::may_start_again) {
            match self.operation["source"] == "api" {
                true => {
                    add("Watch it again: remove it", &format!("remove {id}"));
                    add("Then add it", &format!("add {id}"));
                }
                false => lines.extend(screen.paragraph(
                    "  ",
                    "To watch it again, remove its line from the watch list, and add it again.",
                )),
            }
        }
        lines
    }
}

fn heading(text: &str, screen: &Screen) -> String {
    screen.style.paint(TextStyle::Bold, text)
}

/// `2026-11-23T12:00:00Z (4m 00s ago)`.
fn moment(time: Timestamp, screen: &Screen) -> String {
    let relative = match time > screen.now {
        true => until(time, screen),
        false => format!("{} ago", format::time(clock::between(time, screen.now))),
    };
    format!("{time:.0} ({relative})")
}

fn delivery_cells(delivery: &Value, screen: &Screen) -> Vec<Cell> {
    let member = |name: &str| one_line(delivery[name].as_str().unwrap_or_default(), 600);
    let is_dead = delivery["state"] == "dead_letter";
    let is_removed = delivery["endpointRemoved"] == true;
    let state = match (is_dead, is_removed) {
        (true, _) => Cell::styled("dead letter".to_owned(), Some(TextStyle::Red)),
        (false, true) => Cell::styled("webhook removed".to_owned(), Some(TextStyle::Dim)),
        (false, false) => Cell::styled(member("state"), Some(TextStyle::Yellow)),
    };
    let next = timestamp(&delivery["nextAttemptTime"]).map(|time| until(time, screen));
    let attempts = delivery["attempts"].as_u64().unwrap_or_default();
    let error = match (
        delivery["lastError"].is_string(),
        screen.age(&delivery["lastAttemptTime"]),
    ) {
        (false, _) => String::new(),
        (true, None) => member("lastError"),
        (true, Some(age)) => format!("{} ({age} ago)", member("lastError")),
    };
    vec![
        member("endpoint").into(),
        format!(
            "{} {}",
            delivery["sequence"].as_u64().unwrap_or_default(),
            member("type")
        )
        .into(),
        state,
        format::count(attempts).into(),
        next.unwrap_or_default().into(),
        error.into(),
    ]
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;
    use serde_json::json;

    use super::super::screen::tests::screen;
    use super::*;

    fn detail(operation: Value) -> Detail {
        Detail {
            operation,
            has_webhooks: true,
            options: " --state-dir /s".to_owned(),
        }
    }

    fn stalled() -> Value {
        json!({
            "operationId": "op-1", "project": "p", "phase": "stalled", "status": "in_progress", "objects": ["contact"],
            "labels": {"customer": "Gale Ltd", "installation": "i", "object": "contact"}, "source": "api", "sources": ["api"],
            "installationId": "i", "integrationId": "g", "polls": 1250, "createTime": "2026-11-23T11:00:00Z",
            "lastPollTime": "2026-11-23T11:59:58Z", "lastAnswerTime": "2026-11-23T11:59:58Z",
            "nextPollTime": "2026-11-23T12:01:00Z", "deadline": "2026-11-23T13:00:00Z",
            "stall": {"since": "2026-11-23T11:28:00Z", "reason": "count unchanged"},
            "progress": {"recordsProcessed": 1250, "recordsEstimatedTotal": 5000, "percent": 25.0},
            "attention": [{"kind": "operation_stalled", "severity": "warning", "project": "p", "subject": "op-1",
             "message": "count unchanged", "action": "ask the customer"}],
            "events": [
                {"type": "operation.started", "timestamp": "2026-11-23T11:00:00Z",
                 "data": {"operationId": "op-1", "phase": "running", "labels": {"customer": "Gale Ltd"}}},
                {"type": "operation.progress", "timestamp": "2026-11-23T11:10:00Z", "data": {"phase": "running"}},
                {"type": "operation.stalled", "timestamp": "2026-11-23T11:58:00Z",
                 "data": {"phase": "stalled", "reason": "count unchanged", "logs": [
                    {"timestamp": "2026-11-23T11:57:00Z", "severity": "error", "message": {"msg": "rate\nlimit"}}]}},
            ],
            "deliveries": [{"endpoint": "crm", "event": "evt_1", "type": "operation.stalled", "sequence": 3,
             "state": "waiting", "attempts": 2, "nextAttemptTime": "2026-11-23T12:02:00Z",
             "lastAttemptTime": "2026-11-23T11:59:50Z", "lastError": "503"}],
        })
    }

    #[test]
    fn everything_about_a_stalled_operation() {
        let text = detail(stalled()).lines(&screen(Some(100))).join("\n");
        assert_eq!(
            text,
            "WARNING  project p: op-1: count unchanged\n         To do: ask the customer.\n\n\
             Operation     op-1\n\
             Project       p\n\
             Phase         stalled: count unchanged for 32m 00s\n\
             Status        in_progress\n\
             Labels        customer=\"Gale Ltd\" object=contact installation=i\n\
             Objects       contact\n\
             Source        api\n\
             Installation  i\n\
             Integration   g\n\
             Progress      ━━━━━━━━────────────────────── 25.0%, 1,250 of 5,000 records\n\
             Created       2026-11-23T11:00:00Z (1h 00m ago)\n\
             Deadline      2026-11-23T13:00:00Z (in 1h 00m)\n\
             Last poll     2026-11-23T11:59:58Z (2s ago), 1,250 polls\n\
             Last answer   2026-11-23T11:59:58Z (2s ago)\n\
             Next poll     2026-11-23T12:01:00Z (in 1m 00s)\n\
             \n\
             Events\n  \
               2026-11-23T11:00:00.000Z  operation.started         running\n  \
               2026-11-23T11:58:00.000Z  operation.stalled         stalled  count unchanged\n\
             \n\
             Log of the operation\n  \
               2026-11-23T11:57:00Z error rate\\nlimit\n\
             \n\
             Webhooks\n  \
               WEBHOOK  EVENT                STATE    ATTEMPTS  NEXT ATTEMPT  LAST ERROR\n  \
               crm      3 operation.stalled  waiting  2         in 2m 00s     503 (10s ago)\n\
             \n\
             Next steps\n  \
               All its events, also progress:\n    \
                 backfill-watch events --operation op-1 --state-dir /s"
        );
        for width in 60..=200 {
            for line in detail(stalled()).lines(&screen(Some(width))) {
                assert!(
                    measure_text_width(&line) <= width || line.contains("backfill-watch "),
                    "{width}: {line}"
                );
            }
        }
    }

    #[test]
    fn a_finished_one_shows_its_end_and_what_to_do() {
        let mut operation = stalled();
        for (member, value) in [
            ("phase", json!("ended")),
            ("status", json!("cancelled")),
            ("result", json!("by the customer")),
            ("finishTime", json!("2026-11-23T11:30:00Z")),
            ("durationSeconds", json!(1_800)),
            ("deliveries", json!([])),
            ("attention", json!([])),
            ("stall", Value::Null),
            ("events", json!([])),
        ] {
            operation[member] = value;
        }
        let text = detail(operation.clone()).lines(&screen(None)).join("\n");
        for shown in [
            "Phase         ended\nStatus        cancelled\nResult        by the customer",
            "Finished      2026-11-23T11:30:00Z (30m 00s ago)\nDuration      30m 00s",
            "  none yet",
            "  all recorded events are delivered",
            "backfill-watch remove op-1 --state-dir /s",
        ] {
            assert!(text.contains(shown), "{shown} in\n{text}");
        }
        assert!(!text.contains("Next poll") && !text.starts_with("OK"), "{text}");
        let without = Detail {
            has_webhooks: false,
            ..detail(operation.clone())
        };
        let text = without.lines(&screen(None)).join("\n");
        assert!(text.contains("Webhooks\n  none is configured\n"), "{text}");
        operation["polls"] = 1.into();
        operation["deliveries"] = Value::Null;
        operation["source"] = "file".into();
        let text = detail(operation).lines(&screen(None)).join("\n");
        assert!(
            text.contains("cannot be read")
                && text.contains("remove its line")
                && text.contains(", 1 poll\n"),
            "{text}"
        );
    }
}
