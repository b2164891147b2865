//! What a webhook receiver's answer means: for the event that was sent, and for the endpoint it was sent to.

use std::time::Duration;

use jiff::Timestamp;

/// The waits after the first, second, … failed attempt. After one attempt more the event is a dead letter.
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
/// The part of a wait that chance may add or take away.
const JITTER: f64 = 0.2;
/// No receiver can ask for a longer wait than this: a slip of its pen must not silence it for years.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// An event that the endpoint refuses while it accepts others is tried this often.
const ATTEMPTS_OF_A_REFUSED_EVENT: u32 = 5;
/// After this many failures in a row an endpoint is probed.
const FAILURES_UNTIL_PROBED: u32 = 5;
/// The first pause of an endpoint. Each next one, without a success in between, is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that no receiver asked for: a probe a minute harms nobody, and finds soon that it works again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// An endpoint that fails and works by turns is told of at most this often.
const QUIET_TIME: Duration = Duration::from_mins(1);
/// How many probed subjects are remembered, so that the next probe is another's.
pub const PROBED_REMEMBERED: usize = 15;

/// What one attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer came in time, or no connection.
    TimedOut,
    /// No answer for any other reason: no such host, refused, reset, TLS, a forbidden address.
    NoAnswer,
}

/// One attempt to send one event, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct AttemptedEvent<'a> {
    /// What the event is about: events of one subject are sent one after the other.
    pub subject: &'a str,
    /// How many attempts were counted before this one.
    pub attempts: u32,
    /// When it was tried first.
    pub first_attempt: Timestamp,
    /// Whether the attempt only asked whether the endpoint works again.
    pub kind: AttemptKind,
}

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// The event is due.
    Ordinary,
    /// To see whether the endpoint works again.
    Probe,
}

/// What becomes of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum DeliveryDecision {
    /// It was received.
    Delivered,
    /// It is sent again, after this time at the earliest.
    Retry {
        /// The wait.
        after: Duration,
        /// Whether this attempt counts as one of the event's.
        counts: bool,
    },
    /// It is given up, and kept as a dead letter.
    Dead,
}

/// What is new about the endpoint, worth one line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointChange {
    /// It stopped accepting events.
    Failing,
    /// It said 410: nothing is sent to it until a reload.
    Disabled,
    /// It accepts events again.
    Recovered,
}

/// What may be sent to the endpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SendPermit {
    /// Whatever is due.
    Open,
    /// One waiting event, due or not, and no other until its outcome is known.
    Probe,
    /// Nothing for this time.
    Paused(Duration),
    /// Nothing until a reload.
    Disabled,
}

/// How an endpoint does: what its answers were lately, and what follows for the events that wait for it.
#[derive(Debug, Clone, Default)]
pub struct EndpointHealth {
    /// Failures since the last success.
    failures: u32,
    /// The subjects that were refused since then while the endpoint accepted others; each counts as one failure.
    refused: Vec<String>,
    pause: Option<Pause>,
    /// How many pauses followed each other without a success in between.
    pauses: u32,
    disabled: bool,
    /// The subjects last probed, oldest first.
    probed: Vec<String>,
    last_success: Option<Timestamp>,
    /// Whether the log has it that the endpoint fails.
    told_failing: bool,
    told_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Timestamp,
    length: Duration,
}

impl Pause {
    /// A clock that is set back makes it begin anew: it must not wait for the day that the clock lost.
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

    /// Which of these waiting subjects to probe with: one that was not probed lately, else the one whose turn was
    /// longest ago. `None` if nothing waits.
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

    /// Takes in what an attempt met; `chance` is between 0 and 1.
    pub fn record_attempt(
        &mut self,
        tried: AttemptedEvent<'_>,
        outcome: AttemptOutcome,
        now: Timestamp,
        chance: f64,
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
        // Looked at before this failure counts: the one that makes the endpoint probed was sent as any other.
        let own_fault = self.is_own_fault(&tried, outcome);
        let verdict = match tried.kind {
            AttemptKind::Probe => DeliveryDecision::Retry {
                after: retry_after,
                counts: false,
            },
            AttemptKind::Ordinary => after_failure(tried.attempts, own_fault, retry_after, chance),
        };
        let news = self.fail(tried.subject, own_fault, now);
        if pauses_endpoint(outcome) || self.is_probed() {
            self.pause(retry_after, now, chance);
        }
        (verdict, news)
    }

