//! Drains one endpoint's outbox.

mod outcomes;
mod sending;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::send::DeliveryAttempt;
use super::{EndpointSettings, EndpointStopped, WebhookEndpoint, delivery_log};
use crate::clock;
use crate::core::delivery::{AttemptKind, AttemptOutcome, EndpointHealth, SendPermit};
use crate::core::event::EventType;
use crate::store::{CommitError, Delivery, DeliveryId, DueDeliveries, ReadError, Settlement};

/// The longest sleep: due times are told by the wall clock, which may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often to look whether a state that cannot be written can be again: it tells nobody.
const LOOK_WHETHER_WRITABLE: Duration = Duration::from_secs(1);
/// How long the last outcomes may take to be written down at the end.
const LAST_SETTLE: Duration = Duration::from_secs(1);

/// What one task of the endpoint came back with.
enum WorkDone {
    Attempt(DeliveryAttempt),
    Page {
        look: PageKind,
        limit: usize,
        found: Result<DueDeliveries, ReadError>,
    },
    Settled(Result<(), CommitError>),
}

/// Which deliveries a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    /// Those that are due.
    Due,
    /// Any that wait, for a probe.
    Waiting,
}

/// What has to be known of a delivery while its attempt is under way.
pub(super) struct AttemptInFlight {
    id: DeliveryId,
    pub(super) event_id: String,
    pub(super) event_type: EventType,
    pub(super) subject: String,
    pub(super) attempts: u32,
    recorded: Timestamp,
    first_attempt: Timestamp,
    replay: bool,
    kind: AttemptKind,
    /// Which settings it was sent with.
    generation: u64,
}

/// Invariant: `taken` holds the deliveries of the page, those under way, and those whose outcome is not written down
/// yet. The store gives none of them, and none of their subjects, a second time; that keeps the order.
pub(super) struct OutboxWorker {
    endpoint: WebhookEndpoint,
    settings: EndpointSettings,
    generation: u64,
    changed: watch::Receiver<u64>,
    health: EndpointHealth,
    work: JoinSet<WorkDone>,
    underway: HashMap<task::Id, AttemptInFlight>,
    taken: HashSet<DeliveryId>,
    page: VecDeque<Delivery>,
    look: PageKind,
    /// Whether the store may have more than the page shows.
    stale: bool,
    fetching: bool,
    next_due: Option<Timestamp>,
    /// When it was looked at last, by the wall clock.
    looked_at: Timestamp,
    /// Outcomes that are not being written down yet.
    outcomes: Vec<(DeliveryId, Settlement)>,
    /// Outcomes that are being written down; all of them if that failed.
    settling: Vec<(DeliveryId, Settlement)>,
    settle_runs: bool,
    /// After an error of the store: when to ask again.
    store_retry: Option<Instant>,
    told_store_error: bool,
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
            underway: HashMap::new(),
            taken: HashSet::new(),
            page: VecDeque::new(),
            look: PageKind::Due,
            stale: true,
            fetching: false,
            next_due: None,
            looked_at: Timestamp::MIN,
            outcomes: Vec::new(),
            settling: Vec::new(),
            settle_runs: false,
            store_retry: None,
            told_store_error: false,
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
                // Only a hint. A commit before this line was seen by the look that follows `stale`; one after it
                // wakes this arm again, so that none is missed.
                hint = self.changed.changed() => match hint {
                    Ok(()) => self.stale = true,
                    Err(_) => self.store_closed = true,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish().await
    }

    /// Starts all that may be started now, and tells when to look again if nothing happens before.
    fn advance(&mut self) -> Instant {
        let (now, instant) = (self.endpoint.store.now(), clock::instant());
        if self.store_retry.is_some_and(|at| at <= instant) {
            self.store_retry = None;
        }
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            self.stale = true;
        }
        // The clock was set back: what waits for a time of before may be due.
        self.stale |= now < self.looked_at;
        self.looked_at = now;
        self.settle(now);
        let mut sleep = LONGEST_SLEEP;
        let permit = self.health.permit(now);
        self.endpoint.stats.note_state(permit.into());
        match permit {
            SendPermit::Open => {
                self.look_for(PageKind::Due);
                self.start_due();
                self.fetch(now);
            }
            SendPermit::Probe => {
                self.look_for(PageKind::Waiting);
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
            sleep = sleep.min(LOOK_WHETHER_WRITABLE);
        }
        let wake = instant + sleep;
        self.store_retry.map_or(wake, |at| at.min(wake))
    }

    fn take(&mut self, done: Result<(task::Id, WorkDone), JoinError>) {
        match done {
            Ok((task, WorkDone::Attempt(attempt))) => self.record_attempt(task, attempt),
            Ok((_, WorkDone::Page { look, limit, found })) => {
                self.fetching = false;
                match found {
                    Ok(due) => self.take_page(look, limit, due),
                    Err(ReadError::Closed) => self.store_closed = true,
                    Err(error) => self.note_store_error(&error),
                }
            }
            Ok((_, WorkDone::Settled(result))) => self.note_settled(result),
            Err(error) if self.underway.contains_key(&error.id()) => {
                let attempt = DeliveryAttempt {
                    outcome: AttemptOutcome::NoAnswer,
                    error: "the attempt broke off in here; please report this defect".to_owned(),
                };
                self.record_attempt(error.id(), attempt);
            }
            // The store's own work broke off, and nothing is known of what became of it.
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
        self.endpoint.stats.note_secret(is_missing);
        if is_missing {
            delivery_log::no_secret(&self.endpoint.name);
        }
    }

    /// Starts nothing any more, and gives what is under way its time.
    async fn finish(mut self) -> EndpointStopped {
        let deadline = clock::instant() + self.settings.shutdown_timeout;
        while !self.store_closed {
            let instant = clock::instant();
            self.store_retry = self.store_retry.filter(|at| *at > instant);
            self.settle(self.endpoint.store.now());
            let end = if !self.underway.is_empty() && instant < deadline {
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
            cut_short: self.underway.len(),
            unsettled: self.settling.len() + self.outcomes.len(),
        }
    }
}
