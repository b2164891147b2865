//! The bars of a session.

use super::session::{Session, Target};
use crate::cli::operation_title::operation_title;
use crate::cli::progress_bars::{ProgressBar, ProgressView};

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
        let notice = notices.iter().find(|notice| notice.project == target.key.project);
        if let Some(notice) = notice {
            // The notice covers all operations of the project.
            bar.problem = None;
            bar.is_stale = notice.is_outage;
        }
        view.bars.push(bar);
    }
    view.notices = notices.into_iter().map(|notice| notice.text).collect();
    view
}

/// The bar of one operation.
pub(super) fn bar(session: &Session, target: &Target) -> ProgressBar {
    let id = target.short.clone();
    let Some(view) = session.watched(&target.key) else {
        return ProgressBar::pending(operation_title(&target.terms.labels, &[]), id);
    };
    let title = operation_title(view.labels(), view.watch.objects());
    let mut bar = ProgressBar::of(view, title, id);
    if view.watch.is_missing() {
        bar.problem = Some("not found; check the ID and the project".to_owned());
    }
    bar
}
