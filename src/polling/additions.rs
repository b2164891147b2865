//! What an event adds from other requests: log lines, and the state of an installation.

use std::time::Duration;

use super::project_changes::ProjectChange;
use super::project_task::ProjectTask;
use super::requests::Requester;
use super::watches::Number;
use crate::ampersand::Fetch;
use crate::core::answer::{AdditionAnswer, InstallationAnswer, LogAnswer};
use crate::core::event::{Event, EventType};
use crate::core::gate::Ticket;
use crate::core::poller::{Addition, Gathering, PendingDecision, Poller, RequestStage};

/// An event waits for all that it adds no longer than this, the gate included.
const TIMEOUT: Duration = Duration::from_secs(10);

impl<F: Fetch> ProjectTask<F> {
    /// An event waits for what it adds.
    pub(super) fn gather(
        &mut self,
        number: Number,
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

    /// The log of an operation was asked for.
    pub(super) fn logs_answered(&mut self, number: Number, answer: LogAnswer) {
        self.addition_answered(number, answer, |event, lines| {
            if matches!(event.event_type, EventType::Failed | EventType::Stalled) {
                event.attach_logs(lines.clone());
            }
        });
    }

    /// The installation of an operation was asked for.
    pub(super) fn installation_answered(&mut self, number: Number, answer: InstallationAnswer) {
        self.addition_answered(number, answer, |event, installation| {
            if event.event_type == EventType::Stalled {
                event.attach_installation(installation);
            }
        });
    }

    fn addition_answered<T>(
        &mut self,
        number: Number,
        answer: AdditionAnswer<T>,
        attach: impl Fn(&mut Event, &T),
    ) {
        match answer {
            AdditionAnswer::Found(found) => {
                if let Some(gathering) = self.gathering(number) {
                    let events = gathering.decided.step.events.iter_mut();
                    events.for_each(|event| attach(event, &found));
                }
                self.gather_next(number);
            }
            AdditionAnswer::Failed => self.gather_next(number),
            AdditionAnswer::Throttled(wait) => self.gather_after_pause(number, wait),
            AdditionAnswer::Unprocessed => self.gather_once_more(number),
        }
    }

    /// Everything is there, or does not come.
    pub(super) fn gathered(&mut self, number: Number) {
        let Some(slot) = self.watches.get_mut(number) else {
            return;
        };
        if let Some(gathering) = slot.poller.take_gathering() {
            self.record_watch(number, gathering.decided);
        }
    }

    fn gathering(&mut self, number: Number) -> Option<&mut Gathering> {
        match &mut self.watches.get_mut(number)?.poller {
            Poller::Gathering(gathering) => Some(gathering),
            _ => None,
        }
    }

    /// Asks for what comes next, if anything does.
    fn gather_next(&mut self, number: Number) {
        let Some(gathering) = self.gathering(number) else {
            return;
        };
        match gathering.decided.addition_after(&gathering.addition) {
            Some(next) => {
                gathering.addition = next;
                gathering.is_repeated = false;
                let ticket = self.gate.join(Requester::Watch(number), self.now());
                self.gather_again(number, ticket);
            }
            None => self.gathered(number),
        }
    }

    /// The API asks for a pause, which counts for the whole project. It may end in time.
    fn gather_after_pause(&mut self, number: Number, wait: Option<Duration>) {
        self.change_project(ProjectChange::Throttled(wait));
        let ticket = self.gate.join(Requester::Watch(number), self.now());
        self.gather_again(number, ticket);
    }

    /// A request that was not processed is repeated once.
    fn gather_once_more(&mut self, number: Number) {
        let Some(gathering) = self.gathering(number) else {
            return;
        };
        if std::mem::replace(&mut gathering.is_repeated, true) {
            return self.gather_next(number);
        }
        let ticket = self.gate.join_front(Requester::Watch(number), self.now());
        self.gather_again(number, ticket);
    }

    fn gather_again(&mut self, number: Number, ticket: Ticket) {
        let now = self.now();
        match self.gathering(number) {
            Some(gathering) if gathering.until.get() > now => {
                gathering.request = RequestStage::Queued(ticket);
                let until = gathering.until.get();
                // The alarm may have come while the answer before was waiting to be read.
                self.watches.set_alarm(number, Some(until));
            }
            Some(_) => {
                self.gate.leave(ticket);
                self.gathered(number);
            }
            None => self.gate.leave(ticket),
        }
    }
}
