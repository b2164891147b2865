//! The connections of a listener: each has a place, and can be closed for a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::core::connections::{ConnectionClass, ConnectionId, ConnectionLimits, Connections};

/// All places of a listener.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots(Arc<Mutex<SlotState>>);

#[derive(Debug)]
struct SlotState {
    connections: Connections,
    /// Closes a connection that lost its place.
    closers: HashMap<ConnectionId, CancellationToken>,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    id: ConnectionId,
    places: ConnectionSlots,
    /// What this connection may ask for.
    pub(super) place: ConnectionClass,
    /// Cancelled when another connection got the place.
    pub(super) displaced: CancellationToken,
}

impl ConnectionSlots {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Mutex::new(SlotState {
            connections: Connections::new(limits),
            closers: HashMap::new(),
        })))
    }

    /// A place for a new connection, if need be that of the oldest idle one. `None` when all are busy.
    pub(super) fn admit(&self) -> Option<ConnectionSlot> {
        let mut inner = self.lock();
        let admission = inner.connections.admit()?;
        if let Some(closer) = admission.displaced.and_then(|id| inner.closers.remove(&id)) {
            closer.cancel();
        }
        let displaced = CancellationToken::new();
        inner.closers.insert(admission.id, displaced.clone());
        Some(ConnectionSlot {
            id: admission.id,
            places: self.clone(),
            place: admission.class,
            displaced,
        })
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    pub(super) fn begin_request(&self) {
        self.places.lock().connections.begin_request(self.id);
    }

    pub(super) fn end_request(&self) {
        self.places.lock().connections.end_request(self.id);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut inner = self.places.lock();
        inner.connections.remove(self.id);
        inner.closers.remove(&self.id);
    }
}
