//! Configured faults: random, scripted, or for single operations.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::body_alteration::BodyAlteration;
use super::lock;
use super::reply::{RetryAfter, SimulatedReply};
use super::request::{RequestKind, RequestName};
use super::seeded_random::SeededRandom;

/// The probability of each fault. All are 0 by default; their sum is at most 1.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// 500, 502, 503 or 504, without a time to retry.
    pub server_error: f64,
    /// 429 with [`retry_after`](Self::retry_after).
    pub throttle: f64,
    /// See [`SimulatedReply::Reset`].
    pub reset: f64,
    /// See [`SimulatedReply::Truncated`].
    pub truncate: f64,
    /// See [`SimulatedReply::Hang`].
    pub hang: f64,
    /// See [`SimulatedReply::Garbage`].
    pub garbage: f64,
    /// See [`SimulatedReply::Html`].
    pub html: f64,
    /// See [`SimulatedReply::Huge`]; 2 MiB.
    pub huge: f64,
    /// See [`SimulatedReply::Redirect`], to the same address.
    pub redirect: f64,
    /// See [`SimulatedReply::Slow`]; a byte each 20 ms.
    pub slow: f64,
    /// See [`SimulatedReply::Altered`]: cut in the middle, without IDs, or with numbers instead of IDs.
    pub malformed: f64,
    /// The time to retry of throttled requests.
    pub retry_after: RetryAfter,
    /// The latency of every response, faults included.
    pub latency: Duration,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self {
            server_error: 0.0,
            throttle: 0.0,
            reset: 0.0,
            truncate: 0.0,
            hang: 0.0,
            garbage: 0.0,
            html: 0.0,
            huge: 0.0,
            redirect: 0.0,
            slow: 0.0,
            malformed: 0.0,
            retry_after: RetryAfter::Seconds(Duration::from_secs(1)),
            latency: Duration::ZERO,
        }
    }
}

impl FaultPlan {
    /// A random reply. `roll` returns numbers in [0, 1).
    pub fn draw(&self, mut roll: impl FnMut() -> f64) -> SimulatedReply {
        let mut rest = roll();
        for (probability, reply) in self.probabilities() {
            if rest < probability {
                return match reply {
                    SimulatedReply::Status(500, _) => {
                        let status = match roll() {
                            r if r < 0.25 => 500,
                            r if r < 0.5 => 502,
                            r if r < 0.75 => 503,
                            _ => 504,
                        };
                        SimulatedReply::Status(status, RetryAfter::Absent)
                    }
                    SimulatedReply::Altered(_) => SimulatedReply::Altered(BodyAlteration::malformed(roll())),
                    other => other,
                };
            }
            rest -= probability;
        }
        SimulatedReply::Normal
    }

    /// Whether each probability is between 0 and 1, and their sum at most 1.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let probabilities = self.probabilities().map(|(probability, _)| probability);
        probabilities
            .iter()
            .all(|probability| (0.0..=1.0).contains(probability))
            && probabilities.iter().sum::<f64>() <= 1.0 + f64::EPSILON
    }

    fn probabilities(&self) -> [(f64, SimulatedReply); 11] {
        [
            (self.server_error, SimulatedReply::Status(500, RetryAfter::Absent)),
            (self.throttle, SimulatedReply::Status(429, self.retry_after)),
            (self.reset, SimulatedReply::Reset),
            (self.truncate, SimulatedReply::Truncated),
            (self.hang, SimulatedReply::Hang),
            (self.garbage, SimulatedReply::Garbage),
            (self.html, SimulatedReply::Html),
            (self.huge, SimulatedReply::Huge(2 << 20)),
            (self.redirect, SimulatedReply::Redirect(None)),
            (self.slow, SimulatedReply::Slow(Duration::from_millis(20))),
            (self.malformed, SimulatedReply::Altered(BodyAlteration::Cut)),
        ]
    }
}

