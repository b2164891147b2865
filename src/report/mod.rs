//! What tells events onward, once they are recorded.

pub mod attention;
pub mod event_log_line;
pub mod log;
pub mod metrics;
pub mod webhook;
