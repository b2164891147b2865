//! Collects the attention list from the board, the endpoints, the watch list, the settings, the state and the log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::log;
use super::metrics::Metrics;
use super::webhook::EndpointState;
use crate::board::{Board, DiscoveryView, ProjectView};
use crate::core::attention::{
    Attention, AttentionKind, ConcernedEndpoint, DropLog, SecretChange, Severity, UnreadableSecret,
    UnreadableSecrets, api_unreachable, credentials_rejected, discovery_failure, discovery_matches_nothing,
    discovery_over_capacity, settings_rejected, sort, state_damaged, state_not_writable, state_removed,
    watch_list_rejected_lines, watch_list_shrunk, watch_list_unreadable,
};
use crate::error::chain;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::{EndpointStats, Store};

/// The time limit for counting the outbox. After it, the figures from before are used.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often entries are collected without a request, so that each gets its start time.
const REFRESH: Duration = Duration::from_secs(10);

/// The attention list: everything that is wrong now.
#[derive(Debug)]
pub struct AttentionList {
    board: Arc<Board>,
    list: watch::Receiver<Arc<WatchListSnapshot>>,
    store: Store,
    metrics: Metrics,
    state: Mutex<ListState>,
    /// The errors when the entries were collected last.
    errors: AtomicUsize,
}

/// The state of the list itself: everything else is collected from its owners.
#[derive(Debug, Default)]
struct ListState {
    watch_list: PathBuf,
    settings_rejected: Option<(Timestamp, String)>,
    secrets: UnreadableSecrets,
    drops: DropLog,
    /// The endpoints as they were counted last.
    endpoints: Arc<[EndpointStats]>,
    /// When an entry without a time of its own was first collected.
    seen: HashMap<EntryKey, Timestamp>,
}

