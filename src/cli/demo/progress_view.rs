//! The bars of the demo.

use crate::board::WatchView;
use crate::cli::progress_bars::{ProgressBar, ProgressView};
use crate::core::discovery::GROUP_LABEL;
use crate::core::operation_name::OperationName;

/// Customer and object of a watch, as discovery labelled it.
pub(super) fn name(view: &WatchView) -> String {
    OperationName::new(view.labels(), &[], GROUP_LABEL).title()
}

/// The bars of all watches.
pub(super) fn progress_view(watches: &[WatchView]) -> ProgressView {
    let bar = |view| ProgressBar::of(view, name(view), String::new());
    ProgressView {
        bars: watches.iter().map(bar).collect(),
        ..ProgressView::default()
    }
}
