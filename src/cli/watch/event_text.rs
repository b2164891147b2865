//! Events as lines above the bars.

use jiff::Timestamp;

use crate::cli::format;
use crate::cli::progress_bars::{phase_style, sign};
use crate::cli::terminal::{TerminalStyle, TextStyle};
use crate::core::discovery::GROUP_LABEL;
use crate::core::event::{Event, EventData, EventType, GroupData, GroupOutcome, OperationData};
use crate::core::operation_log::OperationLogLine;
use crate::core::operation_name::OperationName;
use crate::core::phase::Phase;
use crate::core::text::one_line;

/// The longest text from outside in a line, in bytes.
const MAX_TEXT: usize = 1_000;

/// The lines for an event, each with its line end; `None` if the bars show it.
pub(super) fn event_text(event: &Event, style: TerminalStyle) -> Option<String> {
    let data = match &event.data {
        EventData::Operation(data) => data,
        EventData::Group(data) => return Some(group_text(event.time, data, style)),
        EventData::Api(data) => {
            let (text_style, words) = match event.event_type {
                EventType::ApiReachable => (TextStyle::Green, "the API answers again"),
                EventType::CredentialsAccepted => (TextStyle::Green, "the API key is accepted again"),
                // The others end watching, and are reported then.
                _ => return None,
            };
            let line = format!("{} project {}: {words}", time(event.time), data.project);
            return Some(format!("{}\n", style.paint(text_style, &line)));
        }
    };
    let phase = phase(data.phase);
    let what = match event.event_type {
        EventType::Started | EventType::Progress => return None,
        EventType::Succeeded => with_duration("succeeded in", data),
        EventType::Failed => with_duration("failed after", data),
        EventType::Ended => {
            let status = data.status.as_deref().unwrap_or("an unknown status");
            with_duration(
                &format!("ended with status {} after", one_line(status, 100)),
                data,
            )
        }
        EventType::Gone => "is gone: the API no longer knows it".to_owned(),
        EventType::Expired => "expired after poll.give_up_after".to_owned(),
        EventType::Stalled => format!("stalled{}", at_count(data)),
        EventType::Overdue => match data.deadline {
            Some(deadline) => format!("is overdue: its deadline was {deadline}"),
            None => "is overdue".to_owned(),
        },
        EventType::Resumed => format!("resumed{}", at_count(data)),
        EventType::Retried => match &data.retry {
            Some(retry) => format!("was retried by the platform (attempt {})", retry.attempts),
            None => "was retried by the platform".to_owned(),
        },
        EventType::Unreachable => "cannot be polled, although others can".to_owned(),
        EventType::Reachable => "can be polled again".to_owned(),
        EventType::GroupCompleted
        | EventType::ApiUnreachable
        | EventType::ApiReachable
        | EventType::CredentialsRejected
        | EventType::CredentialsAccepted => return None,
    };
    let title = OperationName::new(&data.labels, &data.objects, GROUP_LABEL).title();
    let space = if title.is_empty() { "" } else { " " };
    let mut text = format!(
        "{} {title}{space}{} {}",
        style.paint(phase_style(phase), sign(phase, style)),
        data.operation_id,
        style.paint(phase_style(phase), &what)
    );
    if let Some(why) = data.result.as_deref().or(data.reason.as_deref()) {
        text.push_str(": ");
        text.push_str(&one_line(why, MAX_TEXT));
    }
    text.push('\n');
    text.push_str(&logs(&data.logs, style));
    Some(style.shown(&text).into_owned())
}

/// The line for a completed group.
fn group_text(at: Timestamp, data: &GroupData, style: TerminalStyle) -> String {
    let (text_style, outcome) = match data.outcome {
        GroupOutcome::Succeeded => (TextStyle::Green, "all operations succeeded"),
        GroupOutcome::Failed => (TextStyle::Red, "not all operations succeeded"),
    };
    let group = one_line(&data.group, 100);
    let line = format!("{} group {}: {outcome}", time(at), style.shown(&group));
    format!("{}\n", style.paint(text_style, &line))
}

