//! The bars of the demo.

use std::time::Duration;

use crate::board::WatchView;
use crate::cli::progress_bars::{ProgressBar, ProgressView};
use crate::clock;

/// Customer and object of a watch, as discovery labelled it.
pub(super) fn name(view: &WatchView) -> String {
    let label = |wanted: &str| {
        let found = view.labels().iter().find(|(key, _)| key == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    format!("{} {}", label("group"), label("object"))
}

/// The bars of all watches.
pub(super) fn progress_view(watches: &[WatchView]) -> ProgressView {
    ProgressView {
        bars: watches.iter().map(bar).collect(),
        ..ProgressView::default()
    }
}

fn bar(view: &WatchView) -> ProgressBar {
    let now = clock::wall();
    let watch = &view.watch;
    // As of the last poll, so that the estimated end comes nearer between polls.
    let data = view.data(watch.last_poll().unwrap_or(now));
    let progress = data.progress.as_ref();
    ProgressBar {
        name: name(view),
        phase: watch.phase(),
        processed: progress.map(|progress| progress.records_processed),
        total: progress.and_then(|progress| progress.records_estimated_total),
        percent: progress.and_then(|progress| progress.percent),
        per_second: progress.and_then(|progress| progress.records_per_second),
        left: progress
            .and_then(|progress| progress.estimated_end_time)
            .map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default()),
        problem: watch.last_error().map(str::to_owned),
    }
}
