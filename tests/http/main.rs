//! The daemon's pages, metrics and API over HTTP, with the built binary.
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

#[path = "../status_page/browser.rs"]
#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod browser;

mod access;
mod attention;
mod events;
mod every_view;
mod exposition;
mod fixture;
mod groups;
mod health;
mod hostile_clients;
mod metrics;
mod operations;
mod projects;
mod prometheus;
mod prometheus_server;
mod status;
mod systemd;
mod webhooks;
mod writes;
