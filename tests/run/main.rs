//! The daemon as its users meet it: the built binary, fed by a watch list, polling the simulator, seen by its log.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test tell that it failed"
)]

#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

mod api_faults;
mod completion;
mod credentials;
mod list_changes;
mod outages;
mod progress;
mod reload;
mod settings;
mod stop;
