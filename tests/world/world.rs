//! The true state of a world, what the daemon did, and whether that is allowed.

mod clients;
mod deadlines;
mod demands;
mod discovery;
mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backfill_watch::clock::{self, WallClock};
use backfill_watch::core::deadline::Deadline;
use backfill_watch::core::delivery::AttemptOutcome;
use backfill_watch::core::event::EventType;
use backfill_watch::core::watch_list::WatchKey;
use backfill_watch::report::webhook::WebhookMessage;
use backfill_watch::store::{Cursor, StoredEvent};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::{Kind, status_at};
use crate::extras::wall_at;
use crate::random::Random;
use crate::scenario::{
    ApiFault, ENDPOINTS, Ending, EventsOf, Knobs, OperationScript, PROJECTS, ReceiverFault, Scenario, seconds,
};

use clients::Clients;
use demands::Demand;
use discovery::Discovered;
pub use discovery::newest;
use groups::Completed;

pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The resolution of timers, and a little.
const TICK: Duration = Duration::from_micros(1500);
/// The time for what has to wait for the disk.
const GRACE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Commit {
    Written,
    Refused,
    CrashBefore,
    CrashAfter,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Armed {
    BeforeCommit,
    AfterCommit,
    AfterReceipt,
}

#[derive(Debug, Clone)]
struct Poll {
    life: u32,
    start: Duration,
    end: Option<Duration>,
    is_probe: bool,
    kind: Option<Kind>,
}

/// What was reported about one operation.
#[derive(Debug, Default)]
struct Reported {
    sequence: u64,
    ended: Option<EventType>,
    /// Whether it was off the list since it ended.
    was_away: bool,
    unreachable: bool,
    stalled: bool,
    ended_at: Duration,
    /// How often it ended.
    endings: u32,
    /// When it was last reported as started.
    started: Option<Duration>,
}

#[derive(Debug, Default)]
struct ProjectState {
    in_flight: usize,
    last_start: Option<Duration>,
    probe: bool,
    probes_in_flight: usize,
    /// A pause that was asked for: from, until.
    pause: Option<(Duration, Duration)>,
    /// When polls were answered with an operation.
    answered: Vec<Duration>,
    last: Option<Kind>,
    /// Whether the last list of installations was answered 404.
    is_missing: bool,
    unreachable: bool,
    rejected: bool,
    new_key: bool,
}

#[derive(Debug)]
struct Committed {
    number: usize,
    body: String,
    event_type: EventType,
    subject: String,
    wanted: [bool; 3],
}

#[derive(Debug, Default)]
struct EndpointState {
    /// By event: attempts, refusals of the event itself, whether it was acknowledged.
    events: BTreeMap<String, (u32, u32, bool)>,
    /// By subject: the number of the last event that was sent.
    last: BTreeMap<String, usize>,
    busy: BTreeSet<String>,
}

#[derive(Debug)]
struct State {
    random: Random,
    base: Duration,
    start: Option<Instant>,
    step: i64,
    /// How far the clock was off from these times on, and when it was set last.
    steps: Vec<(Duration, i64)>,
    stepped: Duration,
    dead: bool,
    life: u32,
    run_began: Duration,
    journal: Vec<String>,
    violation: Option<String>,
    knobs: Vec<(Duration, Knobs)>,
    /// Those that may still be in force while a reload is under way.
    replaced: Option<Knobs>,
    configured: [bool; 3],
    full: bool,
    writable: bool,
    full_last: Duration,
    armed: Option<Armed>,
    /// The longest time for what has to wait for the disk.
    lag: Duration,
    demands: BTreeMap<WatchKey, Demand>,
    /// What any source asks for.
    listed: BTreeSet<WatchKey>,
    /// When they were put on the list, and taken off it.
    put: BTreeMap<WatchKey, Duration>,
    removed: BTreeMap<WatchKey, Duration>,
    polls: BTreeMap<WatchKey, Vec<Poll>>,
    projects: [ProjectState; 2],
    shown: Option<Cursor>,
    committed: BTreeMap<String, Committed>,
    reported: BTreeMap<WatchKey, Reported>,
    /// The times of creation in the API.
    created: BTreeMap<WatchKey, Timestamp>,
    /// The deadlines that were reported.
    overdue: BTreeMap<WatchKey, Vec<Deadline>>,
    completed: Completed,
    discovered: Discovered,
    clients: Clients,
    /// The projects with a rule of discovery.
    discovers: Vec<&'static str>,
    /// When the last fault ends.
    calm: Duration,
    logged: BTreeSet<String>,
    endpoints: [EndpointState; 3],
}

#[derive(Debug)]
pub struct World {
    pub scenario: Scenario,
    state: Mutex<State>,
    interrupt: Notify,
}

impl World {
    pub fn new(seed: u64) -> Arc<Self> {
        let scenario = Scenario::new(seed);
        let knobs = vec![(Duration::ZERO, scenario.knobs.clone())];
        let commits = 4 * scenario.operations.len() as u64;
        let lag = GRACE + Duration::from_millis(commits * scenario.disk);
        let created = scenario.operations.iter().filter_map(|operation| {
            let created = Timestamp::from_second(operation.created?).unwrap();
            Some((key_of(operation), created))
        });
        let created = created.collect();
        let rules = scenario.extras.rules.iter().zip(PROJECTS);
        let discovers = rules
            .filter_map(|(rule, project)| rule.as_ref().map(|_| project))
            .collect();
        let calm = scenario.calm;
        Arc::new(Self {
            scenario,
            state: Mutex::new(State {
                random: Random::new(seed ^ 0x5eed),
                base: Duration::ZERO,
                start: None,
                step: 0,
                steps: vec![(Duration::ZERO, 0)],
                stepped: Duration::ZERO,
                dead: false,
                life: 0,
                run_began: Duration::ZERO,
                journal: Vec::new(),
                violation: None,
                knobs,
                replaced: None,
                configured: [false; 3],
                full: false,
                writable: true,
                full_last: Duration::ZERO,
                armed: None,
                lag,
                demands: BTreeMap::new(),
                listed: BTreeSet::new(),
                created,
                overdue: BTreeMap::new(),
                completed: Completed::default(),
                discovered: Discovered::new(seed),
                clients: Clients::default(),
                discovers,
                calm,
                put: BTreeMap::new(),
                removed: BTreeMap::new(),
                polls: BTreeMap::new(),
                projects: Default::default(),
                shown: None,
                committed: BTreeMap::new(),
                reported: BTreeMap::new(),
                logged: BTreeSet::new(),
                endpoints: Default::default(),
            }),
            interrupt: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    // Time.

    pub fn now(&self) -> Duration {
        self.state().now()
    }

    pub fn wall(self: &Arc<Self>) -> WallClock {
        let world = Arc::clone(self);
        WallClock::new(move || {
            let state = world.state();
            wall_at(state.now()) + SignedDuration::from_secs(state.step)
        })
    }

    pub fn step(&self, by: i64) {
        let mut state = self.state();
        state.step += by;
        let (now, step) = (state.now(), state.step);
        state.steps.push((now, step));
        state.stepped = now;
    }

    pub fn begin_run(&self) -> u64 {
        let mut state = self.state();
        state.start = Some(clock::instant());
        state.dead = false;
        state.life += 1;
        state.run_began = state.base;
        for project in &mut state.projects {
            *project = ProjectState {
                unreachable: project.unreachable,
                rejected: project.rejected,
                new_key: project.new_key,
                ..ProjectState::default()
            };
        }
        for endpoint in &mut state.endpoints {
            endpoint.busy.clear();
        }
        state.random.next()
    }

    /// After the runtime of a life is gone.
    pub fn end_run(&self, now: Duration, away: Duration) {
        let mut state = self.state();
        state.forget_installations(now);
        state.start = None;
        state.base = now + away;
        state.dead = true;
    }

    /// Returns while the process lives, else never.
    pub async fn alive(&self) {
        let is_dead = self.state().dead;
        if is_dead {
            std::future::pending::<()>().await;
        }
    }

    /// The process is gone.
    pub async fn crash(&self, when: &str) {
        self.note(|| format!("crash {when}"));
        {
            let mut state = self.state();
            state.dead = true;
            state.armed = None;
        }
        self.interrupt.notify_one();
        std::future::pending::<()>().await;
    }

    pub async fn interrupted(&self) {
        self.interrupt.notified().await;
    }

    // The journal.

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.state().note(line());
    }

    pub fn violate(&self, what: String) {
        let mut state = self.state();
        state.violate(what);
        drop(state);
        self.interrupt.notify_one();
    }

    pub fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    pub fn journal(&self) -> Vec<String> {
        self.state().journal.clone()
    }

    // Settings and list.

    pub fn knobs(&self) -> Knobs {
        self.state().latest().clone()
    }

    pub fn set_knobs(&self, knobs: Knobs) {
        let mut state = self.state();
        let now = state.now();
        state.knobs.push((now, knobs));
    }

    /// A reload is under way: the settings before may be in force, or these.
    pub fn begin_reload(&self, knobs: Knobs) {
        let mut state = self.state();
        let (now, before) = (state.now(), state.latest().clone());
        state.replaced = Some(before);
        state.knobs.push((now, knobs));
    }

    /// The reload was carried out, or refused as a whole.
    pub fn end_reload(&self, is_applied: bool) {
        let mut state = self.state();
        let (now, after) = (state.now(), state.latest().clone());
        // Up to now both were possible.
        let before = state.replaced.take();
        state.knobs.extend(before.map(|before| (now, before)));
        if is_applied {
            state.knobs.push((now, after));
        }
    }

    /// Which endpoints are surely configured from now on.
    pub fn configured(&self, endpoints: [bool; 3]) {
        self.state().configured = endpoints;
    }

    pub fn maybe_configured(&self, endpoints: [bool; 3]) {
        let mut state = self.state();
        for (index, is) in endpoints.iter().enumerate() {
            state.configured[index] &= is;
        }
    }

    pub fn index_of(&self, key: &WatchKey) -> Option<usize> {
        self.scenario
            .operations
            .iter()
            .position(|course| course.id == *key.operation)
    }

    pub fn replace_key(&self, project: usize) {
        self.state().projects[project].new_key = true;
    }

    // The disk.

    pub fn disk_full(&self, full: bool) {
        let mut state = self.state();
        state.full = full;
        state.full_last = state.now();
        if !full {
            state.writable = true;
        }
    }

    pub fn is_disk_writable(&self) -> bool {
        self.state().writable
    }

    pub fn arm(&self, armed: Armed) {
        self.state().armed = Some(armed);
    }

    pub fn disk_latency(&self) -> (Duration, Duration) {
        let most = self.scenario.disk;
        let mut state = self.state();
        let mut draw = || {
            Duration::from_millis(if most == 0 {
                0
            } else {
                state.random.between(0, most)
            })
        };
        (draw(), draw())
    }

    pub fn commit_begins(&self) -> Commit {
        let mut state = self.state();
        if state.full {
            state.writable = false;
            state.full_last = state.now();
            return Commit::Refused;
        }
        match state.armed {
            Some(Armed::BeforeCommit) => Commit::CrashBefore,
            Some(Armed::AfterCommit) => Commit::CrashAfter,
            _ => Commit::Written,
        }
    }

    pub fn shown(&self) -> Option<Cursor> {
        self.state().shown.clone()
    }

    /// These events are on disk now. They were decided at the time `asked`.
    pub fn committed(&self, events: Vec<StoredEvent>, next: Cursor, asked: Duration) {
        let mut state = self.state();
        state.shown = Some(next);
        for event in events {
            if let Err(why) = state.commit(&self.scenario, &event, asked) {
                state.violate(format!("{why}: {} {}", event.event_type, event.body));
            }
        }
        let broken = state.violation.is_some();
        drop(state);
        if broken {
            self.interrupt.notify_one();
        }
    }

    /// An event was logged.
    pub fn reported(&self, id: &str) {
        let mut state = self.state();
        if state.dead {
            return;
        }
        state.note(format!("reported {id}"));
        let known = state.committed.contains_key(id);
        let again = !state.logged.insert(id.to_owned());
        drop(state);
        if !known {
            self.violate(format!("event {id} was reported before it was committed"));
        }
        if again {
            self.violate(format!("event {id} was reported twice"));
        }
    }

    // The API.

    pub fn probe_begins(&self, project: usize) -> bool {
        let mut state = self.state();
        state.projects[project].probe = true;
        std::mem::take(&mut state.projects[project].new_key)
    }

    pub fn poll_starts(&self, key: &WatchKey) -> usize {
        let mut state = self.state();
        let now = state.now();
        state.note(format!("poll {key}"));
        let project = PROJECTS.iter().position(|name| **name == *key.project).unwrap();
        let checked = state.note_found(&self.scenario, key).and_then(|()| {
            state.check_poll(key, project, now)?;
            state.check_request(&key.to_string(), project, now)
        });
        let is_probe = state.begin_request(project, now);
        let life = state.life;
        let polls = state.polls.entry(key.clone()).or_default();
        polls.push(Poll {
            life,
            start: now,
            end: None,
            is_probe,
            kind: None,
        });
        let number = polls.len() - 1;
        drop(state);
        if let Err(why) = checked {
            self.violate(why);
        }
        number
    }

    pub fn api_draws(&self, key: &WatchKey) -> (Option<ApiFault>, Duration) {
        let index = self.index_of(key);
        let mut state = self.state();
        let now = state.now();
        let mut found = None;
        for period in &self.scenario.api {
            let runs = PROJECTS[period.of] == &*key.project && period.from <= now && now < period.to;
            if !runs || !state.random.percent(period.percent) {
                continue;
            }
            let concerns = match period.what {
                ApiFault::NotFoundOne(one) | ApiFault::RefusedOne(one) | ApiFault::ForbiddenOne(one) => {
                    index == Some(one)
                }
                _ => true,
            };
            if concerns && found.is_none() {
                found = Some(period.what);
            }
        }
        let most = if found == Some(ApiFault::Slow) { 9_900 } else { 400 };
        (found, Duration::from_millis(state.random.between(1, most)))
    }

    pub fn log_latency(&self) -> Duration {
        Duration::from_millis(self.state().random.between(1, 5000))
    }

    pub fn poll_dropped(&self, key: &WatchKey, number: usize) {
        self.poll_finished(key, number, None);
    }

    pub fn poll_ends(&self, key: &WatchKey, number: usize, kind: Kind) {
        self.note(|| format!("answer {key} {kind:?}"));
        self.poll_finished(key, number, Some(kind));
    }

    fn poll_finished(&self, key: &WatchKey, number: usize, kind: Option<Kind>) {
        let mut state = self.state();
        if state.dead {
            return;
        }
        let now = state.now();
        let project = PROJECTS.iter().position(|name| **name == *key.project).unwrap();
        let poll = &mut state.polls.get_mut(key).unwrap()[number];
        poll.end = Some(now);
        poll.kind = kind.clone();
        let was_probe = poll.is_probe;
        state.end_request(project, was_probe, kind.as_ref());
        let of = &mut state.projects[project];
        if matches!(kind, Some(Kind::Operation { .. })) {
            of.answered.push(now);
        }
        if kind.is_some() {
            of.last = kind;
        }
    }

    // Receivers.

    pub fn attempt_begins(&self, endpoint: usize, message: &WebhookMessage) {
        let mut state = self.state();
        state.note(format!("send {} {}", ENDPOINTS[endpoint], message.id));
        let checked = state.check_attempt(endpoint, message);
        drop(state);
        if let Err(why) = checked {
            self.violate(format!(
                "{}: {why}: {} {}",
                ENDPOINTS[endpoint], message.id, message.body
            ));
        }
    }

    pub fn receiver_draws(&self, endpoint: usize, id: &str) -> (Option<ReceiverFault>, Duration) {
        let mut state = self.state();
        let now = state.now();
        let mut found = None;
        for period in &self.scenario.receivers {
            let runs = period.of == endpoint && period.from <= now && now < period.to;
            if runs && state.random.percent(period.percent) && found.is_none() {
                found = Some(period.what);
            }
        }
        if let Some((of, operation)) = self.scenario.poison
            && of == endpoint
            && now < self.scenario.calm
            && state.committed.get(id).is_some_and(|event| {
                event
                    .subject
                    .split_once('/')
                    .is_some_and(|(_, id)| id == self.scenario.operations[operation].id)
            })
        {
            found = Some(ReceiverFault::Status(422));
        }
        let most = if found == Some(ReceiverFault::Slow) {
            14_900
        } else {
            300
        };
        (found, Duration::from_millis(state.random.between(1, most)))
    }

    /// The receiver has the event; whether the process is to be gone now.
    pub fn receipt(&self, endpoint: usize, id: &str) -> bool {
        let mut state = self.state();
        state.note(format!("receipt {} {id}", ENDPOINTS[endpoint]));
        state.armed == Some(Armed::AfterReceipt)
    }

    pub fn attempt_outcome(&self, endpoint: usize, id: &str, outcome: AttemptOutcome) {
        let mut state = self.state();
        state.note(format!("outcome {} {id} {outcome:?}", ENDPOINTS[endpoint]));
        let event = state.endpoints[endpoint].events.entry(id.to_owned()).or_default();
        match outcome {
            AttemptOutcome::Answered {
                status: 200..=299, ..
            } => event.2 = true,
            AttemptOutcome::Answered {
                status: 400 | 404 | 405 | 413 | 422,
                ..
            } => event.1 += 1,
            _ => {}
        }
    }

    pub fn attempt_ends(&self, endpoint: usize, id: &str) {
        let mut state = self.state();
        if let Some(subject) = state.committed.get(id).map(|event| event.subject.clone()) {
            state.endpoints[endpoint].busy.remove(&subject);
        }
    }

    // The end.

    /// Whether a group is complete and not reported yet.
    pub fn has_open_group(&self) -> bool {
        !self.state().open_groups().is_empty()
    }

    /// Operations that ended at the API, are listed, and have no ending event.
    pub fn unreported(&self) -> Vec<String> {
        let mut unreported = self.unfound();
        let state = self.state();
        let now = state.now();
        let courses = self.scenario.operations.iter().filter(|course| {
            let is_finished = match status_at(course, now) {
                None => true,
                Some(status) => !matches!(status, "in_progress" | "queued"),
            };
            is_finished || (course.ending == Ending::Vanishes && now >= course.end)
        });
        let unended = courses.filter_map(|course| {
            let key = state.listed.iter().find(|key| *key.operation == *course.id)?;
            let reported = state
                .reported
                .get(key)
                .is_some_and(|reported| reported.ended.is_some());
            // While none of a project's several operations was ever found, it is the project that is wrong.
            let is_doubted = state.projects[course.project].unreachable
                && !state.polls.iter().any(|(of, polls)| {
                    of.project == key.project
                        && polls
                            .iter()
                            .any(|poll| matches!(poll.kind, Some(Kind::Operation { .. })))
                });
            let reported = reported || is_doubted;
            (!reported).then(|| key.to_string())
        });
        unreported.extend(unended);
        unreported
    }

    /// Checks that what has to happen by now has happened.
    pub fn check_progress(&self) {
        self.check_overdue_polls();
        let state = self.state();
        let late = state.late_deadline().or_else(|| state.late_group());
        drop(state);
        if let Some(late) = late {
            self.violate(late);
        }
    }

    /// Checks that every watch is polled in time.
    fn check_overdue_polls(&self) {
        let state = self.state();
        let now = state.now();
        // What waits in front of a gate that lets one slow request at a time pass.
        let queue = seconds(600);
        let forgotten = state.listed.iter().find_map(|key| {
            let last = state
                .polls
                .get(key)?
                .last()
                .filter(|poll| poll.life == state.life)?;
            let project = PROJECTS.iter().position(|name| **name == *key.project)?;
            let is_finished = state
                .reported
                .get(key)
                .is_some_and(|reported| reported.ended.is_some());
            let end = last.end.unwrap_or(last.start);
            // Each watch of the project in its turn, where one pause follows another.
            let others = state.listed.iter().filter(|other| other.project == key.project);
            let turns = u32::try_from(others.count()).unwrap();
            let longest = state
                .since(end)
                .map(|knobs| knobs.max + turns * knobs.max.max(knobs.max_retry_after))
                .max()?;
            let since = end.max(state.full_last).max(*state.put.get(key)?);
            let is_late = now > since + longest + queue;
            (is_late && !is_finished && !state.projects[project].rejected)
                .then(|| format!("{key} since {end:?}"))
        });
        drop(state);
        if let Some(forgotten) = forgotten {
            self.violate(format!("nobody polls {forgotten}"));
        }
    }

    /// What should have been delivered and was not.
    pub fn undelivered(&self) -> Vec<String> {
        let state = self.state();
        let mut left = Vec::new();
        let is_bounded = state.knobs.iter().any(|(_, knobs)| knobs.max_backlog < 1000);
        for (id, event) in &state.committed {
            for (index, endpoint) in state.endpoints.iter().enumerate() {
                if !event.wanted[index] || event.event_type == EventType::Progress || is_bounded {
                    continue;
                }
                let (attempts, refusals, acknowledged) = endpoint.events.get(id).copied().unwrap_or_default();
                let is_given_up = attempts >= 12 || (attempts >= 5 && refusals > 0);
                if !acknowledged && !is_given_up {
                    left.push(format!(
                        "{} {id} {} {}",
                        ENDPOINTS[index], event.subject, event.event_type
                    ));
                }
            }
        }
        left
    }

    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.committed.len(), state.polls.values().map(Vec::len).sum())
    }
}

impl State {
    fn now(&self) -> Duration {
        self.base
            + self
                .start
                .map_or(Duration::ZERO, |start| clock::instant() - start)
    }

    fn note(&mut self, line: String) {
        let now = self.now();
        self.journal.push(format!("{:>12.3} {line}", now.as_secs_f64()));
    }

    fn violate(&mut self, what: String) {
        self.note(format!("BROKEN {what}"));
        self.violation.get_or_insert(what);
    }

    fn latest(&self) -> &Knobs {
        &self.knobs.last().unwrap().1
    }

    /// The settings that were in force at any time since then.
    fn since(&self, then: Duration) -> impl Iterator<Item = &Knobs> {
        let first = self
            .knobs
            .partition_point(|(from, _)| *from <= then)
            .saturating_sub(1);
        let known = self.knobs[first..].iter().map(|(_, knobs)| knobs);
        known.chain(&self.replaced)
    }

    fn check_poll(&self, key: &WatchKey, project: usize, now: Duration) -> Result<(), String> {
        let of = &self.projects[project];
        let reported = self.reported.get(key);
        if let Some(reported) = reported
            && let Some(ended) = reported.ended
            && !(reported.was_away && may_start_again(ended))
        {
            return Err(format!("{key} is polled after its end, {ended}"));
        }
        if !self.listed.contains(key) && self.maybe_added(key).is_none() {
            let since = self.removed.get(key).copied().unwrap_or_default();
            if now.saturating_sub(since.max(self.full_last).max(self.run_began)) > GRACE {
                return Err(format!("{key} is polled though it left the list at {since:?}"));
            }
        }
        if let Some(last) = self.polls.get(key).and_then(|polls| polls.last())
            && last.life == self.life
        {
            let Some(end) = last.end else {
                return Err(format!("{key} is polled twice at once"));
            };
            let least = self.since(end).map(|knobs| knobs.min).min().unwrap_or_default();
            let was_project = matches!(last.kind, None | Some(Kind::Unauthorized | Kind::Forbidden));
            // Those in flight together meet one pause, which began with the first of them.
            let end = if matches!(last.kind, Some(Kind::Throttled(None))) {
                last.start
            } else {
                end
            };
            let is_new = self
                .removed
                .get(key)
                .is_some_and(|removed| *removed + GRACE >= last.start);
            if now + TICK < end + least && !of.probe && !was_project && !is_new {
                return Err(format!(
                    "{key} is polled {:?} after its last poll, min_interval is {least:?}",
                    now - end
                ));
            }
        }
        Ok(())
    }

    /// A request begins. Returns whether it is a probe.
    fn begin_request(&mut self, project: usize, now: Duration) -> bool {
        let of = &mut self.projects[project];
        let is_probe = std::mem::take(&mut of.probe);
        of.in_flight += 1;
        of.probes_in_flight += usize::from(is_probe);
        of.last_start = Some(now);
        is_probe
    }

    fn end_request(&mut self, project: usize, was_probe: bool, kind: Option<&Kind>) {
        let now = self.now();
        let lately = self.since(now.saturating_sub(seconds(1)));
        let most = lately
            .map(|knobs| knobs.max_retry_after)
            .min()
            .unwrap_or_default();
        let of = &mut self.projects[project];
        of.in_flight -= 1;
        of.probes_in_flight -= usize::from(was_probe);
        if let Some(Kind::Throttled(Some(wait))) = kind {
            let until = now + (*wait).min(most);
            if of.pause.is_none_or(|(_, before)| before < until) {
                of.pause = Some((now, until));
            }
        }
    }

    /// Checks the limits that all requests of a project share.
    fn check_request(&self, key: &str, project: usize, now: Duration) -> Result<(), String> {
        let of = &self.projects[project];
        if let Some(last) = of.last_start {
            // Who has a turn keeps it when a reload slows the others down.
            let fastest = self
                .since(last.saturating_sub(seconds(20)))
                .map(|knobs| knobs.per_second)
                .fold(0.0, f64::max);
            if now + TICK < last + Duration::from_secs_f64(1.0 / fastest) {
                return Err(format!(
                    "{key} is polled {:?} after another, at {fastest} a second",
                    now - last
                ));
            }
        }
        // Polls in flight before the limit was lowered may take a request's time-out to end.
        let most = self.since(now.saturating_sub(REQUEST_TIMEOUT + seconds(5)));
        let most = most.map(|knobs| knobs.concurrent).max().unwrap_or(1);
        if of.in_flight >= most {
            return Err(format!(
                "{} polls of {} in flight, the most are {most}",
                of.in_flight + 1,
                PROJECTS[project]
            ));
        }
        if let Some((from, until)) = of.pause
            && now > from + seconds(10)
            && now + TICK < until
        {
            return Err(format!(
                "{key} is polled while its project is paused until {until:?}"
            ));
        }
        if of.probe && of.probes_in_flight > 0 {
            return Err(format!("two probes of {} at once", PROJECTS[project]));
        }
        Ok(())
    }

    fn commit(&mut self, scenario: &Scenario, event: &StoredEvent, asked: Duration) -> Result<(), String> {
        self.note(format!("event {} {} {}", event.id, event.event_type, event.body));
        let body: Value = serde_json::from_str(&event.body).map_err(|error| error.to_string())?;
        let data = &body["data"];
        let project = data["project"].as_str().unwrap_or_default().to_owned();
        let operation = data["operationId"].as_str();
        let number = self.committed.len();
        let wanted = std::array::from_fn(|index| {
            self.configured[index]
                && match scenario.events[index] {
                    EventsOf::All => true,
                    EventsOf::Default => event.event_type != EventType::Progress,
                    EventsOf::Endings => event.event_type.is_ending(),
                }
        });
        let committed = Committed {
            number,
            body: event.body.clone(),
            event_type: event.event_type,
            subject: match event.event_type {
                EventType::GroupCompleted => format!("{project}/{}", groups::subject(data)),
                _ => format!("{project}/{}", operation.unwrap_or_default()),
            },
            wanted,
        };
        if self.committed.insert(event.id.clone(), committed).is_some() {
            return Err("the same ID is recorded twice".to_owned());
        }
        match operation {
            Some(operation) => {
                let key = WatchKey {
                    project: project.into(),
                    operation: operation.into(),
                };
                self.note_found(scenario, &key)?;
                self.check_operation(&key, event.event_type, data)
            }
            None if event.event_type == EventType::GroupCompleted => {
                self.check_group(scenario, &project, data, asked)
            }
            None => self.check_project(&project, event.event_type, data, asked),
        }
    }

    fn check_operation(&mut self, key: &WatchKey, event_type: EventType, data: &Value) -> Result<(), String> {
        let now = self.now();
        let polls = self.polls.get(key).map(Vec::as_slice).unwrap_or_default();
        let answers: Vec<(&Kind, Duration)> = polls
            .iter()
            .rev()
            .filter_map(|poll| Some((poll.kind.as_ref()?, poll.end?)))
            .collect();
        let lives: Vec<(&Kind, Duration, bool)> = polls
            .iter()
            .rev()
            .filter_map(|poll| Some((poll.kind.as_ref()?, poll.end?, poll.life == self.life)))
            .collect();
        let last = answers.first().map(|(kind, _)| *kind);
        let (status, count, attempts) = match last {
            Some(Kind::Operation {
                status,
                count,
                attempts,
            }) => (Some(status.as_str()), *count, *attempts),
            _ => (None, None, 0),
        };
        let since = now.saturating_sub(seconds(3600));
        let reported = self.reported.get(key);
        let ended = reported.and_then(|reported| reported.ended);
        let fails = |why: &str| Err(why.to_owned());
        if data["sequence"].as_u64() != Some(reported.map_or(0, |reported| reported.sequence) + 1) {
            return fails("its sequence has a gap");
        }
        if let Some(ended) = ended
            && !(may_start_again(ended) && reported.is_some_and(|reported| reported.was_away))
        {
            return fails("it comes after the end");
        }
        match event_type {
            EventType::Succeeded if status != Some("success") => {
                return fails("the operation did not succeed");
            }
            EventType::Failed if status != Some("failure") => return fails("the operation did not fail"),
            EventType::Ended if status != Some("paused") && status != Some("queued") => {
                return fails("the operation did not end so");
            }
            EventType::Succeeded | EventType::Failed | EventType::Ended
                if data["status"].as_str() != status =>
            {
                return fails("the status is another one");
            }
            EventType::Started if !matches!(status, Some("in_progress" | "queued")) => {
                return fails("it does not run");
            }
            EventType::Progress | EventType::Resumed
                if status.is_none() || data["progress"]["recordsProcessed"].as_u64() != count =>
            {
                return fails("the count is another one");
            }
            EventType::Stalled => {
                let same = answers.iter().filter_map(|(kind, end)| match kind {
                    Kind::Operation { count, .. } => Some((*count, *end)),
                    _ => None,
                });
                let first = same
                    .take_while(|(other, _)| *other == count)
                    .last()
                    .map_or(now, |(_, end)| end);
                let least = self
                    .since(since)
                    .map(|knobs| knobs.stalled_after)
                    .min()
                    .unwrap_or_default();
                if now.saturating_sub(first) + TICK < least {
                    return fails("the count did not stand still for so long");
                }
            }
            EventType::Overdue => self.check_overdue(key, data)?,
            EventType::Retried if data["retry"]["attempts"].as_u64() != Some(attempts) => {
                return fails("the attempts are others");
            }
            EventType::Gone => {
                // What was seen in an earlier life may be forgotten.
                let misses: Vec<Duration> = lives
                    .iter()
                    .filter(|(kind, _, now)| match kind {
                        Kind::NotFound => true,
                        Kind::Operation { .. } => *now,
                        _ => false,
                    })
                    .take_while(|(kind, ..)| matches!(kind, Kind::NotFound))
                    .map(|(_, end, _)| *end)
                    .collect();
                let least = self
                    .since(since)
                    .map(|knobs| knobs.grace)
                    .min()
                    .unwrap_or_default();
                if misses.len() < 3 || now.saturating_sub(*misses.last().unwrap_or(&now)) + TICK < least {
                    return fails("it was not missing for so long");
                }
            }
            EventType::Expired if self.since(since).all(|knobs| knobs.give_up_after.is_none()) => {
                return fails("nothing is given up");
            }
            EventType::Unreachable => {
                let row = lives
                    .iter()
                    .take_while(|(kind, _, now)| !*now || !matches!(kind, Kind::Operation { .. }))
                    .count();
                if !matches!(last, Some(Kind::Refused | Kind::Forbidden)) && row < 3 {
                    return fails("it can be reached");
                }
                if reported.is_some_and(|reported| reported.unreachable) {
                    return fails("it was reported before");
                }
            }
            EventType::Reachable
                if status.is_none() || !reported.is_some_and(|reported| reported.unreachable) =>
            {
                return fails("it was not reported unreachable, or is");
            }
            _ => {}
        }
        // What was recorded while its line was removed is reported, too.
        let removed = self.removed.get(key).copied();
        let is_away = !self.listed.contains(key) || removed.is_some_and(|removed| now < removed + GRACE);
        let reported = self.reported.entry(key.clone()).or_default();
        if event_type == EventType::Resumed && !reported.stalled {
            return fails("it was not stalled");
        }
        reported.sequence += 1;
        if event_type.is_ending() {
            reported.was_away = is_away;
            reported.ended_at = now;
            reported.endings += 1;
        }
        if event_type == EventType::Started {
            reported.started = Some(now);
        }
        reported.ended = event_type.is_ending().then_some(event_type);
        match event_type {
            EventType::Stalled => reported.stalled = true,
            EventType::Resumed => reported.stalled = false,
            EventType::Unreachable => reported.unreachable = true,
            EventType::Reachable => reported.unreachable = false,
            _ if event_type.is_ending() => (reported.stalled, reported.unreachable) = (false, false),
            _ => {}
        }
        Ok(())
    }

    fn check_project(
        &mut self,
        name: &str,
        event_type: EventType,
        data: &Value,
        asked: Duration,
    ) -> Result<(), String> {
        let now = self.now();
        let index = PROJECTS.iter().position(|project| *project == name).unwrap();
        let least = self
            .since(now.saturating_sub(seconds(3600)))
            // Pauses without a success count as an outage, too.
            .map(|knobs| knobs.unreachable_after.min(knobs.max_retry_after))
            .min();
        let least = least.unwrap_or_default();
        let of = &mut self.projects[index];
        let (flag, is) = match event_type {
            EventType::ApiUnreachable => {
                // Answers may have come while this was being written; some tolerance for how long that took.
                let last = of.answered.iter().rev().find(|at| **at < asked);
                let is_refused = of.last == Some(Kind::Refused);
                if !is_refused
                    && !of.is_missing
                    && last.is_some_and(|at| now.saturating_sub(*at) + seconds(20) < least)
                {
                    return Err("the API was reached".to_owned());
                }
                (&mut of.unreachable, true)
            }
            EventType::ApiReachable => {
                // A project whose last operation has left is not polled, so it is no longer unreachable either.
                let has_none = data["reason"] == "no operation of the project is polled any more";
                if of.answered.is_empty() && !has_none {
                    return Err("the API was not reached".to_owned());
                }
                (&mut of.unreachable, false)
            }
            EventType::CredentialsRejected => (&mut of.rejected, true),
            EventType::CredentialsAccepted => (&mut of.rejected, false),
            _ => return Err("this is no event of a project".to_owned()),
        };
        if *flag == is {
            return Err("it was reported before".to_owned());
        }
        *flag = is;
        Ok(())
    }

    fn check_attempt(&mut self, endpoint: usize, message: &WebhookMessage) -> Result<(), &'static str> {
        let Some(event) = self.committed.get(&message.id) else {
            return Err("sent before it was committed");
        };
        let of = &mut self.endpoints[endpoint];
        of.events.entry(message.id.clone()).or_default().0 += 1;
        if event.body != message.body {
            return Err("the body is another one than was recorded");
        }
        if !of.busy.insert(event.subject.clone()) {
            return Err("two of one operation are under way");
        }
        let last = of.last.entry(event.subject.clone()).or_insert(event.number);
        if *last > event.number {
            return Err("it comes after a later one");
        }
        *last = event.number;
        Ok(())
    }
}

/// The key of an operation.
pub fn key_of(operation: &OperationScript) -> WatchKey {
    WatchKey {
        project: PROJECTS[operation.project].into(),
        operation: operation.id.as_str().into(),
    }
}

fn may_start_again(ended: EventType) -> bool {
    matches!(ended, EventType::Ended | EventType::Gone | EventType::Expired)
}
