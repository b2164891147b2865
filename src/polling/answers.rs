//! From an answer to what is recorded: what it means for the project, then for the watch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use super::Shared;
use super::project_task::ProjectTask;
use super::requests::{Ended, Outcome, Reply, panic_message};
use super::watches::Number;
use crate::ampersand::Fetch;
use crate::clock;
use crate::core::answer::{Answer, LogAnswer, ProjectAnswer};
use crate::core::event::{Event, EventType};
use crate::core::gate::Pass;
use crate::core::log_line::LogLine;
use crate::core::poller::{Decided, Doubt, Gathering, LogRequest, Poller, Visit, WaitsFor};
use crate::core::project::{Concerns, Project};
use crate::core::watch::{Context, Next, Step, Watch};
use crate::core::watch_list::WatchKey;
use crate::error::chain;
use crate::store::{Change, CommitError, Subject};

/// An event waits for the log lines it carries no longer than this, the gate included.
const LOGS_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures that pass sooner are not worth a line.
const FAILING_REPORT: Duration = Duration::from_secs(5);

/// Stands at the gate for the project itself. No watch has that number.
pub(super) const OF_PROJECT: Number = Number::MAX;

/// Whether an event carries the last lines of its operation's log.
fn has_logs(event_type: EventType) -> bool {
    matches!(event_type, EventType::Failed | EventType::Stalled)
}

/// What was recorded or loaded, or could not be.
#[derive(Debug)]
pub(super) enum Done {
    /// A change of a watch.
    Watch {
        number: Number,
        decided: Box<Decided>,
        result: Result<(), CommitError>,
    },
    /// A change of the project, and the answer that it came from.
    Project {
        health: Box<Project>,
        then: Option<(Answered, Concerns)>,
        result: Result<(), CommitError>,
    },
    Loaded(super::listing::Loaded),
    Departed(super::listing::Departed),
    Checkpointed {
        numbers: Vec<Number>,
        result: Result<(), CommitError>,
    },
}

/// An answer to a poll.
#[derive(Debug)]
pub(super) struct Answered {
    pub number: Number,
    pub answer: Box<Answer>,
    pub visit: Visit,
    pub pass: Pass,
}

/// What waits until a change of the project is recorded.
#[derive(Debug)]
pub(super) enum HeldBack {
    Answered(Answered),
    Change(ProjectChange),
}

/// What changes a project besides answers.
#[derive(Debug)]
pub(super) enum ProjectChange {
    /// The API was asked whether the project exists.
    Answered(ProjectAnswer),
    /// The API refuses all of several operations repeatedly.
    AllRefused,
    /// No operation is polled any more.
    NoWatches,
}

/// What a watch observes.
enum Observation {
    Answer(Box<Answer>, Visit),
    /// The time to give up has come.
    Expiry,
}

/// Asks for an operation.
pub(super) async fn poll<F: Fetch>(shared: Arc<Shared<F>>, key: WatchKey, pass: Pass) -> Reply {
    if pass == Pass::Probe && shared.fetch.refresh_key(&key.project).await {
        tracing::info!(project = &*key.project, "a new API key is in place");
    }
    let started = clock::instant();
    let answer = shared.fetch.fetch(&key).await;
    shared.metrics.poll(&answer, clock::instant() - started);
    tracing::debug!(
        project = &*key.project,
        operation_id = &*key.operation,
        outcome = answer.outcome(),
        probe = pass == Pass::Probe,
        "polled"
    );
    Reply::Answer(answer)
}

/// Asks for the last log lines of an operation.
pub(super) async fn logs<F: Fetch>(shared: Arc<Shared<F>>, key: WatchKey) -> Reply {
    Reply::Logs(shared.fetch.last_warnings(&key).await)
}

/// Asks whether the project exists.
pub(super) async fn project<F: Fetch>(shared: Arc<Shared<F>>, name: Arc<str>) -> Reply {
    Reply::Project(shared.fetch.project_exists(&name).await)
}

