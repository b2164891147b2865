//! The one place that looks at a clock; everybody else is told the time.

use std::fmt;
use std::sync::Arc;
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

/// The clock on the wall, as an argument for whoever dates what is recorded.
#[derive(Clone)]
pub struct Wall(Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>);

impl Wall {
    /// A clock that tells what `read` does.
    pub fn new(read: impl Fn() -> jiff::Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The host's clock.
    #[must_use]
    pub fn of_host() -> Self {
        Self::new(wall)
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wall").field(&self.now()).finish()
    }
}

/// The time from `earlier` to `later`; zero if the clock was set back in between.
#[must_use]
pub fn between(earlier: jiff::Timestamp, later: jiff::Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
