//! Which lines are drawn: those that fit, the most interesting ones, and a summary.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::terminal::{Ink, Style};
use super::super::words;
use super::row::{Cells, Columns, cut, ink};
use super::{Bar, Picture};
use crate::core::phase::Phase;
use crate::core::text::one_line;

/// The most notices that are shown.
const MAX_NOTICES: usize = 3;

/// The lines of a picture on a terminal of this size, the last row of which stays free for the cursor.
pub(super) fn lines(
    picture: &Picture,
    width: usize,
    height: usize,
    style: Style,
    frame: usize,
) -> Vec<String> {
    // The last column stays free, too: what reaches it makes terminals break the line, some now, some later.
    let width = width.saturating_sub(1);
    if width == 0 {
        return Vec::new();
    }
    let mut room = height.saturating_sub(1);
    let mut lines: Vec<String> = picture
        .notices
        .iter()
        .take(MAX_NOTICES.min(room / 2))
        .map(|notice| {
            let notice = format!("! {}", one_line(notice, 500));
            style.ink(Ink::Yellow, &cut(&notice, width, style))
        })
        .collect();
    room -= lines.len();
    let total = picture.bars.len() + picture.others.values().sum::<usize>();
    let with_summary = total > 1 && room > 1;
    room -= usize::from(with_summary);

    let shown = choose(&picture.bars, room);
    let cells: Vec<Cells> = shown.iter().map(|bar| Cells::of(bar)).collect();
    let columns = Columns::fit(&cells, width);
    let rows = shown.iter().zip(&cells);
    // Each row is as wide as it may be at most; on a terminal of a few columns even that is too much.
    lines.extend(rows.map(|(bar, cells)| cut(&columns.row(bar, cells, style, frame), width, style)));
    if with_summary {
        let hidden = picture.bars.len() - shown.len();
        lines.push(cut(&summary(picture, hidden, style), width, style));
    }
    lines
}

/// As many bars as there is room for, in their order: first those that need eyes, then those closest to their end.
fn choose(bars: &[Bar], room: usize) -> Vec<&Bar> {
    if bars.len() <= room {
        return bars.iter().collect();
    }
    let mut ranked: Vec<(usize, &Bar)> = bars.iter().enumerate().collect();
    ranked.sort_by_key(|(index, bar)| (interest(bar), *index));
    ranked.truncate(room);
    ranked.sort_by_key(|(index, _)| *index);
    ranked.into_iter().map(|(_, bar)| bar).collect()
}

/// Lower comes first.
fn interest(bar: &Bar) -> (u8, Reverse<u64>) {
    let rank = match bar.phase {
        Phase::Failed | Phase::Gone => 0,
        Phase::Stalled => 1,
        Phase::Running if bar.trouble.is_some() => 2,
        Phase::Running => 3,
        Phase::Ended | Phase::Expired => 4,
        Phase::Pending => 5,
        Phase::Succeeded => 6,
    };
    // Whole percents alone, so that bars change places rarely. The cast saturates.
    let nearness = bar.percent.unwrap_or(0.0).max(0.0) as u64;
    (rank, Reverse(nearness))
}

/// `60 operations (20 shown): 41 running, 1 stalled, 18 succeeded`.
fn summary(picture: &Picture, hidden: usize, style: Style) -> String {
    let mut counts: BTreeMap<Phase, usize> = picture.others.clone();
    for bar in &picture.bars {
        *counts.entry(bar.phase).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(phase, count)| {
            let name = match phase {
                Phase::Pending => "waiting",
                other => other.as_str(),
            };
            style.ink(ink(*phase), &format!("{count} {name}"))
        })
        .collect();
    let total = words::operations(counts.values().sum());
    let shown = if hidden > 0 {
        style.ink(Ink::Dim, &format!(" ({} shown)", picture.bars.len() - hidden))
    } else {
        String::new()
    };
    format!("{total}{shown}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests;
