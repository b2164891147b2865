//! What tells events onward.

pub mod log;
pub mod tell;
