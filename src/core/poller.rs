//! The states of one poller, from one poll of its watch to the next.
//!
//! ```text
//! Asleep ─▶ Queued ─▶ Asking ─▶ Recording ─▶ Asleep | Finished
//!              ▲         │ ▲
//!              │         ▼ │
//!              └───── Doubting        Gathering: an event waits for what it adds from other requests
//! any ─▶ Leaving ─▶ removed, or loaded again if it was put back
//! ```
//!
//! A poller has at most one request and one commit in flight: every transition that starts one leaves a state in which
//! there is none. Times are steady, see [`gate`](super::gate).

use std::time::Duration;

use super::answer::Answer;
use super::compact_duration::CompactDuration;
use super::event::EventType;
use super::gate::Ticket;
use super::installation::InstallationPath;
use super::operation_log::LogSelection;
use super::source::Demand;
use super::watch::{Decision, Watch};

/// What the poller of one watch is doing.
#[derive(Debug)]
pub enum Poller {
    /// The watch is finished.
    Finished,
    /// Waits until a poll is due.
    Asleep {
        /// Time of the poll.
        due: CompactDuration,
    },
    /// Waits at the gate.
    Queued {
        /// Its ticket.
        ticket: Ticket,
        /// The poll.
        poll: PendingPoll,
    },
    /// A request is in flight.
    Asking {
        /// The poll.
        poll: PendingPoll,
    },
    /// The operation was refused (403). Another watch's answer will show whether the credentials are rejected.
    Doubting(Box<DoubtedAnswer>),
    /// An event is decided and waits for data from other requests.
    Gathering(Box<Gathering>),
    /// A commit is in flight, or waits for a commit of the project.
    Recording,
    /// The watch was removed. It leaves when its request or commit has ended.
    Leaving(Leaving),
}

/// A poll from the time it is due to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingPoll {
    /// When it was due; `None` after the gate admitted it.
    pub due: Option<CompactDuration>,
    /// [`Gate::blocked_time`](super::gate::Gate::blocked_time) when it joined the queue first.
    pub blocked_before: CompactDuration,
    /// Whether the request is repeated because it was not processed.
    pub is_repeated: bool,
}

/// A 403 that may concern the project or only the operation.
#[derive(Debug)]
pub struct DoubtedAnswer {
    /// The answer.
    pub answer: Answer,
    /// The poll.
    pub poll: PendingPoll,
}

/// What a poller did when its alarm interrupted it. It continues with it after the decision is recorded.
#[derive(Debug)]
pub enum Interrupted {
    /// It waited until a poll is due.
    Asleep {
        /// Time of the poll.
        due: CompactDuration,
    },
    /// It waited at the gate, which it left.
    Queued {
        /// Its place.
        ticket: Ticket,
        /// The poll.
        poll: PendingPoll,
    },
    /// It waited for another watch's answer.
    Doubting(Box<DoubtedAnswer>),
}

/// A decision that is not recorded yet.
#[derive(Debug)]
pub struct PendingDecision {
    /// The watch after the decision.
    pub watch: Watch,
    /// The decision.
    pub decision: Decision,
    /// When it was decided.
    pub observed: Duration,
    /// What it interrupted, if it was decided without a poll.
    pub interrupted: Option<Interrupted>,
}

impl PendingDecision {
    /// The first additional data that its events need.
    #[must_use]
    pub fn first_addition(&self) -> Option<Addition> {
        if self.has(EventType::Stalled) {
            // Lines of any severity can explain a stall.
            return Some(Addition::Logs(LogSelection::All));
        }
        self.has(EventType::Failed)
            .then_some(Addition::Logs(LogSelection::Warnings))
    }

    /// The next additional data after `addition`.
    #[must_use]
    pub fn addition_after(&self, addition: &Addition) -> Option<Addition> {
        match addition {
            Addition::Logs(_) if self.has(EventType::Stalled) => {
                self.watch.installation_path().map(Addition::Installation)
            }
            Addition::Logs(_) | Addition::Installation(_) => None,
        }
    }

    fn has(&self, event_type: EventType) -> bool {
        self.decision
            .events
            .iter()
            .any(|event| event.event_type == event_type)
    }
}

/// A decision whose events wait for additional data.
#[derive(Debug)]
pub struct Gathering {
    /// The decision.
    pub decided: Box<PendingDecision>,
    /// The data that is requested now.
    pub addition: Addition,
    /// The state of the request.
    pub request: RequestStage,
    /// Whether the request is repeated because it was not processed.
    pub is_repeated: bool,
    /// Deadline: the decision is recorded then with the data that has arrived.
    pub until: CompactDuration,
}

