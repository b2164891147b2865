//! Collects the attention list from the board, the endpoints, the watch list, the settings and the state.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::webhook::EndpointState;
use crate::board::{Board, DiscoveryView};
use crate::core::attention::{Attention, AttentionKind, api_unreachable, credentials_rejected, sort};
use crate::error::chain;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::{EndpointStats, Store};

/// The time limit for counting the outbox; without it there are no entries about endpoints.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often entries are collected without a request, so that each gets its start time.
const REFRESH: Duration = Duration::from_secs(10);

fn of_discovery(project: &str, discovery: &DiscoveryView, entries: &mut Vec<Attention>) {
    if let Some(failure) = &discovery.failure {
        let message = format!(
            "discovery fails: {}. New backfills are not found; those that were found are still polled.",
            failure.reason
        );
        let action = "check the network, the status of the API, and that the API key may read installations; it is retried automatically";
        let entry = Attention::new(AttentionKind::DiscoveryFailing, message, action);
        entries.push(entry.of_project(project).since(Some(failure.since)));
    }
    if let Some(pass) = discovery.longest_pass {
        let message = format!(
            "asking for all {} objects of {} installations takes {:.1} h, more than 12 h. Backfills that end and start again in \
             between are missed.",
            discovery.objects,
            discovery.installations,
            pass.as_secs_f64() / 3600.0
        );
        let action = "raise ampersand.max_requests_per_second, or narrow the rules of [[discover]]";
        let entry = Attention::new(AttentionKind::DiscoveryOverCapacity, message, action);
        entries.push(entry.of_project(project));
    }
    for rule in &discovery.unmatched_rules {
        let number = rule + 1;
        let message = format!(
            "rule {number} of [[discover]] for this project matches none of {} installations",
            discovery.installations
        );
        let action = "correct its integrations and groups, or remove it; `backfill-watch discover` shows what rules find";
        let entry = Attention::new(AttentionKind::DiscoveryMatchesNothing, message, action);
        entries.push(
            entry
                .of_project(project)
                .of_subject(format!("{project} rule {number}")),
        );
    }
}

/// The attention list: everything that is wrong now.
#[derive(Debug)]
pub struct AttentionList {
    board: Arc<Board>,
    list: watch::Receiver<Arc<WatchListSnapshot>>,
    store: Store,
    metrics: Metrics,
    state: Mutex<ListState>,
}

/// The state of the list itself: everything else is collected from its owners.
#[derive(Debug, Default)]
struct ListState {
    watch_list: PathBuf,
    settings_rejected: Option<(Timestamp, String)>,
    /// When an entry without a time of its own was first collected.
    seen: HashMap<(AttentionKind, Option<String>), Timestamp>,
}

impl AttentionList {
    /// A list that is collected from these.
    #[must_use]
    pub fn new(
        board: Arc<Board>,
        list: watch::Receiver<Arc<WatchListSnapshot>>,
        watch_list: PathBuf,
        store: Store,
        metrics: Metrics,
    ) -> Self {
        let state = ListState {
            watch_list,
            ..ListState::default()
        };
        Self {
            board,
            list,
            store,
            metrics,
            state: Mutex::new(state),
        }
    }

    /// Records that settings were applied, with this watch list.
    pub fn settings_applied(&self, watch_list: PathBuf) {
        let mut state = self.state();
        state.watch_list = watch_list;
        state.settings_rejected = None;
    }

    /// Records that settings were rejected.
    pub fn settings_rejected(&self, reason: String) {
        let now = self.store.now();
        let mut state = self.state();
        let since = state.settings_rejected.as_ref().map_or(now, |(since, _)| *since);
        state.settings_rejected = Some((since, reason));
    }

    /// The watch list, if the file has been missing since the start. That is no problem: a program may write it later.
    #[must_use]
    pub fn awaited_watch_list(&self) -> Option<PathBuf> {
        let is_awaited = self.list.borrow().is_awaited();
        is_awaited.then(|| self.state().watch_list.clone())
    }

