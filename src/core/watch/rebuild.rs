//! Rebuilds a watch from its events after its stored state was lost.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::operation_details::OperationDetails;
use super::overdue::DeadlineRecord;
use super::{UNKNOWN_ATTEMPTS, Watch};
use crate::core::event::{EventId, EventType};
use crate::core::operation::Status;
use crate::core::operation_kind::OperationKind;
use crate::core::past_event::PastEvent;
use crate::core::phase::Phase;
use crate::core::progress::ProgressTracker;
use crate::core::watch_list::WatchKey;

/// No watch is started again more often than this.
const MAX_GENERATION: u32 = 10_000;

/// Higher than any count of restarts that a watch reaches. A rebuilt watch continues from here, so that new events
/// never get the IDs of earlier ones.
const REBUILT_RESTARTS: u32 = 1_000_000;

#[derive(Deserialize)]
struct EventBody {
    data: OperationFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperationFields {
    sequence: u64,
    phase: Phase,
    project_id: Option<String>,
    integration_id: Option<String>,
    installation_id: Option<String>,
    #[serde(default)]
    objects: Vec<String>,
    status: Option<String>,
    create_time: Option<Timestamp>,
    progress: Option<LoggedProgress>,
    retry: Option<Retry>,
    since: Option<Timestamp>,
    observed_time: Option<Timestamp>,
    result: Option<String>,
    deadline: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedProgress {
    records_processed: u64,
    records_estimated_total: Option<u64>,
}

#[derive(Deserialize)]
struct Retry {
    attempts: u64,
}

struct LoggedEvent<'a> {
    event: &'a PastEvent,
    data: OperationFields,
}

impl Watch {
    /// Rebuilds the watch from its `events` (oldest first): phase, sequence and progress from the last one;
    /// generation, retries and outage from all. `lost` is the number of unreadable events after the last one.
    ///
    /// The stall clock, the rate and the schedule start again. `None` without a readable event.
    #[must_use]
    pub fn rebuild(key: &WatchKey, events: &[PastEvent], lost: u64) -> Option<Self> {
        let log: Vec<LoggedEvent<'_>> = events
            .iter()
            .filter_map(|event| {
                let body: EventBody = serde_json::from_str(&event.body).ok()?;
                Some(LoggedEvent {
                    event,
                    data: body.data,
                })
            })
            .collect();
        let last = log.last()?;
        let generation = generation(key, &log);
        let start = log.len() - since_last_end(&log);
        let current = &log[start..];
        let phase = last.data.phase;
        let sequence = last.data.sequence.saturating_add(lost);
        let first_seen = current
            .iter()
            .find(|logged| logged.event.event_type == EventType::Started);
        let begin = current.first().unwrap_or(last).event.recorded;
        Some(Self {
            phase,
            sequence,
            generation,
            watched: Duration::try_from(last.event.recorded.duration_since(begin))
                .unwrap_or_default()
                .into(),
            first_seen: first_seen.map(|logged| logged.event.recorded).into(),
            details: details_of(&last.data),
            attempts: current
                .iter()
                .filter_map(|logged| logged.data.retry.as_ref())
                .map(|retry| retry.attempts)
                .max()
                .unwrap_or(UNKNOWN_ATTEMPTS),
            progress: progress(current, sequence),
            unreachable: outage(current).into(),
            deadlines: DeadlineRecord::of(
                log.iter()
                    .filter(|logged| logged.event.event_type == EventType::Overdue)
                    .filter_map(|logged| logged.data.deadline),
            ),
            last_answer: last.data.observed_time.into(),
            ..Self::default()
        })
    }
}

/// The number of trailing events of the current generation: those after the last end, or up to that end if it is
/// last.
fn since_last_end(log: &[LoggedEvent<'_>]) -> usize {
    let is_end = |logged: &LoggedEvent<'_>| logged.event.event_type.is_ending();
    let of_current = |log: &[LoggedEvent<'_>]| log.iter().rev().take_while(|logged| !is_end(logged)).count();
    match log.split_last() {
        Some((last, before)) if is_end(last) => of_current(before) + 1,
        _ => of_current(log),
    }
}

/// Finds the generation whose event ID matches.
fn generation(key: &WatchKey, log: &[LoggedEvent<'_>]) -> u32 {
    let names_it = |event_type: EventType| event_type == EventType::Started || event_type.is_ending();
    let Some(index) = log.iter().rposition(|logged| names_it(logged.event.event_type)) else {
        return 0;
    };
    let event = log[index].event;
    let is_of = |generation: u32| {
        let occurrence = super::occurrence_of(generation);
        let id = EventId::derive(&key.project, Some(&key.operation), event.event_type, &occurrence);
        id.as_str() == event.id
    };
    let named = (0..=MAX_GENERATION).find(|generation| is_of(*generation));
    // Events after an end belong to the next generation.
    let again = u32::from(event.event_type.is_ending() && index + 1 < log.len());
    named.unwrap_or(0) + again
}

fn details_of(data: &OperationFields) -> Option<Arc<OperationDetails>> {
    let status = data.status.clone().map(Status::from)?;
    Some(Arc::new(OperationDetails {
        kind: Arc::new(OperationKind {
            project_id: data.project_id.clone().unwrap_or_default(),
            integration_id: data.integration_id.clone().unwrap_or_default(),
            objects: data.objects.clone(),
        }),
        installation_id: data.installation_id.clone().unwrap_or_default().into(),
        status,
        create_time: data.create_time,
        result: data.result.clone().map(Into::into),
    }))
}

fn progress(current: &[LoggedEvent<'_>], sequence: u64) -> ProgressTracker {
    let count = |logged: &LoggedEvent<'_>| {
        logged
            .data
            .progress
            .as_ref()
            .map(|progress| progress.records_processed)
    };
    let Some(last) = current
        .iter()
        .rev()
        .find_map(|logged| logged.data.progress.as_ref())
    else {
        return ProgressTracker::default();
    };
    let stalled = current
        .iter()
        .rev()
        .find(|logged| logged.event.event_type == EventType::Stalled);
    let restarts =
        u32::try_from(sequence).map_or(u32::MAX, |sequence| REBUILT_RESTARTS.saturating_add(sequence));
    ProgressTracker::rebuilt(
        last.records_processed,
        last.records_estimated_total,
        restarts,
        stalled.and_then(count),
        stalled.is_some_and(|logged| count(logged).is_none()),
    )
}

/// Start of the reported outage, if there is one.
fn outage(current: &[LoggedEvent<'_>]) -> Option<Timestamp> {
    let is_outage = |logged: &&LoggedEvent<'_>| {
        matches!(
            logged.event.event_type,
            EventType::Unreachable | EventType::Reachable
        )
    };
    let last = current.iter().rev().find(is_outage)?;
    (last.event.event_type == EventType::Unreachable)
        .then_some(last.data.since)
        .flatten()
}

#[cfg(test)]
mod tests;
