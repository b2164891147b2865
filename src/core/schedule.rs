//! When to poll next.

use std::time::Duration;

/// The settings of a schedule (`[poll]`). The configuration checks them; the schedule is safe with any values.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// The first interval of the backoff.
    pub initial_interval: Duration,
    /// No two polls of one watch are closer than this.
    pub min_interval: Duration,
    /// No poll falls due later than this after the one before.
    pub max_interval: Duration,
    /// By what the interval grows from poll to poll.
    pub multiplier: f64,
    /// Which part of the interval chance may add or take away, 0 to 1.
    pub randomization: f64,
    /// Whether the progress seen shapes the schedule.
    pub adaptive: bool,
}
