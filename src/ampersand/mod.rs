//! The client of the Ampersand API.
//!
//! [`Client`] asks, and tells every way in which an answer can fail to come apart from the others;
//! [`ApiFetch`] knows which key to ask with. Nothing here decides when to ask, or what an answer means for a
//! watch.

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
pub use api_fetch::{ApiFetch, KeySources};
pub use api_key::ApiKey;
pub use client::{Client, ClientError, ClientSettings, NO_OPERATION};
pub use operations_page::OperationsPage;
pub use response::{ApiResponse, ResponseContext};

use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::installation::InstallationPath;
use crate::core::operation_log::LogSelection;
use crate::core::watch_list::WatchKey;

/// How a poller gets its answers: from the API, or in tests from a script.
pub trait Fetch: Send + Sync + 'static {
    /// Asks once for an operation. The future is small, and may be dropped at any time.
    fn fetch(&self, key: &WatchKey) -> impl Future<Output = Answer> + Send;

    /// Looks whether the project has a new API key, and uses it from now on. True if it has.
    fn refresh_key(&self, project: &str) -> impl Future<Output = bool> + Send;

    /// Asks once for the last lines in the log of an operation.
    fn last_lines(&self, key: &WatchKey, wanted: LogSelection) -> impl Future<Output = LogAnswer> + Send;

    /// Asks once for an installation of a project. A script need not answer.
    fn installation(
        &self,
        _project: &str,
        _path: &InstallationPath,
    ) -> impl Future<Output = InstallationAnswer> + Send {
        async { InstallationAnswer::Failed }
    }

    /// Asks once whether the project exists. A script need not answer.
    fn project_exists(&self, project: &str) -> impl Future<Output = ProjectAnswer> + Send {
        let reason = format!("nobody was asked for project {project}");
        async { ProjectAnswer::Unknown(reason) }
    }
}
