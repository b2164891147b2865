//! Turns due polls into requests: alarms, the gate's queue, probes.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::answers::{check_project_exists, request_addition, send_poll};
use super::key_checks::check_key;
use super::project_task::ProjectTask;
use super::requests::Requester;
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::doubt::ProbeCandidate;
use crate::core::gate::{Admission, Pass, PollDelay, Ticket};
use crate::core::poller::{PendingPoll, Poller, PollerWait, RequestStage};
use crate::core::watch_list::WatchKey;

/// Late polls are reported again after the gate has kept up for this long.
const LATE_POLLS_REPORT: Duration = Duration::from_mins(10);

/// How long after its first poll is due a watch may have no answer before a deadline that has passed already is reported.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// The wall clock may drift from the steady clock by this much before deadlines follow it.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

impl<F: Fetch> ProjectTask<F> {
    /// Starts the requests that the gate admits. Returns when to try again.
    pub(super) fn admit(&mut self, now: Duration) -> Option<Duration> {
        if self.is_recording {
            // The change that is being recorded may close the gate.
            return None;
        }
        loop {
            match self.gate.admit(now) {
                Admission::Admit(admitted) => {
                    if !matches!(admitted.requester, Requester::Discovery(_)) {
                        self.record_wait(admitted.queued);
                    }
                    self.start_request(admitted.requester, Pass::Turn, now);
                }
                Admission::Probe => {
                    let Some(number) = self.choose_probe() else {
                        if self.watches.polled() == 0 {
                            self.probe_by_discovery(now);
                        }
                        // Without a candidate, the next message leads here again.
                        return None;
                    };
                    if self.poller_wait(number) == Some(PollerWait::ForPoll) {
                        self.queue(number, now);
                    }
                    if let Some(PollerWait::AtGate(ticket)) = self.poller_wait(number) {
                        self.gate.leave(ticket);
                    }
                    self.gate.start_probe(now);
                    self.start_watch_request(number, Pass::Probe, now);
                }
                Admission::WaitUntil(until) => return Some(until),
                Admission::Closed => return None,
            }
        }
    }

    fn poller_wait(&self, number: WatchNumber) -> Option<PollerWait> {
        self.watches.get(number).map(|slot| slot.poller.wait())
    }

    /// The watch whose poll is the probe.
    pub(super) fn choose_probe(&self) -> Option<WatchNumber> {
        let forbidden = self.forbidden.iter().find_map(|number| self.watches.get(*number));
        let installation = forbidden.and_then(|slot| slot.watched.watch.installation());
        let candidates = self.watches.iter().filter(|(_, slot)| slot.poller.may_probe());
        let priorities = candidates.map(|(number, slot)| {
            let watch = &slot.watched.watch;
            let priority = self.health.probe_priority(&ProbeCandidate {
                operation: &slot.watched.id,
                polled: slot.polled.get(),
                is_forbidden: watch.is_forbidden(),
                is_answered: watch.last_poll_succeeded(),
                is_of_other_installation: installation.is_none() || watch.installation() != installation,
                last_answer: watch.last_answer(),
            });
            (priority, Reverse(number))
        });
        let (priority, Reverse(number)) = priorities.max()?;
        let is_better_one_busy = || {
            let mut slots = self.watches.iter().map(|(_, slot)| slot);
            slots.any(|slot| slot.poller.is_busy() && !slot.watched.watch.is_forbidden())
        };
        // A better one is a candidate when its request or commit has ended.
        (!priority.is_last_resort() || !is_better_one_busy()).then_some(number)
    }

    /// Handles the alarm of a poller.
    pub(super) fn alarm(&mut self, number: WatchNumber, now: Duration) {
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let is_gathering = matches!(slot.poller, Poller::Gathering(_));
        let wait = slot.poller.wait();
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let expires = is_due(self.expiry_time(number));
        let passes = expires || is_due(self.deadline_alarm(number, now));
        match wait {
            PollerWait::ForPoll | PollerWait::ForDoubt if passes => self.interrupt(number),
            PollerWait::ForPoll => match slot.poller {
                Poller::Asleep { due } if due.get() <= now => self.queue(number, now),
                // The settings changed since it fell asleep.
                Poller::Asleep { due } => self.sleep(number, due.get()),
                _ => {}
            },
            PollerWait::AtGate(ticket) if is_gathering => {
                self.gate.leave(ticket);
                self.finish_gathering(number);
            }
            PollerWait::AtGate(_) if passes => self.interrupt(number),
            PollerWait::ForAnswer if is_gathering || expires => self.requests.abort(number),
            PollerWait::AtGate(_) | PollerWait::ForAnswer | PollerWait::ForDoubt => {
                self.set_alarm_again(number);
            }
            PollerWait::Nothing => {}
        }
    }

