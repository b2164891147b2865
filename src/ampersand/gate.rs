//! What all pollers of a project pass before they ask: so many in flight, so many a second, and nobody while the
//! project is paused or its credentials are in doubt. First come, first served.

mod sign;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::core::project::Hold;
use sign::{Reader, Sign};

/// How much a project may ask of the API.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests in flight.
    pub concurrent: usize,
    /// Requests a second.
    pub per_second: f64,
}

/// The gate of one project.
#[derive(Debug)]
pub struct Gate {
    /// Fair: tokio's semaphore serves its waiters in the order of their coming.
    slots: Semaphore,
    turns: Mutex<Turns>,
    /// Slots to take away when they come back, after the limit was lowered.
    surplus: AtomicUsize,
    hold: Sign,
    /// The one place in front of a closed gate from which a probe goes out. Fair too: each watch in its turn.
    lane: Semaphore,
    /// Calls one sleeping poller to the gate, when a probe is wanted and nobody may be due for long.
    summons: Notify,
    /// What steady time counts from.
    start: Instant,
}

#[derive(Debug)]
struct Turns {
    limits: Limits,
    next: Instant,
}

/// The right to ask once; gives its slot back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    gate: &'a Gate,
    slot: Option<SemaphorePermit<'a>>,
    lane: Option<SemaphorePermit<'a>>,
    /// How long the project was held back by a pause or by its credentials.
    pub held: Duration,
    /// How long this poll stood in the queue of an open gate.
    pub queued: Duration,
}

impl Permit<'_> {
    /// Whether it lets a probe through.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.lane.is_some()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let surplus = &self.gate.surplus;
        let taken = surplus.try_update(Ordering::AcqRel, Ordering::Acquire, |surplus| {
            surplus.checked_sub(1)
        });
        if let (Ok(_), Some(slot)) = (taken, self.slot.take()) {
            slot.forget();
        }
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new(limits: Limits, start: Instant) -> Self {
        Self {
            slots: Semaphore::new(limits.concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            turns: Mutex::new(Turns { limits, next: start }),
            surplus: AtomicUsize::new(0),
            hold: Sign::default(),
            lane: Semaphore::new(1),
            summons: Notify::new(),
            start,
        }
    }

    /// What holds the polls back from now on.
    pub fn set_hold(&self, hold: Hold) {
        let probing = hold.probing.is_some();
        if self.hold.write(hold) && probing {
            self.summons.notify_one();
        }
    }

    /// Whether polls go out one by one, as probes.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.hold.look(|hold| hold.probing.is_some())
    }

    /// Ends when this poller is called to the gate before it is due.
    pub async fn summoned(&self) {
        self.summons.notified().await;
    }

    /// Waits until no doubt about the credentials is left that `operation` raised.
    pub async fn doubt_resolved(&self, operation: &str) {
        let doubted = |hold: &Hold| {
            hold.probing
                .as_ref()
                .and_then(|probing| probing.doubted_by.as_deref())
                == Some(operation)
        };
        let mut hold = self.hold.reader();
        while doubted(&hold.see()) {
            hold.changed().await;
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.turns().limits
    }

    /// Changes the limits. Requests in flight are not disturbed.
    pub fn set_limits(&self, limits: Limits) {
        let mut turns = self.turns();
        let (before, after) = (turns.limits.concurrent.max(1), limits.concurrent.max(1));
        turns.limits = limits;
        drop(turns);
        if after >= before {
            let debt = self.surplus.swap(0, Ordering::AcqRel);
            let more = (after - before).saturating_sub(debt);
            self.surplus
                .fetch_add(debt.saturating_sub(after - before), Ordering::AcqRel);
            self.slots.add_permits(more);
        } else {
            let fewer = before - after;
            let gone = self.slots.forget_permits(fewer);
            self.surplus.fetch_add(fewer - gone, Ordering::AcqRel);
        }
    }

    /// Waits for the right to ask for `operation` once. Dropping the future gives up the place in the queue.
    pub async fn admit(&self, operation: &str) -> Permit<'_> {
        let mut hold = self.hold.reader();
        let mut held = Duration::ZERO;
        let mut queued = Duration::ZERO;
        loop {
            let came = clock::instant();
            let lane = self.wait_until_open(operation, &mut hold).await;
            let open = clock::instant();
            held += open - came;
            let slot = self.slots.acquire().await.ok();
            let turn = self.take_turn();
            if turn > open {
                sleep_until(turn).await;
            }
            queued += clock::instant() - open;
            // The gate may have closed while this poll stood in the queue: then it waits with the others. A probe
            // goes on, unless there is nothing to probe any more.
            let closed = hold.has_changed() && !self.hold.look(|hold| self.lets(hold, lane.is_some()));
            if !closed {
                return Permit {
                    gate: self,
                    slot,
                    lane,
                    held,
                    queued,
                };
            }
        }
    }

    fn lets(&self, hold: &Hold, probe: bool) -> bool {
        let paused = hold
            .paused_until
            .is_some_and(|until| self.start + until > clock::instant());
        !paused && hold.probing.is_some() == probe
    }

    /// Waits until polls may pass, or until this one is the next probe: then it has the lane.
    async fn wait_until_open(&self, operation: &str, hold: &mut Reader<'_>) -> Option<SemaphorePermit<'_>> {
        let mut lane = None;
        loop {
            // Seen before looked at, so that a change after this look ends the wait below.
            let current = hold.see();
            if let Some(until) = current.paused_until.map(|until| self.start + until)
                && until > clock::instant()
            {
                tokio::select! {
                    biased;
                    () = sleep_until(until) => {}
                    () = hold.changed() => {}
                }
                continue;
            }
            let probing = current.probing?;
            if probing.doubted_by.as_deref() == Some(operation) {
                hold.changed().await;
                continue;
            }
            if lane.is_none() {
                lane = self.queue_as_probe(operation, hold).await;
                continue;
            }
            let not_before = self.start + probing.not_before;
            if not_before <= clock::instant() && !hold.has_changed() {
                return lane;
            }
            tokio::select! {
                biased;
                () = sleep_until(not_before) => {}
                () = hold.changed() => {}
            }
        }
    }

    /// Waits for the lane; `None` when there is nothing to probe any more. Keeps its place in the queue while one probe
    /// after another fails.
    async fn queue_as_probe(&self, operation: &str, hold: &mut Reader<'_>) -> Option<SemaphorePermit<'_>> {
        let lane = self.lane.acquire();
        tokio::pin!(lane);
        loop {
            tokio::select! {
                biased;
                permit = &mut lane => return permit.ok(),
                () = hold.changed() => {
                    let current = hold.see();
                    let waits = current
                        .probing
                        .as_ref()
                        .is_some_and(|probing| probing.doubted_by.as_deref() != Some(operation));
                    if !waits {
                        return None;
                    }
                }
            }
        }
    }

    /// The moment at which the next request may start. Evenly spaced, without bursts: in no second are there more
    /// than the limit.
    fn take_turn(&self) -> Instant {
        let mut turns = self.turns();
        let turn = turns.next.max(clock::instant());
        let per_second = turns.limits.per_second;
        let spacing = if per_second > 0.0 {
            (1.0 / per_second).min(3600.0)
        } else {
            3600.0
        };
        turns.next = turn + Duration::from_secs_f64(spacing);
        turn
    }

    fn turns(&self) -> std::sync::MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
