//! One round of the discovery of one project, which changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::row::{Row, Verdict};
use crate::ampersand::{ApiKey, Client};
use crate::cli::output;
use crate::cli::requests::Requests;
use crate::clock;
use crate::core::answer::Answer;
use crate::core::discovery::{
    Discovery, DiscoveryAnswer, DiscoveryReply, DiscoveryRequest, DiscoveryRule, FoundOperation,
    NamedOperation, ObjectKey,
};
use crate::core::project_health::Moment;

/// After so many failures in a row the API counts as unreachable.
const MAX_FAILURES: u32 = 3;
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The project and the API.
#[derive(Debug)]
pub(in crate::cli) struct SearchTarget<'a> {
    pub client: Client,
    pub project: &'a str,
    pub api_key: ApiKey,
    pub max_requests_per_second: f64,
    /// The statuses that count as running, besides `in_progress`.
    pub active_statuses: &'a [String],
}

/// One round.
#[derive(Debug)]
pub(in crate::cli) struct Search<'a> {
    target: SearchTarget<'a>,
    requests: Requests,
    discovery: Discovery,
    /// The start. Time does not pass within a round, so that no other round starts.
    now: Moment,
    /// The first request after those for lists.
    next: Option<DiscoveryRequest>,
    /// Group and integration of each installation.
    installations: HashMap<String, (String, String)>,
    /// The names of integrations by ID.
    names: HashMap<String, String>,
    /// Installations and objects that cannot be used.
    unusable: usize,
    /// The operations that were named.
    named: HashSet<String>,
    /// Objects whose operation has to be polled.
    pending: HashMap<Arc<str>, Row>,
    rows: Vec<Row>,
    failures: u32,
    reported: Instant,
}

impl<'a> Search<'a> {
    pub(in crate::cli) fn new(target: SearchTarget<'a>, rules: Arc<[DiscoveryRule]>) -> Self {
        Self {
            requests: Requests::new(target.max_requests_per_second),
            target,
            discovery: Discovery::new(rules),
            now: Moment {
                wall: clock::wall(),
                steady: Duration::ZERO,
            },
            next: None,
            installations: HashMap::new(),
            names: HashMap::new(),
            unusable: 0,
            named: HashSet::new(),
            pending: HashMap::new(),
            rows: Vec::new(),
            failures: 0,
            reported: clock::instant(),
        }
    }

    /// The discovery, with what is known so far.
    pub(in crate::cli) fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// How many installations and objects cannot be used.
    pub(in crate::cli) fn unusable(&self) -> usize {
        self.unusable
    }

