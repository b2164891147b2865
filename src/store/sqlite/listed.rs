//! Records which watches are listed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::checksum::checksum_of;
use super::rebuild;
use super::state::texts;
use super::statement::statements;
use crate::core::past_event::labels_of;
use crate::core::source::Terms;
use crate::core::watch_list::{Entry, WatchKey};
use crate::store::change::PreviouslyListed;

statements! {
    /// Skips damaged rows. Their next reader moves them aside.
    SET_UNLISTED = concat!(
        "UPDATE watches SET unlisted = ?3, checksum = row_checksum(project, operation, state, saved, ?3)
         WHERE project = ?1 AND operation = ?2 AND unlisted IS NOT ?3 AND checksum IS ", checksum_of!(watch)
    );
    LISTED scans "compares every watch with the list, twice at a start" =
        "SELECT project, operation FROM watches w WHERE unlisted IS NULL
         AND NOT EXISTS (SELECT 1 FROM source_entries entry INDEXED BY source_entries_key
                         WHERE entry.project = w.project AND entry.operation = w.operation AND entry.withdrawn IS NULL)";
}

pub(super) fn set_unlisted(
    conn: &Connection,
    keys: &[WatchKey],
    at: Option<i64>,
) -> Result<(), rusqlite::Error> {
    let mut statement = SET_UNLISTED.prepare(conn)?;
    for key in keys {
        statement.execute(params![key.project, key.operation, at])?;
    }
    Ok(())
}

/// Records that all watches except `listed` left the list at `at`, unless they had left before, or another source asks for
/// them.
pub(super) fn unlist_others(conn: &Connection, listed: &[WatchKey], at: i64) -> Result<(), rusqlite::Error> {
    let listed = names(listed);
    let mut others: Vec<(String, String)> = Vec::new();
    let mut statement = LISTED.prepare(conn)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some((project, operation)) = texts(row)?
            && !listed.contains(&(project, operation))
        {
            others.push((project.to_owned(), operation.to_owned()));
        }
    }
    let mut statement = SET_UNLISTED.prepare(conn)?;
    for (project, operation) in others {
        statement.execute(params![project, operation, at])?;
    }
    Ok(())
}

/// The watches of these projects that only the list asked for: their number, and those not among `keys`.
pub(super) fn without(
    conn: &Connection,
    projects: &[Arc<str>],
    keys: &[WatchKey],
) -> Result<PreviouslyListed, rusqlite::Error> {
    let projects: HashMap<&str, &Arc<str>> = projects.iter().map(|name| (&**name, name)).collect();
    let keys = names(keys);
    let mut before = PreviouslyListed::default();
    let mut statement = LISTED.prepare(conn)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some((project, operation)) = texts(row)? else {
            continue;
        };
        let Some(name) = projects.get(project) else {
            continue;
        };
        before.total += 1;
        if !keys.contains(&(project, operation)) {
            before.absent.push(WatchKey {
                project: Arc::clone(name),
                operation: operation.into(),
            });
        }
    }
    Ok(before)
}

/// These watches with the labels of their last events.
pub(super) fn entries(conn: &Connection, keys: Vec<WatchKey>) -> Result<Vec<Entry>, rusqlite::Error> {
    let with_labels = keys.into_iter().map(|key| {
        let body = rebuild::last_body(conn, &key)?;
        let labels = body.map(|body| labels_of(&body)).unwrap_or_default();
        Ok(Entry {
            key,
            terms: Arc::new(Terms {
                labels,
                deadline: None,
            }),
        })
    });
    with_labels.collect()
}

fn names(keys: &[WatchKey]) -> HashSet<(&str, &str)> {
    keys.iter().map(|key| (&*key.project, &*key.operation)).collect()
}
