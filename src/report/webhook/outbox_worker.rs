//! Sends the deliveries of one endpoint.

mod outcomes;
mod sending;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt_in_flight::AttemptInFlight;
use super::send::DeliveryAttempt;
use super::{EndpointSettings, EndpointState, EndpointStopped, WebhookEndpoint, delivery_log};
use crate::clock;
use crate::core::delivery::{AttemptOutcome, EndpointHealth, SendPermit};
use crate::store::{CommitError, Delivery, DeliveryId, DueDeliveries, Settlement, StoreReadError};

/// The longest sleep; due times use the wall clock, which may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often a state that cannot be written is checked, since it does not report its recovery.
const WRITABLE_CHECK: Duration = Duration::from_secs(1);
/// The time limit for recording the last outcomes at a stop.
const LAST_SETTLE: Duration = Duration::from_secs(1);

/// The result of one task of the endpoint.
enum WorkDone {
    Attempt(DeliveryAttempt),
    Page {
        kind: PageKind,
        limit: usize,
        found: Result<DueDeliveries, StoreReadError>,
    },
    Settled(Result<(), CommitError>),
}

/// Which deliveries a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    /// Due deliveries.
    Due,
    /// All waiting deliveries, for a probe.
    Waiting,
}

/// Invariant: `taken` has the deliveries of the page, those in flight, and those whose outcome is not recorded yet. The
/// store returns none of them, and none of their subjects, again. That keeps the order.
pub(super) struct OutboxWorker {
    endpoint: WebhookEndpoint,
    settings: EndpointSettings,
    generation: u64,
    changed: watch::Receiver<u64>,
    health: EndpointHealth,
    work: JoinSet<WorkDone>,
    in_flight: HashMap<task::Id, AttemptInFlight>,
    taken: HashSet<DeliveryId>,
    page: VecDeque<Delivery>,
    kind: PageKind,
    /// Whether the store may have more deliveries than the page.
    is_stale: bool,
    is_fetching: bool,
    next_due: Option<Timestamp>,
    /// When the outbox was last checked, by the wall clock.
    checked_at: Timestamp,
    /// Outcomes that are not being recorded yet.
    outcomes: Vec<(DeliveryId, Settlement)>,
    /// Outcomes that are being recorded; kept if that fails.
    settling: Vec<(DeliveryId, Settlement)>,
    is_recording: bool,
    /// After a store error: when to retry.
    store_retry: Option<Instant>,
    is_store_error_logged: bool,
    store_closed: bool,
}

