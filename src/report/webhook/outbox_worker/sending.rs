//! What is sent next: a page of what the store has, and attempts from it.

use jiff::Timestamp;

use super::super::EndpointSettings;
use super::super::send::WebhookMessage;
use super::{AttemptInFlight, OutboxWorker, PageKind, WorkDone};
use crate::core::delivery::{AttemptKind, PROBED_REMEMBERED};
use crate::store::{Delivery, DueDeliveries};

/// No more than so many deliveries are read at once: a body has up to 20 kB.
const MAX_PAGE: usize = 256;
/// While so many outcomes wait to be written down nothing new is sent: after a crash all of it would be sent again.
const MAX_UNSETTLED: usize = 256;

impl OutboxWorker {
    fn may_start(&self) -> bool {
        // What cannot be written down is not sent: it would be sent again after every restart.
        self.store_retry.is_none()
            && self.endpoint.store.is_writable()
            && self.outcomes.len() + self.settling.len() < MAX_UNSETTLED
            && !self.settings.secrets.is_empty()
    }

    pub(super) fn start_due(&mut self) {
        while self.may_start() && self.underway.len() < self.settings.max_in_flight.get() {
            let Some(delivery) = self.page.pop_front() else {
                break;
            };
            self.start(delivery, AttemptKind::Ordinary);
        }
    }

    pub(super) fn start_probe(&mut self) {
        if !self.underway.is_empty() || !self.may_start() {
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
        let underway = AttemptInFlight {
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
        self.underway.insert(task, underway);
    }

    /// Makes sure that the page is, or will be, of the right kind.
    pub(super) fn look_for(&mut self, look: PageKind) {
        if self.look != look {
            self.drop_page();
            self.look = look;
        }
    }

    pub(super) fn drop_page(&mut self) {
        for delivery in self.page.drain(..) {
            self.taken.remove(&delivery.id);
        }
        self.stale = true;
    }

    /// Asks the store for more, if it may have more and there is room.
    pub(super) fn fetch(&mut self, now: Timestamp) {
        let max_in_flight = self.settings.max_in_flight.get();
        let (now, limit) = match self.look {
            PageKind::Due if self.page.len() <= max_in_flight / 2 => {
                (now, max_in_flight.saturating_mul(2).min(MAX_PAGE))
            }
            PageKind::Waiting if self.page.is_empty() && self.underway.is_empty() => {
                (Timestamp::MAX, PROBED_REMEMBERED + 1)
            }
            PageKind::Due | PageKind::Waiting => return,
        };
        if self.fetching || !self.stale || !self.may_start() {
            return;
        }
        self.stale = false;
        self.fetching = true;
        let (store, look) = (self.endpoint.store.clone(), self.look);
        let (name, taken) = (self.endpoint.name.clone(), self.taken.iter().copied().collect());
        self.work.spawn(async move {
            let found = store.due_deliveries(name, now, limit, taken).await;
            WorkDone::Page { look, limit, found }
        });
    }

    pub(super) fn take_page(&mut self, look: PageKind, limit: usize, due: DueDeliveries) {
        if look != self.look {
            self.stale = true;
            return;
        }
        self.stale |= due.ready.len() >= limit;
        self.next_due = due.next_due;
        self.taken.extend(due.ready.iter().map(|delivery| delivery.id));
        self.page.extend(due.ready);
    }
}
