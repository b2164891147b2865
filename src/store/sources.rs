//! Requests about the HTTP API and discovery: what they ask for, installations, and the groups of watches.

use std::sync::Arc;

use jiff::Timestamp;

use super::Store;
use super::change::to_json;
use super::request::{CommitError, Read, StoreReadError, Write};
use super::source_entry::{SourceEntry, SourceEntryPage, SourceEntryPosition, SourceRow, Withdrawal};
use crate::core::discovery::StoredInstallation;
use crate::core::group::{GroupId, GroupRecord};
use crate::core::source::Source;
use crate::core::watch_list::WatchKey;

impl Store {
    /// Records what sources ask for from now on, all in one transaction. Returns for each entry whether it is new or was
    /// withdrawn before; of equal keys the last one applies.
    pub async fn put_source_entries(&self, entries: Vec<SourceEntry>) -> Result<Vec<bool>, CommitError> {
        let write = Write::PutSourceEntries {
            entries: SourceRow::all(&entries),
            at: self.now(),
        };
        Ok(self.write(write).await?.entries)
    }

    /// Records that a source does not ask for a watch any more. That is remembered for the retention of the watch.
    pub async fn withdraw_source_entry(
        &self,
        key: WatchKey,
        source: Source,
    ) -> Result<Withdrawal, CommitError> {
        let at = self.now();
        let write = Write::WithdrawSourceEntry { key, source, at };
        Ok(self.write(write).await?.withdrawal)
    }

    /// Deletes the entries that were not put after `older_than`. Returns for each whether the source does not ask for the watch
    /// any more, which is also the case when it was withdrawn, or there is no entry.
    pub async fn expire_source_entries(
        &self,
        entries: Vec<(WatchKey, Source)>,
        older_than: Timestamp,
    ) -> Result<Vec<bool>, CommitError> {
        let write = Write::ExpireSourceEntries {
            entries,
            older_than,
            at: self.now(),
        };
        Ok(self.write(write).await?.entries)
    }

    /// A page of what sources ask of a project, from the beginning or from `after` on. A damaged entry is rebuilt from the
    /// last event of its watch, without its deadline. If there is none, it is missing.
    pub async fn load_source_entries(
        &self,
        project: Arc<str>,
        after: Option<SourceEntryPosition>,
    ) -> Result<SourceEntryPage, StoreReadError> {
        let after = after.map_or(0, |position| position.0);
        let page = self
            .read(|reply| Read::SourceEntries {
                project,
                after,
                reply,
            })
            .await?;
        Ok(SourceEntryPage {
            entries: page.rows,
            next: page.next.map(SourceEntryPosition),
        })
    }

    /// Records installations that changed, and what discovery found, in one transaction. `None` deletes an installation.
    pub async fn record_discovery(
        &self,
        project: Arc<str>,
        installations: Vec<(Arc<str>, Option<StoredInstallation>)>,
        found: Vec<SourceEntry>,
    ) -> Result<(), CommitError> {
        let installations = installations
            .into_iter()
            .map(|(id, installation)| (id, installation.as_ref().map(to_json)))
            .collect();
        let write = Write::Discovered {
            project,
            installations,
            found: SourceRow::all(&found),
            at: self.now(),
        };
        self.write(write).await.map(drop)
    }

    /// The installations of a project that discovery knows. A damaged one is missing.
    pub async fn load_installations(
        &self,
        project: Arc<str>,
    ) -> Result<Vec<(Arc<str>, StoredInstallation)>, StoreReadError> {
        let mut installations = Vec::new();
        let mut after = Some(0);
        while let Some(row) = after {
            let project = Arc::clone(&project);
            let page = self
                .read(|reply| Read::Installations {
                    project,
                    after: row,
                    reply,
                })
                .await?;
            installations.extend(page.rows);
            after = page.next;
        }
        Ok(installations)
    }

    /// The groups of a project that completed a round. A damaged one is rebuilt from its last event. If there is none, it is
    /// missing.
    pub async fn load_groups(
        &self,
        project: Arc<str>,
    ) -> Result<Vec<(GroupId, GroupRecord)>, StoreReadError> {
        let mut groups = Vec::new();
        let mut after = Some(0);
        while let Some(row) = after {
            let project = Arc::clone(&project);
            let page = self
                .read(|reply| Read::Groups {
                    project,
                    after: row,
                    reply,
                })
                .await?;
            groups.extend(page.rows);
            after = page.next;
        }
        Ok(groups)
    }
}
