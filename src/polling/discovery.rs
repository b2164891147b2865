//! Runs the discovery of a project: its requests pass the gate in the background, what is found is recorded and then watched.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::PollingServices;
use super::messages::{JobResult, ProjectChange, RecordedDiscovery, RecordedOperation};
use super::project_discovery::{ProjectDiscovery, RequestNumber};
use super::project_task::{ProjectTask, STORE_RETRY};
use super::requests::{RequestAnswer, RequestOutcome, Requester};
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::board::DiscoveryView;
use crate::core::discovery::{Discovery, DiscoveryAnswer, DiscoveryReply, DiscoveryRequest, DiscoveryRule};
use crate::core::gate::{Pass, Priority};
use crate::core::source::Source;
use crate::error::chain;
use crate::store::StoreReadError;

/// How often it is recorded when objects were asked for, if nothing else changed.
const CHECKPOINT: Duration = Duration::from_mins(1);
/// Discovery has at most this share of the requests in flight, so that slow lists leave places for polls.
const SHARE: usize = 4;

/// Sends a request of discovery.
pub(super) async fn send_discovery_request<F: Fetch>(
    services: Arc<PollingServices<F>>,
    project: Arc<str>,
    request: DiscoveryRequest,
    pass: Pass,
) -> RequestAnswer {
    if pass == Pass::Probe && services.fetch.refresh_key(&project).await {
        tracing::info!(project = &*project, "the API key was replaced");
    }
    let reply = services.fetch.discover(&project, &request).await;
    services.metrics.count_discovery_request(&reply);
    if let Some(reason) = reply.failure() {
        tracing::debug!(project = &*project, reason, request = ?request, "discovery request failed");
    }
    RequestAnswer::Discovery(Box::new(reply))
}

impl<F: Fetch> ProjectTask<F> {
    /// Takes in lists, queues requests and records what was found. Returns when to run again.
    pub(super) fn discover(&mut self, now: Duration) -> Option<Duration> {
        let moment = self.moment();
        let most = (self.gate.limits().concurrent / SHARE).max(1);
        let discovery = self.discovery.as_mut()?;
        if discovery.rounds.has_incoming() {
            let taken = discovery.rounds.take_in(moment, self.reconciliation.is_settled());
            let watches = &self.watches;
            let changed = taken.known.into_iter().map(RecordedOperation::known);
            discovery
                .found
                .extend(changed.filter(|known| known.changes_terms(watches)));
            if let Some(change) = taken.change
                && (change.added > 0 || change.removed > 0)
            {
                let (installations, objects) = discovery.rounds.counts();
                tracing::info!(
                    project = &*self.name,
                    added = change.added,
                    removed = change.removed,
                    installations,
                    objects,
                    "installations changed"
                );
            }
            if discovery.rounds.has_incoming() {
                return Some(now);
            }
        }
        while discovery.requests.len() < most {
            let random_fraction = self.services.random.fraction();
            let Some(request) = discovery.rounds.next_request(moment, random_fraction) else {
                break;
            };
            discovery.insert(request, |number| {
                let requester = Requester::Discovery(number);
                Some(self.gate.join_with(Priority::Background, requester, now))
            });
        }
        let due = (discovery.requests.len() < most).then(|| {
            // Times before the start of the task are due.
            let due = discovery.rounds.next_due(moment).max(SignedDuration::ZERO);
            Duration::try_from(due).unwrap_or(Duration::MAX)
        });
        let retry = self.record_discovery(now);
        due.into_iter().chain(retry).min()
    }

    /// Sends the list of installations as the probe of the credentials, when there is no watch to poll.
    pub(super) fn probe_by_discovery(&mut self, now: Duration) {
        let moment = self.moment();
        let Some(discovery) = &mut self.discovery else {
            return;
        };
        let queued = discovery.requests.iter_mut().find(|(_, pending)| {
            pending.request == DiscoveryRequest::Installations && pending.ticket.is_some()
        });
        let number = match queued {
            Some((number, pending)) => {
                if let Some(ticket) = pending.ticket.take() {
                    self.gate.leave(ticket);
                }
                *number
            }
            None => {
                let random_fraction = self.services.random.fraction();
                let Some(request) = discovery.rounds.probe(moment, random_fraction) else {
                    return;
                };
                discovery.insert(request, |_| None)
            }
        };
        self.gate.start_probe(now);
        self.start_discovery_request(number, Pass::Probe, now);
    }

