//! `backfill-watch` watches backfill operations of the Ampersand API until they end.

pub mod ampersand;
pub mod app;
pub mod board;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod error;
pub mod health;
pub mod http;
pub mod poller;
pub mod project;
pub mod pulse;
pub mod record;
pub mod report;
pub mod simulator;
pub mod store;
pub mod supervisor;
pub mod systemd;
pub mod watch_list;
