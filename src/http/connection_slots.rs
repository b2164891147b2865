//! The connections of a listener. Each occupies a slot and can be closed in favour of a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::core::connections::{ConnectionClass, ConnectionId, ConnectionLimits, Connections};

/// All connection slots of a listener.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots(Arc<Mutex<SlotState>>);

#[derive(Debug)]
struct SlotState {
    connections: Connections,
    /// Cancelled to close a connection that lost its slot.
    closers: HashMap<ConnectionId, CancellationToken>,
}

/// The slot of one connection. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    id: ConnectionId,
    slots: ConnectionSlots,
    /// Which paths this connection may request.
    pub(super) class: ConnectionClass,
    /// Cancelled when a new connection takes the slot.
    pub(super) displaced: CancellationToken,
}

impl ConnectionSlots {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Mutex::new(SlotState {
            connections: Connections::new(limits),
            closers: HashMap::new(),
        })))
    }

    /// Takes a slot for a new connection, if necessary from the oldest idle one. `None` when all are busy.
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
            slots: self.clone(),
            class: admission.class,
            displaced,
        })
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    pub(super) fn begin_request(&self) {
        self.slots.lock().connections.begin_request(self.id);
    }

    pub(super) fn end_request(&self) {
        self.slots.lock().connections.end_request(self.id);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut inner = self.slots.lock();
        inner.connections.remove(self.id);
        inner.closers.remove(&self.id);
    }
}
