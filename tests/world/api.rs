//! The scripted API.

use std::sync::Arc;
use std::time::Duration;

use backfill_watch::ampersand::Fetch;
use backfill_watch::core::answer::{
    Answer, Failure, FailureClass, InstallationAnswer, LogAnswer, ProjectAnswer,
};
use backfill_watch::core::discovery::{
    DiscoveryAnswer, DiscoveryReply, DiscoveryRequest, InstallationList, ListedInstallation, ListedObject,
    NamedOperation,
};
use backfill_watch::core::installation::{Installation, InstallationPath};
use backfill_watch::core::operation::{ActionType, Metadata, Operation, Progress, Retry, Status};
use backfill_watch::core::operation_log::LogSelection;
use backfill_watch::core::watch_list::WatchKey;
use jiff::Timestamp;

use crate::scenario::{ApiFault, Ending, OperationScript, PROJECTS, seconds};
use crate::world::{REQUEST_TIMEOUT, World, newest};

/// What an answer was, as far as the checks care.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Operation {
        status: String,
        count: Option<u64>,
        attempts: u64,
    },
    NotFound,
    Refused,
    Forbidden,
    Unauthorized,
    Throttled(Option<Duration>),
    Failed,
}

/// The API's status of an operation at that time; `None` where the API knows none.
pub fn status_at(course: &OperationScript, now: Duration) -> Option<&'static str> {
    if now < course.begin {
        return None;
    }
    if now < course.end || course.ending == Ending::NeverEnds {
        return Some(if now < course.queued_until {
            "queued"
        } else {
            "in_progress"
        });
    }
    match course.ending {
        Ending::Succeeds => Some("success"),
        Ending::Fails => Some("failure"),
        Ending::Pauses if now < course.end + seconds(600) => Some("paused"),
        Ending::Pauses => Some("success"),
        Ending::Vanishes | Ending::NeverEnds => None,
    }
}

fn count_at(course: &OperationScript, now: Duration) -> u64 {
    let mut worked = now.min(course.end).saturating_sub(course.begin);
    let mut lasts = course.end.saturating_sub(course.begin);
    let (from, still) = course.still;
    if from > course.begin && from < course.end {
        let paused = now.min(course.end).saturating_sub(from).min(still);
        worked = worked.saturating_sub(paused);
    }
    if let Some(retried) = course
        .retried
        .filter(|retried| *retried > course.begin && *retried <= now)
    {
        worked = now.min(course.end).saturating_sub(retried);
        lasts = lasts.saturating_sub(retried.saturating_sub(course.begin));
    }
    if lasts.is_zero() {
        return course.records;
    }
    (course.records as f64 * (worked.as_secs_f64() / lasts.as_secs_f64()).min(1.0)) as u64
}

fn operation_at(course: &OperationScript, now: Duration) -> Option<Operation> {
    let status = status_at(course, now)?;
    let retried = course
        .retried
        .is_some_and(|retried| retried > course.begin && retried <= now && retried < course.end);
    Some(Operation {
        project_id: Some("1".to_owned()),
        integration_id: Some("2".to_owned()),
        installation_id: Some("4".to_owned()),
        action_type: Some(ActionType::Read),
        create_time: course
            .created
            .map(|created| Timestamp::from_second(created).unwrap()),
        metadata: Some(Metadata {
            objects: None,
            retry: Some(Retry {
                attempts: Some(u64::from(retried)),
                ..Retry::default()
            }),
            progress: course.shows_count.then(|| Progress {
                records_processed: Some(count_at(course, now)),
                records_estimated_total: course.total,
                ..Progress::default()
            }),
        }),
        ..Operation::new(course.id.clone(), Status::from(status.to_owned()))
    })
}

fn kind_of(answer: &Answer) -> Kind {
    match answer {
        Answer::Operation(operation) => {
            let metadata = operation.metadata.as_ref();
            Kind::Operation {
                status: operation.status.as_str().to_owned(),
                count: metadata.and_then(|metadata| metadata.progress.as_ref()?.records_processed),
                attempts: metadata
                    .and_then(|metadata| metadata.retry.as_ref()?.attempts)
                    .unwrap_or(0),
            }
        }
        Answer::NotFound(_) => Kind::NotFound,
        Answer::Refused(_) => Kind::Refused,
        Answer::Forbidden(_) => Kind::Forbidden,
        Answer::Unauthorized(_) => Kind::Unauthorized,
        Answer::Throttled { wait, .. } => Kind::Throttled(*wait),
        Answer::Failed(_) | Answer::Unprocessed(_) => Kind::Failed,
    }
}

