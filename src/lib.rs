//! `backfill-watch` watches backfill operations of the Ampersand API until they end.

pub mod ampersand;
pub mod cli;
pub mod clock;
pub mod core;
pub mod simulator;
pub mod watch_list;