/// How long an operation is unknown to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFor {
    /// For this number of requests.
    Requests(u64),
    /// Until this instant.
    Until(Instant),
    /// Until [`Faults::restore`].
    Always,
}

/// Controls the faults of a running server. Clones control the same server.
///
/// A request is named as [`RequestKind`] describes. Precedence: the script for all requests, the script of the name,
/// [`miss`](Self::miss), [`forbid`](Self::forbid), [`always`](Self::always), random faults.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<FaultState>);

#[derive(Debug)]
struct FaultState {
    plan: Mutex<Arc<FaultPlan>>,
    random: SeededRandom,
    named: Mutex<NamedFaults>,
    /// Whether `named` has entries, so that benches without scripts need not lock it.
    has_named: AtomicBool,
}

impl Default for FaultState {
    fn default() -> Self {
        Self {
            plan: Mutex::default(),
            random: SeededRandom::new(1),
            named: Mutex::default(),
            has_named: AtomicBool::new(false),
        }
    }
}

#[derive(Debug, Default)]
struct NamedFaults {
    for_all: VecDeque<SimulatedReply>,
    scripts: HashMap<String, VecDeque<SimulatedReply>>,
    missing: HashMap<String, MissingFor>,
    forbidden: HashSet<String>,
    always: HashMap<String, SimulatedReply>,
    plans: HashMap<RequestKind, Arc<FaultPlan>>,
}

impl Faults {
    /// Sets the plan for all requests without a plan of their kind, and starts the random numbers of `seed`.
    pub fn set(&self, plan: FaultPlan, seed: u64) {
        *lock(&self.0.plan) = Arc::new(plan);
        self.0.random.reseed(seed);
    }

    /// Sets the plan for requests of this kind; `None` for the plan of all requests.
    pub fn set_for(&self, kind: RequestKind, plan: Option<FaultPlan>) {
        self.change(|named| match plan {
            Some(plan) => named.plans.insert(kind, Arc::new(plan)),
            None => named.plans.remove(&kind),
        });
    }

    /// The current plan for all requests without a plan of their kind.
    #[must_use]
    pub fn plan(&self) -> Arc<FaultPlan> {
        Arc::clone(&lock(&self.0.plan))
    }

    /// Adds replies for the next requests of this name.
    pub fn script(&self, name: impl Into<String>, replies: impl IntoIterator<Item = SimulatedReply>) {
        let name = name.into();
        self.change(|named| named.scripts.entry(name).or_default().extend(replies));
    }

    /// Adds replies for the next requests of any name.
    pub fn script_all(&self, replies: impl IntoIterator<Item = SimulatedReply>) {
        self.change(|named| named.for_all.extend(replies));
    }

    /// Answers requests of this name with 404 for this long.
    pub fn miss(&self, name: impl Into<String>, missing: MissingFor) {
        let name = name.into();
        self.change(|named| named.missing.insert(name, missing));
    }

    /// Answers requests of this name with 403 until [`restore`](Self::restore).
    pub fn forbid(&self, name: impl Into<String>) {
        let name = name.into();
        self.change(|named| named.forbidden.insert(name));
    }

    /// Answers requests of this name in this way until [`restore`](Self::restore).
    pub fn always(&self, name: impl Into<String>, reply: SimulatedReply) {
        let name = name.into();
        self.change(|named| named.always.insert(name, reply));
    }

    /// Removes all faults of this name.
    pub fn restore(&self, name: &str) {
        self.change(|named| {
            named.scripts.remove(name);
            named.missing.remove(name);
            named.forbidden.remove(name);
            named.always.remove(name);
        });
    }

    /// The plan for requests of this kind.
    pub(super) fn plan_of(&self, kind: RequestKind) -> Arc<FaultPlan> {
        let own = self.0.has_named.load(Ordering::Acquire);
        let own = own.then(|| lock(&self.0.named).plans.get(&kind).map(Arc::clone));
        own.flatten().unwrap_or_else(|| self.plan())
    }