    /// Collects the entries regularly, so that each gets its start time.
    pub async fn collect_regularly(&self) {
        loop {
            let _ = self.entries().await;
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// The current entries: errors first, then newest first.
    pub async fn entries(&self) -> Vec<Attention> {
        let mut entries = Vec::new();
        let now = self.store.now();
        for view in self.board.projects() {
            let failure = view.api.last_failure.as_deref();
            let unreachable = view.api.unreachable;
            entries.extend(unreachable.map(|since| api_unreachable(&view.name, since, failure)));
            let rejected = view.api.rejected;
            entries.extend(rejected.map(|since| credentials_rejected(&view.name, since, failure)));
            let can_poll = unreachable.is_none() && rejected.is_none();
            entries.extend(view.attention.entries(&view.name, can_poll, now));
            if let Some(discovery) = &view.discovery {
                of_discovery(&view.name, discovery, &mut entries);
            }
        }
        match tokio::time::timeout(STORE_TIMEOUT, self.store.endpoint_stats()).await {
            Ok(Ok(endpoints)) => endpoints
                .iter()
                .for_each(|endpoint| self.of_endpoint(endpoint, &mut entries)),
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "cannot read the outbox"),
            Err(_) => tracing::debug!("cannot read the outbox in time"),
        }
        self.of_state(&mut entries);
        self.of_watch_list(&mut entries);
        if let Some((since, reason)) = &self.state().settings_rejected {
            let message = format!("settings not applied: {reason}. The previous settings stay active.");
            let action = "fix the settings and reload; `backfill-watch check` shows all problems";
            entries
                .push(Attention::new(AttentionKind::SettingsRejected, message, action).since(Some(*since)));
        }
        self.date(&mut entries);
        sort(&mut entries);
        entries
    }

    fn of_endpoint(&self, endpoint: &EndpointStats, entries: &mut Vec<Attention>) {
        let name = &*endpoint.name;
        let error = endpoint.last_error.as_deref().unwrap_or("no answer");
        let mut add = |kind, message: String, action: &str| {
            entries.push(Attention::new(kind, message, action).of_subject(name));
        };
        match self.metrics.endpoint_state(name) {
            Some(EndpointState::Probing) => add(
                AttentionKind::EndpointFailing,
                format!(
                    "webhook \"{name}\" fails: {error}. {} events wait.",
                    endpoint.backlog
                ),
                "check the receiver; one waiting event is sent as a probe until it succeeds",
            ),
            Some(EndpointState::Disabled) => add(
                AttentionKind::EndpointDisabled,
                format!("webhook \"{name}\" answered 410 Gone; sending stops until the next reload"),
                "correct its url, or remove the webhook from the settings; then reload",
            ),
            Some(EndpointState::Open | EndpointState::Paused) | None => {}
        }
        if self.metrics.lacks_secret(name) {
            add(
                AttentionKind::EndpointWithoutSecret,
                format!("webhook \"{name}\" has no readable secret; nothing is sent to it"),
                "write a secret into its secret file; it is read again automatically",
            );
        }
        if endpoint.dead_letters > 0 {
            add(
                AttentionKind::DeadLetters,
                format!(
                    "{} events for webhook \"{name}\" are dead letters: {error}",
                    endpoint.dead_letters
                ),
                "fix the receiver, then run `backfill-watch replay --dead-letters`",
            );
        }
    }

    fn of_state(&self, entries: &mut Vec<Attention>) {
        let health = self.store.health();
        if let Some(what) = health.removed {
            let message =
                format!("the state was removed or replaced while in use: {what}. Nothing is recorded.");
            let action = "restore the files, or restart the daemon to start with the files that are there";
            entries.push(Attention::new(AttentionKind::StateRemoved, message, action));
        } else if let Some(reason) = health.unwritable {
            let message = format!("the state cannot be written: {reason}. Events wait; nothing is lost.");
            let action = "free disk space or fix the permissions of state_dir; it is retried every second";
            entries.push(Attention::new(AttentionKind::StateNotWritable, message, action));
        }
        if health.damaged_rows > 0 {
            let message = format!(
                "{} damaged rows of the state were set aside; the log names each",
                health.damaged_rows
            );
            let action = "check the disk; restore a backup if you need these rows";
            entries.push(Attention::new(AttentionKind::StateDamaged, message, action));
        }
    }

    fn of_watch_list(&self, entries: &mut Vec<Attention>) {
        let list = self.list.borrow().clone();
        let file = self.state().watch_list.display().to_string();
        let mut add = |kind, since, message, action: &str| {
            let entry = Attention::new(kind, message, action);
            entries.push(entry.of_subject(file.clone()).since(since));
        };
        if let Some(problem) = list.problem.as_deref().filter(|_| !list.is_awaited()) {
            add(
                AttentionKind::WatchListUnreadable,
                None,
                format!(
                    "the watch list cannot be used: {}. The last good list stays active.",
                    chain(problem)
                ),
                "fix the file; it is read again automatically",
            );
        } else if let Some(file) = list.file().filter(|file| file.rejected_total > 0) {
            add(
                AttentionKind::WatchListRejectedLines,
                None,
                format!("{} and skipped", file.rejected_text()),
                "run `backfill-watch check` to see each line and its error",
            );
        }
        if let Some(removal) = list.pending_removal {
            add(
                AttentionKind::WatchListShrunk,
                Some(removal.since),
                format!(
                    "the watch list lost nearly all entries; {} will be removed soon",
                    removal.entries
                ),
                "restore the file; to remove them at once, run `backfill-watch reload` or send SIGHUP",
            );
        }
    }

    /// Sets the start time of entries without one to when they were first collected.
    fn date(&self, entries: &mut [Attention]) {
        let now = self.store.now();
        let mut state = self.state();
        let before = std::mem::take(&mut state.seen);
        for entry in entries.iter_mut().filter(|entry| entry.since.is_none()) {
            let key = (entry.kind, entry.subject.clone());
            let since = before.get(&key).copied().unwrap_or(now);
            entry.since = Some(since);
            state.seen.insert(key, since);
        }
    }

    fn state(&self) -> MutexGuard<'_, ListState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
