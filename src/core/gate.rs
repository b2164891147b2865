//! Who may ask the API now: requests in flight, an evenly spaced rate, pauses, and one probe at a time while the credentials
//! are in doubt. First come, first served.
//!
//! Times are steady: since a start that the caller chose, by a clock that never steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::compact_duration::CompactDuration;

/// A timer may fire this much too late on a busy machine. The requests behind it catch up instead of being late, too.
const TIMER_DELAY: Duration = Duration::from_millis(50);
/// The longest time between two requests, for rates next to zero.
const LONGEST_SPACING: f64 = 3600.0;

/// What holds the project's polls back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restriction {
    /// Nobody polls before this (steady time).
    pub paused_until: Option<Duration>,
    /// One poll at a time goes out, to learn whether the credentials are good.
    pub probing: Option<CredentialsProbe>,
}

/// How the credentials are probed.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialsProbe {
    /// The next probe does not go out before this (steady time).
    pub not_before: Duration,
    /// The operation whose answer raised the doubt; another one is the probe.
    pub doubted_by: Option<Arc<str>>,
}

/// How much a project may ask of the API.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestLimits {
    /// Requests in flight; at least one is always allowed.
    pub concurrent: usize,
    /// Requests a second.
    pub per_second: f64,
}

impl RequestLimits {
    fn spacing(&self) -> Duration {
        let seconds = if self.per_second > 0.0 {
            (1.0 / self.per_second).min(LONGEST_SPACING)
        } else {
            LONGEST_SPACING
        };
        Duration::from_secs_f64(seconds)
    }
}

/// A place in the queue. Places are never given twice, and the lowest is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(i64);

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub enum Admission<T> {
    /// This request starts now. It counts as in flight until [`Gate::release`].
    Admit(Admitted<T>),
    /// A probe may start now: the caller chooses it and calls [`Gate::start_probe`].
    Probe,
    /// Nothing starts before this time.
    WaitUntil(Duration),
    /// Nothing starts before a request ends, joins, or the hold changes.
    Closed,
}

/// A request that was let through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admitted<T> {
    /// What joined the queue.
    pub who: T,
    /// How long it waited, pauses and doubts aside.
    pub queued: Duration,
}

/// How a request passed the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// In its turn.
    Turn,
    /// As the one probe.
    Probe,
}

/// The gate of one project.
#[derive(Debug)]
pub struct Gate<T> {
    limits: RequestLimits,
    queue: BTreeMap<Ticket, Waiting<T>>,
    /// The next places at the end and at the front.
    last: i64,
    first: i64,
    in_flight: usize,
    has_probe: bool,
    /// The earliest time for the next request, as far as the rate goes.
    next_turn: Duration,
    /// Since when there has been room for a request.
    free_since: Duration,
    restriction: Restriction,
    restriction_changed: Duration,
    /// How long requests were held back before `restriction_changed`.
    blocked: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    who: T,
    came: CompactDuration,
    blocked_before: CompactDuration,
}

impl<T: Copy> Gate<T> {
    /// A gate without a queue.
    #[must_use]
    pub fn new(limits: RequestLimits, restriction: Restriction, now: Duration) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            last: 0,
            first: -1,
            in_flight: 0,
            has_probe: false,
            next_turn: now,
            free_since: now,
            restriction,
            restriction_changed: now,
            blocked: Duration::ZERO,
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// Changes the limits. Requests in flight continue.
    pub fn set_limits(&mut self, limits: RequestLimits, now: Duration) {
        let spacing = self.limits.spacing();
        if self.in_flight >= self.concurrent() {
            self.free_since = now;
        }
        self.limits = limits;
        // A turn that was far away at the old rate is not waited for at a new one.
        let new = limits.spacing();
        if new < spacing {
            self.next_turn = self.next_turn.min(now.saturating_add(new));
        }
    }

    /// Changes what holds requests back.
    pub fn set_restriction(&mut self, restriction: Restriction, now: Duration) {
        if self.restriction != restriction {
            self.blocked = self.blocked_time(now);
            self.free_since = self.free_since.max(self.opened(now));
            self.restriction_changed = now;
            self.restriction = restriction;
        }
    }

