//! `backfill-watch` watches backfill operations of the Ampersand API until they end, and tells people and programs
//! what it sees.
//!
//! This page is the map, in the order in which a line of the watch list becomes an event; ARCHITECTURE.md says why it
//! is so. The library serves the binary, its tests and its benches: it is no interface for others, and changes with
//! any version.
//!
//! **What is decided.** [`core`] holds every decision as plain values and functions, without input or output, clock
//! or chance: the watch list and its difference from the one before, what an answer means for a watch and for its
//! project, when to poll next, progress, the events and their IDs, what a receiver's answer means. Begin with
//! [`core::watch`].
//!
//! **What goes in.** [`config`] reads the settings, [`watch_list`] the file with the operations, [`ampersand`] asks the
//! API, at most as often as its gate lets it. [`outbound`] is what its client and the webhooks have in common.
//!
//! **What runs.** [`supervisor`] starts and stops pollers, so that they agree with the list; a [`poller`] sleeps, asks,
//! lets the core decide, and records; [`project`] is what the watches of one project share; [`board`] shows every watch
//! as it stands, [`pulse`] what its poller does, and [`health`] sums that up.
//!
//! **What comes out.** [`record`] is the one door between deciding and telling: it commits to the [`store`] (state,
//! event log, outbox), then tells. [`report`] tells: the log, the metrics, the webhooks. [`http`] serves pages, and
//! [`systemd`] is kept informed.
//!
//! **Around it.** [`app`] puts all of this together, starts it and stops it in order; [`cli`] has one file for each
//! command. [`clock`] and [`chance`] are the only places that look at a clock or roll dice, [`error`] prints chains of
//! errors. [`simulator`] plays the API and a receiver, for `simulate`, `demo`, tests and benches.

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
pub mod outbound;
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
