//! What a webhook receiver's answer means for the event and for its endpoint.

use std::time::Duration;

use jiff::Timestamp;

/// Waits after the first, second, … failed attempt. After one more failed attempt the event is a dead letter.
const WAITS: [Duration; 11] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
/// The fraction of a wait that randomness may add or subtract.
const JITTER: f64 = 0.2;
/// Maximum wait that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// Attempts for an event that the endpoint refuses while it accepts others.
const ATTEMPTS_OF_A_REFUSED_EVENT: u32 = 5;
/// After this many failures in a row an endpoint is probed.
const FAILURES_UNTIL_PROBED: u32 = 5;
/// The first pause of an endpoint. Each next one without a success in between is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum pause that no receiver asked for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Minimum time between two log messages about an endpoint that alternates between failing and working.
const MIN_REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// How many probed subjects are remembered, so that probes take turns.
pub const PROBED_REMEMBERED: usize = 15;

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The endpoint answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The wait from `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No answer or no connection in time.
    TimedOut,
    /// No answer for another reason: unknown host, refused, reset, TLS, a forbidden address.
    NoAnswer,
}

/// An event at one attempt to send it.
#[derive(Debug, Clone, Copy)]
pub struct AttemptedEvent<'a> {
    /// What the event is about. Events of one subject are sent in order.
    pub subject: &'a str,
    /// Attempts before this one.
    pub attempts: u32,
    /// Time of the first attempt.
    pub first_attempt: Timestamp,
    /// Why the attempt was made.
    pub kind: AttemptKind,
}

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// The event is due.
    Ordinary,
    /// To check whether the endpoint works again.
    Probe,
}

/// What to do with the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum DeliveryDecision {
    /// It was delivered.
    Delivered,
    /// Send it again, after this time at the earliest.
    Retry {
        /// The wait.
        after: Duration,
        /// Whether this attempt counts for the event.
        counts: bool,
    },
    /// Keep it as a dead letter.
    Dead,
}

/// A change of the endpoint that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointChange {
    /// It stopped accepting events.
    Failing,
    /// It answered 410: nothing is sent until a reload.
    Disabled,
    /// It accepts events again.
    Recovered,
}

/// What may be sent to the endpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SendPermit {
    /// Everything that is due.
    Open,
    /// One event, even if it is not due, until its outcome is known.
    Probe,
    /// Nothing for this time.
    Paused(Duration),
    /// Nothing until a reload.
    Disabled,
}

/// The health of an endpoint: its recent answers, and what they mean for its backlog.
#[derive(Debug, Clone, Default)]
pub struct EndpointHealth {
    /// Failures since the last success.
    failures: u32,
    /// Subjects refused since then while the endpoint accepted others; each counts as one failure.
    refused: Vec<String>,
    pause: Option<Pause>,
    /// Pauses in a row without a success in between.
    pauses: u32,
    disabled: bool,
    /// The last probed subjects, oldest first.
    probed: Vec<String>,
    last_success: Option<Timestamp>,
    /// The first failure since the last success.
    failing_since: Option<Timestamp>,
    /// Whether the failure of the endpoint was logged.
    reported_failing: bool,
    reported_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Timestamp,
    length: Duration,
}

impl Pause {
    /// When the clock was set back, the pause starts again instead of lasting longer.
    fn left(&mut self, now: Timestamp) -> Option<Duration> {
        let passed = Duration::try_from(now.duration_since(self.since)).unwrap_or_else(|_| {
            self.since = now;
            Duration::ZERO
        });
        self.length.checked_sub(passed).filter(|left| !left.is_zero())
    }
}

impl EndpointHealth {
    /// What may be sent now.
    pub fn permit(&mut self, now: Timestamp) -> SendPermit {
        if self.disabled {
            SendPermit::Disabled
        } else if let Some(left) = self.pause.as_mut().and_then(|pause| pause.left(now)) {
            SendPermit::Paused(left)
        } else if self.is_probed() {
            SendPermit::Probe
        } else {
            SendPermit::Open
        }
    }

    /// The first failure since the last success, if it failed several times in a row.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since.filter(|_| self.is_probed())
    }

    /// Chooses the subject to probe with: one that was not probed recently, else the one probed the longest ago.
    /// `None` without subjects.
    pub fn choose_probe<'a>(&mut self, subjects: impl IntoIterator<Item = &'a str>) -> Option<usize> {
        let (index, subject) = subjects.into_iter().enumerate().min_by_key(|(_, subject)| {
            self.probed
                .iter()
                .position(|probed| probed == subject)
                .map_or(0, |n| n + 1)
        })?;
        self.probed.retain(|probed| probed != subject);
        if self.probed.len() == PROBED_REMEMBERED {
            self.probed.remove(0);
        }
        self.probed.push(subject.to_owned());
        Some(index)
    }

    /// Applies the outcome of an attempt; `random_fraction` is from 0 to 1.
    pub fn record_attempt(
        &mut self,
        attempt: AttemptedEvent<'_>,
        outcome: AttemptOutcome,
        now: Timestamp,
        random_fraction: f64,
    ) -> (DeliveryDecision, Option<EndpointChange>) {
        let retry_after = match outcome {
            AttemptOutcome::Answered {
                status: 200..=299, ..
            } => return (DeliveryDecision::Delivered, self.succeed(now)),
            AttemptOutcome::Answered { status: 410, .. } => return self.disable(now),
            AttemptOutcome::Answered { retry_after, .. } => {
                retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
            }
            AttemptOutcome::TimedOut | AttemptOutcome::NoAnswer => Duration::ZERO,
        };
        // Checked before this failure counts: the event was sent as usual.
        let is_event_refused = self.is_event_refused(&attempt, outcome);
        let decision = match attempt.kind {
            AttemptKind::Probe => DeliveryDecision::Retry {
                after: retry_after,
                counts: false,
            },
            AttemptKind::Ordinary => {
                after_failure(attempt.attempts, is_event_refused, retry_after, random_fraction)
            }
        };
        let change = self.fail(attempt.subject, is_event_refused, now);
        if pauses_endpoint(outcome) || self.is_probed() {
            self.pause(retry_after, now, random_fraction);
        }
        (decision, change)
    }

    /// A reload enables a disabled endpoint. With another URL or other secrets its failures and pauses are reset.
    pub fn reload(&mut self, target: EndpointTarget) {
        self.disabled = false;
        if target == EndpointTarget::Changed {
            self.failures = 0;
            self.failing_since = None;
            self.refused.clear();
            self.pause = None;
            self.pauses = 0;
        }
    }

    /// Whether it failed so often in a row that only probes are sent.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.failures >= FAILURES_UNTIL_PROBED
    }

    /// Whether the event is refused rather than the endpoint broken: by the status, and because others were accepted
    /// since its first attempt. Otherwise an endpoint that refuses everything would lose all events.
    fn is_event_refused(&self, attempt: &AttemptedEvent<'_>, outcome: AttemptOutcome) -> bool {
        let accepts_others = !self.is_probed()
            && self
                .last_success
                .is_some_and(|time| time >= attempt.first_attempt);
        let refused = matches!(
            outcome,
            AttemptOutcome::Answered {
                status: 400 | 404 | 405 | 413 | 422,
                ..
            }
        );
        refused && accepts_others
    }

    fn succeed(&mut self, now: Timestamp) -> Option<EndpointChange> {
        self.failures = 0;
        self.failing_since = None;
        self.refused.clear();
        self.probed.clear();
        // A running pause continues: this may answer an attempt from before it.
        self.pauses = 0;
        self.last_success = Some(now);
        std::mem::take(&mut self.reported_failing).then(|| {
            self.reported_at = Some(now);
            EndpointChange::Recovered
        })
    }

    fn disable(&mut self, now: Timestamp) -> (DeliveryDecision, Option<EndpointChange>) {
        let change = (!self.disabled).then_some(EndpointChange::Disabled);
        self.disabled = true;
        self.reported_failing = true;
        self.reported_at = Some(now);
        let decision = DeliveryDecision::Retry {
            after: Duration::ZERO,
            counts: false,
        };
        (decision, change)
    }

    fn fail(&mut self, subject: &str, is_event_refused: bool, now: Timestamp) -> Option<EndpointChange> {
        self.failing_since.get_or_insert(now);
        if !is_event_refused {
            self.failures = self.failures.saturating_add(1);
        } else if !self.refused.iter().any(|refused| refused == subject) {
            self.refused.push(subject.to_owned());
            self.failures = self.failures.saturating_add(1);
        }
        let may_report = self.reported_at.is_none_or(|reported| {
            Duration::try_from(now.duration_since(reported))
                .map_or(true, |passed| passed >= MIN_REPORT_INTERVAL)
        });
        let is_reportable = self.is_probed() || (may_report && !is_event_refused);
        (is_reportable && !self.reported_failing).then(|| {
            self.reported_failing = true;
            self.reported_at = Some(now);
            EndpointChange::Failing
        })
    }

    fn pause(&mut self, retry_after: Duration, now: Timestamp, random_fraction: f64) {
        let running = self.pause.as_mut().and_then(|pause| pause.left(now));
        let length = match running {
            // Failures of attempts in flight together cause one pause.
            Some(left) => left.max(retry_after),
            None => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16));
                self.pauses = self.pauses.saturating_add(1);
                jitter(doubled.min(LONGEST_PAUSE), random_fraction).max(retry_after)
            }
        };
        self.pause = Some(Pause { since: now, length });
    }
}

/// Whether a reload changed the URL or the secrets of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointTarget {
    /// Same URL, same secrets.
    Unchanged,
    /// Another URL, or other secrets.
    Changed,
}

/// What to do with an event after a failed attempt that counts; `attempts` were made before.
fn after_failure(
    attempts: u32,
    is_event_refused: bool,
    retry_after: Duration,
    random_fraction: f64,
) -> DeliveryDecision {
    let made = attempts.saturating_add(1);
    if is_event_refused && made >= ATTEMPTS_OF_A_REFUSED_EVENT {
        return DeliveryDecision::Dead;
    }
    let wait = usize::try_from(attempts).ok().and_then(|index| WAITS.get(index));
    wait.map_or(DeliveryDecision::Dead, |wait| DeliveryDecision::Retry {
        after: jitter(*wait, random_fraction).max(retry_after),
        counts: true,
    })
}

/// Whether the outcome pauses the whole endpoint.
fn pauses_endpoint(outcome: AttemptOutcome) -> bool {
    match outcome {
        AttemptOutcome::Answered { status, .. } => matches!(status, 429 | 502 | 504),
        AttemptOutcome::TimedOut => true,
        AttemptOutcome::NoAnswer => false,
    }
}

fn jitter(wait: Duration, random_fraction: f64) -> Duration {
    let random_fraction = if random_fraction.is_finite() {
        random_fraction.clamp(0.0, 1.0)
    } else {
        0.5
    };
    wait.mul_f64(1.0 + JITTER * (2.0 * random_fraction - 1.0))
}

#[cfg(test)]
mod tests;
