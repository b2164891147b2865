//! One bar as a line of text.

use std::collections::HashSet;
use std::time::Duration;

use console::{measure_text_width, truncate_str};

use super::super::format;
use super::super::terminal::{TerminalStyle, TextStyle};
use super::ProgressBar;
use crate::core::phase::Phase;
use crate::core::text::one_line;

/// The widest bar; wider ones are no easier to read.
const WIDEST_BAR: usize = 30;
/// The narrowest bar, unless nothing else can be omitted.
const NARROWEST_BAR: usize = 10;
/// The widest name on a narrow terminal; on a wide one, a third of the width.
const WIDEST_NAME: usize = 32;
/// The narrowest column of percents, so that the bars begin at the same column most of the time.
const NARROWEST_PERCENT: usize = 5;

/// The texts of one row.
#[derive(Debug)]
pub(super) struct Cells {
    title: String,
    id: String,
    percent: String,
    count: String,
    short_count: String,
    rate: String,
    state: String,
    short_state: String,
}

impl Cells {
    pub(super) fn of(bar: &ProgressBar, style: TerminalStyle) -> Self {
        let exceeds = bar.exceeds_estimate();
        let total = bar.total.filter(|_| !exceeds);
        let records = |write: fn(u64) -> String| match (bar.processed, total) {
            (Some(processed), Some(total)) => format!("{}/{}", write(processed), write(total)),
            (Some(processed), None) => write(processed),
            (None, _) => String::new(),
        };
        let runs = bar.phase == Phase::Running;
        let left = bar.left.filter(|_| runs);
        let soon = left.is_some_and(|left| left < Duration::from_millis(500));
        let left = left.filter(|_| !soon).map(format::time);
        let phase = |phase: Phase| match phase {
            Phase::Running if soon => "soon".to_owned(),
            Phase::Running if exceeds => "over estimate".to_owned(),
            Phase::Running => String::new(),
            other => other.to_string(),
        };
        let shown = |text: &str| style.shown(&one_line(text, 200)).into_owned();
        Self {
            title: shown(&bar.title),
            id: shown(&bar.id),
            percent: bar
                .percent
                .map(|percent| format!("{percent:.1}%"))
                .unwrap_or_default(),
            count: records(format::count),
            short_count: records(format::short_count),
            rate: bar
                .per_second
                .filter(|_| runs)
                .map(format::rate)
                .unwrap_or_default(),
            state: left
                .as_ref()
                .map_or_else(|| phase(bar.phase), |left| format!("{left} left")),
            short_state: left.unwrap_or_else(|| phase(bar.phase)),
        }
    }

    /// The width of title and ID.
    fn name_width(&self) -> usize {
        let gap = usize::from(!self.title.is_empty() && !self.id.is_empty());
        measure(&self.title) + gap + measure(&self.id)
    }

    /// Title and ID in exactly `width` columns. The ID is cut last.
    fn name(&self, width: usize, with_id: bool, style: TerminalStyle) -> String {
        /// The shortest useful part of a title.
        const LEAST: usize = 4;
        let (title, id) = (&*self.title, &*self.id);
        let free = width.checked_sub(measure(id) + 1).filter(|free| *free >= LEAST);
        let short = match free {
            _ if id.is_empty() || !with_id => cut(title, width, style),
            Some(free) if !title.is_empty() => format!("{} {id}", cut(title, free, style)),
            _ => cut(id, width, style),
        };
        let padding = width.saturating_sub(measure(&short));
        format!("{short}{}", " ".repeat(padding))
    }
}

/// Whether the titles alone identify the rows.
fn titles_are_distinct(rows: &[Cells]) -> bool {
    let titles: HashSet<&str> = rows.iter().map(|row| &*row.title).collect();
    titles.len() == rows.len() && !titles.contains("")
}

/// The column widths of all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    width: usize,
    name: usize,
    with_id: bool,
    bar: usize,
    percent: usize,
    count: usize,
    short_count: bool,
    rate: usize,
    state: usize,
    short_state: bool,
}

