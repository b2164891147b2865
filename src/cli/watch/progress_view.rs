//! The bars of a session.

use std::time::Duration;

use super::session::{Session, Target};
use crate::cli::progress_bars::{ProgressBar, ProgressView};
use crate::clock;
use crate::core::phase::Phase;
use crate::core::text::one_line;

/// The longest text of object names, in bytes.
const OBJECTS: usize = 24;

/// The bars of unfinished operations, and counts of the others, which are printed in lines above.
pub(super) fn progress_view(session: &Session) -> ProgressView {
    let notices = session.notices();
    let mut view = ProgressView::default();
    for target in &session.targets {
        let phase = session.phase(target);
        if phase.is_finished() {
            *view.without_bar.entry(phase).or_default() += 1;
            continue;
        }
        let mut bar = bar(session, target);
        if notices.iter().any(|(project, _)| *project == target.key.project) {
            // The notice covers all operations of the project.
            bar.problem = None;
        }
        view.bars.push(bar);
    }
    view.notices = notices.into_iter().map(|(_, text)| text).collect();
    view
}

/// The bar of one operation.
pub(super) fn bar(session: &Session, target: &Target) -> ProgressBar {
    let pending = ProgressBar {
        name: target.short.clone(),
        phase: Phase::Pending,
        processed: None,
        total: None,
        percent: None,
        per_second: None,
        left: None,
        problem: None,
    };
    let Some(view) = session.watched(&target.key) else {
        return pending;
    };
    let now = clock::wall();
    // As of the last poll, so that the estimated end comes nearer between polls.
    let watch = &view.watch;
    let data = view.data(watch.last_poll().unwrap_or(now));
    let progress = data.progress.as_ref();
    let left = progress
        .and_then(|progress| progress.estimated_end_time)
        .map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
    let objects = one_line(&data.objects.join(","), OBJECTS);
    ProgressBar {
        name: if objects.is_empty() {
            pending.name
        } else {
            format!("{objects} {}", pending.name)
        },
        phase: watch.phase(),
        processed: progress.map(|progress| progress.records_processed),
        total: progress.and_then(|progress| progress.records_estimated_total),
        percent: progress.and_then(|progress| progress.percent),
        per_second: progress.and_then(|progress| progress.records_per_second),
        left,
        problem: watch.last_error().map(str::to_owned),
    }
}
