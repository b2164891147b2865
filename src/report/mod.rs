//! Delivers recorded events to the log, metrics and webhooks.

pub mod attention;
pub mod event_log_line;
pub mod log;
pub mod metrics;
pub mod webhook;
