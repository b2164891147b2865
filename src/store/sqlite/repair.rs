//! Moves damaged rows aside, with what depends on them.

use rusqlite::Connection;

use super::{aside, groups, installations, outbox, sources, state};
use crate::store::damage::{BadRow, DamagedRow, DamagedTable, Effect};

/// Moves a row aside, if it still exists.
pub(super) fn move_aside(
    conn: &Connection,
    bad: BadRow,
    at: i64,
    moved: &mut Vec<DamagedRow>,
) -> Result<(), rusqlite::Error> {
    let row = bad.row;
    match bad.table {
        DamagedTable::Watches => state::move_watch_aside(conn, row, at, moved)?,
        DamagedTable::Projects => {
            if let Some(id) = aside::keep_project(conn, row, at)? {
                moved.push(DamagedRow {
                    kind: "project",
                    id,
                    // The next load of the project reads its events.
                    effect: Effect::Rebuilt,
                });
            }
        }
        DamagedTable::SourceEntries => sources::move_aside(conn, row, at, moved)?,
        DamagedTable::Installations => installations::move_aside(conn, row, at, moved)?,
        DamagedTable::Groups => groups::move_aside(conn, row, at, moved)?,
        DamagedTable::Events => {
            let Some(id) = aside::event_id(conn, row)? else {
                return Ok(());
            };
            for delivery in aside::waiting_deliveries(conn, row)? {
                outbox::move_delivery_aside(conn, delivery, at, moved)?;
            }
            aside::keep_event(conn, row, at)?;
            moved.push(DamagedRow {
                kind: "event",
                id,
                effect: Effect::Lost,
            });
        }
        DamagedTable::Deliveries => {
            if aside::is_delivery_intact(conn, row)? == Some(false) {
                outbox::move_delivery_aside(conn, row, at, moved)?;
            }
        }
    }
    Ok(())
}
