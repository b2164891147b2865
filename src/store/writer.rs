//! Writes groups of requests, answers their callers, and updates the status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::damage::DamagedRow;
use super::presence::Presence;
use super::request::{CommitError, Read, Write, WriteRequest};
use super::sqlite::{self, Database};
use super::status::StoreStatus;
use crate::clock;

/// How often a write is retried after a failure while there are no requests.
const PROBE: Duration = Duration::from_secs(1);

/// How often the presence of the files is checked.
const PRESENCE: Duration = Duration::from_secs(1);

/// How often a full backlog is logged. It may overflow with each event.
const OVERFLOW: Duration = Duration::from_mins(1);

/// How often to check whether another process wrote. A replay must be noticed within a second.
pub(super) const CHECK: Duration = Duration::from_millis(250);

/// Why a store was not closed in order. Committed data is on disk in any case.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The file could not be closed.
    #[error("the state was not closed in order ({0}); it will be checked at the next start")]
    Failed(String),
    /// A thread of the store panicked.
    #[error("a thread of the state panicked; the state will be checked at the next start")]
    Panicked,
}

/// Executes writes on its own thread, several in one transaction.
#[derive(Debug)]
pub(super) struct Writer {
    database: Database,
    status: Arc<StoreStatus>,
    /// Changes when another process writes.
    data_version: Option<i64>,
    last_check: Option<Instant>,
    last_attempt: Option<Instant>,
    /// Whether the file is damaged, so that the next start must check it.
    damaged: bool,
    /// `None` for a state in memory.
    presence: Option<Presence>,
    last_presence_check: Option<Instant>,
    /// The dead letters of full backlogs that are not logged yet, by endpoint.
    overflow: BTreeMap<String, u64>,
    last_overflow_log: Option<Instant>,
}

impl Writer {
    pub(super) fn new(database: Database, status: Arc<StoreStatus>) -> Self {
        Self {
            data_version: database.data_version().ok(),
            database,
            status,
            last_check: None,
            last_attempt: None,
            damaged: false,
            presence: None,
            last_presence_check: None,
            overflow: BTreeMap::new(),
            last_overflow_log: None,
        }
    }

    /// Starts to check whether the files are present.
    pub(super) fn watch_presence(&mut self, presence: Presence) {
        self.presence = Some(presence);
    }

    /// Logs damaged rows.
    pub(super) fn note_damage(&self, rows: &[DamagedRow]) {
        self.status.note_damage(rows);
    }

    /// Writes all requests in one transaction, and answers them.
    pub(super) fn write(&mut self, requests: Vec<WriteRequest>) {
        self.check_files();
        if let Some(removed) = self.status.health().removed {
            for request in requests {
                let _ = request
                    .reply
                    .send(Err(CommitError::Removed(removed.reason.clone())));
            }
            return;
        }
        let (writes, replies): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.write, request.reply))
            .unzip();
        let group = self.database.write(&writes);
        self.note_attempt(group.as_ref().err());
        // A caller may have been dropped.
        match group {
            Ok(group) => {
                self.status.note_damage(&group.damaged);
                for (reply, result) in replies.into_iter().zip(group.results) {
                    let _ = reply.send(result.map_err(|error| CommitError::Refused(sqlite::explain(&error))));
                }
                if group.new_events > 0 || !group.damaged.is_empty() {
                    self.status.note_change();
                }
                for (endpoint, count) in group.overflow {
                    *self.overflow.entry(endpoint).or_default() += count;
                }
                self.log_overflow();
            }
            Err(error) => {
                let reason = sqlite::explain(&error);
                for reply in replies {
                    let _ = reply.send(Err(CommitError::Unwritable(reason.clone())));
                }
            }
        }
    }

    pub(super) fn answer(&mut self, read: Read, now: Timestamp) {
        let rows = self.database.answer(read);
        if !rows.is_empty() {
            let (reply, _) = oneshot::channel();
            self.write(vec![WriteRequest {
                write: Write::Damaged { rows, at: now },
                reply,
            }]);
        }
    }

    /// Checks whether another process wrote, whether the files are present, and whether writes succeed again.
    pub(super) fn check(&mut self) {
        if !has_passed(self.last_check, CHECK) {
            return;
        }
        self.last_check = Some(clock::instant());
        self.check_files();
        let data_version = self.database.data_version().ok();
        if data_version != self.data_version {
            self.data_version = data_version;
            self.status.note_change();
        }
        if !self.status.is_writable() && has_passed(self.last_attempt, PROBE) {
            let result = self.database.probe();
            self.note_attempt(result.as_ref().err());
        }
        self.log_overflow();
    }

    fn check_files(&mut self) {
        if let Some(presence) = &mut self.presence
            && has_passed(self.last_presence_check, PRESENCE)
        {
            self.last_presence_check = Some(clock::instant());
            self.status.note_presence(presence.missing().as_deref());
        }
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn close(mut self) -> Result<(), CloseError> {
        let removed = self.presence.as_mut().and_then(Presence::missing);
        let closed = if removed.is_some() {
            self.database.abandon()
        } else {
            self.database.close()
        };
        closed.map_err(|error| CloseError::Failed(sqlite::explain(&error)))?;
        if let Some(removed) = removed {
            return Err(CloseError::Failed(removed));
        }
        if self.damaged {
            return Err(CloseError::Failed("the file is damaged".to_owned()));
        }
        Ok(())
    }

    fn note_attempt(&mut self, failure: Option<&rusqlite::Error>) {
        self.last_attempt = Some(clock::instant());
        self.damaged |= failure.is_some_and(sqlite::is_damage);
        self.status.note_write(failure.map(sqlite::explain).as_deref());
    }

    fn log_overflow(&mut self) {
        if self.overflow.is_empty() || !has_passed(self.last_overflow_log, OVERFLOW) {
            return;
        }
        self.last_overflow_log = Some(clock::instant());
        for (endpoint, count) in std::mem::take(&mut self.overflow) {
            tracing::error!(
                endpoint,
                count,
                "webhook backlog is full; its oldest deliveries are dead letters now; fix the receiver, then run \
                 `backfill-watch replay --dead-letters`"
            );
        }
    }
}

fn has_passed(since: Option<Instant>, time: Duration) -> bool {
    since.is_none_or(|since| since.elapsed() >= time)
}
