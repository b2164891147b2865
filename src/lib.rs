//! `backfill-watch` watches backfill operations of the Ampersand API until they end, and reports progress, stalls and results
//! to people and programs.
//!
//! This page is the map, in the order in which a line of the watch list becomes an event. ARCHITECTURE.md has the reasons.
//! The library serves the binary, its tests and its benches. It is no public interface, and changes with any version.
//!
//! **Decisions.** [`core`] decides everything with plain values and functions, without input or output, clock or random
//! source: the watch list and its changes, what an answer means for a watch and for its project, when to poll next,
//! progress, events and their IDs, retries of webhooks. Start with [`core::watch`].
//!
//! **Input.** [`config`] reads the settings. [`sources`] are the watch list file and the HTTP API, which ask for watches. [`ampersand`] sends requests to the
//! API. [`outbound`] is the code that its client and the webhooks share.
//!
//! **Polling.** [`polling`] has the supervisor and one task for each project, which owns its watches, their pollers and
//! their gate. [`board`] is the read model, and [`health`] decides readiness and liveness.
//!
//! **Output.** [`record`] commits state and events to the [`store`] (state, event log, outbox), then reports them. [`report`]
//! is the log, the metrics and the webhooks. [`http`] serves the pages, and [`systemd`] notifies the service manager.
//!
//! **Process.** [`app`] builds the parts, starts them and stops them in order. [`cli`] has one file for each command.
//! [`stdio`] writes to the standard streams, [`spool`] does so on its own thread, [`signal_mask`] unblocks signals, and
//! [`open_files`] raises the limit of open files. Only [`clock`] reads the time, and only [`random`] provides random numbers.
//! [`error`] prints an error with its causes. [`simulator`] is the simulated API and receiver for `simulate`, `demo`, tests
//! and benches.

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
pub mod sources;
pub mod spool;
pub mod stdio;
pub mod store;
pub mod systemd;
