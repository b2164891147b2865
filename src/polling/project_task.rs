//! The task that owns one project. Its loop has three beats: take messages, decide, start what was decided.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answers::{Done, HeldBack, OF_PROJECT, logs, poll, project};
use super::changes::ChangeLog;
use super::checkpoints::Checkpoints;
use super::listing::{Change, Listing};
use super::requests::{Ended, Requests};
use super::watches::{Number, Watches};
use super::{PollingSettings, Shared};
use crate::ampersand::Fetch;
use crate::board::{Failing, Pause, ProjectView, Question};
use crate::clock;
use crate::core::answer::Answer;
use crate::core::gate::{Admission, Gate, Pass};
use crate::core::kind::Kinds;
use crate::core::poller::{LogRequest, Poller, Visit, Waits};
use crate::core::project::{Context, Moment, Project};
use crate::core::watch_list::WatchKey;
use crate::error::chain;

/// This many of one kind of message are taken before the others have their turn.
const BATCH: usize = 64;
/// This many alarms are served before messages have their turn: all watches may be due at once.
const ALARMS: usize = 256;
/// A task that wakes up this much too late did not run in between: the process was stopped, or the machine slept.
const SUSPENSION: Duration = Duration::from_secs(5);
/// A gate that had kept up for this long before is worth a line again.
const SATURATION_REPORT: Duration = Duration::from_mins(10);
/// From this many of the operations that left the list the project learns at start how long others take.
const LEARNED_FROM: u32 = 5_000;
/// How long to wait before what the store could not do is tried again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// How a project task is reached.
#[derive(Debug)]
pub(super) struct Inlets {
    /// What is asked for.
    pub list: mpsc::Receiver<Change>,
    pub questions: mpsc::Receiver<Question>,
    pub settings: watch::Receiver<Arc<PollingSettings>>,
    pub view: watch::Sender<ProjectView>,
}

pub(super) struct ProjectTask<F> {
    pub name: Arc<str>,
    pub shared: Arc<Shared<F>>,
    pub inlets: Inlets,
    pub settings: Arc<PollingSettings>,
    /// What steady time counts from. It moves on by the time in which the process did not run.
    pub start: Instant,
    /// When the next beat was due at the latest.
    planned: Option<Duration>,
    pub watches: Watches,
    pub kinds: Kinds,
    pub gate: Gate<Number>,
    pub health: Project,
    pub requests: Requests,
    /// What is being recorded or loaded.
    pub jobs: JoinSet<Done>,
    /// Whether a change of the project is being recorded. What came after it waits in `held_back`.
    pub is_recording: bool,
    pub held_back: VecDeque<HeldBack>,
    /// Those that wait for the answer of another watch.
    pub doubters: Vec<Number>,
    pub listing: Listing,
    pub checkpoints: Checkpoints,
    pub changes: Option<ChangeLog>,
    /// Whether the view has to be announced.
    pub is_view_changed: bool,
    pub has_reported_failing: bool,
    saturated: Option<Duration>,
}

/// What woke the task.
enum Woken {
    Request(Ended),
    Job(Result<Done, JoinError>),
    List(Change),
    Question(Question),
    Settings,
    Alarm,
}

