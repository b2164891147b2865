//! Counts the deliveries of one endpoint.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::delivery::{EndpointHealth, SendPermit};

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// The outcome of an attempt: a value of the label `outcome`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DeliveryOutcome { $($(#[$doc])* $variant,)* }

        impl DeliveryOutcome {
            /// All outcomes.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

outcomes! {
    /// The receiver accepted the event.
    Delivered => "delivered",
    /// The attempt failed and counts; the event is sent again.
    Retried => "retried",
    /// The attempt failed and does not count: a probe, or the endpoint is disabled.
    Held => "held",
    /// The event is a dead letter.
    Dead => "dead",
}

/// Whether due events are sent to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// They are sent.
    Open,
    /// The endpoint failed several times in a row: one event at a time is sent as a probe, with pauses in between.
    Probing,
    /// The endpoint is paused, and has not failed that often.
    Paused,
    /// The endpoint answered 410: nothing is sent until a reload.
    Disabled,
}

impl EndpointState {
    const ALL: [Self; 4] = [Self::Open, Self::Probing, Self::Paused, Self::Disabled];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Probing => "probing",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    /// The state of an endpoint to which this may be sent.
    pub(super) fn of(permit: SendPermit, health: &EndpointHealth) -> Self {
        match permit {
            SendPermit::Open => Self::Open,
            SendPermit::Probe => Self::Probing,
            // Between two probes it is paused, and still fails.
            SendPermit::Paused(_) if health.is_probed() => Self::Probing,
            SendPermit::Paused(_) => Self::Paused,
            SendPermit::Disabled => Self::Disabled,
        }
    }
}

/// The upper bounds of the delay histogram in seconds; one more bucket has no bound.
pub const DELAY_BOUNDS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0,
];

/// The counters of one endpoint since the start, and its state.
#[derive(Debug, Default)]
pub struct DeliveryStats {
    /// An index into [`EndpointState::ALL`].
    state: AtomicU8,
    /// When its failures in a row began, in milliseconds since 1970; 0 if it does not fail.
    failing_since: AtomicI64,
    lacks_secret: AtomicBool,
    outcomes: [AtomicU64; DeliveryOutcome::ALL.len()],
    delays: [AtomicU64; DELAY_BOUNDS.len() + 1],
    delay_micros: AtomicU64,
}

/// Times from recording an event to its delivery, without replays.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryDelays {
    /// How many delays are in each bucket (not cumulative).
    pub buckets: [u64; DELAY_BOUNDS.len() + 1],
    /// The sum in seconds.
    pub sum: f64,
}

impl DeliveryStats {
    /// The number of attempts with this outcome.
    #[must_use]
    pub fn count(&self, outcome: DeliveryOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> EndpointState {
        EndpointState::ALL[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// When its failures in a row began, if there are too many.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        let millis = self.failing_since.load(Ordering::Relaxed);
        Timestamp::from_millisecond(millis).ok().filter(|_| millis != 0)
    }

    /// Whether it has no secret, so that nothing is sent.
    #[must_use]
    pub fn lacks_secret(&self) -> bool {
        self.lacks_secret.load(Ordering::Relaxed)
    }

    /// The delays so far.
    #[must_use]
    pub fn delays(&self) -> DeliveryDelays {
        DeliveryDelays {
            buckets: self
                .delays
                .each_ref()
                .map(|bucket| bucket.load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.delay_micros.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }

    pub(super) fn record_state(&self, state: EndpointState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(in crate::report) fn record_failing(&self, since: Option<Timestamp>) {
        let millis = since.map_or(0, Timestamp::as_millisecond);
        self.failing_since.store(millis, Ordering::Relaxed);
    }

    pub(super) fn record_secret(&self, is_missing: bool) {
        self.lacks_secret.store(is_missing, Ordering::Relaxed);
    }

    pub(super) fn count_outcome(&self, outcome: DeliveryOutcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_delay(&self, delay: Duration) {
        let bucket = DELAY_BOUNDS.partition_point(|bound| *bound < delay.as_secs_f64());
        self.delays[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.delay_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::delivery::{AttemptKind, AttemptOutcome, AttemptedEvent};

    #[test]
    fn a_failing_endpoint_is_probing_also_between_two_probes() {
        let mut health = EndpointHealth::default();
        let now = Timestamp::UNIX_EPOCH;
        let mut states = Vec::new();
        for attempts in 0..6 {
            let attempt = AttemptedEvent {
                subject: "op-1",
                attempts,
                first_attempt: now,
                kind: AttemptKind::Ordinary,
            };
            let _ = health.record_attempt(attempt, AttemptOutcome::TimedOut, now, 0.5);
            let permit = health.permit(now);
            assert!(matches!(permit, SendPermit::Paused(_)), "{permit:?}");
            states.push(EndpointState::of(permit, &health));
        }
        let (paused, probing) = states.split_at(4);
        assert!(
            paused.iter().all(|state| *state == EndpointState::Paused),
            "{states:?}"
        );
        assert!(
            probing.iter().all(|state| *state == EndpointState::Probing),
            "{states:?}"
        );
    }

    #[test]
    fn a_delay_on_a_bound_is_within_it() {
        let stats = DeliveryStats::default();
        for millis in [0, 10, 11, 100_000_000] {
            stats.record_delay(Duration::from_millis(millis));
        }
        let delays = stats.delays();
        assert_eq!(
            (delays.buckets[0], delays.buckets[1], delays.buckets[12]),
            (2, 1, 1)
        );
        assert_eq!(delays.sum, 100_000.021);
    }
}
