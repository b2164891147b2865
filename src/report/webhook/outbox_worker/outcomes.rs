//! Decides what follows from an attempt, and records the outcomes.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task;

use super::super::attempt_in_flight::AttemptInFlight;
use super::super::delivery_log;
use super::super::send::DeliveryAttempt;
use super::super::stats::DeliveryOutcome;
use super::{OutboxWorker, WorkDone};
use crate::clock;
use crate::core::delivery::{AttemptedEvent, DeliveryDecision};
use crate::store::{CommitError, Settlement};

/// The wait before the store is used again after an error.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl OutboxWorker {
    /// Starts recording the outcomes, unless that is in progress: later outcomes are then recorded together.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.is_recording || self.store_retry.is_some() {
            return;
        }
        self.settling.append(&mut self.outcomes);
        if self.settling.is_empty() {
            return;
        }
        self.is_recording = true;
        let (store, settled) = (self.endpoint.store.clone(), self.settling.clone());
        self.work
            .spawn(async move { WorkDone::Settled(store.settle_deliveries(settled, now).await) });
    }

    pub(super) fn handle_recorded(&mut self, result: Result<(), CommitError>) {
        self.is_recording = false;
        match result {
            Ok(()) => {
                for (id, _) in self.settling.drain(..) {
                    self.taken.remove(&id);
                }
                self.is_store_error_logged = false;
                // The next events of their operations may be sent now.
                self.is_stale = true;
            }
            Err(CommitError::Closed) => self.store_closed = true,
            // The store logs this itself.
            Err(CommitError::Unwritable(_) | CommitError::Removed(_)) => self.retry_store_later(),
            Err(error @ CommitError::Refused(_)) => self.handle_store_error(&error),
        }
    }

    pub(super) fn handle_store_error(&mut self, error: &dyn Error) {
        self.retry_store_later();
        if !std::mem::replace(&mut self.is_store_error_logged, true) {
            delivery_log::store_error(&self.endpoint.name, error);
        }
    }

    fn retry_store_later(&mut self) {
        self.store_retry = Some(clock::instant() + STORE_RETRY);
        self.is_stale = true;
    }

    /// Decides what follows for the event and the endpoint.
    pub(super) fn record_attempt(&mut self, task: task::Id, attempt: DeliveryAttempt) {
        let Some(in_flight) = self.in_flight.remove(&task) else {
            return;
        };
        let (now, random_fraction) = (self.endpoint.store.now(), self.endpoint.random.fraction());
        let tried = AttemptedEvent {
            subject: &in_flight.subject,
            attempts: in_flight.attempts,
            first_attempt: in_flight.first_attempt,
            kind: in_flight.kind,
        };
        let outdated = in_flight.generation != self.generation && !attempt.error.is_empty();
        let (decision, change) = if outdated {
            // A failure with the previous URL or secret does not count against the new one.
            let decision = DeliveryDecision::Retry {
                after: Duration::ZERO,
                counts: false,
            };
            (decision, None)
        } else {
            self.health
                .record_attempt(tried, attempt.outcome, now, random_fraction)
        };
        delivery_log::attempt(&self.endpoint.name, &in_flight, &attempt, decision);
        if let Some(change) = change {
            delivery_log::health_change(&self.endpoint.name, change, &attempt.error);
        }
        self.count(&in_flight, decision, now);
        let settled = match decision {
            DeliveryDecision::Delivered => Settlement::Delivered,
            DeliveryDecision::Retry { after, counts } => Settlement::Retry {
                at: now.checked_add(after).unwrap_or(Timestamp::MAX),
                error: attempt.error,
                counts,
            },
            DeliveryDecision::Dead => Settlement::Dead { error: attempt.error },
        };
        self.outcomes.push((in_flight.id, settled));
    }

    fn count(&self, in_flight: &AttemptInFlight, decision: DeliveryDecision, now: Timestamp) {
        let stats = &self.endpoint.stats;
        stats.count_outcome(match decision {
            DeliveryDecision::Delivered => DeliveryOutcome::Delivered,
            DeliveryDecision::Retry { counts: true, .. } => DeliveryOutcome::Retried,
            DeliveryDecision::Retry { counts: false, .. } => DeliveryOutcome::Held,
            DeliveryDecision::Dead => DeliveryOutcome::Dead,
        });
        if decision == DeliveryDecision::Delivered && !in_flight.replay {
            stats.record_delay(clock::between(in_flight.recorded, now));
        }
    }
}