/// Additional data of an event, from another request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addition {
    /// The last lines of the operation's log.
    Logs(LogSelection),
    /// The status of its installation.
    Installation(InstallationPath),
}

/// The state of a request for additional data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStage {
    /// Waits at the gate.
    Queued(Ticket),
    /// In flight.
    InFlight,
}

/// A watch that was removed.
#[derive(Debug)]
pub struct Leaving {
    /// What must end before it leaves.
    pub step: LeavingStep,
    /// What its sources ask for, if it was added again in the meantime.
    pub returns: Option<Demand>,
}

/// What must end before a removed watch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeavingStep {
    /// Its aborted request.
    Request,
    /// Its commit.
    Commit,
    /// The commit of its last state.
    Departure,
}

/// What to do with a removed watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Removal {
    /// Nothing is in flight: it leaves now.
    Depart,
    /// It leaves now, and its place in the gate's queue is free.
    Withdraw(Ticket),
    /// Abort its request; it leaves when the request has ended.
    Abort,
    /// It leaves when its commit has ended.
    Wait,
    /// It is already leaving, and is no longer added again.
    AlreadyLeaving,
}

/// What a poller waits for when its alarm fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PollerWait {
    /// Its next poll: it joins the gate's queue.
    ForPoll,
    /// The gate, for its poll or for additional data.
    AtGate(Ticket),
    /// The answer to a request.
    ForAnswer,
    /// Another watch's answer.
    ForDoubt,
    /// Nothing with a deadline.
    Nothing,
}

impl Poller {
    /// A poller whose next poll is at `due`.
    #[must_use]
    pub fn asleep_until(due: Duration) -> Self {
        Self::Asleep { due: due.into() }
    }

    /// What it waits for.
    pub fn wait(&self) -> PollerWait {
        match self {
            Self::Asleep { .. } => PollerWait::ForPoll,
            Self::Queued { ticket, .. } => PollerWait::AtGate(*ticket),
            Self::Gathering(gathering) => match gathering.request {
                RequestStage::Queued(ticket) => PollerWait::AtGate(ticket),
                RequestStage::InFlight => PollerWait::ForAnswer,
            },
            Self::Asking { .. } => PollerWait::ForAnswer,
            Self::Doubting(_) => PollerWait::ForDoubt,
            Self::Finished | Self::Recording | Self::Leaving(_) => PollerWait::Nothing,
        }
    }

    /// The watch was removed.
    pub fn remove(&mut self) -> Removal {
        let (step, removal) = match self {
            Self::Finished | Self::Asleep { .. } | Self::Doubting(_) => {
                (LeavingStep::Departure, Removal::Depart)
            }
            Self::Recording => (LeavingStep::Commit, Removal::Wait),
            Self::Queued { .. } | Self::Asking { .. } | Self::Gathering(_) => match self.wait() {
                PollerWait::AtGate(ticket) => (LeavingStep::Departure, Removal::Withdraw(ticket)),
                _ => (LeavingStep::Request, Removal::Abort),
            },
            Self::Leaving(leaving) => {
                leaving.returns = None;
                return Removal::AlreadyLeaving;
            }
        };
        *self = Self::Leaving(Leaving { step, returns: None });
        removal
    }

    /// What the sources of a leaving watch ask for again. `None` unless it is leaving.
    pub fn returns_mut(&mut self) -> Option<&mut Option<Demand>> {
        match self {
            Self::Leaving(leaving) => Some(&mut leaving.returns),
            _ => None,
        }
    }

    /// `what` has ended. Returns true if the watch leaves now.
    pub fn ended(&mut self, what: LeavingStep) -> bool {
        match self {
            Self::Leaving(leaving) if leaving.step == what => {
                leaving.step = LeavingStep::Departure;
                what != LeavingStep::Departure
            }
            _ => false,
        }
    }