/// What the API answers under a fault.
fn answer_of(fault: ApiFault) -> Answer {
    let reason = "as the script wants it".to_owned();
    let class = match fault {
        ApiFault::NotFound | ApiFault::NotFoundOne(_) => return Answer::NotFound(reason),
        ApiFault::RefusedOne(_) => return Answer::Refused(reason),
        ApiFault::Forbidden | ApiFault::ForbiddenOne(_) => return Answer::Forbidden(reason),
        ApiFault::Unauthorized => return Answer::Unauthorized(reason),
        ApiFault::Throttled => return Answer::Throttled { wait: None, reason },
        ApiFault::ThrottledFor(wait) => {
            return Answer::Throttled {
                wait: Some(seconds(wait)),
                reason,
            };
        }
        ApiFault::Connect => FailureClass::Connect,
        ApiFault::Tls => FailureClass::Tls,
        ApiFault::Timeout => FailureClass::Timeout,
        ApiFault::Interrupted => FailureClass::Interrupted,
        ApiFault::Malformed => FailureClass::Malformed,
        ApiFault::TooLarge => FailureClass::TooLarge,
        ApiFault::Redirect => FailureClass::Redirect,
        ApiFault::ServerError | ApiFault::Slow | ApiFault::Panic => FailureClass::ServerError,
    };
    Answer::Failed(Failure { class, reason })
}

/// The true answer to a request of discovery.
fn discovery_answer(world: &World, project: usize, request: &DiscoveryRequest) -> DiscoveryReply {
    let (scenario, now) = (&world.scenario, world.now());
    let living = scenario.extras.installations.iter();
    let mut living = living.filter(|installation| installation.project == project && installation.lives(now));
    let answer = match request {
        DiscoveryRequest::Installations => {
            let installations = living.map(|installation| ListedInstallation {
                id: installation.id.clone(),
                integration: "integration-1".to_owned(),
                group: installation.group.clone(),
                objects: installation
                    .objects
                    .iter()
                    .map(|object| ListedObject {
                        name: object.name.clone(),
                        fingerprint: u64::from(object.changes.is_some_and(|at| at <= now)),
                    })
                    .collect(),
            });
            DiscoveryAnswer::Installations(InstallationList {
                installations: installations.collect(),
                ..InstallationList::default()
            })
        }
        DiscoveryRequest::Integrations => {
            DiscoveryAnswer::Integrations(vec![("integration-1".to_owned(), "crm".to_owned())])
        }
        DiscoveryRequest::Backfill(path) => {
            let installation = living.find(|installation| installation.id == *path.key.installation);
            let mut objects = installation.into_iter().flat_map(|found| &found.objects);
            let object = objects.find(|object| object.name == *path.key.object);
            let index = object.and_then(|object| newest(scenario, object, now));
            DiscoveryAnswer::Backfill(index.map(|index| {
                let operation = &scenario.operations[index];
                NamedOperation {
                    id: operation.id.clone(),
                    create_time: operation
                        .created
                        .map(|created| Timestamp::from_second(created).unwrap()),
                }
            }))
        }
        DiscoveryRequest::Operation(id) => {
            let course = scenario.operations.iter().find(|course| course.id == **id);
            return DiscoveryReply::Other(match course.and_then(|course| operation_at(course, now)) {
                Some(operation) => Answer::Operation(Box::new(operation)),
                None => Answer::NotFound("no such operation".to_owned()),
            });
        }
    };
    DiscoveryReply::Answered(answer)
}

/// A request of discovery under way, until it is answered or dropped.
struct DiscoveryUnderway<'a> {
    world: &'a World,
    project: usize,
    is_probe: bool,
    is_list: bool,
    kind: Option<Kind>,
}

