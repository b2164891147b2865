//! The status page in a real browser: headless Chromium, driven through WebDriver.
//!
//! Skipped where chromedriver is not installed, unless `CI` is set.
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

mod access;
mod accessibility;
#[expect(dead_code, reason = "shared by two test programs, each of which uses a part")]
mod browser;
mod detail;
mod fixture;
mod hostile_text;
mod keyboard;
mod large_lists;
mod list;
mod outages;
