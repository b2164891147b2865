//! The requests in flight of one project. Each is a task whose end is a message.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::task::JoinMap;

use super::project_discovery::RequestNumber;
use super::watches::WatchNumber;
use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::compact_duration::CompactDuration;
use crate::core::discovery::DiscoveryReply;
use crate::core::gate::Pass;

/// The owner of a request, in the gate's queue or in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Requester {
    /// A watch: a poll, or a request for what an event includes.
    Watch(WatchNumber),
    /// The check whether the project exists.
    Project,
    /// The check whether the API accepts the project's key.
    Key,
    /// Discovery.
    Discovery(RequestNumber),
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum RequestAnswer {
    Poll(Answer),
    Logs(LogAnswer),
    Installation(InstallationAnswer),
    Project(ProjectAnswer),
    Discovery(Box<DiscoveryReply>),
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum RequestOutcome {
    Answered(RequestAnswer),
    Aborted,
    Panicked(String),
}

/// The end of a request, as the project task receives it.
#[derive(Debug)]
pub(super) struct EndedRequest {
    pub requester: Requester,
    pub pass: Pass,
    pub outcome: RequestOutcome,
}

/// The requests in flight, with the times at which they started, on the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Requests {
    tasks: JoinMap<Requester, RequestAnswer>,
    in_flight: HashMap<Requester, (Pass, CompactDuration)>,
    by_age: BTreeSet<(CompactDuration, Requester)>,
}

impl Requests {
    /// Starts a request. The requester must have none in flight.
    pub fn start(
        &mut self,
        requester: Requester,
        pass: Pass,
        now: Duration,
        request: impl Future<Output = RequestAnswer> + Send + 'static,
    ) {
        self.tasks.spawn(requester, request);
        self.in_flight.insert(requester, (pass, now.into()));
        // A list may take longer than a poll, so that its age shows no problem.
        if !matches!(requester, Requester::Discovery(_)) {
            self.by_age.insert((now.into(), requester));
        }
    }

    pub fn contains(&self, requester: Requester) -> bool {
        self.in_flight.contains_key(&requester)
    }

    /// Aborts the request of a watch. Its end arrives as a message.
    pub fn abort(&mut self, number: WatchNumber) {
        self.tasks.abort(&Requester::Watch(number));
    }

    /// The start of the oldest request in flight.
    pub fn oldest(&self) -> Option<Duration> {
        self.by_age.first().map(|(since, _)| since.get())
    }

    /// The next request that has ended already.
    pub fn try_next(&mut self) -> Option<EndedRequest> {
        let (requester, joined) = self.tasks.try_join_next()?;
        Some(self.ended(requester, joined))
    }

    /// Waits until a request ends. Never returns while there is none.
    pub async fn next(&mut self) -> EndedRequest {
        match self.tasks.join_next().await {
            Some((requester, joined)) => self.ended(requester, joined),
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, requester: Requester, joined: Result<RequestAnswer, JoinError>) -> EndedRequest {
        let in_flight = self.in_flight.remove(&requester);
        let (pass, since) = in_flight.unwrap_or((Pass::Turn, CompactDuration::default()));
        self.by_age.remove(&(since, requester));
        let outcome = match joined.map_err(JoinError::try_into_panic) {
            Ok(answer) => RequestOutcome::Answered(answer),
            Err(Ok(panic)) => RequestOutcome::Panicked(panic_message(&*panic)),
            Err(Err(_)) => RequestOutcome::Aborted,
        };
        EndedRequest {
            requester,
            pass,
            outcome,
        }
    }
}

/// The message of a panic.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}
