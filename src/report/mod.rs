//! What tells events onward, once they are recorded.

pub mod log;
pub mod metrics;
pub mod tell;
pub mod webhook;
