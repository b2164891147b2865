//! The requests in flight of one project: each a task, whose end is a message.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::watches::Number;
use crate::core::answer::{Answer, LogAnswer, ProjectAnswer};
use crate::core::gate::Pass;
use crate::core::span::Span;

/// The number of a request that is not known, which would be a bug.
const NONE: Number = Number::MAX - 1;

/// What a request brought.
#[derive(Debug)]
pub(super) enum Reply {
    Answer(Answer),
    Logs(LogAnswer),
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
    pub number: Number,
    pub pass: Pass,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    tasks: JoinSet<(Number, Reply)>,
    in_flight: HashMap<Number, InFlight>,
    by_age: BTreeSet<(Span, Number)>,
}

#[derive(Debug)]
struct InFlight {
    task: AbortHandle,
    pass: Pass,
    since: Span,
}

impl Requests {
    /// Starts a request for a watch that has none.
    pub fn start(
        &mut self,
        number: Number,
        pass: Pass,
        now: Duration,
        request: impl Future<Output = Reply> + Send + 'static,
    ) {
        let task = self.tasks.spawn(async move { (number, request.await) });
        let since = now.into();
        self.by_age.insert((since, number));
        self.in_flight.insert(number, InFlight { task, pass, since });
    }

    /// Aborts the request for a watch; its end is a message as any.
    pub fn abort(&self, number: Number) {
        if let Some(request) = self.in_flight.get(&number) {
            request.task.abort();
        }
    }

    /// Since when the oldest is in flight.
    pub fn oldest(&self) -> Option<Duration> {
        self.by_age.first().map(|(since, _)| since.get())
    }

    /// The next that has ended already.
    pub fn try_next(&mut self) -> Option<Ended> {
        let joined = self.tasks.try_join_next_with_id()?;
        Some(self.ended(joined.map(|(_, reply)| reply)))
    }

    /// Waits for the next that ends; for ever while there is none.
    pub async fn next(&mut self) -> Ended {
        match self.tasks.join_next_with_id().await {
            Some(joined) => self.ended(joined.map(|(_, reply)| reply)),
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, joined: Result<(Number, Reply), JoinError>) -> Ended {
        let (number, outcome) = match joined {
            Ok((number, reply)) => (number, Outcome::Reply(reply)),
            Err(error) => {
                let mut requests = self.in_flight.iter();
                let of_task = requests.find(|(_, request)| request.task.id() == error.id());
                let number = of_task.map_or(NONE, |(number, _)| *number);
                let outcome = match error.try_into_panic() {
                    Ok(panic) => Outcome::Panicked(panic_message(&*panic)),
                    Err(_) => Outcome::Aborted,
                };
                (number, outcome)
            }
        };
        let request = self.in_flight.remove(&number);
        if let Some(request) = &request {
            self.by_age.remove(&(request.since, number));
        }
        Ended {
            number,
            pass: request.map_or(Pass::Turn, |request| request.pass),
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
