//! Ends what the HTTP API and discovery ask for, `retention` after a watch has finished.

use std::ops::Range;
use std::sync::Arc;

use super::messages::{ExpiredEntry, JobResult};
use super::project_task::ProjectTask;
use super::watches::WatchNumber;
use crate::ampersand::Fetch;
use crate::core::source::Source;
use crate::core::watch_list::WatchKey;
use crate::error::chain;

impl<F: Fetch> ProjectTask<F> {
    /// Removes the entries of watches in `range` that finished `retention` ago. An entry that was put again later stays.
    pub(super) fn expire_source_entries(&mut self, range: Range<WatchNumber>) {
        let now = self.moment().wall;
        let Ok(older_than) = now.checked_sub(self.settings.retention) else {
            return;
        };
        let mut expired = Vec::new();
        for number in range {
            let Some(slot) = self.watches.get(number) else {
                continue;
            };
            let watched = &slot.watched;
            // A round that is not complete needs the results of its watches.
            let is_counted = watched
                .group
                .zip(watched.watch.membership())
                .is_some_and(|(group, membership)| self.groups.is_open(group, membership));
            let is_due = watched.watch.phase().is_finished()
                && !slot.poller.is_leaving()
                && !is_counted
                && watched.watch.last_poll().is_some_and(|end| end <= older_than);
            if !is_due {
                continue;
            }
            for source in [Source::Api, Source::Discovery] {
                if let Some(terms) = watched.demand.terms_of(source) {
                    expired.push(ExpiredEntry {
                        id: Arc::clone(&watched.id),
                        source,
                        terms: Arc::clone(terms),
                    });
                }
            }
        }
        if expired.is_empty() {
            return;
        }
        let keys = expired
            .iter()
            .map(|entry| (WatchKey::of(&self.name, &entry.id), entry.source))
            .collect();
        let store = self.services.recorder.store().clone();
        let name = Arc::clone(&self.name);
        let expiring = async move {
            let removed = match store.expire_source_entries(keys, older_than).await {
                Ok(removed) => removed,
                Err(error) => {
                    tracing::debug!(
                        project = &*name,
                        error = chain(&error),
                        "finished watches cannot be removed after retention; retrying"
                    );
                    Vec::new()
                }
            };
            let removed = expired
                .into_iter()
                .zip(removed)
                .filter(|(_, is_removed)| *is_removed);
            JobResult::Expired(removed.map(|(entry, _)| entry).collect())
        };
        self.jobs.spawn_on(expiring, &self.services.background);
    }

    /// Withdraws what was removed from the state, unless it was put again in between.
    pub(super) fn source_entries_expired(&mut self, expired: Vec<ExpiredEntry>) {
        for entry in expired {
            let slot = self
                .watches
                .find(&entry.id)
                .and_then(|number| self.watches.get(number));
            let is_same = slot.is_some_and(|slot| {
                let terms = slot.watched.demand.terms_of(entry.source);
                !slot.poller.is_leaving() && terms.is_some_and(|terms| Arc::ptr_eq(terms, &entry.terms))
            });
            if is_same {
                self.withdraw(&entry.id, entry.source);
            }
        }
    }
}
