//! Hostile input and failing surroundings, against the built binary: memory stays bounded, the other watches continue,
//! nothing is lost and nothing false is reported. SECURITY.md describes what happens in each case.
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

mod answers;
mod bodies;
mod clock;
mod connections;
mod control_socket;
mod counts;
mod daemon_checks;
mod dns;
#[path = "../durability/event_log.rs"]
mod event_log;
mod hostile_api;
mod installations;
mod limits;
mod output;
mod pages;
mod queries;
mod readers;
mod secrets;
mod security_table;
mod signals;
mod state;
#[path = "../durability/verifying_receiver.rs"]
#[expect(dead_code, reason = "shared with another test program")]
mod verifying_receiver;
mod watch_list;