/// The log of a failed operation, indented.
pub(super) fn logs(lines: &[OperationLogLine], style: TerminalStyle) -> String {
    let mut text = String::new();
    for line in lines {
        let time = line
            .timestamp
            .map(|at| format!("{} ", time(at)))
            .unwrap_or_default();
        let severity = one_line(&line.severity, 20);
        let start = style.paint(TextStyle::Dim, &format!("{time}{severity}"));
        text.push_str(&format!("    {start} {}\n", one_line(&line.text(), MAX_TEXT)));
    }
    text
}

fn with_duration(words: &str, data: &OperationData) -> String {
    match data.duration_seconds {
        Some(seconds) => format!("{words} {}", format::seconds(seconds)),
        // Without the preposition before the duration.
        None => words
            .rsplit_once(' ')
            .map_or(words, |(words, _)| words)
            .to_owned(),
    }
}

fn at_count(data: &OperationData) -> String {
    data.progress.as_ref().map_or_else(String::new, |progress| {
        format!(" at {} records", format::count(progress.records_processed))
    })
}

fn phase(name: &str) -> Phase {
    Phase::parse(name).unwrap_or(Phase::Pending)
}

/// The time of day in UTC, as everywhere.
fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;

    const PLAIN: TerminalStyle = TerminalStyle {
        colour: false,
        unicode: true,
    };

    fn event(event_type: EventType, phase: Phase, fill: impl FnOnce(&mut OperationData)) -> Event {
        let key = WatchKey {
            project: "p".into(),
            operation: "op-1".into(),
        };
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let mut data = Watch::default().data(&key, &Vec::new(), now);
        data.phase = phase.as_str();
        data.objects = vec!["contact".into()];
        fill(&mut data);
        Event::operation(&key, event_type, "", now, data)
    }

    #[test]
    fn an_end_shows_duration_and_reason() {
        let event = event(EventType::Failed, Phase::Failed, |data| {
            data.duration_seconds = Some(69.0);
            data.result = Some("[contact] Read failed\n".into());
            let log = r#"[{"timestamp": "2026-11-23T11:59:58Z", "severity": "ERROR",
                "message": {"msg": "read failed", "error": "403\u001b[2J"}}]"#;
            data.logs = OperationLogLine::parse_all(log).unwrap();
        });
        assert_eq!(
            event_text(&event, PLAIN).unwrap(),
            "✗ contact op-1 failed after 1m 09s: [contact] Read failed\n    11:59:58Z ERROR read failed: 403\\u{1b}[2J\n"
        );
    }

    #[test]
    fn labels_are_shown_in_characters_of_the_terminal() {
        let event = event(EventType::Succeeded, Phase::Succeeded, |data| {
            data.labels = vec![("customer".into(), "Zoë Ltd".into())];
            data.duration_seconds = Some(2.0);
        });
        assert_eq!(
            event_text(&event, PLAIN).unwrap(),
            "✓ Zoë Ltd contact op-1 succeeded in 2s\n"
        );
        let ascii = TerminalStyle {
            unicode: false,
            ..PLAIN
        };
        assert_eq!(
            event_text(&event, ascii).unwrap(),
            "+ Zo? Ltd contact op-1 succeeded in 2s\n"
        );
    }

    #[test]
    fn what_the_bars_show_is_not_printed_again() {
        for event_type in [EventType::Started, EventType::Progress] {
            assert_eq!(
                event_text(&event(event_type, Phase::Running, |_| ()), PLAIN),
                None
            );
        }
        let gone = event(EventType::Gone, Phase::Gone, |data| {
            data.reason = Some("404".into())
        });
        assert_eq!(
            event_text(&gone, PLAIN).unwrap(),
            "✗ contact op-1 is gone: the API no longer knows it: 404\n"
        );
        let ended = event(EventType::Ended, Phase::Ended, |data| {
            data.status = Some("cancelled".into())
        });
        assert_eq!(
            event_text(&ended, PLAIN).unwrap(),
            "- contact op-1 ended with status cancelled\n"
        );
    }
}
