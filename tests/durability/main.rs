//! Nothing is lost: the built daemon, killed, stopped, out of disk and without a receiver.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

mod api_watches;
mod commands;
mod discovery;
mod event_log;
mod kills;
mod outages;
mod restarts;
mod state_errors;
mod until_done;
mod verifying_receiver;
