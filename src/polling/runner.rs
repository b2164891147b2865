//! Keeps the task of one project running: starts it, sends it what the sources ask for, and restarts it after a panic.

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
use crate::core::source::Source;
use crate::core::watch_list::{WatchList, difference};

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
    /// What is asked for over HTTP.
    pub api: mpsc::Receiver<DesiredChange>,
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
            let panic = &*self.services.fetch.mask(&self.name, &panic);
            let wait = Duration::from_secs(1 << failures.min(6)).min(LONGEST_WAIT);
            tracing::error!(
                project = &*self.name,
                panic,
                restart_in_seconds = wait.as_secs_f64(),
                "project task panicked; it restarts from its recorded state; this is a bug, please report it"
            );
            self.services.metrics.count_poller_restart();
            let now = self.services.recorder.now();
            view.send_modify(|view| view.attention.restarts.add(None, panic, now));
            self.services.board.announce();
            if !self.pause(wait).await {
                break;
            }
        }
        self.services.board.detach(&self.name);
    }

    /// Waits before a restart. Returns false when cancelled.
    async fn pause(&mut self, wait: Duration) -> bool {
        let mut pause = std::pin::pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return false,
                () = &mut pause => return true,
                // The next task reads the change from the state.
                Some(_) = self.api.recv() => {}
            }
        }
    }

    /// Runs the task once.
    ///
    /// # Errors
    /// The message of its panic.
    async fn run_task(&mut self, view: &watch::Sender<ProjectView>) -> Result<(), String> {
        let (desired, desired_inlet) = mpsc::channel(PARTS);
        let (questions, questions_inlet) = mpsc::channel(QUESTIONS);
        view.send_modify(|view| view.generation = None);
        let channels = TaskChannels {
            desired: desired_inlet,
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
                    let list = self.desired.borrow_and_update().clone();
                    if changed.is_ok() && let Some((generation, list)) = list {
                        let before = handed.replace(Arc::clone(&list));
                        // Fails only when the task has ended.
                        tokio::select! {
                            biased;
                            () = self.cancel.cancelled() => {}
                            _ = send_difference(&self.name, generation, before.as_deref(), &list, &desired) => {}
                        }
                    }
                }
                Some(change) = self.api.recv(), if !self.cancel.is_cancelled() => {
                    // Fails only when the task has ended; the next one reads the change from the state.
                    tokio::select! {
                        biased;
                        () = self.cancel.cancelled() => {}
                        _ = desired.send(change) => {}
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
    inlet: &mpsc::Sender<DesiredChange>,
) -> Result<(), mpsc::error::SendError<DesiredChange>> {
    let mut difference = difference(name, before.map_or(&[], |before| &before.entries), &after.entries);
    let added_total = difference.added;
    loop {
        let (set, withdrawn) = (take(&mut difference.set), take(&mut difference.withdrawn));
        let is_last = difference.set.is_empty() && difference.withdrawn.is_empty();
        inlet
            .send(DesiredChange {
                source: Source::File,
                set,
                withdrawn,
                added_total,
                generation: is_last.then_some(generation),
                applied: None,
            })
            .await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Takes the last [`PART`] elements. Their order does not matter.
fn take<T>(elements: &mut Vec<T>) -> Vec<T> {
    elements.split_off(elements.len().saturating_sub(PART))
}