    /// Starts a request that the gate admitted.
    pub(super) fn start_discovery_request(&mut self, number: RequestNumber, pass: Pass, now: Duration) {
        let pending = self
            .discovery
            .as_mut()
            .and_then(|discovery| discovery.requests.get_mut(&number));
        let Some(pending) = pending else {
            // The rules were removed while it was queued.
            self.gate.release(pass, now);
            return;
        };
        pending.ticket = None;
        let (services, name) = (Arc::clone(&self.services), Arc::clone(&self.name));
        let sending = send_discovery_request(services, name, pending.request.clone(), pass);
        self.requests
            .start(Requester::Discovery(number), pass, now, sending);
    }

    /// Handles the end of a request.
    pub(super) fn discovery_request_ended(
        &mut self,
        number: RequestNumber,
        pass: Pass,
        outcome: RequestOutcome,
    ) {
        let (now, moment) = (self.now(), self.moment());
        let Some(discovery) = &mut self.discovery else {
            return;
        };
        let Some(mut pending) = discovery.requests.remove(&number) else {
            return;
        };
        let reply = match outcome {
            RequestOutcome::Answered(RequestAnswer::Discovery(reply)) => *reply,
            RequestOutcome::Panicked(panic) => {
                tracing::error!(
                    project = &*self.name,
                    panic,
                    "discovery request panicked; this is a bug, please report it"
                );
                DiscoveryReply::Answered(DiscoveryAnswer::Failed("the request panicked".into()))
            }
            _ => DiscoveryReply::Answered(DiscoveryAnswer::Failed("the request was canceled".into())),
        };
        if reply.is_unprocessed() && pass == Pass::Turn && !std::mem::replace(&mut pending.is_repeated, true)
        {
            pending.ticket = Some(self.gate.join_front(Requester::Discovery(number), now));
            discovery.requests.insert(number, pending);
            return;
        }
        let reply = reply.of_repeated();
        let request = pending.request;
        discovery.log_outcome(&self.name, &request, reply.failure());
        if let Some(reason) = reply.failure() {
            let reason: Arc<str> = reason.into();
            self.channels.view.send_if_modified(|view| {
                view.api.last_failure = Some(reason);
                false
            });
        } else if request == DiscoveryRequest::Installations {
            discovery.last_success = Some(moment.wall);
        }
        if let DiscoveryReply::Answered(DiscoveryAnswer::Installations(list)) = &reply
            && std::mem::replace(&mut discovery.unusable, list.unusable) != list.unusable
            && list.unusable > 0
        {
            tracing::warn!(
                project = &*self.name,
                unusable = list.unusable,
                installations = list.installations.len(),
                "parts of the list of installations cannot be used and are ignored"
            );
        }
        let evidence = reply.evidence(&request);
        let answer = reply.into_answer(&request, &self.settings.poll.watch.active_statuses);
        let found = discovery.rounds.answered(&request, answer, moment);
        discovery.found.extend(found.map(RecordedOperation::new));
        self.change_project(ProjectChange::Discovered(evidence, pass));
    }

    /// Records what was found and what changed. Returns when to retry after a failure.
    fn record_discovery(&mut self, now: Duration) -> Option<Duration> {
        let moment = self.moment();
        let discovery = self.discovery.as_mut()?;
        if discovery.is_recording || (discovery.found.is_empty() && !discovery.rounds.has_unrecorded()) {
            return None;
        }
        let due = match discovery.retry {
            Some(retry) => retry,
            None if discovery.found.is_empty() && !discovery.rounds.has_unrecorded_objects() => {
                discovery.recorded.saturating_add(CHECKPOINT)
            }
            None => now,
        };
        if due > now {
            return Some(due);
        }
        discovery.is_recording = true;
        discovery.recorded = now;
        let record = discovery.take_record(moment);
        let (store, name) = (self.services.recorder.store().clone(), Arc::clone(&self.name));
        self.jobs
            .spawn_on(record.write(store, name), &self.services.background);
        None
    }

    /// Watches what was found, after it was recorded.
    pub(super) fn discovery_recorded(&mut self, recorded: RecordedDiscovery) {
        let now = self.now();
        let RecordedDiscovery {
            installations,
            found,
            result,
        } = recorded;
        if let Some(discovery) = &mut self.discovery {
            discovery.is_recording = false;
            discovery.recording_found = 0;
            discovery.retry = None;
            if let Err(error) = &result {
                tracing::debug!(
                    project = &*self.name,
                    error = chain(error),
                    "what discovery found is not recorded; retrying"
                );
                discovery.retry = Some(now + STORE_RETRY);
                discovery.rounds.put_back_unrecorded(installations);
                discovery.found.extend(found);
                return;
            }
        }
        if result.is_err() {
            return;
        }
        self.reconciliation.added_total = found.iter().filter(|found| found.is_new).count();
        for found in found {
            let (installation, object) = (&*found.key.installation, &*found.key.object);
            if found.is_new {
                tracing::info!(
                    project = &*self.name,
                    operation_id = &*found.operation,
                    installation_id = installation,
                    object,
                    "backfill found"
                );
                self.services.metrics.count_discovered();
            } else if !found.changes_terms(&self.watches) {
                continue;
            }
            self.set(found.operation, Source::Discovery, found.terms);
        }
    }

