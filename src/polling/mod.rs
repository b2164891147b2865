//! Polls what is asked for: the supervisor keeps one project task for each project, which has one poller for each of its
//! unfinished watches.
//!
//! A project task owns everything of its project by value: watches, pollers, gate and health. Its loop takes messages,
//! decides, and starts what was decided. Requests and commits are tasks whose results are messages.

mod additions;
mod admission;
mod answers;
mod attention;
mod changes;
mod checkpoints;
mod concerns;
mod decisions;
mod discovery;
mod group_pages;
mod group_rounds;
mod groups;
mod key_checks;
mod messages;
mod project_changes;
mod project_discovery;
mod project_task;
mod reconcile;
mod requests;
mod runner;
mod source_retention;
mod supervisor;
mod task_state;
mod view;
mod watches;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::board::Board;
use crate::config::{DiscoveryRules, GroupSettings, PollSettings};
use crate::core::gate::RequestLimits;
use crate::random::RandomSource;
use crate::record::Recorder;
use crate::report::metrics::Metrics;

pub use supervisor::Supervisor;

/// What all project tasks use.
#[derive(Debug)]
pub struct PollingServices<F> {
    /// How answers are fetched.
    pub fetch: F,
    /// How changes are recorded.
    pub recorder: Recorder,
    /// Where views are published.
    pub board: Arc<Board>,
    /// The source of random numbers.
    pub random: RandomSource,
    /// What is measured.
    pub metrics: Metrics,
    /// The runtime for requests and decisions.
    pub polling: Handle,
    /// The runtime for what may take long: rendering and recording.
    pub background: Handle,
}

/// The settings of polling; a reload replaces the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct PollingSettings {
    /// How often to poll and what to report.
    pub poll: PollSettings,
    /// How much each project may ask.
    pub limits: RequestLimits,
    /// The configured projects, and how often the key of each was replaced.
    pub projects: BTreeMap<Arc<str>, u64>,
    /// The rules of discovery, by project. Projects without rules are absent.
    pub discovery: DiscoveryRules,
    /// Which watches form a group, and when it is complete.
    pub groups: GroupSettings,
    /// How long a finished watch stays that only the HTTP API or discovery asks for.
    pub retention: Duration,
}