    /// Puts a due poll into the gate's queue.
    pub(super) fn queue(&mut self, number: WatchNumber, now: Duration) {
        let due = match self.watches.get(number).map(|slot| &slot.poller) {
            Some(Poller::Asleep { due }) => Some(*due),
            _ => None,
        };
        let poll = PendingPoll {
            due,
            blocked_before: self.gate.blocked_time(now).into(),
            is_repeated: false,
        };
        self.queue_again(number, poll, now);
    }

    /// Puts a poll into the gate's queue, with what is known of its earlier attempts.
    pub(super) fn queue_again(&mut self, number: WatchNumber, poll: PendingPoll, now: Duration) {
        if self.watches.get(number).is_some() {
            let ticket = self.gate.join(Requester::Watch(number), now);
            self.wait_for_turn(number, ticket, poll);
        }
    }

    /// Makes the poller of a watch in the gate's queue wait for its turn.
    pub(super) fn wait_for_turn(&mut self, number: WatchNumber, ticket: Ticket, poll: PendingPoll) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.poller = Poller::Queued { ticket, poll };
            self.set_alarm_again(number);
        }
    }

    /// Starts a request that the gate admitted.
    fn start_request(&mut self, requester: Requester, pass: Pass, now: Duration) {
        let (services, name) = (Arc::clone(&self.services), Arc::clone(&self.name));
        match requester {
            Requester::Watch(number) => self.start_watch_request(number, pass, now),
            // It was queued twice while the gate was closed.
            Requester::Project if self.requests.contains(requester) => self.gate.release(pass, now),
            Requester::Project => {
                self.requests
                    .start(requester, pass, now, check_project_exists(services, name))
            }
            Requester::Discovery(number) => self.start_discovery_request(number, pass, now),
            Requester::Key => self
                .requests
                .start(requester, pass, now, check_key(services, name)),
        }
    }

    fn start_watch_request(&mut self, number: WatchNumber, pass: Pass, now: Duration) {
        let Some(slot) = self.watches.get_mut(number) else {
            self.gate.release(pass, now);
            return;
        };
        let key = WatchKey::of(&self.name, &slot.watched.id);
        let longest = self.settings.poll.schedule.longest();
        let mut late = None;
        match &mut slot.poller {
            Poller::Queued { poll, .. } => {
                if let Some(due) = poll.due.take() {
                    let blocked = self
                        .gate
                        .blocked_time(now)
                        .saturating_sub(poll.blocked_before.get());
                    let delay = PollDelay {
                        interval: due.get().saturating_sub(slot.polled.get()),
                        lag: now.saturating_sub(due.get()).saturating_sub(blocked),
                    };
                    self.services.metrics.record_poll_lag(delay.lag);
                    late = Some(delay).filter(|delay| delay.is_late(longest));
                }
                slot.polled = now.into();
                slot.poller = Poller::Asking { poll: *poll };
                let request = send_poll(Arc::clone(&self.services), key, pass);
                self.requests.start(Requester::Watch(number), pass, now, request);
            }
            Poller::Gathering(gathering) => {
                gathering.request = RequestStage::InFlight;
                let request = request_addition(Arc::clone(&self.services), key, gathering.addition.clone());
                self.requests.start(Requester::Watch(number), pass, now, request);
            }
            _ => self.gate.release(pass, now),
        }
        if let Some(delay) = late {
            self.report_late_poll(delay, now);
        }
    }

    /// Measures the wait at the gate.
    fn record_wait(&self, queued: Duration) {
        self.services.metrics.record_gate_wait(queued);
        self.channels.view.send_if_modified(|view| {
            view.gate.last_wait = queued;
            false
        });
    }

    /// Reports a late poll, and again only after [`LATE_POLLS_REPORT`] without one.
    fn report_late_poll(&mut self, delay: PollDelay, now: Duration) {
        self.saturation.note_late_poll(self.moment().wall, now);
        let before = self.last_late_poll.replace(now);
        if before.is_some_and(|before| now.saturating_sub(before) < LATE_POLLS_REPORT) {
            return;
        }
        let watches = self.watches.polled();
        let limits = self.gate.limits();
        tracing::warn!(
            project = &*self.name,
            watches,
            max_requests_per_second = limits.per_second,
            max_concurrent_requests = limits.concurrent,
            lag_seconds = delay.lag.as_secs_f64(),
            seconds_per_round = watches as f64 / limits.per_second,
            "polls are late: requests wait at the gate; raise ampersand.max_requests_per_second, ampersand.max_concurrent_requests or \
             poll.max_interval"
        );
    }

    /// Schedules the next poll.
    pub(super) fn sleep(&mut self, number: WatchNumber, due: Duration) {
        if let Some(slot) = self.watches.get_mut(number) {
            slot.poller = Poller::asleep_until(due);
            self.set_alarm_again(number);
        }
    }

    /// Sets when the poller of a watch has to act, as far as it waits.
    pub(super) fn set_alarm_again(&mut self, number: WatchNumber) {
        let Some(slot) = self.watches.get(number) else {
            return;
        };
        let passes = self
            .expiry_time(number)
            .into_iter()
            .chain(self.deadline_alarm(number, self.now()))
            .min();
        let alarm = match &slot.poller {
            // After a failed commit nothing is tried before the retry is due, not even expiry.
            Poller::Asleep { due } if slot.failures > 0 => Some(due.get()),
            Poller::Asleep { due } => Some(passes.map_or(due.get(), |at| at.min(due.get()))),
            Poller::Queued { .. } | Poller::Doubting(_) => passes,
            // The answer decides about the deadline.
            Poller::Asking { .. } => self.expiry_time(number),
            Poller::Finished | Poller::Gathering(_) | Poller::Recording | Poller::Leaving(_) => return,
        };
        self.watches.set_alarm(number, alarm);
    }

    /// When the watch expires (`poll.give_up_after`).
    pub(super) fn expiry_time(&self, number: WatchNumber) -> Option<Duration> {
        let slot = self.watches.get(number)?;
        let left = slot.watched.watch.expires_in(&self.settings.poll.watch)?;
        slot.observed.get().checked_add(left)
    }
    /// When to act on the deadline of a watch: when it passes, and not before a watch that was just added was polled, because it
    /// may be finished.
    fn deadline_alarm(&self, number: WatchNumber, now: Duration) -> Option<Duration> {
        let slot = self.watches.get(number)?;
        let watched = &slot.watched;
        let deadline = watched.deadline()?;
        let wall = self.moment().wall;
        let left = watched.watch.overdue_in(&watched.id, Some(deadline), wall)?;
        let at = now.checked_add(left)?;
        Some(at.max(watched.first_answer_until.get()))
    }

    /// Makes all deadlines follow the wall clock after it was set, or after a time in which the process did not run.
    pub(super) fn follow_wall_clock(&mut self) {
        let moment = self.moment();
        let began = moment.wall.checked_sub(moment.steady).unwrap_or(moment.wall);
        let difference = began.duration_since(self.wall_start).abs();
        if difference < CLOCK_TOLERANCE {
            return;
        }
        self.wall_start = began;
        for number in 0..self.watches.numbers() {
            let Some(slot) = self.watches.get_mut(number) else {
                continue;
            };
            if slot.watched.deadline().is_none() {
                continue;
            }
            // It may have finished in that time: its next poll shows that.
            let due = match &slot.poller {
                Poller::Asleep { due } => Some(*due),
                Poller::Queued { poll, .. } => poll.due,
                _ => None,
            };
            if let Some(due) = due {
                slot.watched.first_answer_until = (due.get() + FIRST_ANSWER).into();
            }
            self.set_alarm_again(number);
        }
    }
}
