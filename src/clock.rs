//! The one place that looks at a clock; everybody else is told the time.

use std::time::Duration;

/// Now, for measuring how long things take. Never steps; stands still under paused tokio time.
#[must_use]
pub fn instant() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    tokio::time::Instant::now()
}

/// Now, as people and other programs tell it. May step when the host's clock is set.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    jiff::Timestamp::now()
}

/// The time from `earlier` to `later`; zero if the clock was set back in between.
#[must_use]
pub fn between(earlier: jiff::Timestamp, later: jiff::Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
