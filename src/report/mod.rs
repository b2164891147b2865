//! What tells events onward, once they are recorded.

pub mod attention;
pub mod log;
pub mod metrics;
pub mod tell;
pub mod webhook;
