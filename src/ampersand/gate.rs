//! What all pollers of a project pass before they ask: so many in flight, so many a second, and nobody while the
//! project is paused or its credentials are in doubt. First come, first served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::core::project::Hold;

/// Whoever sleeps until its turn may wake up so much too late, on a busy machine: that must not make all turns behind it late
/// as well.
const WAKES_LATE: Duration = Duration::from_millis(50);

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
    /// The one queue: whoever is at the door is next, and stays there through pauses. So who met the reason for a pause is
    /// behind all others afterwards. Fair: tokio's semaphore serves its waiters in the order of their coming.
    door: Semaphore,
    slots: Semaphore,
    turns: Mutex<Turns>,
    /// Slots to take away when they come back, after the limit was lowered.
    surplus: AtomicUsize,
    hold: watch::Sender<Sign>,
    /// Room for the one probe that may be under way.
    lane: Semaphore,
    /// Whether one sleeping poller is called to the gate: a probe is wanted, and nobody may be due for long.
    summons: AtomicBool,
    /// Rung when one is.
    bell: Arc<Notify>,
    /// What steady time counts from.
    start: Instant,
}

#[derive(Debug)]
struct Turns {
    limits: Limits,
    next: Instant,
    /// By how much whoever slept until its turn last woke up too late, as far as nobody behind it has made up for that.
    late: Duration,
}

/// What is written at the gate for all to see.
#[derive(Debug, Default)]
struct Sign {
    hold: Hold,
    /// When that was written, in steady time.
    at: Duration,
    /// For how long polls had been held back until then.
    held: Duration,
}

impl Sign {
    /// For how long, all in all, polls were held back until `now`.
    fn held(&self, now: Duration) -> Duration {
        let until = match (&self.hold.probing, self.hold.paused_until) {
            (Some(_), _) => now,
            (None, Some(until)) => until.min(now),
            (None, None) => self.at,
        };
        self.held + until.saturating_sub(self.at)
    }

    fn is_doubted_by(&self, operation: &str) -> bool {
        let probing = self.hold.probing.as_ref();
        probing.is_some_and(|probing| probing.doubted_by.as_deref() == Some(operation))
    }
}

/// The right to ask once; gives its slot back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    _slot: Slot<'a>,
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

/// A place among the requests in flight.
#[derive(Debug)]
struct Slot<'a> {
    surplus: &'a AtomicUsize,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let taken = self
            .surplus
            .try_update(Ordering::AcqRel, Ordering::Acquire, |surplus| {
                surplus.checked_sub(1)
            });
        if let (Ok(_), Some(permit)) = (taken, self.permit.take()) {
            permit.forget();
        }
    }
}

/// How a poll gets past what holds the project back.
enum Way<'a> {
    /// Nothing does, since then, in steady time.
    Open { since: Duration },
    /// As the one probe.
    Probe(SemaphorePermit<'a>),
    /// Not before others have probed: it was this operation that raised the doubt.
    Barred,
}

impl Gate {
    /// An open gate. It rings `bell` when it calls a sleeping poller.
    #[must_use]
    pub fn new(limits: Limits, start: Instant, bell: Arc<Notify>) -> Self {
        Self {
            door: Semaphore::new(1),
            slots: Semaphore::new(limits.concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            turns: Mutex::new(Turns {
                limits,
                next: start,
                late: Duration::ZERO,
            }),
            surplus: AtomicUsize::new(0),
            hold: watch::Sender::default(),
            lane: Semaphore::new(1),
            summons: AtomicBool::new(false),
            bell,
            start,
        }
    }

    /// What holds the polls back from now on.
    pub fn set_hold(&self, hold: Hold) {
        let now = self.steady_now();
        let probing = hold.probing.is_some();
        let changed = self.hold.send_if_modified(|sign| {
            let changes = sign.hold != hold;
            if changes {
                *sign = Sign {
                    held: sign.held(now),
                    at: now,
                    hold,
                };
            }
            changes
        });
        if changed && probing {
            self.summons.store(true, Ordering::Release);
            self.bell.notify_one();
        }
    }

    /// Whether polls go out one by one, as probes.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.hold.borrow().hold.probing.is_some()
    }

    /// Whether it calls a sleeping poller, before that is due.
    #[must_use]
    pub fn is_calling(&self) -> bool {
        self.summons.load(Ordering::Acquire)
    }

    /// Answers the call, if there is one; whether there is still something to probe.
    #[must_use]
    pub fn answer_call(&self) -> bool {
        self.summons.swap(false, Ordering::AcqRel) && self.is_probing()
    }