impl OutboxWorker {
    pub(super) fn new(mut endpoint: WebhookEndpoint) -> Self {
        let settings = endpoint.settings.borrow_and_update().clone();
        let changed = endpoint.store.changed();
        Self {
            endpoint,
            settings,
            generation: 0,
            changed,
            health: EndpointHealth::default(),
            work: JoinSet::new(),
            in_flight: HashMap::new(),
            taken: HashSet::new(),
            page: VecDeque::new(),
            kind: PageKind::Due,
            is_stale: true,
            is_fetching: false,
            next_due: None,
            checked_at: Timestamp::MIN,
            outcomes: Vec::new(),
            settling: Vec::new(),
            is_recording: false,
            store_retry: None,
            is_store_error_logged: false,
            store_closed: false,
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) -> EndpointStopped {
        self.check_secrets();
        let mut reloadable = true;
        while !self.store_closed {
            let wake = self.advance();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                reload = self.endpoint.settings.changed(), if reloadable => match reload {
                    Ok(()) => self.reload(),
                    Err(_) => reloadable = false,
                },
                Some(done) = self.work.join_next_with_id() => self.take(done),
                // Only a hint. Commits before this line are seen by the fetch that follows `stale`; later ones wake this arm.
                hint = self.changed.changed() => match hint {
                    Ok(()) => self.is_stale = true,
                    Err(_) => self.store_closed = true,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish().await
    }

    /// Starts everything that may start now. Returns when to check again if nothing happens before.
    fn advance(&mut self) -> Instant {
        let (now, instant) = (self.endpoint.store.now(), clock::instant());
        if self.store_retry.is_some_and(|at| at <= instant) {
            self.store_retry = None;
        }
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            self.is_stale = true;
        }
        // The clock was set back, so waiting deliveries may be due.
        self.is_stale |= now < self.checked_at;
        self.checked_at = now;
        self.settle(now);
        let mut sleep = LONGEST_SLEEP;
        let permit = self.health.permit(now);
        let state = EndpointState::of(permit, &self.health);
        self.endpoint.stats.record_state(state);
        self.endpoint.stats.record_failing(self.health.failing_since());
        match permit {
            SendPermit::Open => {
                self.select_page(PageKind::Due);
                self.start_due();
                self.fetch(now);
            }
            SendPermit::Probe => {
                self.select_page(PageKind::Waiting);
                self.start_probe();
                self.fetch(now);
            }
            SendPermit::Paused(left) => {
                self.drop_page();
                sleep = sleep.min(left);
            }
            SendPermit::Disabled => self.drop_page(),
        }
        if let Some(due) = self.next_due {
            sleep = sleep.min(clock::between(now, due));
        }
        if !self.endpoint.store.is_writable() {
            sleep = sleep.min(WRITABLE_CHECK);
        }
        let wake = instant + sleep;
        self.store_retry.map_or(wake, |at| at.min(wake))
    }

    fn take(&mut self, done: Result<(task::Id, WorkDone), JoinError>) {
        match done {
            Ok((task, WorkDone::Attempt(attempt))) => self.record_attempt(task, attempt),
            Ok((_, WorkDone::Page { kind, limit, found })) => {
                self.is_fetching = false;
                match found {
                    Ok(due) => self.take_page(kind, limit, due),
                    Err(StoreReadError::Closed) => self.store_closed = true,
                    Err(error) => self.handle_store_error(&error),
                }
            }
            Ok((_, WorkDone::Settled(result))) => self.handle_recorded(result),
            Err(error) if self.in_flight.contains_key(&error.id()) => {
                let attempt = DeliveryAttempt {
                    outcome: AttemptOutcome::NoAnswer,
                    error: "the attempt failed inside the daemon; this is a bug, please report it".to_owned(),
                };
                self.record_attempt(error.id(), attempt);
            }
            // A store task failed, and its effect is unknown.
            Err(_) => self.store_closed = true,
        }
    }

    fn reload(&mut self) {
        let settings = self.endpoint.settings.borrow_and_update().clone();
        self.health.reload(settings.target_after(&self.settings));
        self.settings = settings;
        self.generation += 1;
        self.check_secrets();
    }

    fn check_secrets(&self) {
        let is_missing = self.settings.secrets.is_empty();
        self.endpoint.stats.record_secret(is_missing);
        if is_missing {
            delivery_log::no_secret(&self.endpoint.name);
        }
    }

    /// Starts nothing new, and waits for attempts in flight.
    async fn finish(mut self) -> EndpointStopped {
        let deadline = clock::instant() + self.settings.shutdown_timeout;
        while !self.store_closed {
            let instant = clock::instant();
            self.store_retry = self.store_retry.filter(|at| *at > instant);
            self.settle(self.endpoint.store.now());
            let end = if !self.in_flight.is_empty() && instant < deadline {
                deadline
            } else if !self.settling.is_empty() && instant < deadline + LAST_SETTLE {
                deadline + LAST_SETTLE
            } else {
                break;
            };
            let wake = self.store_retry.map_or(end, |at| at.min(end));
            tokio::select! {
                biased;
                Some(done) = self.work.join_next_with_id() => self.take(done),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.work.shutdown().await;
        EndpointStopped {
            cut_short: self.in_flight.len(),
            unsettled: self.settling.len() + self.outcomes.len(),
        }
    }
}
