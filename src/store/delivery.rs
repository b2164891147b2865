//! The types of the outbox: endpoints, deliveries and their results.

use std::sync::Arc;

use jiff::Timestamp;

use crate::core::event::EventType;

/// The ID of one delivery of an event to an endpoint. It is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub(super) i64);

/// The settings of an endpoint that the outbox needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEndpoint {
    /// Its name.
    pub name: Arc<str>,
    /// The types of events that it receives.
    pub events: Vec<EventType>,
    /// The most deliveries that may wait for it.
    pub max_backlog: u64,
}

/// One event that waits to be delivered to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its ID.
    pub id: DeliveryId,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// The event's ID.
    pub event_id: String,
    /// The event's type.
    pub event_type: EventType,
    /// Deliveries of one subject keep their order. It is the operation, the group, or the project for events about the API.
    pub subject: String,
    /// The body: the same bytes at each attempt.
    pub body: String,
    /// The attempts so far that count towards the end of the retry schedule.
    pub attempts: u32,
    /// When it was put into the outbox.
    pub recorded: Timestamp,
    /// When it was attempted first.
    pub first_attempt: Option<Timestamp>,
    /// Whether it is a replay.
    pub replay: bool,
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The receiver accepted it.
    Delivered,
    /// It is retried.
    Retry {
        /// The earliest time of the next attempt.
        at: Timestamp,
        /// Why the attempt failed.
        error: String,
        /// Whether the attempt counts towards the end of the retry schedule.
        counts: bool,
    },
    /// It is a dead letter.
    Dead {
        /// Why the attempt failed.
        error: String,
    },
}

/// The deliveries that can be sent to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueDeliveries {
    /// Deliveries to send now: the oldest first, at most one of each subject.
    pub ready: Vec<Delivery>,
    /// When the next retry is due.
    pub next_due: Option<Timestamp>,
}

/// The figures of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStats {
    /// The endpoint's name.
    pub name: Arc<str>,
    /// Waiting deliveries.
    pub backlog: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// When the oldest event became a dead letter.
    pub oldest_dead_letter: Option<Timestamp>,
    /// The oldest waiting delivery.
    pub oldest: Option<OldestDelivery>,
    /// The time of the last successful delivery.
    pub last_success: Option<Timestamp>,
    /// The last error.
    pub last_error: Option<String>,
    /// The time of the last error.
    pub last_error_time: Option<Timestamp>,
}

/// The delivery that an endpoint has waited for the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldestDelivery {
    /// When it was put into the outbox.
    pub recorded: Timestamp,
    /// The attempts so far that count towards the end of the retry schedule.
    pub attempts: u32,
    /// The earliest time of the next attempt. `None` for at once.
    pub next_attempt: Option<Timestamp>,
    /// The event. `None` if its row is damaged.
    pub event: Option<OldestEvent>,
}

/// The event of an [`OldestDelivery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldestEvent {
    /// The event's ID.
    pub id: String,
    /// The event's type.
    pub event_type: EventType,
    /// The project.
    pub project: String,
    /// The operation ID, or a group as in [`EventData::subject`](crate::core::event::EventData::subject).
    pub subject: Option<String>,
}

/// The state of a delivery that its endpoint has not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for an attempt.
    Waiting {
        /// The earliest time of the next attempt. `None` for at once, or after the deliveries before it.
        next_attempt: Option<Timestamp>,
    },
    /// It is a dead letter.
    DeadLetter,
}

/// One event of an operation that one endpoint has not received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationDelivery {
    /// The endpoint's name.
    pub endpoint: String,
    /// Whether the endpoint was removed from the settings. Its deliveries are kept for seven days.
    pub is_endpoint_removed: bool,
    /// The event's ID.
    pub event_id: String,
    /// The event's type.
    pub event_type: EventType,
    /// The event's number among those of the operation.
    pub sequence: u64,
    /// Whether it waits.
    pub state: DeliveryState,
    /// The attempts so far that count towards the end of the retry schedule.
    pub attempts: u32,
    /// The time of the last attempt.
    pub last_attempt: Option<Timestamp>,
    /// Why the last attempt failed, or why there was none. The endpoint's URL and secrets are masked.
    pub last_error: Option<String>,
}

/// Some deliveries of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OperationDeliveries {
    pub(super) found: Vec<OperationDelivery>,
    /// The row of the log after which to continue. `None` at the end.
    pub(super) next: Option<i64>,
}
