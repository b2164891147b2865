//! One bar as a line of text.

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
/// The widest name.
const WIDEST_NAME: usize = 32;

/// The texts of one row.
#[derive(Debug)]
pub(super) struct Cells {
    name: String,
    percent: String,
    count: String,
    short_count: String,
    rate: String,
    state: String,
    short_state: String,
}

impl Cells {
    pub(super) fn of(bar: &ProgressBar) -> Self {
        let records = |write: fn(u64) -> String| match (bar.processed, bar.total) {
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
            Phase::Running => String::new(),
            Phase::Pending => "waiting".to_owned(),
            other => other.to_string(),
        };
        Self {
            name: one_line(&bar.name, 200),
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
}

/// The column widths of all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    width: usize,
    name: usize,
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
        let name = widest(|row| &row.name).min(WIDEST_NAME);
        let percent = widest(|row| &row.percent);
        let (count, short_count) = (widest(|row| &row.count), widest(|row| &row.short_count));
        let rate = widest(|row| &row.rate);
        let (state, short_state) = (widest(|row| &row.state), widest(|row| &row.short_state));
        let full = Self {
            width,
            name,
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
        let no_count = Self { count: 0, ..shorter };
        let short_name = Self {
            name: name.min((width / 3).max(8)),
            ..no_count
        };
        let no_state = Self {
            state: 0,
            ..short_name
        };
        let candidates = [full, no_rate, short, shorter, no_count, short_name, no_state];
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
        let problematic = bar.problem.as_deref().filter(|_| !bar.phase.is_finished());
        let mark_style = if problematic.is_some() {
            TextStyle::Yellow
        } else {
            text_style
        };
        let mut row = style.paint(mark_style, mark(bar.phase, problematic.is_some(), style, frame));
        row.push(' ');
        row.push_str(&name(&cells.name, self.name, style));
        if self.bar > 0 {
            row.push(' ');
            row.push_str(&self.gauge(bar, style, frame));
        }
        if self.percent > 0 {
            row.push(' ');
            row.push_str(&right(&cells.percent, self.percent));
        }
        if let Some(problem) = problematic {
            let free = self.width.saturating_sub(measure(&row) + 1);
            let problem = one_line(problem, 500);
            row.push(' ');
            row.push_str(&style.paint(TextStyle::Yellow, &cut(&problem, free, style)));
            return row;
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
        let text_style = phase_style(bar.phase);
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
fn mark(phase: Phase, problematic: bool, style: TerminalStyle, frame: usize) -> &'static str {
    const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
    const ASCII_SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
    match phase {
        _ if problematic => "!",
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

/// A name in exactly `width` columns. The ID at its end is cut last.
fn name(text: &str, width: usize, style: TerminalStyle) -> String {
    /// The shortest useful prefix.
    const LEAST: usize = 4;
    let over = measure(text).saturating_sub(width);
    let short = match text.rsplit_once(' ') {
        _ if over == 0 => text.to_owned(),
        Some((objects, id)) => match measure(objects).checked_sub(over) {
            Some(free) if free >= LEAST => format!("{} {id}", cut(objects, free, style)),
            _ => cut(id, width, style),
        },
        None => cut(text, width, style),
    };
    format!("{short}{}", " ".repeat(width.saturating_sub(measure(&short))))
}

fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(measure(text))))
}
