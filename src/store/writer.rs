//! Writes groups of requests, answers those who asked, and tells everybody how it went.

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
use super::status::Status;
use super::threads::CloseError;
use crate::clock;

/// How often to try whether a state that could not be written can be again, while nobody writes.
const PROBE: Duration = Duration::from_secs(1);

/// How often to look whether the files are still there.
const PRESENCE: Duration = Duration::from_secs(1);

/// How often a full backlog is told: it may overflow with each event.
const OVERFLOW: Duration = Duration::from_mins(1);

/// How often to look whether another process wrote: a replay is to be seen within a second.
pub(super) const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Writer {
    database: Database,
    status: Arc<Status>,
    /// Changes when another process writes.
    data_version: Option<i64>,
    looked: Option<Instant>,
    tried: Option<Instant>,
    /// The file turned out damaged: the next start is to check it.
    damaged: bool,
    /// `None` for a state in memory.
    presence: Option<Presence>,
    presence_seen: Option<Instant>,
    /// Deliveries given up since that was told last, by endpoint.
    overflow: BTreeMap<String, u64>,
    overflow_told: Option<Instant>,
}

impl Writer {
    pub(super) fn new(database: Database, status: Arc<Status>) -> Self {
        Self {
            data_version: database.data_version().ok(),
            database,
            status,
            looked: None,
            tried: None,
            damaged: false,
            presence: None,
            presence_seen: None,
            overflow: BTreeMap::new(),
            overflow_told: None,
        }
    }

    /// Checks from now on whether the files are in their places.
    pub(super) fn watch_presence(&mut self, presence: Presence) {
        self.presence = Some(presence);
    }

    /// Reports rows that were found damaged.
    pub(super) fn note_damage(&self, rows: &[DamagedRow]) {
        self.status.note_damage(rows);
    }

    /// Writes all requests in one transaction, and answers each.
    pub(super) fn write(&mut self, requests: Vec<WriteRequest>) {
        self.look_for_files();
        if let Some(removed) = self.status.health().removed {
            for request in requests {
                let _ = request.reply.send(Err(CommitError::Removed(removed.clone())));
            }
            return;
        }
        let (writes, replies): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.write, request.reply))
            .unzip();
        let group = self.database.write(&writes);
        self.note_attempt(group.as_ref().err());
        // Whoever asked may have stopped waiting, which is no failure.
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
                self.tell_overflow();
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

    /// Looks whether another process wrote, and whether a state that could not be written can be again.
    pub(super) fn look(&mut self) {
        if !has_passed(self.looked, LOOK) {
            return;
        }
        self.looked = Some(clock::instant());
        self.look_for_files();
        let data_version = self.database.data_version().ok();
        if data_version != self.data_version {
            self.data_version = data_version;
            self.status.note_change();
        }
        if !self.status.is_writable() && has_passed(self.tried, PROBE) {
            let result = self.database.probe();
            self.note_attempt(result.as_ref().err());
        }
        self.tell_overflow();
    }

    fn look_for_files(&mut self) {
        if let Some(presence) = &mut self.presence
            && has_passed(self.presence_seen, PRESENCE)
        {
            self.presence_seen = Some(clock::instant());
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
        self.tried = Some(clock::instant());
        self.damaged |= failure.is_some_and(sqlite::is_damage);
        self.status.note_write(failure.map(sqlite::explain).as_deref());
    }

    fn tell_overflow(&mut self) {
        if self.overflow.is_empty() || !has_passed(self.overflow_told, OVERFLOW) {
            return;
        }
        self.overflow_told = Some(clock::instant());
        for (endpoint, count) in std::mem::take(&mut self.overflow) {
            tracing::error!(
                endpoint,
                count,
                "the webhook's backlog is full: its oldest deliveries became dead letters; when the receiver works \
                 again, `backfill-watch replay --dead-letters` delivers them"
            );
        }
    }
}

fn has_passed(since: Option<Instant>, time: Duration) -> bool {
    since.is_none_or(|since| since.elapsed() >= time)
}
