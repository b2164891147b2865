//! The outcome of a request, before any decision.

use std::time::Duration;

use super::installation::Installation;
use super::operation::Operation;
use super::operation_log::OperationLogLine;

/// The outcome of one `GET` of one operation.
///
/// [`watch`](super::watch) decides what it means for the operation, [`project_health`](super::project_health) what it
/// means for the project.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Answer {
    /// 200 with an operation.
    Operation(Box<Operation>),
    /// 404 or 410 with problem details: the API does not know the operation.
    NotFound(String),
    /// Any other 4xx with problem details: the request is refused, and would be again.
    Refused(String),
    /// 401 with a JSON body: the project's credentials are rejected.
    Unauthorized(String),
    /// 403 with a JSON body: the credentials are rejected, at least for this operation.
    Forbidden(String),
    /// 429, or 503 with a time to wait.
    Throttled {
        /// The wait that the API asks for, not yet capped; `None` without a time.
        wait: Option<Duration>,
        /// The API's reason, in one line.
        reason: String,
    },
    /// The request was not processed. It is repeated once, in the gate's next slot, and is not a failed poll.
    Unprocessed(Failure),
    /// A failed poll: see [`Failure`].
    Failed(Failure),
}

impl Answer {
    /// The meaning for a request that was already repeated: `Unprocessed` is a failed poll then.
    pub fn of_repeated(self) -> Self {
        match self {
            Self::Unprocessed(failure) => Self::Failed(failure),
            other => other,
        }
    }

    /// Whether it contains the operation.
    #[must_use]
    pub fn is_operation(&self) -> bool {
        matches!(self, Self::Operation(_))
    }

    /// Why there is no operation.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Operation(_) => None,
            Self::NotFound(reason)
            | Self::Refused(reason)
            | Self::Unauthorized(reason)
            | Self::Forbidden(reason)
            | Self::Throttled { reason, .. } => Some(reason),
            Self::Unprocessed(failure) | Self::Failed(failure) => Some(&failure.reason),
        }
    }

    /// Its name in `polls_total{outcome}` and logs.
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

    /// Every name that [`outcome`](Self::outcome) returns.
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

/// The outcome of one request for additional data of an event. Only its pauses count for the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AdditionAnswer<T> {
    /// The data.
    Found(T),
    /// 429, or 503 with a time to wait: the wait, not yet capped; `None` without a time.
    Throttled(Option<Duration>),
    /// The request was not processed, and may be repeated once.
    Unprocessed,
    /// Any other failure.
    Failed,
}

/// The last lines of an operation's log.
pub type LogAnswer = AdditionAnswer<Vec<OperationLogLine>>;

/// The status of an installation.
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
        /// The wait that the API asks for, not yet capped; `None` without a time.
        wait: Option<Duration>,
        /// The API's reason, in one line.
        reason: String,
    },
    /// The request was not processed, and may be repeated once.
    Unprocessed(Failure),
    /// Any other answer proves nothing.
    Unknown(String),
}

/// A poll without information about its operation. It never finishes a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class of the failure.
    pub class: FailureClass,
    /// The reason in one line of about 500 bytes at most, without secrets.
    pub reason: String,
}

/// The classes of failed polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// A 5xx status (503 without a time to wait included), 408, 425, or a 4xx that may be retried.
    ServerError,
    /// No connection: refused, unreachable, name not resolved, proxy error.
    Connect,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// No complete answer within the request timeout.
    Timeout,
    /// The connection ended during the exchange: reset, closed early, truncated body.
    Interrupted,
    /// Not an answer of the API: content type, content coding, JSON, `id` and `status`, a 4xx without problem
    /// details.
    Malformed,
    /// The body or the headers exceed the limit.
    TooLarge,
    /// A 3xx status; redirects are not followed.
    Redirect,
}

impl FailureClass {
    /// Its name in logs and metrics.
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
