//! The client of the Ampersand API.
//!
//! [`Client`] sends requests and distinguishes all ways in which they fail. [`ApiFetch`] adds each project's key. When
//! to send a request, and what an answer means for a watch, is decided in `core`.

mod api_error;
mod api_fetch;
mod api_key;
mod client;
mod media_type;
mod operations_page;
mod problem;
mod response;
mod transport;

pub use api_error::ApiError;
pub use api_fetch::{ApiFetch, KeySources, RefreshedKeys};
pub use api_key::ApiKey;
pub use client::{Client, ClientError, ClientSettings, NO_OPERATION};
pub use operations_page::OperationsPage;
pub use response::{ApiResponse, ResponseContext};

use std::borrow::Cow;

use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::discovery::{DiscoveryAnswer, DiscoveryReply, DiscoveryRequest};
use crate::core::installation::InstallationPath;
use crate::core::operation_log::LogSelection;
use crate::core::watch_list::WatchKey;

/// The requests of a poller: sent to the API, or answered by a script in tests.
pub trait Fetch: Send + Sync + 'static {
    /// Gets an operation once. The future is small and may be dropped at any time.
    fn fetch(&self, key: &WatchKey) -> impl Future<Output = Answer> + Send;

    /// Reads the project's API key again. True if it changed.
    fn refresh_key(&self, project: &str) -> impl Future<Output = bool> + Send;

    /// Removes the project's API key from a text. A script need not implement it.
    fn mask<'a>(&self, _project: &str, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    /// Gets the last lines of an operation's log.
    fn last_lines(&self, key: &WatchKey, selection: LogSelection) -> impl Future<Output = LogAnswer> + Send;

    /// Gets an installation. A script need not implement it.
    fn installation(
        &self,
        _project: &str,
        _path: &InstallationPath,
    ) -> impl Future<Output = InstallationAnswer> + Send {
        async { InstallationAnswer::Failed }
    }

    /// Checks whether the project exists. A script need not implement it.
    fn project_exists(&self, project: &str) -> impl Future<Output = ProjectAnswer> + Send {
        let reason = format!("no request was sent for project {project}");
        async { ProjectAnswer::Unknown(reason) }
    }

    /// Sends a request of discovery. A list may take longer than other requests. A script need not implement it.
    fn discover(
        &self,
        _project: &str,
        _request: &DiscoveryRequest,
    ) -> impl Future<Output = DiscoveryReply> + Send {
        async { DiscoveryReply::Answered(DiscoveryAnswer::Failed("not supported".into())) }
    }
}
