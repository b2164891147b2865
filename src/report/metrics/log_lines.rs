//! What the log of the process counts.

use prometheus::IntCounter;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::opts;
use crate::report::log;

/// `log_lines_dropped_total`, which the log counts.
pub(super) struct Dropped(IntCounter);

impl Dropped {
    pub(super) fn new() -> prometheus::Result<Self> {
        let opts = opts(
            "log_lines_dropped_total",
            "Log lines dropped because standard error or the journal did not accept them fast enough.",
        );
        IntCounter::with_opts(opts).map(Self)
    }
}

impl Collector for Dropped {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.inc_by(log::lines_dropped().saturating_sub(self.0.get()));
        self.0.collect()
    }
}
