//! The bars of a session.

use super::session::{Session, Target};
use crate::cli::progress_bars::{ProgressBar, ProgressView};
use crate::core::discovery::GROUP_LABEL;
use crate::core::operation_name::OperationName;

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
        return ProgressBar::pending(
            OperationName::new(&target.terms.labels, &[], GROUP_LABEL).title(),
            id,
        );
    };
    let title = OperationName::new(view.labels(), view.watch.objects(), GROUP_LABEL).title();
    let mut bar = ProgressBar::of(view, title, id);
    if view.watch.is_missing() {
        bar.problem = Some("not found; check the ID and the project".to_owned());
    }
    bar
}
