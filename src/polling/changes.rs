//! Answers questions about the watches, and keeps track of what changed while a reader wants to know.

use std::collections::VecDeque;
use std::sync::Arc;

use super::project_task::ProjectTask;
use super::watches::{Number, Slot};
use crate::ampersand::Fetch;
use crate::board::{PAGE, ProjectQuery, WatchChanges, WatchFilter, WatchPage, WatchView};

/// Removals that a reader has not asked for are kept up to this number: more than any but a rewritten list brings within
/// the second between two questions.
const REMOVALS: usize = 10_000;

/// What changed since it was asked for last.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    changed: VecDeque<Number>,
    removed: VecDeque<Arc<str>>,
}

impl<F: Fetch> ProjectTask<F> {
    /// Answers a question. A reader that has gone needs no answer.
    pub(super) fn answer_question(&mut self, question: ProjectQuery) {
        match question {
            ProjectQuery::Page {
                after,
                filter,
                limit,
                reply,
            } => {
                let _ = reply.send(self.page(after.as_ref(), &filter, limit.min(PAGE)));
            }
            ProjectQuery::One { operation, reply } => {
                let slot = self
                    .watches
                    .find(&operation)
                    .and_then(|number| self.watches.get(number));
                let slot = slot.filter(|slot| !slot.poller.is_leaving());
                let _ = reply.send(slot.map(|slot| self.view_of(slot)));
            }
            ProjectQuery::Changes { limit, reply } => {
                let _ = reply.send(self.take_changes(limit.min(PAGE)));
            }
            ProjectQuery::Key { reply } => self.check_key(reply),
            ProjectQuery::StartChanges { reply } => {
                self.changes.get_or_insert_default();
                let _ = reply.send(());
            }
            ProjectQuery::StopChanges => {
                for number in self.changes.take().unwrap_or_default().changed {
                    if let Some(slot) = self.watches.get_mut(number) {
                        slot.watched.is_announced = false;
                    }
                }
            }
        }
    }

    /// The next watches that are wanted. At most [`PAGE`] are examined, so that no poll is late by it.
    fn page(&self, after: Option<&Arc<str>>, filter: &WatchFilter, limit: usize) -> WatchPage {
        let mut page = WatchPage::default();
        for (examined, slot) in self.watches.after(after).enumerate() {
            if examined == PAGE || page.watches.len() == limit {
                return page;
            }
            page.next = Some(Arc::clone(&slot.watched.id));
            if !slot.poller.is_leaving() && filter.matches(&slot.watched.watch, &slot.watched.labels) {
                page.watches.push(self.view_of(slot));
            }
        }
        page.next = None;
        page
    }

    fn view_of(&self, slot: &Slot) -> WatchView {
        WatchView {
            key: self.key(&slot.watched.id),
            labels: Arc::clone(&slot.watched.labels),
            watch: slot.watched.watch.clone(),
        }
    }

    /// A watch is new or has changed.
    pub(super) fn note_change(&mut self, number: Number) {
        if let Some(changes) = &mut self.changes
            && let Some(slot) = self.watches.get_mut(number)
            && !std::mem::replace(&mut slot.watched.is_announced, true)
        {
            changes.changed.push_back(number);
        }
    }

    /// A watch is no longer there.
    pub(super) fn note_removal(&mut self, id: &Arc<str>) {
        if let Some(changes) = &mut self.changes {
            if changes.removed.len() == REMOVALS {
                changes.removed.pop_front();
            }
            changes.removed.push_back(Arc::clone(id));
        }
    }

    fn take_changes(&mut self, limit: usize) -> WatchChanges {
        let mut taken = WatchChanges::default();
        let mut log = self.changes.take().unwrap_or_default();
        while taken.changed.len() < limit
            && let Some(number) = log.changed.pop_front()
        {
            if let Some(slot) = self.watches.get_mut(number)
                && std::mem::take(&mut slot.watched.is_announced)
                && !slot.poller.is_leaving()
                && let Some(slot) = self.watches.get(number)
            {
                taken.changed.push(self.view_of(slot));
            }
        }
        for id in log.removed.drain(..) {
            let number = self.watches.find(&id);
            let slot = number.and_then(|number| self.watches.get(number));
            if slot.is_none_or(|slot| slot.poller.is_leaving()) {
                taken.removed.push(self.key(&id));
            }
        }
        self.changes = Some(log);
        taken
    }
}
