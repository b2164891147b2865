//! Answers queries about the watches, and tracks changes while a reader has asked for them.

use std::sync::Arc;

use super::project_task::ProjectTask;
use super::watches::{Slot, WatchNumber};
use crate::ampersand::Fetch;
use crate::board::{FilteredWatch, PAGE, Page, ProjectQuery, WatchChanges, WatchFilter, WatchView};

/// The most removals that are kept for a reader. Only a rewritten list removes more between two queries, a second apart.
const REMOVALS: usize = 10_000;

impl<F: Fetch> ProjectTask<F> {
    /// Answers a query. A reader that has gone needs no answer.
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
            ProjectQuery::Groups {
                after,
                filter,
                limit,
                reply,
            } => {
                let _ = reply.send(self.group_page(after.as_deref(), &filter, limit.min(PAGE)));
            }
            ProjectQuery::One { operation, reply } => {
                let _ = reply.send(self.listed(&operation).map(|slot| self.view_of(slot)));
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

    /// The watch of this operation, unless it was removed.
    fn listed(&self, operation: &str) -> Option<&Slot> {
        let slot = self.watches.get(self.watches.find(operation)?)?;
        (!slot.poller.is_leaving()).then_some(slot)
    }

    /// The next matching watches. At most [`PAGE`] are examined, so that no poll is delayed.
    fn page(&self, after: Option<&Arc<str>>, filter: &WatchFilter, limit: usize) -> Page<WatchView> {
        let mut page = Page::default();
        for (examined, slot) in self.watches.after(after).enumerate() {
            if examined == PAGE || page.items.len() == limit {
                return page;
            }
            page.next = Some(Arc::clone(&slot.watched.id));
            let filtered = FilteredWatch {
                project: &self.name,
                operation: &slot.watched.id,
                labels: &slot.watched.demand.terms().labels,
                watch: &slot.watched.watch,
            };
            if !slot.poller.is_leaving() && filter.matches(&filtered, self.groups.by()) {
                page.items.push(self.view_of(slot));
            }
        }
        page.next = None;
        page
    }

    fn view_of(&self, slot: &Slot) -> WatchView {
        WatchView {
            key: self.key(&slot.watched.id),
            demand: slot.watched.demand.clone(),
            watch: slot.watched.watch.clone(),
        }
    }

    /// Adds a watch that is new or has changed.
    pub(super) fn note_change(&mut self, number: WatchNumber) {
        self.note_concerns(number);
        self.note_announcement(number);
    }

    /// Adds a watch to the changes for the reader.
    pub(super) fn note_announcement(&mut self, number: WatchNumber) {
        if let Some(changes) = &mut self.changes
            && let Some(slot) = self.watches.get_mut(number)
            && !std::mem::replace(&mut slot.watched.is_announced, true)
        {
            changes.changed.push_back(number);
        }
    }

    /// Adds a watch that was removed.
    pub(super) fn note_removal(&mut self, number: WatchNumber, id: &Arc<str>) {
        self.concerns.remove(number);
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
            if self.listed(&id).is_none() {
                taken.removed.push(self.key(&id));
            }
        }
        self.changes = Some(log);
        taken
    }
}
