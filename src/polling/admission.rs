//! Turns due polls into requests: alarms, the gate's queue, probes.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::answers::{check_project_exists, request_addition, send_poll};
use super::key_checks::check_key;
use super::project_task::ProjectTask;
use super::requests::Requester;
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::doubt::ProbeCandidate;
use crate::core::gate::{Admission, Pass};
use crate::core::poller::{PendingPoll, Poller, PollerWait, RequestStage};
use crate::core::watch_list::WatchKey;

/// Late polls are reported again after the gate has kept up for this long.
const LATE_POLLS_REPORT: Duration = Duration::from_mins(10);

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
                    self.report_wait(admitted.queued, now);
                    self.start_request(admitted.requester, Pass::Turn, now);
                }
                Admission::Probe => {
                    // Without a candidate, the next message leads here again.
                    let number = self.choose_probe()?;
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
        let expires = self.expiry_time(number).is_some_and(|at| at <= now);
        match slot.poller.wait() {
            PollerWait::ForPoll | PollerWait::ForDoubt if expires => self.expire(number),
            PollerWait::ForPoll => match slot.poller {
                Poller::Asleep { due } if due.get() <= now => self.queue(number, now),
                // The settings changed since it fell asleep.
                Poller::Asleep { due } => self.sleep(number, due.get()),
                _ => {}
            },
            PollerWait::AtGate(ticket) if is_gathering || expires => {
                self.gate.leave(ticket);
                if is_gathering {
                    self.finish_gathering(number);
                } else {
                    self.expire(number);
                }
            }
            PollerWait::ForAnswer if is_gathering || expires => self.requests.abort(number),
            PollerWait::AtGate(_) | PollerWait::ForAnswer | PollerWait::ForDoubt => {
                self.watches.set_alarm(number, self.expiry_time(number));
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
        let expiry = self.expiry_time(number);
        if let Some(slot) = self.watches.get_mut(number) {
            let ticket = self.gate.join(Requester::Watch(number), now);
            slot.poller = Poller::Queued { ticket, poll };
            self.watches.set_alarm(number, expiry);
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
        match &mut slot.poller {
            Poller::Queued { poll, .. } => {
                if let Some(due) = poll.due.take() {
                    let blocked = self
                        .gate
                        .blocked_time(now)
                        .saturating_sub(poll.blocked_before.get());
                    let lag = now.saturating_sub(due.get()).saturating_sub(blocked);
                    self.services.metrics.record_poll_lag(lag);
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
    }

    /// Measures the wait at the gate. Reports late polls: a wait longer than half of `poll.max_interval`. Reports them again
    /// only after [`LATE_POLLS_REPORT`] without one.
    pub(super) fn report_wait(&mut self, queued: Duration, now: Duration) {
        self.services.metrics.record_gate_wait(queued);
        self.channels.view.send_if_modified(|view| {
            view.gate.last_wait = queued;
            false
        });
        if queued <= self.settings.poll.schedule.longest() / 2 {
            return;
        }
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
            queued_seconds = queued.as_secs_f64(),
            seconds_per_round = watches as f64 / limits.per_second,
            "polls are late: requests wait at the gate; raise ampersand.max_requests_per_second, ampersand.max_concurrent_requests or \
             poll.max_interval"
        );
    }

    /// Schedules the next poll.
    pub(super) fn sleep(&mut self, number: WatchNumber, due: Duration) {
        let expiry = self.expiry_time(number);
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        slot.poller = Poller::asleep_until(due);
        let alarm = match expiry {
            // After a failed commit nothing is tried before the retry is due, not even expiry.
            Some(expiry) if slot.failures == 0 => expiry.min(due),
            _ => due,
        };
        self.watches.set_alarm(number, Some(alarm));
    }

    /// When the watch expires (`poll.give_up_after`).
    pub(super) fn expiry_time(&self, number: WatchNumber) -> Option<Duration> {
        let slot = self.watches.get(number)?;
        let left = slot.watched.watch.expires_in(&self.settings.poll.watch)?;
        slot.observed.get().checked_add(left)
    }
}
