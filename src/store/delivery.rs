//! The outbox as its drain sees it: endpoints, deliveries and what became of them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::core::event::EventType;

/// Tells one delivery of an event to an endpoint from all others, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub(super) i64);

/// An endpoint of the settings, as far as the outbox cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEndpoint {
    /// What it is known by.
    pub name: Arc<str>,
    /// The types of events it wants.
    pub events: Vec<EventType>,
    /// How many deliveries may wait for it.
    pub max_backlog: u64,
}

/// One event that waits to be delivered to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// This delivery.
    pub id: DeliveryId,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// The event's ID.
    pub event_id: String,
    /// The event's type.
    pub event_type: EventType,
    /// What it is kept in order with: the operation, or the project for facts about the API.
    pub subject: String,
    /// The body, the same bytes at each attempt.
    pub body: String,
    /// Attempts so far that count towards giving up.
    pub attempts: u32,
    /// When it was put into the outbox.
    pub recorded: Timestamp,
    /// When it was tried first.
    pub first_attempt: Option<Timestamp>,
    /// Whether somebody asked for it to be delivered again.
    pub replay: bool,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The receiver has it.
    Delivered,
    /// To be tried again.
    Retry {
        /// Not before this.
        at: Timestamp,
        /// What went wrong.
        error: String,
        /// Whether the attempt counts towards giving up.
        counts: bool,
    },
    /// Given up; kept, and can be replayed.
    Dead {
        /// What went wrong.
        error: String,
    },
}

/// What an endpoint can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueDeliveries {
    /// To be sent now, oldest first, at most one of each subject.
    pub ready: Vec<Delivery>,
    /// When the next one falls due of those that wait for their time.
    pub next_due: Option<Timestamp>,
}

/// How an endpoint fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStats {
    /// The endpoint's name.
    pub name: Arc<str>,
    /// Deliveries that wait.
    pub backlog: u64,
    /// Deliveries given up.
    pub dead_letters: u64,
    /// When the oldest that waits was put into the outbox.
    pub oldest_pending: Option<Timestamp>,
    /// When a delivery succeeded last.
    pub last_success: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_time: Option<Timestamp>,
}
