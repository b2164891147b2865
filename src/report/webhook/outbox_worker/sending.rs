//! Fetches due deliveries and starts attempts.

use jiff::Timestamp;

use super::super::EndpointSettings;
use super::super::attempt_in_flight::AttemptInFlight;
use super::super::send::WebhookMessage;
use super::{OutboxWorker, PageKind, WorkDone};
use crate::core::delivery::{AttemptKind, PROBED_REMEMBERED};
use crate::store::{Delivery, DueDeliveries};

/// The most deliveries of a page; a body has up to 20 kB.
const MAX_PAGE: usize = 256;
/// Nothing new is sent while this many outcomes are not recorded: a crash would send all of them again.
const MAX_UNSETTLED: usize = 256;

impl OutboxWorker {
    fn may_start(&self) -> bool {
        // Without a recorded outcome, an event would be sent again after every restart.
        self.store_retry.is_none()
            && self.endpoint.store.is_writable()
            && self.outcomes.len() + self.settling.len() < MAX_UNSETTLED
            && !self.settings.secrets.is_empty()
    }

    pub(super) fn start_due(&mut self) {
        while self.may_start() && self.in_flight.len() < self.settings.max_in_flight.get() {
            let Some(delivery) = self.page.pop_front() else {
                break;
            };
            self.start(delivery, AttemptKind::Ordinary);
        }
    }

    pub(super) fn start_probe(&mut self) {
        if !self.in_flight.is_empty() || !self.may_start() {
            return;
        }
        let subjects = self.page.iter().map(|delivery| delivery.subject.as_str());
        let chosen = self.health.choose_probe(subjects);
        if let Some(delivery) = chosen.and_then(|index| self.page.remove(index)) {
            self.drop_page();
            self.start(delivery, AttemptKind::Probe);
        }
    }

    fn start(&mut self, delivery: Delivery, kind: AttemptKind) {
        let in_flight = AttemptInFlight {
            id: delivery.id,
            event_id: delivery.event_id.clone(),
            event_type: delivery.event_type,
            subject: delivery.subject,
            attempts: delivery.attempts,
            recorded: delivery.recorded,
            first_attempt: delivery
                .first_attempt
                .unwrap_or_else(|| self.endpoint.store.now()),
            replay: delivery.replay,
            kind,
            generation: self.generation,
        };
        let message = WebhookMessage {
            id: delivery.event_id,
            body: delivery.body,
        };
        let sender = self.endpoint.sender.clone();
        let EndpointSettings { url, secrets, .. } = self.settings.clone();
        let attempt = async move { WorkDone::Attempt(sender.attempt(&url, &secrets, message).await) };
        let task = self.work.spawn(attempt).id();
        self.in_flight.insert(task, in_flight);
    }

    /// Drops the page if it is of another kind.
    pub(super) fn select_page(&mut self, kind: PageKind) {
        if self.kind != kind {
            self.drop_page();
            self.kind = kind;
        }
    }

    pub(super) fn drop_page(&mut self) {
        for delivery in self.page.drain(..) {
            self.taken.remove(&delivery.id);
        }
        self.is_stale = true;
    }

    /// Fetches the next page, if the store may have more and there is capacity.
    pub(super) fn fetch(&mut self, now: Timestamp) {
        let max_in_flight = self.settings.max_in_flight.get();
        let (now, limit) = match self.kind {
            PageKind::Due if self.page.len() <= max_in_flight / 2 => {
                (now, max_in_flight.saturating_mul(2).min(MAX_PAGE))
            }
            PageKind::Waiting if self.page.is_empty() && self.in_flight.is_empty() => {
                (Timestamp::MAX, PROBED_REMEMBERED + 1)
            }
            PageKind::Due | PageKind::Waiting => return,
        };
        if self.is_fetching || !self.is_stale || !self.may_start() {
            return;
        }
        self.is_stale = false;
        self.is_fetching = true;
        let (store, kind) = (self.endpoint.store.clone(), self.kind);
        let (name, taken) = (self.endpoint.name.clone(), self.taken.iter().copied().collect());
        self.work.spawn(async move {
            let found = store.due_deliveries(name, now, limit, taken).await;
            WorkDone::Page { kind, limit, found }
        });
    }

    pub(super) fn take_page(&mut self, kind: PageKind, limit: usize, due: DueDeliveries) {
        if kind != self.kind {
            self.is_stale = true;
            return;
        }
        self.is_stale |= due.ready.len() >= limit;
        self.next_due = due.next_due;
        self.taken.extend(due.ready.iter().map(|delivery| delivery.id));
        self.page.extend(due.ready);
    }
}