    /// Whether an operation was found and is not watched yet, or discovery is still being loaded.
    pub(super) fn is_recording_found(&self) -> bool {
        match &self.discovery {
            Some(discovery) => !discovery.found.is_empty() || discovery.recording_found > 0,
            None => self.settings.discovery.contains_key(&self.name),
        }
    }

    /// Records what was found and all installations that changed, at a stop.
    pub(super) fn record_discovery_at_stop(&mut self) {
        let moment = self.moment();
        // While a record is being written, it is unknown whether later ones may follow it. Little is lost then.
        let Some(discovery) = self
            .discovery
            .as_mut()
            .filter(|discovery| !discovery.is_recording)
        else {
            return;
        };
        let mut records = Vec::new();
        while !discovery.found.is_empty() || discovery.rounds.has_unrecorded() {
            records.push(discovery.take_record(moment));
        }
        let (store, name) = (self.services.recorder.store().clone(), Arc::clone(&self.name));
        for record in records {
            self.jobs.spawn_on(
                record.write(store.clone(), Arc::clone(&name)),
                &self.services.background,
            );
        }
    }

    /// A watched operation has finished: its object may have a newer backfill soon.
    pub(super) fn discovery_operation_finished(&mut self, number: WatchNumber) {
        let moment = self.moment();
        if let Some(discovery) = &mut self.discovery
            && let Some(slot) = self.watches.get(number)
        {
            discovery.rounds.operation_finished(&slot.watched.id, moment);
        }
    }

    /// Applies changed rules.
    pub(super) fn apply_discovery_rules(&mut self) {
        let rules = self.settings.discovery.get(&self.name);
        match (rules, &mut self.discovery) {
            (Some(rules), Some(discovery)) => discovery.rounds.set_rules(rules),
            (None, None) => {}
            (None, Some(discovery)) => {
                self.first_discovery_request = discovery.next_number();
                self.discovery = None;
            }
            (Some(rules), None) => self.load_discovery(Arc::clone(rules)),
        }
    }

    /// Reads the installations that were recorded, in the background, because there may be many. Then discovery starts.
    fn load_discovery(&mut self, rules: Arc<[DiscoveryRule]>) {
        let (moment, store) = (self.moment(), self.services.recorder.store().clone());
        let name = Arc::clone(&self.name);
        let loading = async move {
            let loaded = store.load_installations(name).await;
            if loaded.is_err() {
                tokio::time::sleep(STORE_RETRY).await;
            }
            JobResult::DiscoveryLoaded(loaded.map(|stored| {
                let mut rounds = Discovery::new(rules);
                for (id, installation) in stored {
                    rounds.restore(id, installation, moment);
                }
                Box::new(rounds)
            }))
        };
        self.jobs.spawn_on(loading, &self.services.background);
    }

    /// Starts discovery from what was recorded, unless the rules were removed in between.
    pub(super) fn discovery_loaded(&mut self, loaded: Result<Box<Discovery>, StoreReadError>) {
        match loaded {
            Ok(rounds) => {
                if self.settings.discovery.contains_key(&self.name) && self.discovery.is_none() {
                    let first = self.first_discovery_request;
                    self.discovery = Some(ProjectDiscovery::new(*rounds, first));
                }
            }
            Err(error) => tracing::debug!(
                project = &*self.name,
                error = chain(&error),
                "known installations cannot be read; retrying"
            ),
        }
        self.apply_discovery_rules();
    }

    /// Updates the state of discovery that readers see, and logs when objects cannot be read.
    pub(super) fn update_discovery_view(&mut self) {
        let Some(discovery) = &mut self.discovery else {
            return;
        };
        let view = discovery.view(self.reconciliation.is_settled());
        if view == discovery.published {
            return;
        }
        let unreadable = |view: &DiscoveryView| {
            let failure = view.failure.clone()?;
            Some((failure.objects?, failure.reason))
        };
        match (unreadable(&discovery.published), unreadable(&view)) {
            (None, Some((objects, reason))) => tracing::warn!(
                project = &*self.name,
                unreadable = objects.count,
                objects = objects.total,
                installation_id = &*objects.example.installation,
                object = &*objects.example.object,
                reason = &*reason,
                "objects cannot be read; retrying; their new backfills are not found"
            ),
            (Some(_), None) if view.failure.is_none() => {
                tracing::info!(project = &*self.name, "all objects are read again");
            }
            _ => {}
        }
        discovery.published = view;
        self.is_view_changed = true;
    }
}
