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
//! API. [`outbound`] is what its client and the webhooks have in common.
//!
//! **What runs.** [`polling`] has the supervisor and one task for each project, which owns its watches, their pollers and
//! their gate. [`board`] is the read model of it, and [`health`] what probes read.
//!
//! **What comes out.** [`record`] is the one door between deciding and telling: it commits to the [`store`] (state,
//! event log, outbox), then tells. [`report`] tells: the log, the metrics, the webhooks. [`http`] serves pages, and
//! [`systemd`] is kept informed.
//!
//! **Around it.** [`app`] puts all of this together, starts it and stops it in order; [`cli`] has one file for each
//! command. [`stdio`] writes to the standard streams, [`spool`] does so on a thread of its own, [`signal_mask`] undoes what
//! a parent left blocked, and [`open_files`] raises the limit of open files. [`clock`] and [`random`] are the only places
//! that look at a clock or roll dice, [`error`] prints chains of errors. [`simulator`] plays the API and a receiver, for
//! `simulate`, `demo`, tests and benches.

pub mod ampersand;
pub mod app;
pub mod board;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod error;
pub mod health;
pub mod http;
pub mod open_files;
pub mod outbound;
pub mod polling;
pub mod random;
pub mod record;
pub mod report;
pub mod signal_mask;
pub mod simulator;
pub mod spool;
pub mod stdio;
pub mod store;
pub mod systemd;
pub mod watch_list;