    /// The settings were read anew: a disabled endpoint gets its chance, and one whose URL or secrets are others
    /// starts afresh.
    pub fn reload(&mut self, target: EndpointTarget) {
        self.disabled = false;
        if target == EndpointTarget::Changed {
            self.failures = 0;
            self.refused.clear();
            self.pause = None;
            self.pauses = 0;
        }
    }

    fn is_probed(&self) -> bool {
        self.failures >= FAILURES_UNTIL_PROBED
    }

    /// Whether it is the event that is refused, not the endpoint that is broken: the status says so, and others were
    /// accepted since the event was tried first. An endpoint that refuses everything would otherwise lose it all.
    fn is_own_fault(&self, tried: &AttemptedEvent<'_>, outcome: AttemptOutcome) -> bool {
        let accepts_others =
            !self.is_probed() && self.last_success.is_some_and(|time| time >= tried.first_attempt);
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
        self.refused.clear();
        self.probed.clear();
        // A pause that runs is not cut short: this may be the answer to an attempt from before it.
        self.pauses = 0;
        self.last_success = Some(now);
        std::mem::take(&mut self.told_failing).then(|| {
            self.told_at = Some(now);
            EndpointChange::Recovered
        })
    }

    fn disable(&mut self, now: Timestamp) -> (DeliveryDecision, Option<EndpointChange>) {
        let news = (!self.disabled).then_some(EndpointChange::Disabled);
        self.disabled = true;
        self.told_failing = true;
        self.told_at = Some(now);
        let verdict = DeliveryDecision::Retry {
            after: Duration::ZERO,
            counts: false,
        };
        (verdict, news)
    }

    fn fail(&mut self, subject: &str, own_fault: bool, now: Timestamp) -> Option<EndpointChange> {
        if !own_fault {
            self.failures = self.failures.saturating_add(1);
        } else if !self.refused.iter().any(|refused| refused == subject) {
            self.refused.push(subject.to_owned());
            self.failures = self.failures.saturating_add(1);
        }
        let quiet = self.told_at.is_none_or(|told| {
            Duration::try_from(now.duration_since(told)).map_or(true, |passed| passed >= QUIET_TIME)
        });
        let worth_telling = self.is_probed() || (quiet && !own_fault);
        (worth_telling && !self.told_failing).then(|| {
            self.told_failing = true;
            self.told_at = Some(now);
            EndpointChange::Failing
        })
    }

    fn pause(&mut self, retry_after: Duration, now: Timestamp, chance: f64) {
        let running = self.pause.as_mut().and_then(|pause| pause.left(now));
        let length = match running {
            // One of several attempts that were under way together: their failures are one reason to pause.
            Some(left) => left.max(retry_after),
            None => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16));
                self.pauses = self.pauses.saturating_add(1);
                jitter(doubled.min(LONGEST_PAUSE), chance).max(retry_after)
            }
        };
        self.pause = Some(Pause { since: now, length });
    }
}

/// Whether a reload changed where events are sent, or how they are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointTarget {
    /// Same URL, same secrets.
    Unchanged,
    /// Another URL, or other secrets.
    Changed,
}

/// What becomes of an event after a failed attempt that counts, `attempts` being those before.
fn after_failure(attempts: u32, own_fault: bool, retry_after: Duration, chance: f64) -> DeliveryDecision {
    let made = attempts.saturating_add(1);
    if own_fault && made >= ATTEMPTS_OF_A_REFUSED_EVENT {
        return DeliveryDecision::Dead;
    }
    let wait = usize::try_from(attempts).ok().and_then(|index| WAITS.get(index));
    wait.map_or(DeliveryDecision::Dead, |wait| DeliveryDecision::Retry {
        after: jitter(*wait, chance).max(retry_after),
        counts: true,
    })
}

/// Whether the outcome says that the whole endpoint wants less.
fn pauses_endpoint(outcome: AttemptOutcome) -> bool {
    match outcome {
        AttemptOutcome::Answered { status, .. } => matches!(status, 429 | 502 | 504),
        AttemptOutcome::TimedOut => true,
        AttemptOutcome::NoAnswer => false,
    }
}

fn jitter(wait: Duration, chance: f64) -> Duration {
    let chance = if chance.is_finite() {
        chance.clamp(0.0, 1.0)
    } else {
        0.5
    };
    wait.mul_f64(1.0 + JITTER * (2.0 * chance - 1.0))
}

#[cfg(test)]
mod tests;