impl Columns {
    /// The richest layout of these rows that fits into `width` columns.
    pub(super) fn fit(rows: &[Cells], width: usize) -> Self {
        let widest = |text: fn(&Cells) -> &str| rows.iter().map(|row| measure(text(row))).max().unwrap_or(0);
        let title = widest(|row| &row.title);
        let name = rows.iter().map(Cells::name_width).max().unwrap_or(0);
        let widest_name = WIDEST_NAME.max(width / 3);
        let percent = match widest(|row| &row.percent) {
            0 => 0,
            percent => percent.max(NARROWEST_PERCENT),
        };
        let (count, short_count) = (widest(|row| &row.count), widest(|row| &row.short_count));
        let rate = widest(|row| &row.rate);
        let (state, short_state) = (widest(|row| &row.state), widest(|row| &row.short_state));
        let full = Self {
            width,
            name: name.min(widest_name),
            with_id: true,
            bar: WIDEST_BAR,
            percent,
            count,
            short_count: false,
            rate,
            state,
            short_state: false,
        };
        let no_rate = Self { rate: 0, ..full };
        let short = Self {
            count: short_count,
            short_count: true,
            ..no_rate
        };
        let shorter = Self {
            state: short_state,
            short_state: true,
            ..short
        };
        let without_id = |columns: Self| Self {
            name: title.min(widest_name),
            with_id: false,
            ..columns
        };
        let named = if titles_are_distinct(rows) {
            without_id(shorter)
        } else {
            shorter
        };
        let no_count = Self { count: 0, ..named };
        let short_name = Self {
            name: no_count.name.min((width / 3).max(8)),
            ..no_count
        };
        let no_state = Self {
            state: 0,
            ..short_name
        };
        let mut candidates = vec![full, no_rate, short, shorter];
        if !named.with_id {
            candidates.extend([full, no_rate, short].map(without_id));
        }
        candidates.extend([named, no_count, short_name, no_state]);
        let fitting = candidates
            .into_iter()
            .find_map(|columns| columns.with_bar(NARROWEST_BAR));
        fitting.unwrap_or_else(|| no_state.with_bar(4).unwrap_or(Self { bar: 0, ..no_state }))
    }

    /// With the widest bar that fits; `None` if it would be narrower than `narrowest`.
    fn with_bar(self, narrowest: usize) -> Option<Self> {
        let others = [self.name, self.percent, self.count, self.rate, self.state];
        // The mark, and a blank before each column.
        let taken = 1 + others
            .iter()
            .filter(|column| **column > 0)
            .map(|column| column + 1)
            .sum::<usize>();
        let free = self.width.checked_sub(taken + 1)?;
        (free >= narrowest).then(|| Self {
            bar: free.min(WIDEST_BAR),
            ..self
        })
    }

    /// The row of `bar`. `frame` selects the step of the animation.
    pub(super) fn row(&self, bar: &ProgressBar, cells: &Cells, style: TerminalStyle, frame: usize) -> String {
        let text_style = phase_style(bar.phase);
        let problem = bar.problem.as_deref().filter(|_| !bar.phase.is_finished());
        let is_disturbed = problem.is_some() || bar.is_stale;
        let mark_style = if is_disturbed {
            TextStyle::Yellow
        } else {
            text_style
        };
        let mut row = style.paint(mark_style, mark(bar.phase, is_disturbed, style, frame));
        row.push(' ');
        row.push_str(&cells.name(self.name, self.with_id, style));
        if let Some(problem) = problem {
            // The bar gives its place to the problem.
            if !cells.percent.is_empty() {
                row.push(' ');
                row.push_str(&cells.percent);
            }
            let free = self.width.saturating_sub(measure(&row) + 1);
            let problem = one_line(problem, 500);
            row.push(' ');
            row.push_str(&style.paint(TextStyle::Yellow, &cut(&style.shown(&problem), free, style)));
            return row;
        }
        if self.bar > 0 {
            row.push(' ');
            row.push_str(&self.gauge(bar, style, frame));
        }
        if self.percent > 0 {
            row.push(' ');
            row.push_str(&right(&cells.percent, self.percent));
        }
        let (count, state) = (
            if self.short_count {
                &cells.short_count
            } else {
                &cells.count
            },
            if self.short_state {
                &cells.short_state
            } else {
                &cells.state
            },
        );
        for (text, width) in [(count, self.count), (&cells.rate, self.rate)] {
            if width > 0 {
                row.push(' ');
                row.push_str(&right(text, width));
            }
        }
        if self.state > 0 && !state.is_empty() {
            let state = cut(state, self.state, style);
            row.push(' ');
            row.push_str(&if bar.phase == Phase::Running {
                state
            } else {
                style.paint(text_style, &state)
            });
        }
        row
    }