    /// Waits until no doubt about the credentials is left that `operation` raised.
    pub async fn doubt_resolved(&self, operation: &str) {
        let mut sign = self.hold.subscribe();
        // An error would mean that there is no gate any more.
        let _ = sign.wait_for(|sign| !sign.is_doubted_by(operation)).await;
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
        let came = self.steady_now();
        let held_before = self.hold.borrow().held(came);
        let (slot, lane) = loop {
            let door = self.door.acquire().await;
            if let Some(passed) = self.pass(operation, came).await {
                break passed;
            }
            // Here it would hold up those who are to probe.
            drop(door);
            self.doubt_resolved(operation).await;
        };
        let now = self.steady_now();
        let held = self.hold.borrow().held(now).saturating_sub(held_before);
        Permit {
            _slot: slot,
            lane,
            held,
            queued: (now - came).saturating_sub(held),
        }
    }

    fn steady_now(&self) -> Duration {
        clock::instant().saturating_duration_since(self.start)
    }

    /// Waits at the door until this poll, which came to the gate at `came`, may go out, with the lane if it is a probe;
    /// `None` if others have to probe first, since it was this operation that raised the doubt.
    async fn pass(&self, operation: &str, came: Duration) -> Option<(Slot<'_>, Option<SemaphorePermit<'_>>)> {
        let mut sign = self.hold.subscribe();
        loop {
            let (opened, lane) = match self.wait_until_open(operation, &mut sign).await {
                Way::Open { since } => (since, None),
                Way::Probe(lane) => (self.steady_now(), Some(lane)),
                Way::Barred => return None,
            };
            // Nobody else takes one: this poll is at the door.
            let (permit, ready) = match self.slots.try_acquire() {
                Ok(permit) => (Some(permit), came.max(opened)),
                Err(_) => (self.slots.acquire().await.ok(), self.steady_now()),
            };
            let slot = Slot {
                permit,
                surplus: &self.surplus,
            };
            let turn = self.take_turn(ready);
            if turn > clock::instant() {
                sleep_until(turn).await;
                let late = clock::instant().saturating_duration_since(turn);
                self.turns().late = late.min(WAKES_LATE);
            }
            // The gate may have closed meanwhile. A probe goes on, unless there is nothing to probe any more.
            if self.lets(&self.hold.borrow().hold, lane.is_some()) {
                return Some((slot, lane));
            }
        }
    }

    fn lets(&self, hold: &Hold, probe: bool) -> bool {
        let paused = hold
            .paused_until
            .is_some_and(|until| self.start + until > clock::instant());
        !paused && hold.probing.is_some() == probe
    }

    /// Waits until polls may pass, or until this one may go out as a probe: then it has the lane.
    async fn wait_until_open(&self, operation: &str, sign: &mut watch::Receiver<Sign>) -> Way<'_> {
        let mut lane = None;
        loop {
            // Seen before looked at, so that a change after this look ends the wait below.
            let (written, paused_until, not_before) = {
                let sign = sign.borrow_and_update();
                if sign.is_doubted_by(operation) {
                    return Way::Barred;
                }
                let probing = sign.hold.probing.as_ref();
                let not_before = probing.map(|probing| probing.not_before);
                (sign.at, sign.hold.paused_until, not_before)
            };
            let wait_until = paused_until.max(not_before).map(|until| self.start + until);
            match (wait_until, not_before) {
                (Some(until), _) if until > clock::instant() => {
                    tokio::select! {
                        biased;
                        () = sleep_until(until) => {}
                        _ = sign.changed() => {}
                    }
                }
                (_, None) => {
                    let since = paused_until.map_or(written, |until| until.max(written));
                    return Way::Open { since };
                }
                (_, Some(_)) => match lane.take() {
                    Some(lane) => return Way::Probe(lane),
                    None => {
                        tokio::select! {
                            biased;
                            permit = self.lane.acquire() => lane = permit.ok(),
                            _ = sign.changed() => {}
                        }
                    }
                },
            }
        }
    }

    /// The moment at which the next request may start, for which a poll has been ready since then. Evenly spaced, without
    /// bursts: in no second are there more than the limit.
    fn take_turn(&self, ready: Duration) -> Instant {
        let now = clock::instant();
        let mut turns = self.turns();
        let earliest = (self.start + ready).max(now.checked_sub(turns.late).unwrap_or(now));
        let turn = turns.next.max(earliest);
        turns.late = now.saturating_duration_since(turn);
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