impl<F: Fetch> ProjectTask<F> {
    /// Runs the project until `cancel`.
    pub async fn run(name: Arc<str>, shared: Arc<Shared<F>>, inlets: Inlets, cancel: CancellationToken) {
        let starting = Self::load(name, shared, inlets);
        let Some(mut task) = cancel.run_until_cancelled(starting).await else {
            return;
        };
        let mut alarm = std::pin::pin!(sleep_until(task.start));
        loop {
            let next = task.beat();
            if let Some(next) = next
                && alarm.deadline() != task.start + next
            {
                alarm.as_mut().reset(task.start + next);
            }
            task.planned = next;
            let woken = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                ended = task.requests.next() => Woken::Request(ended),
                Some(joined) = task.jobs.join_next(), if !task.jobs.is_empty() => Woken::Job(joined),
                Some(change) = task.inlets.list.recv() => Woken::List(change),
                Some(question) = task.inlets.questions.recv() => Woken::Question(question),
                Ok(()) = task.inlets.settings.changed() => Woken::Settings,
                () = &mut alarm, if next.is_some() => Woken::Alarm,
            };
            task.discount_suspension();
            match woken {
                Woken::Request(ended) => task.request_ended(ended),
                Woken::Job(joined) => task.job_ended(joined),
                Woken::List(change) => task.change(change),
                Woken::Question(question) => task.answer_question(question),
                Woken::Settings => task.apply_settings(),
                Woken::Alarm => {}
            }
        }
        task.stop().await;
    }

    /// Reads what the store has of the project; tries again until it can be read.
    async fn load(name: Arc<str>, shared: Arc<Shared<F>>, mut inlets: Inlets) -> Self {
        let store = shared.recorder.store();
        let mut has_failed = false;
        let health = loop {
            match store.load_project(&name).await {
                Ok(health) => break health.unwrap_or_default(),
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::error!(
                            project = &*name,
                            error = chain(&error),
                            "the state of the project cannot be read; its operations are not polled; trying again"
                        );
                    }
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        };
        let mut kinds = Kinds::default();
        match store.left(LEARNED_FROM).await {
            Ok(left) => left.iter().rev().for_each(|watch| watch.teach(&mut kinds)),
            Err(error) => tracing::debug!(
                project = &*name,
                error = chain(&error),
                "the history of finished operations cannot be read"
            ),
        }
        let settings = inlets.settings.borrow_and_update().clone();
        let start = clock::instant();
        let mut task = Self {
            gate: Gate::new(settings.limits, health.hold(), Duration::ZERO),
            name,
            shared,
            inlets,
            settings,
            start,
            planned: None,
            watches: Watches::default(),
            kinds,
            health,
            requests: Requests::default(),
            jobs: JoinSet::new(),
            is_recording: false,
            held_back: VecDeque::new(),
            doubters: Vec::new(),
            listing: Listing::default(),
            checkpoints: Checkpoints::default(),
            changes: None,
            is_view_changed: true,
            has_reported_failing: false,
            saturated: None,
        };
        task.publish();
        task
    }

    /// Time in which the process or the machine did not run counts for nothing: no poll is late and nothing stalls by it.
    fn discount_suspension(&mut self) {
        let late = self
            .planned
            .map_or(Duration::ZERO, |planned| self.now().saturating_sub(planned));
        if late > SUSPENSION {
            tracing::info!(
                project = &*self.name,
                seconds = late.as_secs_f64(),
                "the process did not run for a while; this time does not count"
            );
            self.start += late;
        }
    }

    /// Takes what is at hand, decides, starts what may start. Returns when the next beat is due at the latest.
    fn beat(&mut self) -> Option<Duration> {
        for _ in 0..BATCH {
            let Some(ended) = self.requests.try_next() else {
                break;
            };
            self.request_ended(ended);
        }
        for _ in 0..BATCH {
            let Some(joined) = self.jobs.try_join_next() else {
                break;
            };
            self.job_ended(joined);
        }
        let now = self.now();
        for _ in 0..ALARMS {
            let Some(number) = self.watches.pop_alarm(now) else {
                break;
            };
            self.alarm(number, now);
        }
        let gate = self.admit(now);
        let load = self.load_listed(now);
        self.depart();
        let checkpoint = self.checkpoint(now);
        self.publish();
        [self.watches.next_alarm(), gate, load, Some(checkpoint)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets requests through. Returns when the gate is to be asked again.
    fn admit(&mut self, now: Duration) -> Option<Duration> {
        if self.is_recording {
            // What is being recorded may close the gate.
            return None;
        }
        loop {
            match self.gate.admit(now) {
                Admission::Admit(admitted) => {
                    self.report_wait(admitted.queued, now);
                    self.start_request(admitted.who, Pass::Turn, now);
                }
                Admission::Probe => {
                    // Without any, the next message brings one.
                    let number = self.choose_probe()?;
                    if self
                        .watches
                        .get(number)
                        .is_some_and(|slot| slot.poller.waits() == Waits::ForPoll)
                    {
                        self.queue(number, now);
                    }
                    if let Some(Waits::AtGate(ticket)) =
                        self.watches.get(number).map(|slot| slot.poller.waits())
                    {
                        self.gate.leave(ticket);
                    }
                    self.gate.start_probe(now);
                    self.start_request(number, Pass::Probe, now);
                }
                Admission::WaitUntil(until) => return Some(until),
                Admission::Closed => return None,
            }
        }
    }

    /// The watch whose poll is the probe: for rejected credentials the one that was polled the longest ago, for a 403 the one
    /// that was answered most recently, of another installation if there is one.
    fn choose_probe(&self) -> Option<Number> {
        let candidates = self.watches.iter().filter(|(_, slot)| slot.poller.may_probe());
        if self.health.is_in_doubt() {
            let doubter = self.doubters.iter().find_map(|number| self.watches.get(*number));
            let installation = doubter.and_then(|slot| slot.watched.watch.installation());
            let best = candidates.max_by_key(|(number, slot)| {
                let watch = &slot.watched.watch;
                let is_answered = watch.is_in_sight();
                let is_other = installation.is_none() || watch.installation() != installation;
                (
                    is_answered,
                    is_other,
                    watch.last_answer(),
                    Reverse(slot.polled),
                    *number,
                )
            });
            return best.map(|(number, _)| number);
        }
        let oldest = candidates.min_by_key(|(number, slot)| (slot.polled, *number));
        oldest.map(|(number, _)| number)
    }

    /// What a poller waits for is due.
    fn alarm(&mut self, number: Number, now: Duration) {
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let waits = slot.poller.waits();
        let is_gathering = matches!(slot.poller, Poller::Gathering(_));
        let expires = self.expiry_time(number).is_some_and(|at| at <= now);
        match waits {
            Waits::ForPoll | Waits::ForDoubt if expires => self.give_up(number),
            Waits::ForPoll => match slot.poller {
                Poller::Asleep { due } if due.get() <= now => self.queue(number, now),
                // Other settings apply since it fell asleep.
                Poller::Asleep { due } => self.sleep(number, due.get()),
                _ => {}
            },
            Waits::AtGate(ticket) if is_gathering || expires => {
                self.gate.leave(ticket);
                if is_gathering {
                    self.gathered(number, Vec::new());
                } else {
                    self.give_up(number);
                }
            }
            Waits::ForAnswer if is_gathering || expires => self.requests.abort(number),
            Waits::AtGate(_) | Waits::ForAnswer | Waits::ForDoubt => {
                self.watches.set_alarm(number, self.expiry_time(number));
            }
            Waits::Otherwise => {}
        }
    }

    /// A poll is due: it joins the gate's queue.
    fn queue(&mut self, number: Number, now: Duration) {
        let due = match self.watches.get(number).map(|slot| &slot.poller) {
            Some(Poller::Asleep { due }) => Some(*due),
            _ => None,
        };
        let visit = Visit {
            due,
            held_before: self.gate.held(now).into(),
            is_repeated: false,
        };
        self.queue_again(number, visit, now);
    }

    /// A poll joins the gate's queue (again).
    pub(super) fn queue_again(&mut self, number: Number, visit: Visit, now: Duration) {
        let expiry = self.expiry_time(number);
        if let Some(slot) = self.watches.get_mut(number) {
            let ticket = self.gate.join(number, now);
            slot.poller = Poller::Queued { ticket, visit };
            self.watches.set_alarm(number, expiry);
        }
    }

    /// A request passed the gate and starts.
    fn start_request(&mut self, number: Number, pass: Pass, now: Duration) {
        if number == OF_PROJECT {
            let request = project(Arc::clone(&self.shared), Arc::clone(&self.name));
            return self.requests.start(number, pass, now, request);
        }
        let Some(slot) = self.watches.get_mut(number) else {
            self.gate.release(pass, now);
            return;
        };
        let key = WatchKey {
            project: Arc::clone(&self.name),
            operation: Arc::clone(&slot.watched.id),
        };
        match &mut slot.poller {
            Poller::Queued { visit, .. } => {
                if let Some(due) = visit.due.take() {
                    let held = self.gate.held(now).saturating_sub(visit.held_before.get());
                    let lag = now.saturating_sub(due.get()).saturating_sub(held);
                    self.shared.metrics.poll_lag(lag);
                }
                slot.polled = now.into();
                slot.poller = Poller::Asking { visit: *visit };
                let request = poll(Arc::clone(&self.shared), key, pass);
                self.requests.start(number, pass, now, request);
            }
            Poller::Gathering(gathering) => {
                gathering.request = LogRequest::InFlight;
                let request = logs(Arc::clone(&self.shared), key);
                self.requests.start(number, pass, now, request);
            }
            _ => self.gate.release(pass, now),
        }
    }

    /// Other settings apply from now on.
    fn apply_settings(&mut self) {
        let settings = self.inlets.settings.borrow_and_update().clone();
        let now = self.now();
        self.gate.set_limits(settings.limits, now);
        let key_version = |settings: &PollingSettings| settings.projects.get(&self.name).copied();
        if key_version(&settings) > key_version(&self.settings) {
            self.health.replace_key(self.moment());
            self.gate.set_hold(self.health.hold(), now);
        }
        self.settings = settings;
        self.is_view_changed = true;
    }

    /// Reports once when the gate cannot keep up, and again only after it could for a while.
    fn report_wait(&mut self, queued: Duration, now: Duration) {
        self.shared.metrics.gate_wait(queued);
        self.inlets.view.send_if_modified(|view| {
            view.gate.last_wait = queued;
            false
        });
        if queued <= self.settings.poll.pace.longest() / 2 {
            return;
        }
        let before = self.saturated.replace(now);
        if before.is_some_and(|before| now.saturating_sub(before) < SATURATION_REPORT) {
            return;
        }
        let watches = self.watches.polled();
        let limits = self.gate.limits();
        tracing::warn!(
            project = &*self.name,
            watches,
            max_requests_per_second = limits.per_second,
            max_concurrent_requests = limits.concurrent,
            queued_seconds = queued.as_secs_f64(),
            seconds_per_round = watches as f64 / limits.per_second,
            "the gate cannot keep up: polls come later than poll.max_interval, evenly for all watches; raise \
             ampersand.max_requests_per_second (or max_concurrent_requests), or poll.max_interval"
        );
    }

    /// Publishes what readers see. They are woken only by what changes rarely.
    pub(super) fn publish(&mut self) {
        let mut is_changed = std::mem::take(&mut self.is_view_changed);
        let at = |steady: Duration| self.start + steady;
        self.inlets.view.send_if_modified(|view| {
            is_changed |= view.phases != self.watches.phases();
            view.pulse.next_due = self.watches.next_alarm().map(at);
            view.pulse.oldest_request = self.requests.oldest().map(at);
            view.gate.waiting = self.gate.waiting();
            view.gate.in_flight = self.gate.in_flight();
            view.phases = self.watches.phases();
            if is_changed {
                view.generation = self.listing.applied();
                view.gate.limits = self.gate.limits();
                let api = &mut view.api;
                api.unreachable = self.health.unreachable_since();
                api.rejected = self.health.rejected_since();
            }
            is_changed
        });
        if is_changed {
            self.shared.board.announce();
        }
    }

    /// Publishes what an answer says of the API.
    pub(super) fn publish_answer(&mut self, answer: &Answer) {
        let instant = clock::instant();
        let pause_until = self.health.paused_until().map(|until| self.start + until);
        let mut is_changed = false;
        self.inlets.view.send_if_modified(|view| {
            let api = &mut view.api;
            is_changed =
                !matches!(answer, Answer::Operation(_)) || api.failing.is_some() || !api.was_answered;
            match answer {
                Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                    let failing = api.failing.get_or_insert(Failing {
                        since: instant,
                        polls: 0,
                    });
                    failing.polls = failing.polls.saturating_add(1);
                    api.last_trouble = Some(failure.reason.as_str().into());
                    return false;
                }
                Answer::Throttled { reason, .. } => {
                    api.last_trouble = Some(reason.as_str().into());
                    api.pause = pause_until.map(|until| Pause {
                        until,
                        reason: reason.as_str().into(),
                    });
                }
                Answer::NotFound(reason)
                | Answer::Refused(reason)
                | Answer::Unauthorized(reason)
                | Answer::Forbidden(reason) => api.last_trouble = Some(reason.as_str().into()),
                Answer::Operation(_) => {}
            }
            if !matches!(answer, Answer::Throttled { .. }) && api.pause.is_some() {
                api.pause = None;
            }
            api.was_answered = true;
            api.failing = None;
            false
        });
        self.is_view_changed |= is_changed;
    }

    /// When the watch is given up, if ever.
    pub(super) fn expiry_time(&self, number: Number) -> Option<Duration> {
        let slot = self.watches.get(number)?;
        let left = slot.watched.watch.expires_in(&self.settings.poll.rules)?;
        slot.observed.get().checked_add(left)
    }

    /// Puts a poller to sleep until a poll is due.
    pub(super) fn sleep(&mut self, number: Number, due: Duration) {
        let expiry = self.expiry_time(number);
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        slot.poller = Poller::asleep_until(due);
        let alarm = match expiry {
            // What could not be recorded is not tried again before it is due, giving up included.
            Some(expiry) if slot.setbacks == 0 => expiry.min(due),
            _ => due,
        };
        self.watches.set_alarm(number, Some(alarm));
    }

    /// What surrounds an answer, for the project.
    pub(super) fn context(&self) -> Context<'_> {
        let poll = &self.settings.poll;
        Context {
            name: &self.name,
            pace: &poll.pace,
            unreachable_after: poll.rules.unreachable_after,
            max_retry_after: poll.max_retry_after,
            watches: self.watches.polled(),
            now: self.moment(),
        }
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            wall: self.shared.recorder.now(),
            steady: self.now(),
        }
    }

    /// Now, in steady time.
    pub(super) fn now(&self) -> Duration {
        clock::instant().saturating_duration_since(self.start)
    }
}
