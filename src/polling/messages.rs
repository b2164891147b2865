//! The messages of a project task: results of its requests and jobs, and changes of its watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::DropGuard;

use super::watches::{GroupNumber, WatchNumber, Watches};
use crate::core::answer::{Answer, ProjectAnswer};
use crate::core::discovery::{Discovery, FoundOperation, ObjectKey};
use crate::core::gate::Pass;
use crate::core::group::{GroupId, GroupRecord};
use crate::core::poller::{PendingDecision, PendingPoll};
use crate::core::project_health::{AnswerScope, DiscoveryEvidence, ProjectHealth};
use crate::core::source::{Source, Terms};
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::store::{CommitError, StoreReadError};

/// The result of a job: a commit or a load.
#[derive(Debug)]
pub(super) enum JobResult {
    /// A change of a watch.
    Watch {
        number: WatchNumber,
        decided: Box<PendingDecision>,
        result: Result<(), CommitError>,
    },
    /// A change of the project, and the poll that caused it.
    Project {
        health: Box<ProjectHealth>,
        cause: Option<(PollResult, AnswerScope)>,
        result: Result<(), CommitError>,
    },
    /// A group that completed a round.
    Group {
        number: GroupNumber,
        id: GroupId,
        record: GroupRecord,
        result: Result<(), CommitError>,
    },
    Loaded(LoadedChunk),
    Departed(DepartedChunk),
    /// The retention of these watches has passed for sources other than the watch list.
    Expired(Vec<ExpiredEntry>),
    /// The discovery of the project, as it was recorded.
    DiscoveryLoaded(Result<Box<Discovery>, StoreReadError>),
    /// What discovery found.
    Discovered(RecordedDiscovery),
    Checkpointed {
        numbers: Vec<WatchNumber>,
        result: Result<(), CommitError>,
    },
}

/// The result of loading watches.
#[derive(Debug)]
pub(super) struct LoadedChunk(pub Result<HashMap<WatchKey, Watch>, LoadError>);

/// The result of recording what discovery found.
#[derive(Debug)]
pub(super) struct RecordedDiscovery {
    pub installations: Vec<Arc<str>>,
    pub found: Vec<RecordedOperation>,
    pub result: Result<(), CommitError>,
}

/// An operation that discovery asks for, as it is recorded.
#[derive(Debug)]
pub(super) struct RecordedOperation {
    pub operation: Arc<str>,
    pub key: ObjectKey,
    pub terms: Arc<Terms>,
    /// Whether it was found now. Otherwise only its terms are others.
    pub is_new: bool,
}

impl RecordedOperation {
    /// An operation that was found.
    pub fn new(found: FoundOperation) -> Self {
        Self::of(found, true)
    }

    /// An operation that was found before.
    pub fn known(found: FoundOperation) -> Self {
        Self::of(found, false)
    }

    fn of(found: FoundOperation, is_new: bool) -> Self {
        let FoundOperation {
            operation,
            key,
            labels,
            deadline,
        } = found;
        Self {
            operation,
            key,
            terms: Arc::new(Terms { labels, deadline }),
            is_new,
        }
    }

    /// Whether it is watched on other terms of discovery, and unfinished: a finished watch may be about to leave.
    pub fn changes_terms(&self, watches: &Watches) -> bool {
        let number = watches.find(&self.operation);
        let slot = number.and_then(|number| watches.get(number));
        slot.is_some_and(|slot| {
            let before = slot.watched.demand.terms_of(Source::Discovery);
            !slot.watched.watch.phase().is_finished() && before.is_some_and(|before| *before != self.terms)
        })
    }
}

/// What a source asked for beyond retention.
#[derive(Debug)]
pub(super) struct ExpiredEntry {
    pub id: Arc<str>,
    pub source: Source,
    /// The terms at that time. Other terms are from a later request.
    pub terms: Arc<Terms>,
}

/// The result of recording removed watches.
#[derive(Debug)]
pub(super) struct DepartedChunk {
    pub numbers: Vec<WatchNumber>,
    pub result: Result<(), CommitError>,
}

/// Why watches could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read the state")]
    Read(#[from] StoreReadError),
    #[error("cannot write the state")]
    Write(#[from] CommitError),
}

/// An answer to a poll.
#[derive(Debug)]
pub(super) struct PollResult {
    pub number: WatchNumber,
    pub answer: Box<Answer>,
    pub poll: PendingPoll,
    pub pass: Pass,
}

/// A message that waits until a change of the project is recorded.
#[derive(Debug)]
pub(super) enum Deferred {
    PollAnswered(PollResult),
    Change(ProjectChange),
}

/// A change of the project that no poll causes.
#[derive(Debug)]
pub(super) enum ProjectChange {
    /// The API answered whether the project exists.
    ExistenceAnswered(ProjectAnswer),
    /// A request other than a poll was throttled, with this time to wait and a reason.
    Throttled(Option<Duration>, Option<String>),
    /// The probe of this operation ended without an answer.
    ProbeLost(Arc<str>),
    /// The API refuses every operation repeatedly, and there are several.
    AllRefused,
    /// No operation is polled anymore.
    NoWatches,
    /// A request of discovery was answered.
    Discovered(DiscoveryEvidence, Pass),
}

/// The input of a decision about a watch.
pub(super) enum Observation {
    Answer(Box<Answer>, PendingPoll),
    /// Time has passed without an answer.
    Time,
}

/// A change of what one source asks for, for one project.
#[derive(Debug)]
pub(super) struct DesiredChange {
    pub source: Source,
    /// Watches that are added, or have new terms.
    pub set: Vec<(Arc<str>, Arc<Terms>)>,
    /// Watches that the source no longer asks for.
    pub withdrawn: Vec<Arc<str>>,
    /// The number of watches that this change and the ones with it add. It determines the window of first polls.
    pub added_total: usize,
    /// The generation of the watch list, with the last part of its difference.
    pub generation: Option<u64>,
    /// Dropped when the change was applied.
    pub applied: Option<Arc<DropGuard>>,
}
