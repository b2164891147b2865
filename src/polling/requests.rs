//! The requests in flight of one project. Each is a task whose end is a message.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::project_discovery::RequestNumber;
use super::watches::WatchNumber;
use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::discovery::DiscoveryReply;
use crate::core::gate::Pass;

/// The owner of a request, in the gate's queue or in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The requests in flight, in the order of their starts.
#[derive(Debug, Default)]
pub(super) struct Requests {
    tasks: JoinSet<(RequestOrder, RequestAnswer)>,
    in_flight: BTreeMap<RequestOrder, InFlight>,
    started: RequestOrder,
}

/// How many requests started before.
type RequestOrder = u64;

#[derive(Debug)]
struct InFlight {
    requester: Requester,
    pass: Pass,
    /// The start on the monotonic clock.
    since: Duration,
    task: AbortHandle,
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
        let order = self.started;
        self.started += 1;
        let task = self.tasks.spawn(request.map(move |answer| (order, answer)));
        let request = InFlight {
            requester,
            pass,
            since: now,
            task,
        };
        self.in_flight.insert(order, request);
    }

    pub fn contains(&self, requester: Requester) -> bool {
        self.in_flight
            .values()
            .any(|request| request.requester == requester)
    }

    /// Aborts the request of a watch. Its end arrives as a message.
    pub fn abort(&mut self, number: WatchNumber) {
        let mut requests = self.in_flight.values();
        if let Some(request) = requests.find(|request| request.requester == Requester::Watch(number)) {
            request.task.abort();
        }
    }

    /// The start of the oldest request in flight.
    pub fn oldest(&self) -> Option<Duration> {
        // A list may take longer than a poll, so that its age shows no problem.
        let mut requests = self.in_flight.values();
        let oldest = requests.find(|request| !matches!(request.requester, Requester::Discovery(_)));
        oldest.map(|request| request.since)
    }

    /// The next request that has ended already.
    pub fn try_next(&mut self) -> Option<EndedRequest> {
        let joined = self.tasks.try_join_next()?;
        self.ended(joined)
    }

    /// Waits until a request ends. Never returns while there is none.
    pub async fn next(&mut self) -> EndedRequest {
        let joined = self.tasks.join_next().await;
        match joined.and_then(|joined| self.ended(joined)) {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, joined: Result<(RequestOrder, RequestAnswer), JoinError>) -> Option<EndedRequest> {
        let (order, outcome) = match joined {
            Ok((order, answer)) => (order, RequestOutcome::Answered(answer)),
            Err(error) => {
                let mut requests = self.in_flight.iter();
                let (order, _) = requests.find(|(_, request)| request.task.id() == error.id())?;
                let outcome = match error.try_into_panic() {
                    Ok(panic) => RequestOutcome::Panicked(panic_message(&*panic)),
                    Err(_) => RequestOutcome::Aborted,
                };
                (*order, outcome)
            }
        };
        let request = self.in_flight.remove(&order)?;
        Some(EndedRequest {
            requester: request.requester,
            pass: request.pass,
            outcome,
        })
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
