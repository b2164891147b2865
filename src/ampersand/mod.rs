//! The client of the Ampersand API.
//!
//! [`Client`] asks, and tells every way in which an answer can fail to come apart from the others;
//! [`ApiFetch`] knows which key to ask with. Nothing here decides when to ask, or what an answer means for a
//! watch.

mod api_error;
mod api_fetch;
mod client;
mod media_type;
mod problem;
mod reply;
mod transport;

pub use api_error::ApiError;
pub use api_fetch::{ApiFetch, KeySources};
pub use client::{Client, ClientError, ClientSettings, OperationsPage};
pub use reply::Reply;

use crate::core::answer::Answer;
use crate::core::log_line::LogLine;
use crate::core::watch_list::WatchKey;

/// How a poller gets its answers: from the API, or in tests from a script.
pub trait Fetch: Send + Sync + 'static {
    /// Asks once for an operation. The future is small, and may be dropped at any time.
    fn fetch(&self, key: &WatchKey) -> impl Future<Output = Answer> + Send;

    /// Looks whether the project has a new API key, and uses it from now on. True if it has.
    fn refresh_key(&self, project: &str) -> impl Future<Output = bool> + Send;

    /// The last errors and warnings in the log of an operation that failed; empty when they cannot be had soon.
    fn last_warnings(&self, key: &WatchKey) -> impl Future<Output = Vec<LogLine>> + Send;
}