impl Drop for DiscoveryUnderway<'_> {
    fn drop(&mut self) {
        let kind = self.kind.take();
        self.world
            .discovery_ends(self.project, self.is_probe, kind, self.is_list);
    }
}

/// The API as the pollers see it.
#[derive(Debug)]
pub struct Api(pub Arc<World>);

/// A poll under way, until it is answered or dropped.
struct Underway<'a> {
    world: &'a World,
    key: &'a WatchKey,
    number: Option<usize>,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.world.poll_dropped(self.key, number);
        }
    }
}

impl Fetch for Api {
    fn fetch(&self, key: &WatchKey) -> impl Future<Output = Answer> + Send {
        let key = key.clone();
        Box::pin(async move {
            let world = &*self.0;
            world.alive().await;
            let number = world.poll_starts(&key);
            let mut underway = Underway {
                world,
                key: &key,
                number: Some(number),
            };
            let (fault, mut latency) = world.api_draws(&key);
            if matches!(fault, Some(ApiFault::Timeout)) {
                latency = REQUEST_TIMEOUT;
            }
            tokio::time::sleep(latency).await;
            world.alive().await;
            let index = world.index_of(&key);
            let truth = || {
                let now = world.now();
                let course = index.map(|index| &world.scenario.operations[index]);
                match course.and_then(|course| operation_at(course, now)) {
                    Some(operation) => Answer::Operation(Box::new(operation)),
                    None => Answer::NotFound("no such operation".to_owned()),
                }
            };
            let answer = match fault {
                None | Some(ApiFault::Slow) => truth(),
                Some(ApiFault::Panic) => {
                    drop(underway);
                    world.note(|| format!("panic {key}"));
                    // Without a word of the panic hook.
                    std::panic::resume_unwind(Box::new("as the script wants it"))
                }
                Some(fault) => answer_of(fault),
            };
            underway.number = None;
            world.poll_ends(&key, number, kind_of(&answer));
            answer
        })
    }

    fn refresh_key(&self, project: &str) -> impl Future<Output = bool> + Send {
        let index = PROJECTS.iter().position(|name| *name == project);
        let refreshed = index.is_some_and(|index| self.0.probe_begins(index));
        std::future::ready(refreshed)
    }

    async fn last_lines(&self, _: &WatchKey, _: LogSelection) -> LogAnswer {
        tokio::time::sleep(self.0.log_latency()).await;
        LogAnswer::Found(Vec::new())
    }

    async fn installation(&self, _: &str, _: &InstallationPath) -> InstallationAnswer {
        tokio::time::sleep(self.0.log_latency()).await;
        InstallationAnswer::Found(Installation::default())
    }

    async fn discover(&self, project: &str, request: &DiscoveryRequest) -> DiscoveryReply {
        let world = &*self.0;
        world.alive().await;
        let project = PROJECTS.iter().position(|name| *name == project).unwrap();
        let mut underway = DiscoveryUnderway {
            world,
            project,
            is_probe: world.discovery_begins(project, request),
            is_list: matches!(
                request,
                DiscoveryRequest::Installations | DiscoveryRequest::Integrations
            ),
            kind: None,
        };
        let (fault, mut latency) = world.discovery_draws(project);
        if matches!(fault, Some(ApiFault::Timeout)) {
            latency = REQUEST_TIMEOUT;
        }
        tokio::time::sleep(latency).await;
        world.alive().await;
        let reply = match fault {
            None | Some(ApiFault::Slow | ApiFault::Panic) => discovery_answer(world, project, request),
            Some(ApiFault::NotFound) if matches!(request, DiscoveryRequest::Backfill(_)) => {
                DiscoveryReply::Answered(DiscoveryAnswer::Backfill(None))
            }
            Some(fault) => DiscoveryReply::Other(answer_of(fault)),
        };
        match &reply {
            DiscoveryReply::Answered(answer) => world.discovery_answered(project, request, answer),
            DiscoveryReply::Other(answer) => {
                world.note(|| format!("discovery answer {answer:?}"));
                underway.kind = Some(kind_of(answer));
            }
        }
        reply
    }

    async fn project_exists(&self, _: &str) -> ProjectAnswer {
        ProjectAnswer::Exists
    }
}
