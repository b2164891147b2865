//! What follows from an attempt, and how that gets on record.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task;

use super::super::delivery_log;
use super::super::send::DeliveryAttempt;
use super::super::stats::DeliveryOutcome;
use super::{AttemptInFlight, OutboxWorker, WorkDone};
use crate::clock;
use crate::core::delivery::{AttemptedEvent, DeliveryDecision};
use crate::store::{CommitError, Settlement};

/// How long to wait before the store is asked again after an error.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl OutboxWorker {
    /// Writes down the outcomes so far, unless that is under way: those that come meanwhile are written together.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.settle_runs || self.store_retry.is_some() {
            return;
        }
        self.settling.append(&mut self.outcomes);
        if self.settling.is_empty() {
            return;
        }
        self.settle_runs = true;
        let (store, settled) = (self.endpoint.store.clone(), self.settling.clone());
        self.work
            .spawn(async move { WorkDone::Settled(store.settle_deliveries(settled, now).await) });
    }

    pub(super) fn note_settled(&mut self, result: Result<(), CommitError>) {
        self.settle_runs = false;
        match result {
            Ok(()) => {
                for (id, _) in self.settling.drain(..) {
                    self.taken.remove(&id);
                }
                self.told_store_error = false;
                // What came after them in their order may be sent now.
                self.stale = true;
            }
            Err(CommitError::Closed) => self.store_closed = true,
            // The store itself has told.
            Err(CommitError::Unwritable(_) | CommitError::Removed(_)) => self.ask_store_later(),
            Err(error @ CommitError::Refused(_)) => self.note_store_error(&error),
        }
    }

    pub(super) fn note_store_error(&mut self, error: &dyn Error) {
        self.ask_store_later();
        if !std::mem::replace(&mut self.told_store_error, true) {
            delivery_log::store_error(&self.endpoint.name, error);
        }
    }

    fn ask_store_later(&mut self) {
        self.store_retry = Some(clock::instant() + STORE_RETRY);
        self.stale = true;
    }

    /// Decides what becomes of an event, and of the endpoint, after an attempt.
    pub(super) fn record_attempt(&mut self, task: task::Id, attempt: DeliveryAttempt) {
        let Some(underway) = self.underway.remove(&task) else {
            return;
        };
        let (now, chance) = (self.endpoint.store.now(), self.endpoint.random.fraction());
        let tried = AttemptedEvent {
            subject: &underway.subject,
            attempts: underway.attempts,
            first_attempt: underway.first_attempt,
            kind: underway.kind,
        };
        let outdated = underway.generation != self.generation && !attempt.error.is_empty();
        let (verdict, news) = if outdated {
            // A failure at the old place, or with the old secret, says nothing about the new one.
            let verdict = DeliveryDecision::Retry {
                after: Duration::ZERO,
                counts: false,
            };
            (verdict, None)
        } else {
            self.health.record_attempt(tried, attempt.outcome, now, chance)
        };
        delivery_log::attempt(&self.endpoint.name, &underway, &attempt, verdict);
        if let Some(news) = news {
            delivery_log::news(&self.endpoint.name, news, &attempt.error);
        }
        self.count(&underway, verdict, now);
        let settled = match verdict {
            DeliveryDecision::Delivered => Settlement::Delivered,
            DeliveryDecision::Retry { after, counts } => Settlement::Retry {
                at: now.checked_add(after).unwrap_or(Timestamp::MAX),
                error: attempt.error,
                counts,
            },
            DeliveryDecision::Dead => Settlement::Dead { error: attempt.error },
        };
        self.outcomes.push((underway.id, settled));
    }

    fn count(&self, underway: &AttemptInFlight, verdict: DeliveryDecision, now: Timestamp) {
        let stats = &self.endpoint.stats;
        stats.note(match verdict {
            DeliveryDecision::Delivered => DeliveryOutcome::Delivered,
            DeliveryDecision::Retry { counts: true, .. } => DeliveryOutcome::Retried,
            DeliveryDecision::Retry { counts: false, .. } => DeliveryOutcome::Held,
            DeliveryDecision::Dead => DeliveryOutcome::Dead,
        });
        if verdict == DeliveryDecision::Delivered && !underway.replay {
            stats.note_delay(clock::between(underway.recorded, now));
        }
    }
}
