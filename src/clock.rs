//! The only place that reads a clock. Everything else receives the time as an argument.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The monotonic time, for measuring durations. It does not advance while tokio's time is paused.
#[must_use]
pub fn instant() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    tokio::time::Instant::now()
}

/// The date and time of the host. It steps when the host's clock is set.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    jiff::Timestamp::now()
}

/// A clock as an argument, for code that dates what it records.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>);

impl WallClock {
    /// A clock that returns what `read` returns.
    pub fn new(read: impl Fn() -> jiff::Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The clock of the host.
    #[must_use]
    pub fn system() -> Self {
        Self::new(wall)
    }

    /// The current date and time.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}

/// The time from `earlier` to `later`; zero if the clock was set back in between.
#[must_use]
pub fn between(earlier: jiff::Timestamp, later: jiff::Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