    /// Requests the lists of installations and integrations.
    ///
    /// # Errors
    /// When the API does not return the list of installations.
    pub(in crate::cli) async fn list(&mut self) -> Result<(), Answer> {
        while let Some(request) = self.next_request() {
            match request {
                DiscoveryRequest::Installations => {
                    let reply = self.send("read the list of installations", &request).await?;
                    self.note_installations(&reply);
                    self.apply(&request, reply);
                }
                DiscoveryRequest::Integrations => {
                    match self.send("read the names of the integrations", &request).await {
                        Ok(reply) => {
                            self.note_names(&reply);
                            self.apply(&request, reply);
                        }
                        Err(answer @ Answer::Unauthorized(_)) => return Err(answer),
                        Err(answer) => {
                            output::notice(&format!(
                                "warning: the names of the integrations are unknown, so only their IDs are matched: {}",
                                answer.reason().unwrap_or_default()
                            ));
                            self.apply(&request, DiscoveryReply::Other(answer));
                        }
                    }
                }
                DiscoveryRequest::Backfill(_) | DiscoveryRequest::Operation(_) => {
                    self.next = Some(request);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Requests the backfill of each object. Returns what was found, in the order of groups.
    ///
    /// # Errors
    /// When the API cannot be reached, or rejects the key.
    pub(super) async fn find(mut self) -> Result<Vec<Row>, Answer> {
        while let Some(request) = self.next.take().or_else(|| self.next_request()) {
            self.report_progress();
            let reply = match self.send("read a backfill", &request).await {
                Ok(reply) => {
                    self.failures = 0;
                    reply
                }
                Err(answer) => {
                    self.failures += 1;
                    if matches!(answer, Answer::Unauthorized(_)) || self.failures == MAX_FAILURES {
                        return Err(answer);
                    }
                    DiscoveryReply::Other(answer)
                }
            };
            self.note(&request, reply);
        }
        self.rows.sort_by(|one, other| one.key().cmp(&other.key()));
        Ok(self.rows)
    }

    fn next_request(&mut self) -> Option<DiscoveryRequest> {
        while self.discovery.has_incoming() {
            let _ = self.discovery.take_in(self.now, false);
        }
        self.discovery.next_request(self.now, 0.0)
    }

    async fn send(&mut self, what: &str, request: &DiscoveryRequest) -> Result<DiscoveryReply, Answer> {
        let SearchTarget {
            client,
            project,
            api_key,
            ..
        } = &self.target;
        let is_operation = matches!(request, DiscoveryRequest::Operation(_));
        let send = || async {
            match client.discover(project, request, api_key).await {
                DiscoveryReply::Other(Answer::NotFound(reason)) if is_operation => {
                    Ok(DiscoveryReply::Other(Answer::NotFound(reason)))
                }
                DiscoveryReply::Other(answer) if !answer.is_operation() => Err(answer),
                reply => Ok(reply),
            }
        };
        self.requests.send(what, send).await
    }

    fn apply(&mut self, request: &DiscoveryRequest, reply: DiscoveryReply) -> Option<FoundOperation> {
        let answer = reply.into_answer(request, self.target.active_statuses);
        self.discovery.answered(request, answer, self.now)
    }

    fn note_installations(&mut self, reply: &DiscoveryReply) {
        if let DiscoveryReply::Answered(DiscoveryAnswer::Installations(list)) = reply {
            self.unusable = list.unusable;
            self.installations = list
                .installations
                .iter()
                .map(|listed| {
                    let group = listed.group.clone().unwrap_or_else(|| listed.id.clone());
                    (listed.id.clone(), (group, listed.integration.clone()))
                })
                .collect();
        }
    }

    fn note_names(&mut self, reply: &DiscoveryReply) {
        if let DiscoveryReply::Answered(DiscoveryAnswer::Integrations(names)) = reply {
            self.names = names.iter().cloned().collect();
        }
    }

    /// Applies the reply about one object, and notes its row.
    fn note(&mut self, request: &DiscoveryRequest, reply: DiscoveryReply) {
        let failure = reply.failure().map(str::to_owned);
        let named = match &reply {
            DiscoveryReply::Answered(DiscoveryAnswer::Backfill(named)) => named.clone(),
            _ => None,
        };
        let is_answered = matches!(&reply, DiscoveryReply::Answered(_))
            || matches!(
                &reply,
                DiscoveryReply::Other(Answer::Operation(_) | Answer::NotFound(_))
            );
        let found = self.apply(request, reply);
        match request {
            DiscoveryRequest::Backfill(path) => {
                let row = self.row(&path.key, named.as_ref());
                match (named, found) {
                    (_, Some(found)) => self.add_found(row, Verdict::New, found),
                    (None, None) if is_answered => self.add(row, Verdict::NoBackfill, None),
                    (None, None) => self.add(row, Verdict::NoAnswer, failure),
                    (Some(named), None) if self.named.contains(&named.id) => {
                        self.add(row, Verdict::Duplicate, None);
                    }
                    (Some(named), None) => {
                        self.named.insert(named.id.clone());
                        self.pending.insert(named.id.into(), row);
                    }
                }
            }
            DiscoveryRequest::Operation(operation) => {
                if let Some(row) = self.pending.remove(operation) {
                    match found {
                        Some(found) => self.add_found(row, Verdict::Running, found),
                        None if is_answered => self.add(row, Verdict::Old, None),
                        None => self.add(row, Verdict::NoAnswer, failure),
                    }
                }
            }
            DiscoveryRequest::Installations | DiscoveryRequest::Integrations => {}
        }
    }

    fn row(&self, key: &ObjectKey, named: Option<&NamedOperation>) -> Row {
        let (group, integration) = self
            .installations
            .get(&*key.installation)
            .cloned()
            .unwrap_or_default();
        Row {
            project: self.target.project.to_owned(),
            group,
            object: key.object.to_string(),
            installation_id: key.installation.to_string(),
            integration: self.names.get(&integration).cloned().unwrap_or(integration),
            verdict: Verdict::NoBackfill,
            operation_id: named.map(|named| named.id.clone()),
            create_time: named.and_then(|named| named.create_time),
            reason: None,
            labels: Vec::new(),
            deadline: None,
        }
    }

    fn add(&mut self, row: Row, verdict: Verdict, reason: Option<String>) {
        self.rows.push(Row {
            verdict,
            reason,
            ..row
        });
    }

    fn add_found(&mut self, row: Row, verdict: Verdict, found: FoundOperation) {
        self.named.insert(found.operation.to_string());
        self.rows.push(Row {
            verdict,
            labels: found.labels,
            deadline: found.deadline,
            ..row
        });
    }

    fn report_progress(&mut self) {
        let now = clock::instant();
        if now.saturating_duration_since(self.reported) >= REPORT_EVERY {
            self.reported = now;
            let (_, objects) = self.discovery.counts();
            output::notice(&format!(
                "project {}: {} of {objects} objects done",
                self.target.project,
                self.rows.len()
            ));
        }
    }
}
