//! Chooses the lines that fit on the terminal, and adds a summary.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use console::measure_text_width;

use super::super::format;
use super::super::terminal::{TerminalStyle, TextStyle};
use super::super::text_wrap::wrap;
use super::row::{Cells, Columns, cut, phase_style, sign};
use super::{HANG, ProgressBar, ProgressView};
use crate::core::phase::Phase;
use crate::core::text::one_line;

/// The most notices that are shown.
const MAX_NOTICES: usize = 3;
/// The most rows of one notice.
const MAX_NOTICE_ROWS: usize = 4;

/// The lines for a terminal of this size. The last row stays free for the cursor.
pub(super) fn lines(
    view: &ProgressView,
    width: usize,
    height: usize,
    style: TerminalStyle,
    frame: usize,
) -> Vec<String> {
    // The last column stays free, because terminals differ in how they wrap there.
    let width = width.saturating_sub(1);
    if width == 0 {
        return Vec::new();
    }
    let mut free = height.saturating_sub(1);
    let mut lines = notices(&view.notices, width, style);
    lines.truncate(free / 2);
    free -= lines.len();
    let total = view.bars.len() + view.without_bar.values().sum::<usize>();
    let with_summary = total > 1 && free > 1;
    free -= usize::from(with_summary);

    let shown = choose(&view.bars, free);
    let cells: Vec<Cells> = shown.iter().map(|bar| Cells::of(bar, style)).collect();
    let columns = Columns::fit(&cells, width);
    let rows = shown.iter().zip(&cells);
    // On a very narrow terminal, even the narrowest layout must be cut.
    lines.extend(rows.map(|(bar, cells)| cut(&columns.row(bar, cells, style, frame), width, style)));
    if with_summary {
        let hidden = view.bars.len() - shown.len();
        lines.push(cut(&summary(view, hidden, width, style), width, style));
    }
    lines
}

/// The first notices, wrapped at words.
fn notices(texts: &[String], width: usize, style: TerminalStyle) -> Vec<String> {
    let mut lines = Vec::new();
    for text in texts.iter().take(MAX_NOTICES) {
        let text = format!("! {}", style.shown(&one_line(text, 500)));
        let wrapped = wrap(&text, Some(width), HANG);
        let rows: Vec<&str> = wrapped.split('\n').collect();
        for (index, row) in rows.iter().take(MAX_NOTICE_ROWS).enumerate() {
            let is_cut = index + 1 == MAX_NOTICE_ROWS && rows.len() > MAX_NOTICE_ROWS;
            let row = match is_cut {
                // The cut mark replaces what does not fit.
                true => cut(&format!("{row} {}", rows[index + 1].trim_start()), width, style),
                false => cut(row, width, style),
            };
            lines.push(style.paint(TextStyle::Yellow, &row));
        }
    }
    lines
}

/// At most `most` bars, in their order: those with problems first, then those closest to their end.
fn choose(bars: &[ProgressBar], most: usize) -> Vec<&ProgressBar> {
    if bars.len() <= most {
        return bars.iter().collect();
    }
    let mut ranked: Vec<(usize, &ProgressBar)> = bars.iter().enumerate().collect();
    ranked.sort_by_key(|(index, bar)| (rank(bar), *index));
    ranked.truncate(most);
    ranked.sort_by_key(|(index, _)| *index);
    ranked.into_iter().map(|(_, bar)| bar).collect()
}

/// Lower comes first.
fn rank(bar: &ProgressBar) -> (usize, bool, Reverse<u64>) {
    // Whole percents, so that the choice changes rarely. The cast saturates.
    let nearness = bar.percent.unwrap_or(0.0).max(0.0) as u64;
    (bar.phase.urgency(), bar.problem.is_none(), Reverse(nearness))
}

/// `60 operations (20 shown): 41 running, 1 stalled, 18 succeeded`; with signs instead of words if that is too wide.
fn summary(view: &ProgressView, hidden: usize, width: usize, style: TerminalStyle) -> String {
    let mut counts: BTreeMap<Phase, usize> = view.without_bar.clone();
    for bar in &view.bars {
        *counts.entry(bar.phase).or_default() += 1;
    }
    let parts = |text: fn(Phase, usize, TerminalStyle) -> String| -> Vec<String> {
        let counts = counts.iter().filter(|(_, count)| **count > 0);
        counts
            .map(|(phase, count)| style.paint(phase_style(*phase), &text(*phase, *count, style)))
            .collect()
    };
    let total = format::operations(counts.values().sum());
    let shown = if hidden > 0 {
        style.paint(TextStyle::Dim, &format!(" ({} shown)", view.bars.len() - hidden))
    } else {
        String::new()
    };
    let words = parts(|phase, count, _| format!("{count} {phase}")).join(", ");
    let summary = format!("{total}{shown}: {words}");
    if measure_text_width(&summary) <= width {
        return summary;
    }
    let signs = parts(|phase, count, style| format!("{} {count}", sign(phase, style))).join("  ");
    format!("{total}{shown}: {signs}")
}

#[cfg(test)]
mod tests;
