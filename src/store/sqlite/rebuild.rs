//! Rebuilds watches, projects and groups from their events.

use rusqlite::{Connection, params};

use super::checksum::checksum_of;
use super::statement::statements;
use super::time;
use crate::core::group::{GroupId, GroupRecord};
use crate::core::past_event::{PastEvent, rebuild_group, rebuild_project};
use crate::core::project_health::ProjectHealth;
use crate::core::watch::Watch;
use crate::core::watch_list::WatchKey;
use crate::store::change::WatchRecord;

/// The number of last events that a rebuild reads.
const ENOUGH: u32 = 1_000;

statements! {
    LAST_EVENTS = concat!(
        "SELECT row, checksum IS ", checksum_of!(event, ""), ", id, type, recorded, body
         FROM events INDEXED BY events_operation WHERE operation = ?1 AND project = ?2 ORDER BY row DESC LIMIT ?3"
    );
    LAST_API_EVENTS = concat!(
        "SELECT row, checksum IS ", checksum_of!(event, ""), ", id, type, recorded, body
         FROM events INDEXED BY events_operation WHERE operation IS NULL AND project = ?1 ORDER BY row DESC LIMIT ?2"
    );
    SUBJECTS_OF_GROUPS scans "reads the subjects of groups, which begin with a slash, to rebuild one" =
        "SELECT DISTINCT operation FROM events INDEXED BY events_operation WHERE operation >= '/' AND operation < '0'";
    LOST_EVENTS = "SELECT count(*) FROM damaged_rows INDEXED BY damaged_rows_subject
         WHERE subject = ?1 AND row > ?2 AND source = 'events'";
}

/// Rebuilds a watch from its events, as of the last one.
pub(super) fn watch(conn: &Connection, key: &WatchKey) -> Result<Option<WatchRecord>, rusqlite::Error> {
    let mut events = Vec::new();
    let mut lost: u64 = 0;
    let mut last_row = 0;
    let mut statement = LAST_EVENTS.prepare(conn)?;
    let mut rows = statement.query(params![key.operation, key.project, ENOUGH])?;
    while let Some(row) = rows.next()? {
        match past_event(row)? {
            Some(event) => {
                if events.is_empty() {
                    last_row = row.get(0)?;
                }
                events.push(event);
            }
            None if events.is_empty() => lost += 1,
            None => {}
        }
    }
    let Some(saved) = events.first().map(|event| event.recorded) else {
        return Ok(None);
    };
    events.reverse();
    let subject = format!("{}/{}", key.project, key.operation);
    lost += LOST_EVENTS
        .prepare(conn)?
        .query_row(params![subject, last_row], |row| row.get::<_, u32>(0))
        .map(u64::from)?;
    Ok(Watch::rebuild(key, &events, lost).map(|watch| WatchRecord {
        watch,
        saved,
        unlisted: None,
    }))
}

/// The body of the last undamaged event of a watch or a group.
pub(super) fn last_body(conn: &Connection, key: &WatchKey) -> Result<Option<String>, rusqlite::Error> {
    let mut statement = LAST_EVENTS.prepare(conn)?;
    let mut rows = statement.query(params![key.operation, key.project, ENOUGH])?;
    while let Some(row) = rows.next()? {
        if let Some(event) = past_event(row)? {
            return Ok(Some(event.body));
        }
    }
    Ok(None)
}

/// Rebuilds a project from its events, if it has any.
pub(super) fn project(conn: &Connection, name: &str) -> Result<Option<ProjectHealth>, rusqlite::Error> {
    let mut statement = LAST_API_EVENTS.prepare(conn)?;
    let mut rows = statement.query(params![name, ENOUGH])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.extend(past_event(row)?);
    }
    events.reverse();
    Ok(rebuild_project(&events))
}

/// Rebuilds a group from the last event of its project that reports it as complete.
pub(super) fn group(
    conn: &Connection,
    project: &str,
    group: GroupId,
) -> Result<Option<GroupRecord>, rusqlite::Error> {
    let mut statement = SUBJECTS_OF_GROUPS.prepare(conn)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let subject = row.get_ref(0)?.as_str().unwrap_or_default();
        let label = subject.strip_prefix('/').and_then(|label| label.split_once('='));
        if label.is_some_and(|(key, value)| GroupId::new(key, value) == group) {
            let key = WatchKey {
                project: project.into(),
                operation: subject.into(),
            };
            return Ok(last_body(conn, &key)?.and_then(|body| rebuild_group(&body)));
        }
    }
    Ok(None)
}

fn past_event(row: &rusqlite::Row<'_>) -> Result<Option<PastEvent>, rusqlite::Error> {
    if !row.get::<_, bool>(1)? {
        return Ok(None);
    }
    let Ok(event_type) = row.get(3) else {
        return Ok(None);
    };
    Ok(Some(PastEvent {
        id: row.get(2)?,
        event_type,
        recorded: time(row.get(4)?),
        body: row.get(5)?,
    }))
}
