//! Every default in one place.

use std::time::Duration;

use super::log::LogFormat;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn minutes(n: u64) -> Duration {
    seconds(60 * n)
}

pub(super) const WATCH_LIST: &str = "/etc/backfill-watch/watch.list";
pub(super) const WATCH_LIST_REFRESH: Duration = Duration::from_millis(250);
pub(super) const WATCH_LIST_SHRINK_DELAY: Duration = seconds(30);
/// Where state goes when neither the settings nor the environment name a place.
pub(super) const STATE_DIR: &str = "/var/lib/backfill-watch";
/// Where the installed unit has its control socket.
pub(super) const RUNTIME_DIR: &str = "/run/backfill-watch";
/// Where the secrets of installed units are.
pub(super) const CREDSTORE: &str = "/etc/credstore";
pub(super) const RETENTION: Duration = minutes(30 * 24 * 60);
pub(super) const SHUTDOWN_TIMEOUT: Duration = seconds(8);

pub(super) const BASE_URL: &str = "https://api.withampersand.com/v1";
pub(super) const REQUEST_TIMEOUT: Duration = seconds(10);
pub(super) const MAX_CONCURRENT_REQUESTS: usize = 32;
pub(super) const MAX_REQUESTS_PER_SECOND: f64 = 20.0;

// The schedule has its own: `Pace::DEFAULT`.
pub(super) const STALLED_AFTER: Duration = minutes(30);
pub(super) const SILENT_AFTER: Duration = minutes(6 * 60);
pub(super) const UNREACHABLE_AFTER: Duration = minutes(5);
pub(super) const NOT_FOUND_GRACE: Duration = minutes(2);
pub(super) const MAX_RETRY_AFTER: Duration = minutes(15);
pub(super) const ACTIVE_STATUS: &str = "in_progress";
pub(super) const PROGRESS_STEP: f64 = 10.0;
pub(super) const PROGRESS_INTERVAL: Duration = minutes(1);

/// The name of the webhook that `[webhook]` gives.
pub(super) const WEBHOOK_NAME: &str = "webhook";
pub(super) const MAX_IN_FLIGHT: usize = 16;
pub(super) const MAX_BACKLOG: usize = 1_000_000;

pub(super) const LISTEN: &str = "127.0.0.1:8464";

pub(super) const LOG_FORMAT: LogFormat = LogFormat::Auto;
pub(super) const LOG_FILTER: &str = "info";
