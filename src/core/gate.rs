//! Limits all requests of a project: requests in flight, an even rate, pauses, and one probe at a time while the
//! credentials are in doubt. First come, first served; requests in the background take the turns that are left, and at least
//! one in ten.
//!
//! Times are relative to a start that the caller chose, on a monotonic clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compact_duration::CompactDuration;

mod saturation;

pub use saturation::{PollDelay, Saturation};

/// A timer may fire this late on a busy machine. Later requests catch up instead of being late too.
const TIMER_DELAY: Duration = Duration::from_millis(50);
/// After so many turns in a row, a waiting background request has the next one.
const TURNS_IN_A_ROW: u32 = 9;
/// Maximum time between two requests, for rates near zero.
const LONGEST_SPACING: f64 = 3600.0;

/// What stops or restricts polls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restriction {
    /// No poll is sent before this time.
    pub paused_until: Option<Duration>,
    /// Only one probe at a time is sent, to check the credentials.
    pub probing: Option<CredentialsProbe>,
}

/// The probe of the credentials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CredentialsProbe {
    /// The next probe is not sent before this time.
    pub not_before: Duration,
}

/// Limits of a project's requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestLimits {
    /// Requests in flight; 0 counts as 1.
    pub concurrent: usize,
    /// Requests per second.
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

/// A place in a queue, used once. The lowest is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(i64);

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// It is first come, first served.
    Normal,
    /// It takes the turns that normal requests leave, and at least one in ten.
    Background,
}

/// Whether a request may start.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub enum Admission<T> {
    /// This request starts now. It is in flight until [`Gate::release`].
    Admit(Admitted<T>),
    /// A probe may start now: the caller chooses the watch and calls [`Gate::start_probe`].
    Probe,
    /// Nothing starts before this time.
    WaitUntil(Duration),
    /// Nothing starts until a request ends or joins, or the restriction changes.
    Closed,
}

/// An admitted request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admitted<T> {
    /// The value given to [`Gate::join`].
    pub requester: T,
    /// Time in the queue, without pauses and doubts.
    pub queued: Duration,
}

/// How a request was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// In its turn.
    Turn,
    /// As the probe.
    Probe,
}

/// The gate of one project.
#[derive(Debug)]
pub struct Gate<T> {
    limits: RequestLimits,
    queue: BTreeMap<Ticket, Waiting<T>>,
    background: BTreeMap<Ticket, Waiting<T>>,
    /// Normal requests since the last one in the background, while one waits.
    turns: u32,
    /// The next tickets at the end and at the front.
    last: i64,
    first: i64,
    in_flight: usize,
    has_probe: bool,
    /// Earliest time of the next request by the rate.
    next_turn: Duration,
    /// Since when a request may start by the limit of requests in flight.
    free_since: Duration,
    restriction: Restriction,
    restriction_changed: Duration,
    /// Time in which requests were blocked before `restriction_changed`.
    blocked: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    requester: T,
    joined: CompactDuration,
    blocked_before: CompactDuration,
}

impl<T: Copy> Gate<T> {
    /// A gate with an empty queue.
    #[must_use]
    pub fn new(limits: RequestLimits, restriction: Restriction, now: Duration) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            background: BTreeMap::new(),
            turns: 0,
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

    /// The current limits.
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
        // With a higher rate, the next request may start earlier.
        let new = limits.spacing();
        if new < spacing {
            self.next_turn = self.next_turn.min(now.saturating_add(new));
        }
    }

    /// Changes the restriction.
    pub fn set_restriction(&mut self, restriction: Restriction, now: Duration) {
        if self.restriction != restriction {
            self.blocked = self.blocked_time(now);
            self.free_since = self.free_since.max(self.opened(now));
            self.restriction_changed = now;
            self.restriction = restriction;
        }
    }

    /// Called after a time in which nothing was admitted. That time is not caught up.
    pub fn reopen(&mut self, now: Duration) {
        self.free_since = now;
    }

    /// Whether requests are sent one by one, as probes.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.restriction.probing.is_some()
    }

    /// The number of requests in the queue, without those in the background.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Total time until `now` in which requests were blocked by pauses and doubts.
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
    pub fn join(&mut self, requester: T, now: Duration) -> Ticket {
        self.join_with(Priority::Normal, requester, now)
    }

    /// Joins the end of the queue of this priority.
    pub fn join_with(&mut self, priority: Priority, requester: T, now: Duration) -> Ticket {
        let ticket = Ticket(self.last);
        self.last += 1;
        let waiting = self.waiting_since(requester, now);
        match priority {
            Priority::Normal => self.queue.insert(ticket, waiting),
            Priority::Background => self.background.insert(ticket, waiting),
        };
        ticket
    }

    /// Joins the front of the queue, to repeat a request in the next slot.
    pub fn join_front(&mut self, requester: T, now: Duration) -> Ticket {
        let ticket = Ticket(self.first);
        self.first -= 1;
        let waiting = self.waiting_since(requester, now);
        self.queue.insert(ticket, waiting);
        ticket
    }

    fn waiting_since(&self, requester: T, now: Duration) -> Waiting<T> {
        Waiting {
            requester,
            joined: now.into(),
            blocked_before: self.blocked_time(now).into(),
        }
    }

    /// Joins the queue of normal requests again, at the place that it left.
    pub fn rejoin(&mut self, ticket: Ticket, requester: T, now: Duration) {
        let waiting = self.waiting_since(requester, now);
        self.queue.insert(ticket, waiting);
    }

    /// Leaves the queue.
    pub fn leave(&mut self, ticket: Ticket) {
        if self.queue.remove(&ticket).is_none() {
            self.background.remove(&ticket);
        }
    }

    /// Admits the next request, if one may start `now`.
    pub fn admit(&mut self, now: Duration) -> Admission<T> {
        let is_probing = self.is_probing();
        if (is_probing && self.has_probe)
            || (!is_probing && self.queue.is_empty() && self.background.is_empty())
        {
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
        let Some(waiting) = self.next_waiting() else {
            return Admission::Closed;
        };
        self.start_request(waiting.joined.get().max(self.opened(now)), now);
        let blocked = self
            .blocked_time(now)
            .saturating_sub(waiting.blocked_before.get());
        Admission::Admit(Admitted {
            requester: waiting.requester,
            queued: now.saturating_sub(waiting.joined.get()).saturating_sub(blocked),
        })
    }

    fn next_waiting(&mut self) -> Option<Waiting<T>> {
        let is_background_due = self.queue.is_empty() || self.turns >= TURNS_IN_A_ROW;
        if is_background_due && let Some((_, waiting)) = self.background.pop_first() {
            self.turns = 0;
            return Some(waiting);
        }
        if self.background.is_empty() {
            self.turns = 0;
        } else {
            self.turns += 1;
        }
        self.queue.pop_first().map(|(_, waiting)| waiting)
    }

    /// Starts the probe that [`admit`](Self::admit) allowed. Its watch has left the queue.
    pub fn start_probe(&mut self, now: Duration) {
        self.has_probe = true;
        self.start_request(now, now);
    }

    /// A request has ended.
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

    /// Since when only the rate limits requests.
    fn opened(&self, now: Duration) -> Duration {
        let unblocked = match self.restriction.paused_until {
            Some(until) => until.min(now).max(self.restriction_changed),
            None => self.restriction_changed,
        };
        self.free_since.max(unblocked)
    }

    /// Counts a request that could have started at `ready`, but for the rate.
    fn start_request(&mut self, ready: Duration, now: Duration) {
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