    /// The reply to a request that arrives `now`.
    pub(super) fn next(&self, request: &RequestName, now: Instant) -> SimulatedReply {
        if self.0.has_named.load(Ordering::Acquire)
            && let Some(reply) = lock(&self.0.named).next(&request.name, now)
        {
            return reply;
        }
        self.plan_of(request.kind).draw(|| self.0.random.next_f64())
    }

    fn change<T>(&self, change: impl FnOnce(&mut NamedFaults) -> T) {
        let mut named = lock(&self.0.named);
        change(&mut named);
        self.0.has_named.store(true, Ordering::Release);
    }
}

impl NamedFaults {
    fn next(&mut self, name: &str, now: Instant) -> Option<SimulatedReply> {
        if let Some(reply) = self.for_all.pop_front() {
            return Some(reply);
        }
        if let Some(reply) = self.scripts.get_mut(name).and_then(VecDeque::pop_front) {
            return Some(reply);
        }
        match self.missing.get_mut(name) {
            Some(MissingFor::Requests(left)) if *left > 0 => {
                *left -= 1;
                return Some(SimulatedReply::NotFound);
            }
            Some(MissingFor::Until(end)) if now < *end => return Some(SimulatedReply::NotFound),
            Some(MissingFor::Always) => return Some(SimulatedReply::NotFound),
            Some(MissingFor::Requests(_) | MissingFor::Until(_)) | None => {}
        }
        if self.forbidden.contains(name) {
            return Some(SimulatedReply::Status(403, RetryAfter::Absent));
        }
        self.always.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        crate::clock::instant()
    }

    fn next(faults: &Faults, name: &str, now: Instant) -> SimulatedReply {
        faults.next(&RequestKind::Operation.named(name), now)
    }

    #[test]
    fn without_a_plan_nothing_goes_wrong() {
        let faults = Faults::default();
        assert!((0..1000).all(|_| next(&faults, "a", now()) == SimulatedReply::Normal));
    }

    #[test]
    fn chances_come_out_as_asked_and_the_same_for_a_seed() {
        let run = |seed| -> Vec<SimulatedReply> {
            let faults = Faults::default();
            let plan = FaultPlan {
                server_error: 0.2,
                reset: 0.05,
                truncate: 0.05,
                ..FaultPlan::default()
            };
            faults.set(plan, seed);
            (0..10_000).map(|_| next(&faults, "a", now())).collect()
        };
        let replies = run(5);
        let count =
            |expected: fn(&SimulatedReply) -> bool| replies.iter().filter(|reply| expected(reply)).count();
        assert!((1_800..2_200).contains(&count(|r| matches!(
            r,
            SimulatedReply::Status(500..=504, RetryAfter::Absent)
        ))));
        assert!((400..600).contains(&count(|r| *r == SimulatedReply::Reset)));
        assert!((400..600).contains(&count(|r| *r == SimulatedReply::Truncated)));
        assert_eq!(replies, run(5));
        assert_ne!(replies, run(6));
    }

    #[test]
    fn every_fault_of_the_plan_can_be_had() {
        let certain = |set: fn(&mut FaultPlan)| {
            let mut plan = FaultPlan::default();
            set(&mut plan);
            plan.draw(|| 0.99)
        };
        assert_eq!(
            certain(|p| p.server_error = 1.0),
            SimulatedReply::Status(504, RetryAfter::Absent)
        );
        assert_eq!(
            certain(|p| p.throttle = 1.0),
            SimulatedReply::Status(429, RetryAfter::Seconds(Duration::from_secs(1)))
        );
        assert_eq!(certain(|p| p.reset = 1.0), SimulatedReply::Reset);
        assert_eq!(certain(|p| p.truncate = 1.0), SimulatedReply::Truncated);
        assert_eq!(certain(|p| p.hang = 1.0), SimulatedReply::Hang);
        assert_eq!(certain(|p| p.garbage = 1.0), SimulatedReply::Garbage);
        assert_eq!(certain(|p| p.html = 1.0), SimulatedReply::Html);
        assert_eq!(certain(|p| p.huge = 1.0), SimulatedReply::Huge(2 << 20));
        assert_eq!(certain(|p| p.redirect = 1.0), SimulatedReply::Redirect(None));
        assert_eq!(
            certain(|p| p.malformed = 1.0),
            SimulatedReply::Altered(BodyAlteration::malformed(0.99))
        );
        assert_eq!(
            certain(|p| p.slow = 1.0),
            SimulatedReply::Slow(Duration::from_millis(20))
        );
    }

