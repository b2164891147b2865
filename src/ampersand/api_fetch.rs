//! The production implementation of [`Fetch`]: the client and each project's key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::{ApiError, ApiKey, Client, Fetch};
use crate::config::{SecretError, SecretSource};
use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::discovery::{DiscoveryReply, DiscoveryRequest};
use crate::core::installation::InstallationPath;
use crate::core::operation_log::{self, LogSelection};
use crate::core::watch_list::WatchKey;
use crate::error::chain;

/// The time limit of each request whose answer is added to an event.
const ADDITION_TIMEOUT: Duration = Duration::from_secs(5);
/// The most log lines that are added to an event.
const LOGS_LINES: usize = 20;

/// Where each project's key is read from, by project name.
pub type KeySources = HashMap<Arc<str>, SecretSource>;

/// Sends requests with the project's key. Client and keys can be replaced at any time; a request uses those that are
/// current when it starts.
#[derive(Debug)]
pub struct ApiFetch {
    /// Never locked across an await.
    access: RwLock<Access>,
}

/// What reading the keys again found.
#[derive(Debug, Default)]
pub struct RefreshedKeys {
    /// The projects whose key changed.
    pub replaced: Vec<Arc<str>>,
    /// The projects whose key cannot be read any more. The one that was read before stays in use.
    pub unreadable: Vec<(Arc<str>, SecretError)>,
}

#[derive(Debug)]
struct Access {
    client: Client,
    sources: KeySources,
    keys: HashMap<Arc<str>, ApiKey>,
}

impl ApiFetch {
    /// Uses `client` and the keys in `sources`. Reads them, so it may block briefly. A key that cannot be read is absent
    /// until it can.
    #[must_use]
    pub fn new(client: Client, sources: KeySources) -> Self {
        let keys = sources
            .iter()
            .filter_map(|(name, source)| {
                let key = source.read_line().inspect_err(|error| {
                    tracing::debug!(project = &**name, error = chain(error), "cannot read the API key");
                });
                Some((Arc::clone(name), key.ok()?.into()))
            })
            .collect();
        Self {
            access: RwLock::new(Access {
                client,
                sources,
                keys,
            }),
        }
    }

    /// Replaces the sources of the keys; [`refresh_keys`](Self::refresh_keys) reads them.
    pub fn set_sources(&self, sources: KeySources) {
        let mut access = self.write();
        access.keys.retain(|name, _| sources.contains_key(name));
        access.sources = sources;
    }

    /// Replaces the client.
    pub fn set_client(&self, client: Client) {
        self.write().client = client;
    }

    /// Reads all keys again.
    pub async fn refresh_keys(&self) -> RefreshedKeys {
        let sources = self.read().sources.clone();
        self.refresh(sources).await
    }

    async fn refresh(&self, sources: KeySources) -> RefreshedKeys {
        let reading = tokio::task::spawn_blocking(move || {
            let read = |(name, source): (_, SecretSource)| (name, source.read_line());
            sources.into_iter().map(read).collect::<Vec<_>>()
        });
        let found = reading.await.unwrap_or_default();
        let mut access = self.write();
        let mut refreshed = RefreshedKeys::default();
        for (name, key) in found {
            let before = access.keys.get(&name);
            let key = match key {
                Ok(key) => key,
                Err(error) => {
                    // Without an earlier key, its requests report that there is none.
                    if before.is_some() {
                        refreshed.unreadable.push((name, error));
                    }
                    continue;
                }
            };
            if before.is_some_and(|before| before.equals(&key)) || !access.sources.contains_key(&name) {
                continue;
            }
            let key = match before {
                Some(before) => ApiKey::replacing(key, before),
                None => ApiKey::new(key),
            };
            access.keys.insert(Arc::clone(&name), key);
            refreshed.replaced.push(name);
        }
        refreshed
    }

    /// The client, and the key of `project`.
    fn access(&self, project: &str) -> Result<(Client, ApiKey), ApiError> {
        let access = self.read();
        let Some(api_key) = access.keys.get(project) else {
            return Err(ApiError::Unauthorized(format!(
                "there is no API key for project {project}; set it in the settings"
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
        // Boxed: a request takes a kibibyte, and the task that awaits it mostly sleeps.
        Box::pin(async move {
            // Borrowed: moving the values would store them twice in the future.
            match &access {
                Ok((client, api_key)) => client.get_operation(&key.project, &key.operation, api_key).await,
                Err(error) => error.clone().into(),
            }
        })
    }

    fn refresh_key(&self, project: &str) -> impl Future<Output = bool> + Send {
        let source = self
            .read()
            .sources
            .get_key_value(project)
            .map(|(name, source)| (Arc::clone(name), source.clone()));
        async move {
            let refreshed = self.refresh(source.into_iter().collect()).await;
            !refreshed.replaced.is_empty()
        }
    }

    fn mask<'a>(&self, project: &str, text: &'a str) -> Cow<'a, str> {
        match self.read().keys.get(project) {
            Some(key) => key.mask().apply(text),
            None => Cow::Borrowed(text),
        }
    }

    fn last_lines(&self, key: &WatchKey, selection: LogSelection) -> impl Future<Output = LogAnswer> + Send {
        let access = self.access(&key.project);
        let key = key.clone();
        Box::pin(async move {
            let read = match &access {
                Ok((client, api_key)) => {
                    client
                        .get_logs(&key.project, &key.operation, api_key, ADDITION_TIMEOUT)
                        .await
                }
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = &read {
                tracing::debug!(
                    operation_id = &*key.operation,
                    project = &*key.project,
                    error = chain(error),
                    "cannot read the log of the operation"
                );
            }
            let last = read.map(|lines| match selection {
                LogSelection::All => operation_log::last_lines(lines, LOGS_LINES),
                LogSelection::Warnings => operation_log::last_warnings(lines, LOGS_LINES),
            });
            last.into()
        })
    }

    fn installation(
        &self,
        project: &str,
        path: &InstallationPath,
    ) -> impl Future<Output = InstallationAnswer> + Send {
        let access = self.access(project);
        let (project, path) = (project.to_owned(), path.clone());
        Box::pin(async move {
            let read = match &access {
                Ok((client, api_key)) => {
                    client
                        .get_installation(&project, &path, api_key, ADDITION_TIMEOUT)
                        .await
                }
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = &read {
                tracing::debug!(
                    installation_id = path.installation,
                    project,
                    error = chain(error),
                    "cannot read the installation"
                );
            }
            read.into()
        })
    }

    fn project_exists(&self, project: &str) -> impl Future<Output = ProjectAnswer> + Send {
        let access = self.access(project);
        let project = project.to_owned();
        Box::pin(async move {
            match &access {
                Ok((client, api_key)) => client.get_integrations(&project, api_key).await,
                Err(error) => ProjectAnswer::Unknown(error.to_string()),
            }
        })
    }

    fn discover(
        &self,
        project: &str,
        request: &DiscoveryRequest,
    ) -> impl Future<Output = DiscoveryReply> + Send {
        let access = self.access(project);
        let (project, request) = (project.to_owned(), request.clone());
        Box::pin(async move {
            match &access {
                Ok((client, api_key)) => client.discover(&project, &request, api_key).await,
                Err(error) => DiscoveryReply::Other(error.clone().into()),
            }
        })
    }
}
