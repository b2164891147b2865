//! The statements of the engine. [`statements!`] lists them, so that a test checks every query plan.

use rusqlite::{CachedStatement, Connection};

/// One statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sql {
    pub(super) text: &'static str,
    /// Why it may scan a table that grows.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test of the plans"))]
    pub(super) scans: Option<&'static str>,
}

impl Sql {
    pub(super) fn prepare<'c>(&self, conn: &'c Connection) -> Result<CachedStatement<'c>, rusqlite::Error> {
        conn.prepare_cached(self.text)
    }
}

/// Defines statements as constants, and a list of all as `STATEMENTS`. `scans "reason"` allows a full table scan.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident $(scans $reason:literal)? = $text:expr;)*) => {
        $($(#[$doc])* const $name: $crate::store::sqlite::statement::Sql = $crate::store::sqlite::statement::Sql {
            text: $text,
            scans: $crate::store::sqlite::statement::reason!($($reason)?),
        };)*

        /// Every statement of this module.
        #[cfg(test)]
        pub(in crate::store::sqlite) const STATEMENTS: &[$crate::store::sqlite::statement::Sql] = &[$($name),*];
    };
}
pub(super) use statements;

macro_rules! reason {
    () => {
        None
    };
    ($reason:literal) => {
        Some($reason)
    };
}
pub(super) use reason;
