//! The built binary with a watch list and the simulator, checked by its log and exit code.
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

mod api_faults;
mod completion;
mod credentials;
mod deadlines;
mod discovery;
mod groups;
mod list_changes;
mod outages;
mod progress;
mod reload;
mod settings;
mod stop;
