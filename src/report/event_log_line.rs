//! Writes each event as a log line with stable field names.

use crate::core::event::{
    ApiData, Event, EventData, EventType, GroupData, GroupOutcome, OperationData, millis,
};
use crate::core::text::one_line;
use crate::core::watch::NO_COUNT;
use crate::core::watch_list::{Labels, label_text};

/// The longest text in a line, in bytes; full texts are in the event log.
const MAX_TEXT: usize = 500;

/// Logs an event.
pub fn log_event(event: &Event) {
    match &event.data {
        EventData::Operation(data) => log_operation_event(event, data),
        EventData::Group(data) => log_group_event(event, data),
        EventData::Api(data) => log_api_event(event, data),
    }
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogLevel {
    Info,
    Warn,
    Error,
}

fn log_level(event: &Event) -> LogLevel {
    match event.event_type {
        EventType::GroupCompleted => match &event.data {
            EventData::Group(data) if data.outcome == GroupOutcome::Failed => LogLevel::Warn,
            _ => LogLevel::Info,
        },
        EventType::Started
        | EventType::Progress
        | EventType::Resumed
        | EventType::Retried
        | EventType::Succeeded
        | EventType::Ended
        | EventType::Reachable
        | EventType::ApiReachable
        | EventType::CredentialsAccepted => LogLevel::Info,
        EventType::Stalled
        | EventType::Overdue
        | EventType::Gone
        | EventType::Expired
        | EventType::Unreachable => LogLevel::Warn,
        EventType::Failed | EventType::ApiUnreachable | EventType::CredentialsRejected => LogLevel::Error,
    }
}

/// A line with a level that is only known at run time; `tracing` needs a constant.
macro_rules! line {
    ($log_level:expr, $($field:tt)*) => {
        match $log_level {
            LogLevel::Info => tracing::info!(target: "backfill_watch::event", $($field)*),
            LogLevel::Warn => tracing::warn!(target: "backfill_watch::event", $($field)*),
            LogLevel::Error => tracing::error!(target: "backfill_watch::event", $($field)*),
        }
    };
}

fn log_operation_event(event: &Event, data: &OperationData) {
    let progress = data.progress.as_ref();
    let text = |text: &Option<String>| text.as_deref().map(|text| one_line(text, MAX_TEXT));
    let last_log = data.logs.last().map(|line| one_line(&line.text(), MAX_TEXT));
    line!(
        log_level(event),
        event = event.event_type.as_str(),
        project = data.project,
        operation_id = data.operation_id,
        phase = data.phase,
        status = text(&data.status),
        percent = progress.and_then(|progress| progress.percent),
        records_processed = progress.map(|progress| progress.records_processed),
        records_estimated_total = progress.and_then(|progress| progress.records_estimated_total),
        records_per_second = progress.and_then(|progress| progress.records_per_second),
        estimated_end_time = progress
            .and_then(|progress| progress.estimated_end_time)
            .map(|time| time.to_string()),
        estimate_exceeded = progress
            .map(|progress| progress.estimate_exceeded)
            .filter(|exceeded| *exceeded),
        result = text(&data.result),
        duration_seconds = data.duration_seconds,
        reason = text(&data.reason),
        since = data.since.map(millis),
        deadline = data.deadline.map(millis),
        attempts = data.retry.as_ref().map(|retry| retry.attempts),
        last_log,
        health_status = text(&data.health_status),
        connection_status = text(&data.connection_status),
        objects = (!data.objects.is_empty()).then(|| one_line(&data.objects.join(","), MAX_TEXT)),
        labels = labels_text(&data.labels),
        installation_id = text(&data.installation_id),
        integration_id = text(&data.integration_id),
        sequence = data.sequence,
        event_id = event.id.as_str(),
        "{}",
        operation_message(event.event_type, data)
    );
}

fn log_group_event(event: &Event, data: &GroupData) {
    let failed = data.operations.iter().find(|operation| !operation.is_succeeded());
    line!(
        log_level(event),
        event = event.event_type.as_str(),
        project = data.project,
        group = one_line(&data.group, MAX_TEXT),
        group_label = data.label,
        round = data.round,
        outcome = data.outcome.as_str(),
        operations = data.operation_count,
        missing = (!data.missing.is_empty()).then_some(data.missing.len()),
        start_time = data.start_time.map(millis),
        duration_seconds = data.duration_seconds,
        not_succeeded = failed.map(|operation| operation.operation_id.as_str()),
        labels = labels_text(&data.labels),
        event_id = event.id.as_str(),
        "{}",
        message(event.event_type)
    );
}

/// The labels, separated by spaces.
fn labels_text(labels: &Labels) -> Option<String> {
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| label_text(name, value))
        .collect();
    (!labels.is_empty()).then(|| labels.join(" "))
}

fn log_api_event(event: &Event, data: &ApiData) {
    line!(
        log_level(event),
        event = event.event_type.as_str(),
        project = data.project,
        reason = one_line(&data.reason, MAX_TEXT),
        since = millis(data.since),
        event_id = event.id.as_str(),
        "{}",
        message(event.event_type)
    );
}

/// A stall without a count has no count that could stay the same.
fn operation_message(event_type: EventType, data: &OperationData) -> &'static str {
    match event_type {
        EventType::Stalled if data.reason.as_deref() == Some(NO_COUNT) => {
            "operation stalled: it does not show a record count"
        }
        _ => message(event_type),
    }
}

fn message(event_type: EventType) -> &'static str {
    match event_type {
        EventType::Started => "operation is running",
        EventType::Progress => "operation progressed",
        EventType::Stalled => "operation stalled: its record count does not change",
        EventType::Resumed => "operation resumed: its record count rises",
        EventType::Overdue => "operation is overdue: it has not finished by its deadline",
        EventType::Retried => "operation was retried by the platform",
        EventType::Succeeded => "operation succeeded",
        EventType::Failed => "operation failed",
        EventType::Ended => "operation ended with a status that is neither success nor failure",
        EventType::Gone => "operation is gone: the API does not know it any more",
        EventType::Expired => "operation expired: it was watched for poll.give_up_after without finishing",
        EventType::Unreachable => "operation cannot be polled, although others can",
        EventType::Reachable => "operation can be polled again",
        EventType::GroupCompleted => "group completed: all of its operations are finished",
        EventType::ApiUnreachable => "API is unreachable: all polls of this project fail",
        EventType::ApiReachable => "API is reachable again",
        EventType::CredentialsRejected => {
            "API key is rejected: replace it; it is read again before each probe"
        }
        EventType::CredentialsAccepted => "API key is accepted again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;

    #[test]
    fn a_stall_is_logged_with_its_own_reason() {
        let key = WatchKey {
            project: "p".into(),
            operation: "op".into(),
        };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let message = |reason: &str| {
            let mut data = Watch::default().data(&key, &Labels::new(), now);
            data.reason = Some(reason.to_owned());
            operation_message(EventType::Stalled, &data)
        };
        assert_eq!(
            message(NO_COUNT),
            "operation stalled: it does not show a record count"
        );
        assert_eq!(
            message("count unchanged"),
            "operation stalled: its record count does not change"
        );
    }
}
