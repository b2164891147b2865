//! What the bars show of the demo.

use std::sync::Arc;
use std::time::Duration;

use crate::board::Watched;
use crate::cli::bars::{Bar, Picture};
use crate::clock;
use crate::core::watch::Watch;

/// The watches as they stand, over or not.
pub(super) fn picture(watches: &[Arc<Watched>]) -> Picture {
    Picture {
        bars: watches.iter().map(|watched| bar(watched)).collect(),
        ..Picture::default()
    }
}

fn bar(watched: &Watched) -> Bar {
    let now = clock::wall();
    let labels = watched.labels();
    let (data, phase, trouble) = watched.look(|watch| {
        // As of the last poll: the estimate comes nearer while nobody looks.
        let seen = watch.last_poll().unwrap_or(now);
        let data = watch.data(&watched.key, &labels, seen);
        (data, watch.phase(), Watch::last_error(watch).map(str::to_owned))
    });
    let progress = data.progress.as_ref();
    Bar {
        // The demo's IDs are names, and short.
        name: watched.key.operation.replace('-', " "),
        phase,
        processed: progress.map(|progress| progress.records_processed),
        total: progress.and_then(|progress| progress.records_estimated_total),
        percent: progress.and_then(|progress| progress.percent),
        per_second: progress.and_then(|progress| progress.records_per_second),
        left: progress
            .and_then(|progress| progress.estimated_end_time)
            .map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default()),
        trouble,
    }
}
