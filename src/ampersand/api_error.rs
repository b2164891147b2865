//! Errors of API requests.

use std::time::Duration;

use thiserror::Error;

use crate::core::answer::{AdditionAnswer, Answer, Failure, FailureClass};

/// A request that failed. Reasons are one line of at most about 500 bytes, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApiError {
    /// 404 or 410 with problem details: the API does not know the resource.
    #[error("{0}")]
    NotFound(String),
    /// Any other 4xx with problem details: a repeated request would be refused again.
    #[error("{0}")]
    Refused(String),
    /// 401 with a JSON body, or a key that cannot be sent: the credentials are invalid.
    #[error("{0}")]
    Unauthorized(String),
    /// 403 with a JSON body: the credentials are invalid, or not valid for this request.
    #[error("{0}")]
    Forbidden(String),
    /// 429, or 503 with a time to wait.
    #[error("{reason}")]
    Throttled {
        /// The requested wait, not capped; `None` if the API named none.
        wait: Option<Duration>,
        /// The API's explanation.
        reason: String,
    },
    /// The request was not processed, and may be repeated once.
    #[error("{}", .0.reason)]
    Unprocessed(Failure),
    /// Any other failure, from which nothing follows.
    #[error("{}", .0.reason)]
    Failed(Failure),
}

impl ApiError {
    /// A failure of `class`.
    pub(super) fn failed(class: FailureClass, reason: String) -> Self {
        Self::Failed(Failure { class, reason })
    }
}

impl<T> From<Result<T, ApiError>> for AdditionAnswer<T> {
    fn from(read: Result<T, ApiError>) -> Self {
        match read {
            Ok(found) => Self::Found(found),
            Err(ApiError::Throttled { wait, .. }) => Self::Throttled(wait),
            Err(ApiError::Unprocessed(_)) => Self::Unprocessed,
            Err(_) => Self::Failed,
        }
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NotFound(reason) => Self::NotFound(reason),
            ApiError::Refused(reason) => Self::Refused(reason),
            ApiError::Unauthorized(reason) => Self::Unauthorized(reason),
            ApiError::Forbidden(reason) => Self::Forbidden(reason),
            ApiError::Throttled { wait, reason } => Self::Throttled { wait, reason },
            ApiError::Unprocessed(failure) => Self::Unprocessed(failure),
            ApiError::Failed(failure) => Self::Failed(failure),
        }
    }
}