/// Kind, project and subject of an entry.
type EntryKey = (AttentionKind, Option<String>, Option<String>);

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
            errors: AtomicUsize::new(0),
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

    /// Records which secrets cannot be read, after all were read. Returns the changes.
    pub fn secrets_read(&self, unreadable: Vec<UnreadableSecret>) -> Vec<SecretChange> {
        let now = self.store.now();
        self.state().secrets.observe(unreadable, now)
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
        let endpoints = self.count_outbox().await;
        let now = self.store.now();
        let mut entries = Vec::new();
        for view in self.board.projects() {
            of_project(&view, now, &mut entries);
        }
        for endpoint in endpoints.iter() {
            entries.extend(self.of_endpoint(endpoint));
        }
        entries.extend(self.of_state());
        entries.extend(self.of_watch_list());
        {
            let mut state = self.state();
            let rejected = state.settings_rejected.as_ref();
            entries.extend(rejected.map(|(since, reason)| settings_rejected(reason, *since)));
            entries.extend(state.secrets.entries());
            entries.extend(state.drops.observe(log::lines_dropped(), now));
        }
        self.date(&mut entries, now);
        sort(&mut entries);
        let errors = entries.iter().filter(|entry| entry.severity == Severity::Error);
        self.errors.store(errors.count(), Ordering::Relaxed);
        entries
    }

    /// The number of errors when the entries were collected last.
    #[must_use]
    pub fn last_errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }

    /// Counts the outbox. While the state is slow, an entry must not end.
    async fn count_outbox(&self) -> Arc<[EndpointStats]> {
        match tokio::time::timeout(STORE_TIMEOUT, self.store.endpoint_stats()).await {
            Ok(Ok(endpoints)) => self.state().endpoints = endpoints.into(),
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "cannot read the outbox"),
            Err(_) => tracing::debug!("cannot read the outbox in time"),
        }
        Arc::clone(&self.state().endpoints)
    }

    fn of_endpoint(&self, endpoint: &EndpointStats) -> Vec<Attention> {
        let name = &*endpoint.name;
        ConcernedEndpoint {
            name,
            failing_since: self.metrics.endpoint_failing_since(name),
            is_disabled: self.metrics.endpoint_state(name) == Some(EndpointState::Disabled),
            lacks_secret: self.metrics.lacks_secret(name),
            backlog: endpoint.backlog,
            dead_letters: endpoint.dead_letters,
            dead_letters_since: endpoint.oldest_dead_letter,
            last_error: endpoint.last_error.as_deref(),
            last_error_time: endpoint.last_error_time,
        }
        .entries()
    }

    fn of_state(&self) -> impl Iterator<Item = Attention> {
        let health = self.store.health();
        let removed = health.removed.as_ref();
        let removed = removed.map(|removed| state_removed(&removed.reason, Some(removed.since)));
        // A state that was removed cannot be written either.
        let unwritable = health.unwritable.as_ref().filter(|_| removed.is_none());
        let unwritable = unwritable.map(|reason| state_not_writable(&reason.reason, Some(reason.since)));
        let damaged = state_damaged(health.damaged_rows, health.damaged_since);
        removed.into_iter().chain(unwritable).chain(damaged)
    }

    fn of_watch_list(&self) -> impl Iterator<Item = Attention> {
        let list = self.list.borrow().clone();
        let path = self.state().watch_list.display().to_string();
        let problem = list.problem.as_deref().filter(|_| !list.is_awaited());
        let problem = problem.map(|problem| watch_list_unreadable(&chain(problem)).since(list.problem_since));
        let rejected = list
            .file()
            .filter(|file| file.rejected_total > 0 && problem.is_none());
        let rejected = rejected.map(|file| {
            let entry = watch_list_rejected_lines(&file.rejected_text().to_string());
            entry.since(list.rejected_since)
        });
        let removal = list.pending_removal;
        let shrunk = removal.map(|removal| watch_list_shrunk(removal.entries, removal.since));
        let all = problem.into_iter().chain(rejected).chain(shrunk);
        all.map(move |entry| entry.of_subject(path.clone()))
    }

    /// Sets the start time of entries without one to when they were first collected.
    fn date(&self, entries: &mut [Attention], now: Timestamp) {
        let mut state = self.state();
        let before = std::mem::take(&mut state.seen);
        for entry in entries.iter_mut().filter(|entry| entry.since.is_none()) {
            let key = (entry.kind, entry.project.clone(), entry.subject.clone());
            let since = before.get(&key).copied().unwrap_or(now);
            entry.since = Some(since);
            state.seen.insert(key, since);
        }
    }

    fn state(&self) -> MutexGuard<'_, ListState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_project(view: &ProjectView, now: Timestamp, entries: &mut Vec<Attention>) {
    let (unreachable, rejected) = (view.api.unreachable, view.api.rejected);
    let outage = view.api.outage.as_ref();
    entries.extend(unreachable.map(|since| api_unreachable(&view.name, since, outage)));
    let rejection = view.api.rejection.as_deref();
    entries.extend(rejected.map(|since| credentials_rejected(&view.name, since, rejection)));
    let can_poll = unreachable.is_none() && rejected.is_none();
    entries.extend(view.attention.entries(&view.name, can_poll, now));
    if let Some(discovery) = &view.discovery {
        let of_discovery = of_discovery(&view.name, discovery)
            .filter(|entry| can_poll || !entry.kind.is_explained_by_outage());
        entries.extend(of_discovery.map(|entry| entry.of_project(&view.name)));
    }
}

fn of_discovery(project: &str, discovery: &DiscoveryView) -> impl Iterator<Item = Attention> {
    let failing = discovery.failure.as_ref().map(discovery_failure);
    let (objects, installations) = (discovery.objects, discovery.installations);
    let longest = discovery.longest_pass;
    let over_capacity = longest.map(|pass| discovery_over_capacity(objects, installations, pass));
    let unmatched = discovery.unmatched_rules.iter();
    let unmatched = unmatched.map(move |rule| discovery_matches_nothing(project, *rule, installations));
    failing.into_iter().chain(over_capacity).chain(unmatched)
}

#[cfg(test)]
mod tests;