impl<F: Fetch> ProjectTask<F> {
    /// A request has ended.
    pub(super) fn request_ended(&mut self, ended: Ended) {
        let Ended {
            number,
            pass,
            outcome,
        } = ended;
        let now = self.now();
        self.gate.release(pass, now);
        if number == OF_PROJECT {
            if let Outcome::Reply(Reply::Project(answer)) = outcome {
                self.change_project(ProjectChange::Answered(answer));
            }
            return;
        }
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        if slot.poller.ended(WaitsFor::Request) {
            self.listing.departing.push(number);
            return;
        }
        match (&slot.poller, outcome) {
            (Poller::Gathering(_), Outcome::Reply(Reply::Logs(answer))) => self.logs_answered(number, answer),
            (Poller::Gathering(_), _) => self.gathered(number, Vec::new()),
            (Poller::Asking { visit, .. }, Outcome::Reply(Reply::Answer(Answer::Unprocessed(_))))
                if pass == Pass::Turn && !visit.is_repeated =>
            {
                let visit = Visit {
                    is_repeated: true,
                    ..*visit
                };
                let ticket = self.gate.join_front(number, now);
                slot.poller = Poller::Queued { ticket, visit };
            }
            (Poller::Asking { visit, .. }, Outcome::Reply(Reply::Answer(answer))) => {
                let answer = answer.of_repeated();
                let answered = Answered {
                    number,
                    answer: Box::new(answer),
                    visit: *visit,
                    pass,
                };
                self.answered(answered);
            }
            (_, Outcome::Panicked(panic)) => self.panicked(number, &panic),
            // Aborted because its time to give up had come.
            _ => self.give_up(number),
        }
    }

