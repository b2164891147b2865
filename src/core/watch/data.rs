//! What is known of the operation, for events, pages and the HTTP API.

use std::time::Duration;

use jiff::Timestamp;

use super::Watch;
use crate::core::event::{Event, OperationData, ProgressData};
use crate::core::installation::InstallationPath;
use crate::core::phase::Phase;
use crate::core::wall_time::WallTime;
use crate::core::watch_list::{Labels, WatchKey};

/// After this many polls in a row without the operation, its rate and estimated end are out of date.
const STALE_AFTER: u8 = 2;

impl Watch {
    /// The installation ID, if it is known.
    #[must_use]
    pub fn installation(&self) -> Option<&str> {
        known(&self.details.as_deref()?.installation_id)
    }

    /// The integration ID, if it is known.
    #[must_use]
    pub fn integration(&self) -> Option<&str> {
        known(&self.details.as_deref()?.kind.integration_id)
    }

    /// The IDs under which the API serves the operation's installation, if they are known.
    #[must_use]
    pub fn installation_path(&self) -> Option<InstallationPath> {
        let installation = self.installation()?.to_owned();
        let integration = self.integration()?.to_owned();
        Some(InstallationPath {
            integration,
            installation,
        })
    }

    /// When the operation was created, if it is known.
    pub(super) fn create_time(&self) -> Option<Timestamp> {
        self.details.as_deref()?.create_time
    }

    /// When the operation started: when it was created, or first seen. One that finished without an answer started when it
    /// was first watched.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        let watched_since = || self.end()?.checked_sub(self.watched.get()).ok();
        self.seen().or_else(watched_since)
    }

    /// When the operation was created, or first seen.
    fn seen(&self) -> Option<Timestamp> {
        self.create_time().or(self.first_seen.get())
    }

    /// The objects that the operation reads, as far as they are known.
    #[must_use]
    pub fn objects(&self) -> &[String] {
        self.details
            .as_deref()
            .map_or(&[], |details| &details.kind.objects)
    }

    /// When the end of a finished watch was observed.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.last_poll.get().filter(|_| self.phase.is_finished())
    }

    /// Whether the operation was created before `time`, and its first answer showed that it was finished.
    #[must_use]
    pub fn was_finished_before(&self, time: Timestamp) -> bool {
        let created = self.create_time();
        let was_answered_once = self.first_seen != WallTime::NONE && self.first_seen == self.last_answer;
        let has_ended = matches!(self.phase, Phase::Succeeded | Phase::Failed | Phase::Ended);
        has_ended && was_answered_once && created.is_some_and(|created| created < time)
    }

    /// The result of a finished operation, if the API gave one.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        self.details.as_deref()?.result.as_deref()
    }

    /// The API's status, verbatim.
    #[must_use]
    pub fn status_text(&self) -> Option<&str> {
        Some(self.details.as_deref()?.status.as_str())
    }

    /// The last count of records.
    #[must_use]
    pub fn records_processed(&self) -> Option<u64> {
        self.progress.records_processed()
    }

    /// How long a finished operation ran, as in its ending event.
    #[must_use]
    pub fn total_seconds(&self) -> Option<f64> {
        self.end().map(|end| self.duration_seconds(end))
    }

    /// How long the operation has run: since `createTime`, but at least since it was first watched.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        let since = self
            .create_time()
            .and_then(|created| Duration::try_from(now.duration_since(created)).ok());
        since.unwrap_or_default().max(self.watched.get())
    }

    /// Seconds from `createTime` to `now`; without it, from when the operation was first seen or first watched.
    pub(super) fn duration_seconds(&self, now: Timestamp) -> f64 {
        let seconds = match self.seen() {
            Some(begin) => now.duration_since(begin).as_secs_f64(),
            None => self.watched.get().as_secs_f64(),
        };
        (seconds.max(0.0) * 1000.0).round() / 1000.0
    }

    /// Progress as of the last poll, which was at `now`.
    #[must_use]
    pub fn progress(&self, now: Timestamp) -> Option<ProgressData> {
        let mut data = self.progress.data(now, self.phase)?;
        if self.phase == Phase::Stalled || self.unanswered >= STALE_AFTER {
            data.records_per_second = None;
            data.estimated_end_time = None;
        }
        Some(data)
    }

    /// Data of the operation as of the last poll, which was at `now`, for events, pages and the HTTP API.
    #[must_use]
    pub fn data(&self, key: &WatchKey, labels: &Labels, now: Timestamp) -> OperationData {
        let details = self.details.as_deref();
        let project_id = details.and_then(|details| known(&details.kind.project_id));
        OperationData {
            project: key.project.to_string(),
            project_id: project_id.map(str::to_owned),
            operation_id: key.operation.to_string(),
            installation_id: self.installation().map(str::to_owned),
            integration_id: self.integration().map(str::to_owned),
            objects: self.objects().to_vec(),
            status: self.status_text().map(str::to_owned),
            previous_status: None,
            phase: self.phase.as_str(),
            sequence: self.sequence,
            progress: self.progress(now),
            labels: Event::labels(labels),
            create_time: self.create_time(),
            deadline: None,
            observed_time: self.last_answer(),
            retry: None,
            since: None,
            reason: None,
            result: self.result().map(str::to_owned),
            duration_seconds: None,
            logs: Vec::new(),
            health_status: None,
            connection_status: None,
        }
    }
}

fn known(id: &str) -> Option<&str> {
    (!id.is_empty()).then_some(id)
}
