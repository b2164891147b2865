//! A delivery while its attempt is in flight.

use jiff::Timestamp;

use crate::core::delivery::AttemptKind;
use crate::core::event::EventType;
use crate::store::DeliveryId;

/// A delivery whose attempt is in flight.
pub(super) struct AttemptInFlight {
    pub(super) id: DeliveryId,
    pub(super) event_id: String,
    pub(super) event_type: EventType,
    pub(super) subject: String,
    pub(super) attempts: u32,
    pub(super) recorded: Timestamp,
    pub(super) first_attempt: Timestamp,
    pub(super) replay: bool,
    pub(super) kind: AttemptKind,
    /// The generation of the settings that it was sent with.
    pub(super) generation: u64,
}