    /// Something was recorded or loaded.
    pub(super) fn job_ended(&mut self, joined: Result<Done, JoinError>) {
        match joined {
            Ok(Done::Watch {
                number,
                decided,
                result,
            }) => self.watch_recorded(number, *decided, result),
            Ok(Done::Project { health, then, result }) => self.project_recorded(*health, then, result),
            Ok(Done::Loaded(loaded)) => self.loaded(loaded),
            Ok(Done::Departed(departed)) => self.departed(departed),
            Ok(Done::Checkpointed { numbers, result }) => self.checkpointed(&numbers, result),
            // Which watch it was for is lost, so the whole project starts again from what is recorded.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("jobs are never aborted"),
            },
        }
    }

    /// What an answer means for the project comes first.
    fn answered(&mut self, answered: Answered) {
        if self.is_recording {
            self.start_recording(answered.number);
            self.held_back.push_back(HeldBack::Answered(answered));
            return;
        }
        let Some(slot) = self.watches.get(answered.number) else {
            return;
        };
        let is_refused = slot.watched.watch.is_forbidden();
        let mut health = self.health.clone();
        let (concerns, events) = health.observe(
            &slot.watched.id,
            &answered.answer,
            answered.pass == Pass::Probe,
            is_refused,
            &self.context(),
        );
        self.report_failing(&health, &answered.answer);
        if events.is_empty() {
            self.set_health(health);
            self.publish_answer(&answered.answer);
            self.conclude(answered, concerns);
        } else {
            self.start_recording(answered.number);
            self.record_project(health, events, Some((answered, concerns)));
        }
    }

    /// The poller waits until something is recorded.
    fn start_recording(&mut self, number: Number) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.poller = Poller::Recording;
        }
        self.watches.set_alarm(number, None);
    }

    fn record_project(&mut self, health: Project, events: Vec<Event>, then: Option<(Answered, Concerns)>) {
        self.is_recording = true;
        let change = Change {
            subject: Subject::Project(Arc::clone(&self.name), health.clone()),
            events,
        };
        let recorder = self.shared.recorder.clone();
        let health = Box::new(health);
        let recording = async move {
            let result = recorder.record(&change).await;
            Done::Project { health, then, result }
        };
        self.jobs.spawn_on(recording, &self.shared.background);
    }

    fn project_recorded(
        &mut self,
        health: Project,
        then: Option<(Answered, Concerns)>,
        result: Result<(), CommitError>,
    ) {
        self.is_recording = false;
        match &result {
            Ok(()) => self.set_health(health),
            Err(_) => self.health.keep_reach(&health),
        }
        self.is_view_changed = true;
        if let Some((answered, concerns)) = then
            && !self.departs_after_commit(answered.number)
        {
            self.publish_answer(&answered.answer);
            match result {
                Ok(()) => self.conclude(answered, concerns),
                Err(error) => {
                    if answered.answer.is_operation() {
                        self.keep_sight(answered.number);
                    }
                    self.unrecorded(answered.number, &error);
                }
            }
        }
        while !self.is_recording {
            match self.held_back.pop_front() {
                None => return,
                Some(HeldBack::Change(change)) => self.change_project(change),
                Some(HeldBack::Answered(answered)) => {
                    if !self.departs_after_commit(answered.number) {
                        self.answered(answered);
                    }
                }
            }
        }
    }

    /// Whether the watch was removed while its commit was in flight; then it departs.
    fn departs_after_commit(&mut self, number: Number) -> bool {
        let Some(slot) = self.watches.get_mut(number) else {
            return true;
        };
        let departs = slot.poller.ended(WaitsFor::Commit);
        if departs {
            self.listing.departing.push(number);
        }
        departs
    }

    /// The project moves on, and with it the gate and those that wait for another watch's answer.
    pub(super) fn set_health(&mut self, health: Project) {
        let now = self.now();
        self.is_view_changed |= self.health.unreachable_since() != health.unreachable_since()
            || self.health.rejected_since() != health.rejected_since();
        self.health = health;
        self.gate.set_hold(self.health.hold(), now);
        if self.doubters.is_empty() || self.health.is_in_doubt() {
            return;
        }
        for number in std::mem::take(&mut self.doubters) {
            let Some(slot) = self.watches.get_mut(number) else {
                continue;
            };
            if !matches!(slot.poller, Poller::Doubting(_)) {
                continue;
            }
            let Poller::Doubting(doubt) = std::mem::replace(&mut slot.poller, Poller::Recording) else {
                continue;
            };
            if self.health.has_credentials() {
                self.decide(number, Observation::Answer(Box::new(doubt.answer), doubt.visit));
            } else {
                self.queue_again(number, doubt.visit, now);
            }
        }
    }

    /// The answer concerns the watch, the project, or it is not known yet which.
    fn conclude(&mut self, answered: Answered, concerns: Concerns) {
        let Answered {
            number,
            answer,
            visit,
            ..
        } = answered;
        match concerns {
            Concerns::Watch => self.decide(number, Observation::Answer(answer, visit)),
            Concerns::Project => self.queue_again(number, visit, self.now()),
            Concerns::Unclear => {
                if let Some(slot) = self.watches.get_mut(number) {
                    slot.poller = Poller::Doubting(Box::new(Doubt {
                        answer: *answer,
                        visit,
                    }));
                    self.doubters.push(number);
                    self.watches.set_alarm(number, self.expiry_time(number));
                }
            }
        }
    }

    /// The time to give up the watch has come.
    pub(super) fn give_up(&mut self, number: Number) {
        self.decide(number, Observation::Expiry);
    }

    /// What an observation means for the watch. A panic costs this watch a restart and no other anything.
    fn decide(&mut self, number: Number, observation: Observation) {
        let now = self.now();
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let watched = &*slot.watched;
        let key = self.key(&watched.id);
        let poll = &self.settings.poll;
        let held = match &observation {
            Observation::Answer(_, visit) => self.gate.held(now).saturating_sub(visit.held_before.get()),
            Observation::Expiry => Duration::ZERO,
        };
        let cx = Context {
            key: &key,
            labels: &watched.labels,
            rules: &poll.rules,
            pace: &poll.pace,
            kinds: &self.kinds,
            now: self.shared.recorder.now(),
            elapsed: now.saturating_sub(slot.observed.get()),
            held,
            chance: self.shared.chance.draw(),
            others_refused: self.watches.are_others_refused(number),
            project_proven: self.health.proven_ago(self.moment()),
            project_answered: self.health.answered_ago(self.moment()),
        };
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let mut watch = watched.watch.clone();
            let step = match &observation {
                Observation::Answer(answer, _) => watch.observe(answer, &cx),
                Observation::Expiry => watch.give_up(&cx),
            };
            (watch, step)
        }));
        let (mut watch, step) = match decided {
            Ok(decided) => decided,
            Err(panic) => return self.panicked(number, &panic_message(&*panic)),
        };
        watch.share(Some(&watched.watch), &mut self.kinds);
        if step.events.is_empty() {
            return self.advance(number, watch, &step, now, true);
        }
        let decided = Box::new(Decided {
            watch,
            step,
            observed: now,
        });
        let mut events = decided.step.events.iter();
        if events.any(|event| has_logs(event.event_type)) {
            self.gather(number, decided, now);
        } else {
            self.record_watch(number, decided);
        }
    }

    /// The log of an operation was asked for. While the API asks for a pause, the lines are waited for.
    fn logs_answered(&mut self, number: Number, answer: LogAnswer) {
        let now = self.now();
        let ticket = match answer {
            LogAnswer::Lines(lines) => return self.gathered(number, lines),
            LogAnswer::Failed(_) => return self.gathered(number, Vec::new()),
            LogAnswer::Throttled { wait, .. } => {
                let mut health = self.health.clone();
                health.throttle(wait, &self.context());
                self.set_health(health);
                self.gate.join(number, now)
            }
            LogAnswer::Unprocessed(_) => self.gate.join_front(number, now),
        };
        match self.watches.get_mut(number).map(|slot| &mut slot.poller) {
            Some(Poller::Gathering(gathering)) => gathering.request = LogRequest::Queued(ticket),
            _ => self.gate.leave(ticket),
        }
    }

    /// An event waits for the last lines of its operation's log.
    fn gather(&mut self, number: Number, decided: Box<Decided>, now: Duration) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let request = LogRequest::Queued(self.gate.join(number, now));
        slot.poller = Poller::Gathering(Box::new(Gathering { decided, request }));
        self.watches.set_alarm(number, Some(now + LOGS_TIMEOUT));
    }

    /// The lines are there, or do not come.
    pub(super) fn gathered(&mut self, number: Number, lines: Vec<LogLine>) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let Poller::Gathering(gathering) = std::mem::replace(&mut slot.poller, Poller::Recording) else {
            return;
        };
        let mut decided = gathering.decided;
        for event in &mut decided.step.events {
            match event.event_type {
                EventType::Failed => event.attach_logs(lines.clone()),
                EventType::Stalled => event.attach_stall_context(lines.clone(), None, None),
                _ => {}
            }
        }
        self.record_watch(number, decided);
    }

    fn record_watch(&mut self, number: Number, mut decided: Box<Decided>) {
        let Some(key) = self.watches.get(number).map(|slot| self.key(&slot.watched.id)) else {
            return;
        };
        self.start_recording(number);
        let recorder = self.shared.recorder.clone();
        let recording = async move {
            let watch = Box::new(std::mem::take(&mut decided.watch));
            let change = Change {
                subject: Subject::Watch(key, watch),
                events: std::mem::take(&mut decided.step.events),
            };
            let result = recorder.record(&change).await;
            if let Subject::Watch(_, watch) = change.subject {
                decided.watch = *watch;
            }
            Done::Watch {
                number,
                decided,
                result,
            }
        };
        self.jobs.spawn_on(recording, &self.shared.background);
    }

    fn watch_recorded(&mut self, number: Number, decided: Decided, result: Result<(), CommitError>) {
        let is_leaving = self
            .watches
            .get(number)
            .is_none_or(|slot| slot.poller.is_leaving());
        match result {
            Ok(()) if is_leaving => {
                if let Some(slot) = self.watches.get_mut(number) {
                    // It does not count any more, but may be put back.
                    slot.watched.watch = decided.watch;
                    slot.watched.is_unrecorded = false;
                }
                self.departs_after_commit(number);
            }
            Err(_) if is_leaving => {
                self.departs_after_commit(number);
            }
            Ok(()) => {
                let Decided {
                    watch,
                    step,
                    observed,
                } = decided;
                self.advance(number, watch, &step, observed, false);
            }
            Err(error) => {
                if decided.watch.is_in_sight() {
                    self.keep_sight(number);
                }
                self.unrecorded(number, &error);
            }
        }
    }

    /// The watch moves on.
    fn advance(
        &mut self,
        number: Number,
        watch: Watch,
        step: &Step,
        observed: Duration,
        is_unrecorded: bool,
    ) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.observed = observed.into();
            slot.setbacks = 0;
        }
        if step.next == Next::Over {
            watch.teach(&mut self.kinds);
        }
        self.watches.replace_watch(number, watch, is_unrecorded);
        self.note_change(number);
        match step.next {
            Next::PollAfter(wait) => self.sleep(number, observed.saturating_add(wait)),
            Next::Over => {
                if let Some(slot) = self.watches.get_mut(number) {
                    slot.poller = Poller::Finished;
                }
                self.watches.set_alarm(number, None);
                self.watches_changed();
            }
        }
        if self.watches.are_all_refused() {
            self.change_project(ProjectChange::AllRefused);
        }
        if step.doubts_project {
            self.ask_for_project();
        }
    }

    /// With a single watch there is no other whose answer could resolve a doubt about the credentials, and without any
    /// an outage has no cause.
    pub(super) fn watches_changed(&mut self) {
        if self.watches.polled() == 0 && self.health.unreachable_since().is_some() {
            self.change_project(ProjectChange::NoWatches);
        }
        if self.watches.polled() <= 1 && self.health.is_in_doubt() {
            let mut health = self.health.clone();
            health.drop_doubt();
            self.set_health(health);
        }
    }

    /// An operation is not found, and nothing proves that the project exists: the API is asked for that.
    fn ask_for_project(&mut self) {
        let now = self.moment();
        if self.health.may_ask(now) {
            self.health.ask(now);
            self.gate.join(OF_PROJECT, now.steady);
        }
    }

    /// The project changes by what no poll says by itself.
    fn change_project(&mut self, change: ProjectChange) {
        if self.is_recording {
            self.held_back.push_back(HeldBack::Change(change));
            return;
        }
        let mut health = self.health.clone();
        let events = match change {
            ProjectChange::Answered(ref answer) => health.observe_project(answer, &self.context()),
            ProjectChange::AllRefused => health.refuse_all(&self.context()),
            ProjectChange::NoWatches if self.watches.polled() > 0 => Vec::new(),
            ProjectChange::NoWatches => health.lose_watches(&self.context()),
        };
        if events.is_empty() {
            self.set_health(health);
        } else {
            self.record_project(health, events, None);
        }
    }

    /// What was observed could not be recorded; that the operation was seen is true all the same.
    fn keep_sight(&mut self, number: Number) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.watched.watch.keep_sight();
            slot.watched.is_unrecorded = true;
        }
    }

    /// An observation could not be recorded: the watch has not moved on, and the next poll finds the same again.
    fn unrecorded(&mut self, number: Number, error: &CommitError) {
        if let Some(slot) = self.watches.get(number) {
            tracing::debug!(
                project = &*self.name,
                operation_id = &*slot.watched.id,
                error = chain(error),
                "an observation could not be recorded; the next poll finds it again"
            );
        }
        let _ = self.set_back(number);
    }

    /// A request or a decision of this watch panicked.
    fn panicked(&mut self, number: Number, panic: &str) {
        let wait = self.set_back(number);
        if let Some(slot) = self.watches.get(number) {
            tracing::error!(
                project = &*self.name,
                operation_id = &*slot.watched.id,
                panic,
                restart_in_seconds = wait.as_secs_f64(),
                "a poller panicked: this is a bug, please report it; the watch continues"
            );
        }
        self.shared.metrics.poller_restarted();
        self.inlets.view.send_if_modified(|view| {
            view.restarts += 1;
            false
        });
        self.is_view_changed = true;
    }

    /// The poller starts again with backoff.
    fn set_back(&mut self, number: Number) -> Duration {
        let now = self.now();
        let Some(slot) = self.watches.get_mut(number) else {
            return Duration::ZERO;
        };
        slot.setbacks = slot.setbacks.saturating_add(1);
        let wait = self.settings.poll.pace.after_attempts(slot.setbacks);
        self.sleep(number, now.saturating_add(wait));
        wait
    }

    /// Reports once when polls fail for a while, long before that is an event: the operator who just started the daemon
    /// with a wrong setting reads the log now.
    fn report_failing(&mut self, health: &Project, answer: &Answer) {
        let failing = health.failing_for(self.moment());
        if let Answer::Failed(failure) = answer
            && failing >= FAILING_REPORT
            && health.is_reachable()
        {
            if !std::mem::replace(&mut self.has_reported_failing, true) {
                tracing::warn!(
                    project = &*self.name,
                    reason = failure.reason,
                    unreachable_after_seconds = self.settings.poll.rules.unreachable_after.as_secs_f64(),
                    "polls fail; they are retried, and if none succeeds this will be api.unreachable"
                );
            }
        } else if failing.is_zero() && std::mem::take(&mut self.has_reported_failing) {
            tracing::info!(project = &*self.name, "polls succeed again");
        }
    }
}
