//! The requests in flight of one project: each a task, whose end is a message.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::task::JoinMap;

use super::watches::Number;
use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::compact_duration::CompactDuration;
use crate::core::gate::Pass;

/// Who waits at the gate, or has a request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Requester {
    /// A watch, for its poll or for what an event adds.
    Watch(Number),
    /// The project: does it exist?
    Project,
    /// The project's key: is it good?
    Key,
}

/// What a request brought.
#[derive(Debug)]
pub(super) enum Reply {
    Answer(Answer),
    Logs(LogAnswer),
    Installation(InstallationAnswer),
    Project(ProjectAnswer),
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Reply(Reply),
    /// It was aborted.
    Aborted,
    Panicked(String),
}

/// A request has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub requester: Requester,
    pub pass: Pass,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    tasks: JoinMap<Requester, Reply>,
    in_flight: HashMap<Requester, (Pass, CompactDuration)>,
    by_age: BTreeSet<(CompactDuration, Requester)>,
}

impl Requests {
    /// Starts a request for one that has none.
    pub fn start(
        &mut self,
        requester: Requester,
        pass: Pass,
        now: Duration,
        request: impl Future<Output = Reply> + Send + 'static,
    ) {
        self.tasks.spawn(requester, request);
        self.in_flight.insert(requester, (pass, now.into()));
        self.by_age.insert((now.into(), requester));
    }

    /// Whether one is in flight for this requester.
    pub fn contains(&self, requester: Requester) -> bool {
        self.in_flight.contains_key(&requester)
    }

    /// Aborts the request for a watch; its end is a message as any.
    pub fn abort(&mut self, number: Number) {
        self.tasks.abort(&Requester::Watch(number));
    }

    /// Since when the oldest is in flight.
    pub fn oldest(&self) -> Option<Duration> {
        self.by_age.first().map(|(since, _)| since.get())
    }

    /// The next that has ended already.
    pub fn try_next(&mut self) -> Option<Ended> {
        let (requester, joined) = self.tasks.try_join_next()?;
        Some(self.ended(requester, joined))
    }

    /// Waits for the next that ends; for ever while there is none.
    pub async fn next(&mut self) -> Ended {
        match self.tasks.join_next().await {
            Some((requester, joined)) => self.ended(requester, joined),
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, requester: Requester, joined: Result<Reply, JoinError>) -> Ended {
        let in_flight = self.in_flight.remove(&requester);
        let (pass, since) = in_flight.unwrap_or((Pass::Turn, CompactDuration::default()));
        self.by_age.remove(&(since, requester));
        let outcome = match joined.map_err(JoinError::try_into_panic) {
            Ok(reply) => Outcome::Reply(reply),
            Err(Ok(panic)) => Outcome::Panicked(panic_message(&*panic)),
            Err(Err(_)) => Outcome::Aborted,
        };
        Ended {
            requester,
            pass,
            outcome,
        }
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}