    #[test]
    fn impossible_plans_are_known() {
        let plan = |server_error, reset| FaultPlan {
            server_error,
            reset,
            ..FaultPlan::default()
        };
        assert!(plan(0.5, 0.5).is_possible());
        assert!(!plan(0.6, 0.5).is_possible());
        assert!(!plan(-0.1, 0.5).is_possible());
        assert!(!plan(f64::NAN, 0.5).is_possible());
    }

    #[test]
    fn scripts_are_used_up_in_order_and_for_their_name_alone() {
        let faults = Faults::default();
        faults.script("a", [SimulatedReply::Hang, SimulatedReply::Normal]);
        faults.script("a", [SimulatedReply::Reset]);
        faults.script_all([SimulatedReply::Html]);
        let next = |name| next(&faults, name, now());
        assert_eq!(next("b"), SimulatedReply::Html);
        assert_eq!(next("b"), SimulatedReply::Normal);
        assert_eq!(
            [next("a"), next("a"), next("a"), next("a")],
            [
                SimulatedReply::Hang,
                SimulatedReply::Normal,
                SimulatedReply::Reset,
                SimulatedReply::Normal
            ]
        );
    }

    #[test]
    fn an_operation_is_missing_for_the_configured_time() {
        let faults = Faults::default();
        let start = now();
        let end = start + Duration::from_secs(10);
        faults.miss("n", MissingFor::Requests(2));
        faults.miss("t", MissingFor::Until(end));
        faults.miss("x", MissingFor::Always);
        assert_eq!(next(&faults, "n", start), SimulatedReply::NotFound);
        assert_eq!(next(&faults, "n", start), SimulatedReply::NotFound);
        assert_eq!(next(&faults, "n", start), SimulatedReply::Normal);
        assert_eq!(
            next(&faults, "t", end - Duration::from_millis(1)),
            SimulatedReply::NotFound
        );
        assert_eq!(next(&faults, "t", end), SimulatedReply::Normal);
        assert_eq!(next(&faults, "x", end), SimulatedReply::NotFound);
        faults.restore("x");
        assert_eq!(next(&faults, "x", end), SimulatedReply::Normal);
    }

    #[test]
    fn a_forbidden_operation_stays_so_until_it_is_restored() {
        let faults = Faults::default();
        faults.forbid("a");
        assert_eq!(
            next(&faults, "a", now()),
            SimulatedReply::Status(403, RetryAfter::Absent)
        );
        faults.restore("a");
        assert_eq!(next(&faults, "a", now()), SimulatedReply::Normal);
    }

    #[test]
    fn a_kind_has_its_own_plan_and_a_name_its_own_answer() {
        let faults = Faults::default();
        let list = RequestKind::Installations.named("installations");
        let plan = FaultPlan {
            reset: 1.0,
            ..FaultPlan::default()
        };
        faults.set_for(RequestKind::Installations, Some(plan));
        assert_eq!(faults.next(&list, now()), SimulatedReply::Reset);
        assert_eq!(next(&faults, "a", now()), SimulatedReply::Normal);
        faults.always("installations", SimulatedReply::Html);
        assert_eq!(faults.next(&list, now()), SimulatedReply::Html);
        assert_eq!(faults.next(&list, now()), SimulatedReply::Html);
        faults.restore("installations");
        faults.set_for(RequestKind::Installations, None);
        assert_eq!(faults.next(&list, now()), SimulatedReply::Normal);
    }
}