    /// Takes what an alarm interrupts, if the poller waits. The caller decides what follows.
    pub fn interrupt(&mut self) -> Option<Interrupted> {
        match std::mem::replace(self, Self::Recording) {
            Self::Asleep { due } => Some(Interrupted::Asleep { due }),
            Self::Queued { ticket, poll } => Some(Interrupted::Queued { ticket, poll }),
            Self::Doubting(doubt) => Some(Interrupted::Doubting(doubt)),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the doubted answer, if there is one. The caller decides what follows.
    pub fn take_doubt(&mut self) -> Option<Box<DoubtedAnswer>> {
        match std::mem::replace(self, Self::Recording) {
            Self::Doubting(doubt) => Some(doubt),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the decision that waits for additional data, if there is one.
    pub fn take_gathering(&mut self) -> Option<Box<Gathering>> {
        match std::mem::replace(self, Self::Recording) {
            Self::Gathering(gathering) => Some(gathering),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Whether the watch was removed and added again before it left.
    #[must_use]
    pub fn is_returning(&self) -> bool {
        matches!(self, Self::Leaving(leaving) if leaving.returns.is_some())
    }

    /// Whether the watch was removed.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self, Self::Leaving(_))
    }

    /// Whether a request or commit is in flight or at the gate, so that a message follows.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Asking { .. } | Self::Gathering(_) | Self::Recording)
    }

    /// Whether the watch can be the probe of the project's credentials.
    #[must_use]
    pub fn may_probe(&self) -> bool {
        matches!(self, Self::Asleep { .. } | Self::Queued { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::core::gate::{Admission, Gate, Pass, RequestLimits, Restriction};
    use crate::core::source::Source;
    use crate::core::watch::NextStep;

    /// Messages to a poller, as the project task gets them.
    #[derive(Debug, Clone, Copy)]
    enum Message {
        Due,
        Admit,
        Answer { effect: AnswerEffect, is_in_doubt: bool },
        Settled { clears: bool },
        Committed { is_recorded: bool },
        Aborted,
        Remove,
        PutBack,
        Departed,
    }

    /// What an answer leads to.
    #[derive(Debug, Clone, Copy, Default)]
    struct AnswerEffect {
        is_recorded: bool,
        /// Its event includes data of another endpoint.
        needs_addition: bool,
    }

    /// One watch with its requests and commits.
    #[derive(Debug)]
    struct World {
        poller: Option<Poller>,
        gate: Gate<u32>,
        now: Duration,
        requests: usize,
        commits: usize,
        departures: usize,
    }

    impl World {
        fn poll(&self) -> PendingPoll {
            PendingPoll {
                due: Some(self.now.into()),
                blocked_before: CompactDuration::ZERO,
                is_repeated: false,
            }
        }

        fn depart(&mut self) {
            assert_eq!(
                (self.requests, self.commits),
                (0, 0),
                "it departs while something is in flight"
            );
            self.departures += 1;
        }

        fn decide(&mut self, effect: AnswerEffect) -> Poller {
            let decided = Box::new(PendingDecision {
                watch: Watch::default(),
                decision: Decision {
                    events: Vec::new(),
                    next: NextStep::Finished,
                    doubts_project: false,
                },
                observed: self.now,
                interrupted: None,
            });
            if effect.needs_addition {
                let request = RequestStage::Queued(self.gate.join(0, self.now));
                return Poller::Gathering(Box::new(Gathering {
                    decided,
                    addition: Addition::Logs(LogSelection::Warnings),
                    request,
                    is_repeated: false,
                    until: self.now.into(),
                }));
            }
            if effect.is_recorded {
                self.commits += 1;
                Poller::Recording
            } else {
                Poller::asleep_until(self.now + Duration::from_secs(1))
            }
        }

        fn answered(&mut self, effect: AnswerEffect, is_in_doubt: bool) {
            if self.requests == 0 {
                return;
            }
            self.requests -= 1;
            self.gate.release(Pass::Turn, self.now);
            let poll = self.poll();
            let poller = self.poller.as_mut().expect("a request belongs to a watch");
            if poller.ended(LeavingStep::Request) {
                self.depart();
                return;
            }
            let next = match poller {
                Poller::Asking { .. } if is_in_doubt => Poller::Doubting(Box::new(DoubtedAnswer {
                    answer: Answer::Forbidden(String::new()),
                    poll,
                })),
                Poller::Asking { .. } => self.decide(effect),
                Poller::Gathering(_) => self.decide(AnswerEffect {
                    is_recorded: true,
                    ..AnswerEffect::default()
                }),
                other => panic!("an answer for {other:?}"),
            };
            self.poller = Some(next);
        }

        fn take(&mut self, message: Message) {
            self.now += Duration::from_secs(1);
            let poll = self.poll();
            let Some(poller) = &mut self.poller else {
                if matches!(message, Message::PutBack) {
                    self.poller = Some(Poller::asleep_until(self.now));
                }
                return;
            };
            match message {
                Message::Due => {
                    if let Poller::Asleep { .. } = poller {
                        let ticket = self.gate.join(0, self.now);
                        *poller = Poller::Queued { ticket, poll };
                    }
                }
                Message::Admit => {
                    if let Admission::Admit(_) = self.gate.admit(self.now) {
                        self.requests += 1;
                        match poller {
                            Poller::Queued { .. } => {
                                *poller = Poller::Asking { poll };
                            }
                            Poller::Gathering(gathering) => gathering.request = RequestStage::InFlight,
                            other => panic!("the gate lets {other:?} through"),
                        }
                    }
                }
                Message::Answer { effect, is_in_doubt } => self.answered(effect, is_in_doubt),
                Message::Aborted => {
                    if let Poller::Leaving(_) = poller {
                        self.answered(AnswerEffect::default(), false);
                    }
                }
                Message::Settled { clears } => {
                    if let Poller::Doubting(_) = poller {
                        *poller = if clears {
                            Poller::asleep_until(self.now)
                        } else {
                            let ticket = self.gate.join(0, self.now);
                            Poller::Queued { ticket, poll }
                        };
                    }
                }
                Message::Committed { is_recorded } if self.commits > 0 => {
                    self.commits -= 1;
                    if poller.ended(LeavingStep::Commit) {
                        self.depart();
                    } else {
                        assert!(matches!(poller, Poller::Recording), "{poller:?}");
                        *poller = if is_recorded {
                            Poller::Finished
                        } else {
                            Poller::asleep_until(self.now)
                        };
                    }
                }
                Message::Committed { .. } => {}
                Message::Remove => match poller.remove() {
                    Removal::Depart => self.depart(),
                    Removal::Withdraw(ticket) => {
                        self.gate.leave(ticket);
                        self.depart();
                    }
                    Removal::Abort => assert_eq!(self.requests, 1),
                    Removal::Wait => assert_eq!(self.commits, 1),
                    Removal::AlreadyLeaving => {}
                },
                Message::PutBack => {
                    if let Some(returns) = poller.returns_mut() {
                        *returns = Some(Demand::new(Source::File, Arc::default()));
                    }
                }
                Message::Departed => {
                    if self.departures > 0 {
                        self.departures -= 1;
                        assert!(!poller.ended(LeavingStep::Departure), "it departs once");
                        let Some(Poller::Leaving(leaving)) = self.poller.take() else {
                            panic!("it departed without having been removed");
                        };
                        // A watch that was added again is loaded again.
                        self.poller = leaving.returns.map(|_| Poller::asleep_until(self.now));
                    }
                }
            }
        }

        fn check(&self) {
            assert!(
                self.requests <= 1 && self.commits <= 1 && self.departures <= 1,
                "{self:?}"
            );
            assert_eq!(self.gate.in_flight(), self.requests);
            let Some(poller) = &self.poller else {
                assert_eq!((self.requests, self.commits, self.departures), (0, 0, 0));
                assert_eq!(self.gate.waiting(), 0);
                return;
            };
            let expected = match poller {
                Poller::Finished | Poller::Asleep { .. } | Poller::Doubting(_) => (0, 0, 0, 0),
                Poller::Queued { .. } => (1, 0, 0, 0),
                Poller::Asking { .. } => (0, 1, 0, 0),
                Poller::Gathering(gathering) => match gathering.request {
                    RequestStage::Queued(_) => (1, 0, 0, 0),
                    RequestStage::InFlight => (0, 1, 0, 0),
                },
                Poller::Recording => (0, 0, 1, 0),
                Poller::Leaving(leaving) => match leaving.step {
                    LeavingStep::Request => (0, 1, 0, 0),
                    LeavingStep::Commit => (0, 0, 1, 0),
                    LeavingStep::Departure => (0, 0, 0, 1),
                },
            };
            let found = (self.gate.waiting(), self.requests, self.commits, self.departures);
            assert_eq!(found, expected, "{poller:?}");
        }
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let answer = any::<(bool, bool, bool)>().prop_map(|(is_recorded, needs_addition, is_in_doubt)| {
            let effect = AnswerEffect {
                is_recorded,
                needs_addition,
            };
            Message::Answer { effect, is_in_doubt }
        });
        let message = prop_oneof![
            3 => Just(Message::Due),
            3 => Just(Message::Admit),
            3 => answer,
            1 => any::<bool>().prop_map(|clears| Message::Settled { clears }),
            2 => any::<bool>().prop_map(|is_recorded| Message::Committed { is_recorded }),
            1 => Just(Message::Aborted),
            1 => Just(Message::Remove),
            1 => Just(Message::PutBack),
            1 => Just(Message::Departed),
        ];
        prop::collection::vec(message, 1..200)
    }

    proptest! {
        #[test]
        fn any_messages_leave_a_poller_in_a_legal_state(messages in messages()) {
            let limits = RequestLimits { concurrent: 4, per_second: 1e6 };
            let mut world = World {
                poller: Some(Poller::asleep_until(Duration::ZERO)),
                gate: Gate::new(limits, Restriction::default(), Duration::ZERO),
                now: Duration::ZERO,
                requests: 0,
                commits: 0,
                departures: 0,
            };
            for message in messages {
                world.take(message);
                world.check();
            }
        }
    }

    #[test]
    fn a_poller_is_small() {
        assert!(size_of::<Poller>() <= 32, "{} bytes", size_of::<Poller>());
    }
}
