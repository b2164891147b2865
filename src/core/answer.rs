//! What one poll met, before anybody draws conclusions from it.

use std::time::Duration;

use super::installation::Installation;
use super::operation::Operation;
use super::operation_log::OperationLogLine;

/// The outcome of one `GET` of one operation.
///
/// What follows from each is decided in two places: [`watch`](super::watch) for the operation,
/// [`project`](super::project_health) for the project it belongs to.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Answer {
    /// 200 with an operation.
    Operation(Box<Operation>),
    /// 404 or 410 with problem details: the API knows no such operation.
    NotFound(String),
    /// Any other 4xx with problem details: this request is refused, and would be again.
    Refused(String),
    /// 401 with a JSON body: the project's credentials are bad.
    Unauthorized(String),
    /// 403 with a JSON body: the credentials are bad, or are not good for this operation.
    Forbidden(String),
    /// 429, or 503 with a time to wait.
    Throttled {
        /// How long the API asks to be left alone, not yet capped; `None` if it gave no time.
        wait: Option<Duration>,
        /// What the API said, in one line.
        reason: String,
    },
    /// The request was not processed: it is repeated once, in the gate's next slot, and is no failed poll.
    Unprocessed(Failure),
    /// Nothing was learned: see [`Failure`].
    Failed(Failure),
}

impl Answer {
    /// What it means when the request was repeated already: a second one that was not processed is a failed poll.
    pub fn of_repeated(self) -> Self {
        match self {
            Self::Unprocessed(failure) => Self::Failed(failure),
            other => other,
        }
    }

    /// Whether it shows the operation.
    #[must_use]
    pub fn is_operation(&self) -> bool {
        matches!(self, Self::Operation(_))
    }

    /// The name under which polls of this outcome are counted (`polls_total{outcome}`) and logged.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Operation(_) => "operation",
            Self::NotFound(_) => "not_found",
            Self::Refused(_) => "refused",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::Throttled { .. } => "throttled",
            Self::Unprocessed(_) => "unprocessed",
            Self::Failed(failure) => failure.class.as_str(),
        }
    }

    /// Every name that [`outcome`](Self::outcome) gives.
    pub const OUTCOMES: [&'static str; 15] = [
        "operation",
        "not_found",
        "refused",
        "unauthorized",
        "forbidden",
        "throttled",
        "unprocessed",
        "server_error",
        "connect",
        "tls",
        "timeout",
        "interrupted",
        "malformed",
        "too_large",
        "redirect",
    ];
}

/// The outcome of one request for what an event adds. It counts for pauses, and for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AdditionAnswer<T> {
    /// What was asked for.
    Found(T),
    /// 429, or 503 with a time to wait: how long the API asks to be left alone, not yet capped; `None` if it gave no time.
    Throttled(Option<Duration>),
    /// The request was not processed, and may be repeated once.
    Unprocessed,
    /// It cannot be had.
    Failed,
}

/// The last lines of a log.
pub type LogAnswer = AdditionAnswer<Vec<OperationLogLine>>;

/// The state of an installation.
pub type InstallationAnswer = AdditionAnswer<Installation>;

/// The outcome of one request that asks whether a project exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ProjectAnswer {
    /// 200, or 403 from the API: the project exists.
    Exists,
    /// 404 from the API: the project does not exist.
    Missing(String),
    /// 429, or 503 with a time to wait, as in [`Answer::Throttled`].
    Throttled {
        /// How long the API asks to be left alone, not yet capped; `None` if it gave no time.
        wait: Option<Duration>,
        /// What the API said, in one line.
        reason: String,
    },
    /// The request was not processed, and may be repeated once.
    Unprocessed(Failure),
    /// Any other answer proves nothing.
    Unknown(String),
}

/// A poll that taught nothing about its operation. It never ends a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// What happened, in one line of at most about 500 bytes, for people; without secrets.
    pub reason: String,
}

/// The kinds of failed polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// A 5xx status (503 without a time to wait included), 408, 425, or a 4xx that may be retried.
    ServerError,
    /// No connection: refused, unreachable, name not resolved, proxy failed.
    Connect,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// No complete answer within the request's time limit.
    Timeout,
    /// The connection broke in the middle of the exchange: reset, closed early, truncated body.
    Interrupted,
    /// The answer is not the API's: content type, content coding, JSON, `id` and `status`, a 4xx without problem details.
    Malformed,
    /// The body or the headers are larger than is read.
    TooLarge,
    /// A 3xx status; redirects are not followed.
    Redirect,
}

impl FailureClass {
    /// The class's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerError => "server_error",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Redirect => "redirect",
        }
    }
}
