//! `backfill-watch` watches backfill operations of the Ampersand API until they end.

pub mod clock;
pub mod core;
