//! The real [`Fetch`]: the client, and each project's key.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use secrecy::SecretString;

use super::{ApiError, Client, Fetch};
use crate::core::answer::Answer;
use crate::core::log_line::{self, LogLine};
use crate::core::watch_list::WatchKey;

/// The event of a failed operation waits no longer for its log.
const LOGS_TIMEOUT: Duration = Duration::from_secs(5);
/// So many lines of it are told.
const LOGS_LINES: usize = 20;

/// The keys of the projects by name.
pub type ApiKeys = HashMap<Arc<str>, SecretString>;

/// Asks the API with the project's key. Client and keys can be replaced while it runs: each request uses what
/// is there when it starts.
#[derive(Debug)]
pub struct ApiFetch {
    /// Never held across an await.
    access: RwLock<Access>,
}

#[derive(Debug)]
struct Access {
    client: Client,
    keys: ApiKeys,
}

impl ApiFetch {
    /// Asks by `client` with `keys`.
    #[must_use]
    pub fn new(client: Client, keys: ApiKeys) -> Self {
        Self {
            access: RwLock::new(Access { client, keys }),
        }
    }

    /// Replaces all keys.
    pub fn set_keys(&self, keys: ApiKeys) {
        self.write().keys = keys;
    }

    /// Replaces the client.
    pub fn set_client(&self, client: Client) {
        self.write().client = client;
    }

    /// The client, and the key of `project`.
    fn access(&self, project: &str) -> Result<(Client, SecretString), ApiError> {
        let access = self.read();
        let Some(api_key) = access.keys.get(project) else {
            return Err(ApiError::Unauthorized(format!(
                "there is no API key for project {project}; give one in the settings"
            )));
        };
        Ok((access.client.clone(), api_key.clone()))
    }

    fn read(&self) -> RwLockReadGuard<'_, Access> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Access> {
        self.access.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetch for ApiFetch {
    fn fetch(&self, key: &WatchKey) -> impl Future<Output = Answer> + Send {
        let access = self.access(&key.project);
        let key = key.clone();
        // Boxed, since a request takes kibibytes and whoever awaits it mostly sleeps.
        Box::pin(async move {
            match access {
                Ok((client, api_key)) => client.get_operation(&key.project, &key.operation, &api_key).await,
                Err(error) => error.into(),
            }
        })
    }

    fn last_warnings(&self, key: &WatchKey) -> impl Future<Output = Vec<LogLine>> + Send {
        let access = self.access(&key.project);
        let key = key.clone();
        Box::pin(async move {
            let read = match access {
                Ok((client, api_key)) => {
                    client
                        .get_logs(&key.project, &key.operation, &api_key, LOGS_TIMEOUT)
                        .await
                }
                Err(error) => Err(error),
            };
            match read {
                Ok(lines) => log_line::last_warnings(lines, LOGS_LINES),
                Err(error) => {
                    tracing::debug!(operation_id = &*key.operation, project = &*key.project, %error, "no log to be had");
                    Vec::new()
                }
            }
        })
    }
}
