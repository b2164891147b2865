//! Watches that are asked for over HTTP.

use std::sync::Arc;

use tokio_util::sync::DropGuard;

use crate::core::source::Terms;
use crate::core::watch_list::WatchKey;

/// A change of what is asked for over HTTP. It is committed already.
#[derive(Debug)]
pub struct ApiChange {
    /// Watches that are added, or have new terms.
    pub set: Vec<(WatchKey, Arc<Terms>)>,
    /// Watches that are withdrawn.
    pub withdrawn: Vec<WatchKey>,
    /// Dropped when the change was applied, or when its project restarts and reads it from the state.
    pub applied: Arc<DropGuard>,
}
