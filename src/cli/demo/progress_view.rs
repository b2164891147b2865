//! The bars of the demo.

use crate::board::WatchView;
use crate::cli::operation_title::operation_title;
use crate::cli::progress_bars::{ProgressBar, ProgressView};

/// Customer and object of a watch, as discovery labelled it.
pub(super) fn name(view: &WatchView) -> String {
    operation_title(view.labels(), &[])
}

/// The bars of all watches.
pub(super) fn progress_view(watches: &[WatchView]) -> ProgressView {
    let bar = |view| ProgressBar::of(view, name(view), String::new());
    ProgressView {
        bars: watches.iter().map(bar).collect(),
        ..ProgressView::default()
    }
}
