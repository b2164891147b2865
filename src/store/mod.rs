//! stand-in until merged
use crate::core::{event::Event, project::Project, watch::Watch, watch_list::WatchKey};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
/// x
#[derive(Debug, Clone)]
pub struct Store;
#[allow(missing_docs)]
impl Store {
    pub fn in_memory() -> Self {
        Self
    }
}
/// x
pub struct Change {
    /// x
    pub subject: Subject,
    /// x
    pub events: Vec<Event>,
}
/// x
pub enum Subject {
    /// x
    Watch(WatchKey, Box<Watch>),
    /// x
    Project(Arc<str>, Project),
}
/// x
pub struct WatchRecord {
    /// x
    pub watch: Watch,
    /// x
    pub saved: Timestamp,
    /// x
    pub unlisted: Option<Timestamp>,
}
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct CommitError;
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ReadError;
impl CommitError {
    /// x
    pub fn closed() -> Self {
        Self
    }
}
#[allow(clippy::unused_async, missing_docs, clippy::missing_errors_doc)]
impl Store {
    pub async fn commit(&self, _c: Change) -> Result<(), CommitError> {
        Ok(())
    }
    pub async fn checkpoint(&self, _c: Vec<(WatchKey, Watch)>) -> Result<(), CommitError> {
        Ok(())
    }
    pub async fn load(&self, _keys: Vec<WatchKey>) -> Result<HashMap<WatchKey, WatchRecord>, ReadError> {
        Ok(HashMap::new())
    }
    pub async fn load_project(&self, _name: &str) -> Result<Option<Project>, ReadError> {
        Ok(None)
    }
    pub async fn set_listed(&self, _keys: Vec<WatchKey>) -> Result<(), CommitError> {
        Ok(())
    }
    pub async fn set_unlisted(&self, _keys: Vec<WatchKey>, _now: Timestamp) -> Result<(), CommitError> {
        Ok(())
    }
    pub async fn reconcile_listed(&self, _keys: Vec<WatchKey>, _now: Timestamp) -> Result<(), CommitError> {
        Ok(())
    }
}