    /// The bar itself: filled by percent, or a moving piece without an estimate.
    fn gauge(&self, bar: &ProgressBar, style: TerminalStyle, frame: usize) -> String {
        let text_style = if bar.is_stale {
            TextStyle::Dim
        } else {
            phase_style(bar.phase)
        };
        let (full, half, empty) = if style.unicode {
            ("━", "╸", "─")
        } else {
            ("=", ">", "-")
        };
        let percent = match (bar.phase, bar.percent) {
            (Phase::Succeeded, _) => Some(100.0),
            (_, percent) => percent,
        };
        let Some(percent) = percent else {
            if bar.phase != Phase::Running || bar.processed.is_none() {
                return style.paint(TextStyle::Dim, &empty.repeat(self.bar));
            }
            let piece = (self.bar / 4).max(1);
            let way = self.bar - piece;
            let frame = if bar.is_stale { 0 } else { frame };
            let step = frame % (way * 2).max(1);
            let before = if step <= way { step } else { way * 2 - step };
            return format!(
                "{}{}{}",
                style.paint(TextStyle::Dim, &empty.repeat(before)),
                style.paint(text_style, &full.repeat(piece)),
                style.paint(TextStyle::Dim, &empty.repeat(way - before)),
            );
        };
        // In half cells, rounded down, so that only a finished operation has a full bar.
        let halves = (percent.clamp(0.0, 100.0) / 100.0 * (self.bar * 2) as f64) as usize;
        let (filled, odd) = (halves / 2, halves % 2);
        let mut done = full.repeat(filled);
        done.push_str(&half.repeat(odd));
        format!(
            "{}{}",
            style.paint(text_style, &done),
            style.paint(TextStyle::Dim, &empty.repeat(self.bar - filled - odd))
        )
    }
}

/// The colour of a phase.
pub(in crate::cli) fn phase_style(phase: Phase) -> TextStyle {
    match phase {
        Phase::Pending => TextStyle::Dim,
        Phase::Running => TextStyle::Cyan,
        Phase::Stalled => TextStyle::Yellow,
        Phase::Succeeded => TextStyle::Green,
        Phase::Failed | Phase::Gone => TextStyle::Red,
        Phase::Ended | Phase::Expired => TextStyle::Magenta,
    }
}

/// The sign of a phase, animated for a running operation.
fn mark(phase: Phase, is_disturbed: bool, style: TerminalStyle, frame: usize) -> &'static str {
    const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
    const ASCII_SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
    match phase {
        _ if is_disturbed => "!",
        Phase::Running if style.unicode => SPINNER[frame % SPINNER.len()],
        Phase::Running => ASCII_SPINNER[frame % ASCII_SPINNER.len()],
        _ => sign(phase, style),
    }
}

/// The sign of a phase in printed lines.
pub(in crate::cli) fn sign(phase: Phase, style: TerminalStyle) -> &'static str {
    match (phase, style.unicode) {
        (Phase::Pending, true) => "·",
        (Phase::Pending, false) => ".",
        (Phase::Running, true) => "▸",
        (Phase::Running, false) => ">",
        (Phase::Stalled, _) => "!",
        (Phase::Succeeded, true) => "✓",
        (Phase::Succeeded, false) => "+",
        (Phase::Failed | Phase::Gone, true) => "✗",
        (Phase::Failed | Phase::Gone, false) => "x",
        (Phase::Ended | Phase::Expired, _) => "-",
    }
}

fn measure(text: &str) -> usize {
    measure_text_width(text)
}

/// `text` in at most `width` columns.
pub(super) fn cut(text: &str, width: usize, style: TerminalStyle) -> String {
    let tail = if style.unicode { "…" } else { "~" };
    truncate_str(text, width, tail).into_owned()
}

fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(measure(text))))
}
