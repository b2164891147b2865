//! Keeps the task of one project running: starts it, sends it the watch list, and restarts it after a panic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::messages::DesiredChange;
use super::project_task::{ProjectTask, TaskChannels};
use super::requests::panic_message;
use super::{PollingServices, PollingSettings};
use crate::ampersand::Fetch;
use crate::board::{ProjectHandle, ProjectView};
use crate::core::watch_list::{Entry, WatchList};

/// The parts of a list that may be queued. The task takes one faster than the next is made.
const PARTS: usize = 4;
/// The most watches in one part. More would delay polls.
const PART: usize = 1_000;
/// The queries that may be queued: about one for each connection.
const QUESTIONS: usize = 64;
/// The longest wait before a restart.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The current watch list with its generation. `None` before the first.
pub(super) type DesiredList = Option<(u64, Arc<WatchList>)>;

/// Runs one project.
pub(super) struct Runner<F> {
    pub name: Arc<str>,
    pub services: Arc<PollingServices<F>>,
    pub desired: watch::Receiver<DesiredList>,
    pub settings: watch::Receiver<Arc<PollingSettings>>,
    pub cancel: CancellationToken,
}

impl<F: Fetch> Runner<F> {
    /// Runs the project until `cancel`.
    pub async fn run(mut self) {
        let mut failures: u32 = 0;
        let view = watch::Sender::new(ProjectView::new(
            Arc::clone(&self.name),
            self.settings.borrow().limits,
        ));
        while let Err(panic) = self.run_task(&view).await {
            failures = failures.saturating_add(1);
            let wait = Duration::from_secs(1 << failures.min(6)).min(LONGEST_WAIT);
            tracing::error!(
                project = &*self.name,
                panic,
                restart_in_seconds = wait.as_secs_f64(),
                "project task panicked; it restarts from its recorded state; this is a bug, please report it"
            );
            self.services.metrics.count_poller_restart();
            view.send_modify(|view| view.restarts += 1);
            let pause = tokio::time::sleep(wait);
            if self.cancel.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        self.services.board.detach(&self.name);
    }

    /// Runs the task once.
    ///
    /// # Errors
    /// The message of its panic.
    async fn run_task(&mut self, view: &watch::Sender<ProjectView>) -> Result<(), String> {
        let (list, list_inlet) = mpsc::channel(PARTS);
        let (questions, questions_inlet) = mpsc::channel(QUESTIONS);
        view.send_modify(|view| view.generation = None);
        let channels = TaskChannels {
            list: list_inlet,
            questions: questions_inlet,
            settings: self.settings.clone(),
            view: view.clone(),
        };
        let port = ProjectHandle {
            view: view.subscribe(),
            questions,
        };
        self.services.board.attach(Arc::clone(&self.name), port);
        let mut task = JoinSet::new();
        let cancel = self.cancel.child_token();
        task.spawn_on(
            ProjectTask::run(
                Arc::clone(&self.name),
                Arc::clone(&self.services),
                channels,
                cancel,
            ),
            &self.services.polling,
        );
        // A new task receives the whole list.
        self.desired.mark_changed();
        let mut handed = None;
        loop {
            tokio::select! {
                biased;
                joined = task.join_next() => return match joined {
                    Some(Err(error)) => Err(error
                        .try_into_panic()
                        .map_or_else(|error| error.to_string(), |panic| panic_message(&*panic))),
                    Some(Ok(())) | None => Ok(()),
                },
                changed = self.desired.changed(), if !self.cancel.is_cancelled() => {
                    let desired = self.desired.borrow_and_update().clone();
                    if changed.is_ok() && let Some((generation, desired)) = desired {
                        let before = handed.replace(Arc::clone(&desired));
                        // Fails only when the task has ended.
                        tokio::select! {
                            biased;
                            () = self.cancel.cancelled() => {}
                            _ = send_difference(&self.name, generation, before.as_deref(), &desired, &list) => {}
                        }
                    }
                }
            }
        }
    }
}

/// Sends the difference between two lists, in parts.
async fn send_difference(
    name: &Arc<str>,
    generation: u64,
    before: Option<&WatchList>,
    after: &WatchList,
    list: &mpsc::Sender<DesiredChange>,
) -> Result<(), mpsc::error::SendError<DesiredChange>> {
    let mut difference = difference(name, before.map_or(&[], |before| &before.entries), &after.entries);
    let added_total = difference.added.len();
    loop {
        let part = DesiredChange {
            generation,
            added: take(&mut difference.added),
            removed: take(&mut difference.removed),
            relabelled: take(&mut difference.relabelled),
            added_total,
            is_last: difference.added.is_empty()
                && difference.removed.is_empty()
                && difference.relabelled.is_empty(),
        };
        let is_last = part.is_last;
        list.send(part).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Takes the last [`PART`] elements. Their order does not matter.
fn take<T>(elements: &mut Vec<T>) -> Vec<T> {
    elements.split_off(elements.len().saturating_sub(PART))
}

/// The difference for one project. Most changes concern a few of many lines, so equal ends are skipped.
fn difference(name: &Arc<str>, before: &[Entry], after: &[Entry]) -> DesiredChange {
    let is_same = |(before, after): &(&Entry, &Entry)| before == after;
    let start = before.iter().zip(after).take_while(is_same).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(is_same)
        .count();
    let is_of_project = |entry: &&Entry| Arc::ptr_eq(&entry.key.project, name) || entry.key.project == *name;
    let before = before[..before.len() - end].iter().filter(is_of_project);
    let mut gone: HashMap<&Arc<str>, &Entry> = before.map(|entry| (&entry.key.operation, entry)).collect();
    let mut change = DesiredChange::default();
    for entry in after[..after.len() - end].iter().filter(is_of_project) {
        let wanted = (Arc::clone(&entry.key.operation), Arc::clone(&entry.labels));
        match gone.remove(&entry.key.operation) {
            None => change.added.push(wanted),
            Some(before) if before.labels != entry.labels => change.relabelled.push(wanted),
            Some(_) => {}
        }
    }
    change.removed = gone.into_keys().cloned().collect();
    // The order of a map is random.
    change.removed.sort_unstable();
    change
}
