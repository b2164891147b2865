//! Requests what an event includes from other endpoints of the API: log lines and the state of an installation.

use std::time::Duration;

use super::messages::ProjectChange;
use super::project_task::ProjectTask;
use super::requests::Requester;
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::answer::{AdditionAnswer, InstallationAnswer, LogAnswer};
use crate::core::event::{Event, EventType};
use crate::core::gate::Ticket;
use crate::core::poller::{Addition, Gathering, PendingDecision, Poller, RequestStage};

/// The longest time that an event waits for all its additions, including the time at the gate.
const TIMEOUT: Duration = Duration::from_secs(10);

impl<F: Fetch> ProjectTask<F> {
    /// Queues the request for the first addition.
    pub(super) fn start_gathering(
        &mut self,
        number: WatchNumber,
        decided: Box<PendingDecision>,
        addition: Addition,
        now: Duration,
    ) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        let request = RequestStage::Queued(self.gate.join(Requester::Watch(number), now));
        slot.poller = Poller::Gathering(Box::new(Gathering {
            decided,
            addition,
            request,
            is_repeated: false,
            until: (now + TIMEOUT).into(),
        }));
        self.watches.set_alarm(number, Some(now + TIMEOUT));
    }

    pub(super) fn logs_answered(&mut self, number: WatchNumber, answer: LogAnswer) {
        self.addition_answered(number, answer, |event, lines| {
            if matches!(event.event_type, EventType::Failed | EventType::Stalled) {
                event.attach_logs(lines.clone());
            }
        });
    }

    pub(super) fn installation_answered(&mut self, number: WatchNumber, answer: InstallationAnswer) {
        self.addition_answered(number, answer, |event, installation| {
            if event.event_type == EventType::Stalled {
                event.attach_installation(installation);
            }
        });
    }

    fn addition_answered<T>(
        &mut self,
        number: WatchNumber,
        answer: AdditionAnswer<T>,
        attach: impl Fn(&mut Event, &T),
    ) {
        match answer {
            AdditionAnswer::Found(found) => {
                if let Some(gathering) = self.gathering(number) {
                    let events = gathering.decided.decision.events.iter_mut();
                    events.for_each(|event| attach(event, &found));
                }
                self.request_next_addition(number);
            }
            AdditionAnswer::Failed => self.request_next_addition(number),
            AdditionAnswer::Throttled(wait) => {
                // The pause applies to the whole project. It may end in time.
                self.change_project(ProjectChange::Throttled(wait, None));
                self.queue_addition(number);
            }
            AdditionAnswer::Unprocessed => self.repeat_addition(number),
        }
    }

    /// Records the event with the additions that arrived.
    pub(super) fn finish_gathering(&mut self, number: WatchNumber) {
        let slot = self.watches.get_mut(number);
        if let Some(gathering) = slot.and_then(|slot| slot.poller.take_gathering()) {
            self.record_watch(number, gathering.decided);
        }
    }

    fn gathering(&mut self, number: WatchNumber) -> Option<&mut Gathering> {
        match &mut self.watches.get_mut(number)?.poller {
            Poller::Gathering(gathering) => Some(gathering),
            _ => None,
        }
    }

    fn request_next_addition(&mut self, number: WatchNumber) {
        let Some(gathering) = self.gathering(number) else {
            return;
        };
        match gathering.decided.addition_after(&gathering.addition) {
            Some(next) => {
                gathering.addition = next;
                gathering.is_repeated = false;
                self.queue_addition(number);
            }
            None => self.finish_gathering(number),
        }
    }

    /// Repeats a request that was not processed, once.
    fn repeat_addition(&mut self, number: WatchNumber) {
        let Some(gathering) = self.gathering(number) else {
            return;
        };
        if std::mem::replace(&mut gathering.is_repeated, true) {
            return self.request_next_addition(number);
        }
        let ticket = self.gate.join_front(Requester::Watch(number), self.now());
        self.wait_at_gate(number, ticket);
    }

    fn queue_addition(&mut self, number: WatchNumber) {
        let ticket = self.gate.join(Requester::Watch(number), self.now());
        self.wait_at_gate(number, ticket);
    }

    fn wait_at_gate(&mut self, number: WatchNumber, ticket: Ticket) {
        let now = self.now();
        if let Some(gathering) = self.gathering(number)
            && gathering.until.get() > now
        {
            gathering.request = RequestStage::Queued(ticket);
            let until = gathering.until.get();
            // The alarm may have fired while the previous answer was waiting in the queue.
            self.watches.set_alarm(number, Some(until));
        } else {
            self.gate.leave(ticket);
            self.finish_gathering(number);
        }
    }
}
