//! The discovery of one project: its rounds, its requests, and what is not recorded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::messages::{JobResult, RecordedDiscovery, RecordedOperation};
use crate::board::DiscoveryView;
use crate::core::discovery::{Discovery, DiscoveryRequest, StoredInstallation};
use crate::core::gate::Ticket;
use crate::core::project_health::Moment;
use crate::core::source::Source;
use crate::core::watch_list::WatchKey;
use crate::store::{SourceEntry, Store};

/// The number of changed installations that are recorded at once.
const CHUNK: usize = 500;

/// The number of a request of discovery.
pub(super) type RequestNumber = u32;

/// The discovery of a project, with its requests.
#[derive(Debug)]
pub(super) struct ProjectDiscovery {
    pub rounds: Discovery,
    pub requests: HashMap<RequestNumber, PendingRequest>,
    next_number: RequestNumber,
    /// What was found, or has other terms, and is not recorded.
    pub found: Vec<RecordedOperation>,
    pub is_recording: bool,
    /// How many found operations are being recorded.
    pub recording_found: usize,
    /// When something was recorded last.
    pub recorded: Duration,
    /// When recording is retried after a failure.
    pub retry: Option<Duration>,
    /// How many elements of the last list could not be used.
    pub unusable: usize,
    /// Whether it is logged that installations cannot be listed.
    pub has_logged_failure: bool,
    /// Whether it is logged that the names of integrations cannot be read.
    pub has_logged_unnamed: bool,
    /// When the installations were last listed.
    pub last_success: Option<Timestamp>,
    /// What was published last.
    pub published: DiscoveryView,
}

/// What is recorded in one transaction.
#[derive(Debug)]
pub(super) struct DiscoveryRecord {
    installations: Vec<(Arc<str>, Option<StoredInstallation>)>,
    found: Vec<RecordedOperation>,
}

/// A request that waits at the gate, or is in flight.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub request: DiscoveryRequest,
    /// `None` while it is in flight.
    pub ticket: Option<Ticket>,
    pub is_repeated: bool,
}

impl ProjectDiscovery {
    /// `first_number` must be higher than the numbers of requests that may still be queued or in flight.
    pub fn new(rounds: Discovery, first_number: RequestNumber) -> Self {
        Self {
            rounds,
            requests: HashMap::new(),
            next_number: first_number,
            unusable: 0,
            has_logged_failure: false,
            has_logged_unnamed: false,
            found: Vec::new(),
            is_recording: false,
            recording_found: 0,
            recorded: Duration::ZERO,
            retry: None,
            last_success: None,
            published: DiscoveryView::default(),
        }
    }

    /// The state that readers see. `is_settled`: whether everything that was recorded is watched.
    pub fn view(&self, is_settled: bool) -> DiscoveryView {
        let (installations, objects) = self.rounds.counts();
        DiscoveryView {
            installations,
            objects,
            last_success: self.last_success,
            failure: self.rounds.failure(),
            longest_pass: self.rounds.over_capacity(),
            unmatched_rules: self.rounds.unmatched_rules().collect(),
            has_completed_pass: is_settled
                && self.rounds.has_completed_pass()
                && self.found.is_empty()
                && self.recording_found == 0,
        }
    }

    /// Logs when lists begin to fail, or are read again.
    pub fn log_outcome(&mut self, project: &str, request: &DiscoveryRequest, failure: Option<&str>) {
        let has_logged = match request {
            DiscoveryRequest::Installations => &mut self.has_logged_failure,
            DiscoveryRequest::Integrations => &mut self.has_logged_unnamed,
            DiscoveryRequest::Backfill(_) | DiscoveryRequest::Operation(_) => return,
        };
        let had_logged = std::mem::replace(has_logged, failure.is_some());
        match (request, failure) {
            (DiscoveryRequest::Installations, Some(reason)) if !had_logged => tracing::warn!(
                project,
                reason,
                "installations cannot be listed; retrying; new backfills are not found"
            ),
            (DiscoveryRequest::Installations, None) if had_logged => {
                tracing::info!(project, "installations are listed again");
            }
            (DiscoveryRequest::Integrations, Some(reason)) if !had_logged => tracing::warn!(
                project,
                reason,
                "names of integrations cannot be read; retrying; rules match their IDs only"
            ),
            (DiscoveryRequest::Integrations, None) if had_logged => {
                tracing::info!(project, "names of integrations are read again");
            }
            _ => {}
        }
    }

    /// The number of the next request.
    pub fn next_number(&self) -> RequestNumber {
        self.next_number
    }

    /// Adds a request. `queue` may put its number into the gate's queue.
    pub fn insert(
        &mut self,
        request: DiscoveryRequest,
        queue: impl FnOnce(RequestNumber) -> Option<Ticket>,
    ) -> RequestNumber {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let pending = PendingRequest {
            request,
            ticket: queue(number),
            is_repeated: false,
        };
        self.requests.insert(number, pending);
        number
    }

    /// Takes everything that was found, and the next installations that changed. An installation that is recorded never
    /// names an operation that is neither recorded before nor with it.
    pub fn take_record(&mut self, now: Moment) -> DiscoveryRecord {
        let found = std::mem::take(&mut self.found);
        self.recording_found = found.len();
        DiscoveryRecord {
            installations: self.rounds.take_unrecorded(CHUNK, now),
            found,
        }
    }
}

impl DiscoveryRecord {
    /// Writes it.
    pub async fn write(self, store: Store, project: Arc<str>) -> JobResult {
        let entries = self.found.iter().map(|found| SourceEntry {
            key: WatchKey::of(&project, &found.operation),
            source: Source::Discovery,
            terms: Arc::clone(&found.terms),
        });
        let entries = entries.collect();
        let installations = self.installations.iter().map(|(id, _)| Arc::clone(id)).collect();
        let result = store.record_discovery(project, self.installations, entries).await;
        JobResult::Discovered(RecordedDiscovery {
            installations,
            found: self.found,
            result,
        })
    }
}