    /// The caller asks again after a time in which it let nothing through. That time is not caught up.
    pub fn reopen(&mut self, now: Duration) {
        self.free_since = now;
    }

    /// Whether requests go out one by one, as probes.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.restriction.probing.is_some()
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How long requests have been held back by pauses and doubts until `now`, since the start.
    #[must_use]
    pub fn blocked_time(&self, now: Duration) -> Duration {
        let until = match (&self.restriction.probing, self.restriction.paused_until) {
            (Some(_), _) => now,
            (None, Some(until)) => until.min(now),
            (None, None) => self.restriction_changed,
        };
        self.blocked + until.saturating_sub(self.restriction_changed)
    }

    /// Joins the end of the queue.
    pub fn join(&mut self, who: T, now: Duration) -> Ticket {
        let ticket = Ticket(self.last);
        self.last += 1;
        self.take_place(ticket, who, now);
        ticket
    }

    /// Joins the front of the queue: a request that was not processed is repeated in the next slot.
    pub fn join_front(&mut self, who: T, now: Duration) -> Ticket {
        let ticket = Ticket(self.first);
        self.first -= 1;
        self.take_place(ticket, who, now);
        ticket
    }

    fn take_place(&mut self, ticket: Ticket, who: T, now: Duration) {
        let waiting = Waiting {
            who,
            came: now.into(),
            blocked_before: self.blocked_time(now).into(),
        };
        self.queue.insert(ticket, waiting);
    }

    /// Leaves the queue. The others keep their order.
    pub fn leave(&mut self, ticket: Ticket) {
        self.queue.remove(&ticket);
    }

    /// Lets the next request through, if one may start `now`.
    pub fn admit(&mut self, now: Duration) -> Admission<T> {
        let is_probing = self.is_probing();
        if (is_probing && self.has_probe) || (!is_probing && self.queue.is_empty()) {
            return Admission::Closed;
        }
        let not_before = self
            .restriction
            .probing
            .as_ref()
            .map(|probing| probing.not_before);
        if let Some(until) = self.restriction.paused_until.max(not_before)
            && until > now
        {
            return Admission::WaitUntil(until);
        }
        if self.in_flight >= self.concurrent() {
            return Admission::Closed;
        }
        if self.next_turn > now {
            return Admission::WaitUntil(self.next_turn);
        }
        if is_probing {
            return Admission::Probe;
        }
        let Some((_, waiting)) = self.queue.pop_first() else {
            return Admission::Closed;
        };
        self.take_turn(waiting.came.get().max(self.opened(now)), now);
        let blocked = self
            .blocked_time(now)
            .saturating_sub(waiting.blocked_before.get());
        Admission::Admit(Admitted {
            who: waiting.who,
            queued: now.saturating_sub(waiting.came.get()).saturating_sub(blocked),
        })
    }

    /// The probe that [`admit`](Self::admit) allowed starts; it has left the queue.
    pub fn start_probe(&mut self, now: Duration) {
        self.has_probe = true;
        self.take_turn(now, now);
    }

    /// A request has ended, however that was.
    pub fn release(&mut self, pass: Pass, now: Duration) {
        if self.in_flight >= self.concurrent() {
            self.free_since = now;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        if pass == Pass::Probe {
            self.has_probe = false;
        }
    }

    fn concurrent(&self) -> usize {
        self.limits.concurrent.max(1)
    }

    /// Since when nothing but the rate has kept requests from starting.
    fn opened(&self, now: Duration) -> Duration {
        let unheld = match self.restriction.paused_until {
            Some(until) => until.min(now).max(self.restriction_changed),
            None => self.restriction_changed,
        };
        self.free_since.max(unheld)
    }

    /// A request starts that could have started at `ready`, were it not for the rate.
    fn take_turn(&mut self, ready: Duration, now: Duration) {
        let turn = self
            .next_turn
            .max(ready)
            .max(now.saturating_sub(TIMER_DELAY))
            .min(now);
        self.next_turn = turn.saturating_add(self.limits.spacing());
        self.in_flight += 1;
    }
}

#[cfg(test)]
mod tests;
