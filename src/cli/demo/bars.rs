//! Live bars: one row a watch, redrawn in place on a terminal.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use jiff::Timestamp;

use crate::board::Watched;
use crate::core::event::OperationData;
use crate::core::text::one_line;
use crate::core::watch::Phase;
use crate::core::watch_list::WatchKey;

/// A full bar: a tenth of a percent is one step.
const FULL: u64 = 1_000;

/// Whether rows are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// They are.
    On,
    /// They are not: the terminal cannot, or `NO_COLOR` asks for none.
    Off,
}

/// The rows of all watches that were drawn so far, in the order of their first drawing.
#[derive(Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    colour: Colour,
    rows: HashMap<WatchKey, Row>,
    /// An empty row that parts the bars from what is printed above.
    gap: ProgressBar,
}

#[derive(Debug)]
struct Row {
    bar: ProgressBar,
    shape: Shape,
}

/// What decides how a row looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    phase: Phase,
    /// Whether there is something to fill a bar by; otherwise a spinner tells that it lives.
    measured: bool,
}

impl Bars {
    /// No rows yet; they go where `multi` draws.
    pub(super) fn new(multi: MultiProgress, colour: Colour) -> Self {
        let blank = ProgressStyle::with_template(" {msg}").expect("the text is a template");
        let gap = multi.add(ProgressBar::new(0).with_style(blank));
        gap.tick();
        Self {
            multi,
            colour,
            rows: HashMap::new(),
            gap,
        }
    }

    /// Draws the watches as they stand `now`. New ones get a row below the others; rows of watches that are not
    /// among them stay as they are.
    pub(super) fn draw(&mut self, watches: &[Arc<Watched>], now: Timestamp) {
        for watched in watches {
            let labels = watched.labels();
            let (data, phase, ended) = watched.look(|watch| {
                let ended = watch.last_poll().filter(|_| watch.phase().is_over());
                (watch.data(&watched.key, &labels, now), watch.phase(), ended)
            });
            let percent = data.progress.as_ref().and_then(|progress| progress.percent);
            let shape = Shape {
                phase,
                measured: percent.is_some() || phase.is_over(),
            };
            let row = self.rows.entry(watched.key.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(FULL).with_style(style(shape, self.colour));
                Row {
                    bar: self.multi.add(bar),
                    shape,
                }
            });
            if row.bar.is_finished() {
                continue;
            }
            if row.shape != shape {
                row.bar.set_style(style(shape, self.colour));
                row.shape = shape;
            }
            row.bar.set_prefix(name(&data));
            row.bar.set_message(figures(&data, phase, now, ended));
            let part = percent.unwrap_or(if phase == Phase::Succeeded { 100.0 } else { 0.0 });
            // Between 0 and 100, so that neither sign nor size is lost.
            row.bar.set_position((part * 10.0) as u64);
            if phase.is_over() {
                row.bar.abandon();
            } else {
                row.bar.tick();
            }
        }
    }

    /// Leaves the rows on the terminal as they are.
    pub(super) fn leave(self) {
        for bar in self.rows.values().map(|row| &row.bar).chain([&self.gap]) {
            bar.abandon();
        }
    }
}

fn style(shape: Shape, colour: Colour) -> ProgressStyle {
    let paint = match shape.phase {
        Phase::Pending => "dim",
        Phase::Running => "cyan",
        Phase::Stalled | Phase::Expired => "yellow",
        Phase::Succeeded => "green",
        Phase::Failed | Phase::Ended | Phase::Gone => "red",
    };
    let (paint, rest) = match colour {
        Colour::On => (format!(".{paint}"), "/dim"),
        Colour::Off => (String::new(), ""),
    };
    let measure = if shape.measured {
        let bar = if paint.is_empty() { "" } else { ":" };
        format!("{{wide_bar{bar}{paint}{rest}}} {{msg}}")
    } else {
        let colon = if paint.is_empty() { "" } else { ":" };
        format!("{{spinner{colon}{paint}}} {{wide_msg:>}}")
    };
    let phase = shape.phase.as_str();
    ProgressStyle::with_template(&format!("{{prefix:16!}} {measure} {{phase:9{paint}}}"))
        .expect("the parts above make a template")
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
        .with_key(
            "phase",
            move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                // The row is drawn without it then, and there is nowhere to tell that.
                let _ = out.write_str(phase);
            },
        )
}

/// What people know an operation by: the values of its labels and its objects, else its ID.
pub(super) fn name(data: &OperationData) -> String {
    let labels = data.labels.iter().map(|(_, value)| value.as_str());
    let mut words: Vec<&str> = Vec::new();
    for word in labels.chain(data.objects.iter().map(String::as_str)) {
        if !word.is_empty() && !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() {
        words.push(&data.operation_id);
    }
    one_line(&words.join(" "), 256)
}

/// Percent, count, rate and time left in columns of fixed width; of a watch that is over the time it took.
fn figures(data: &OperationData, phase: Phase, now: Timestamp, ended: Option<Timestamp>) -> String {
    let mut text = String::new();
    let (mut percent, mut records, mut rate, mut left) = Default::default();
    if let Some(progress) = &data.progress {
        percent = progress
            .percent
            .map_or(String::new(), |percent| format!("{}%", percent.floor()));
        records = match progress.records_estimated_total {
            Some(total) => format!("{}/{}", count(progress.records_processed), count(total)),
            None => count(progress.records_processed),
        };
        if phase == Phase::Running {
            rate = progress
                .records_per_second
                .map_or(String::new(), |rate| format!("{}/s", count(rate.round() as u64)));
            left = progress
                .estimated_end_time
                .filter(|end| *end > now)
                .map_or(String::new(), |end| format!("~{}", duration(now, end)));
        }
    }
    if let (Some(begin), Some(end)) = (data.create_time, ended) {
        rate = "in".to_owned();
        left = duration(begin, end);
    }
    // Writing into a `String` cannot fail.
    let _ = write!(text, "{percent:>4} {records:>15} {rate:>8} {left:>6}");
    text
}

/// A number of records, grouped by thousands; from a million on rounded.
pub(super) fn count(number: u64) -> String {
    match number {
        0..=999 => number.to_string(),
        1_000..=999_999 => format!("{},{:03}", number / 1_000, number % 1_000),
        _ if number < 1_000_000_000 => format!("{:.2}M", number as f64 / 1e6),
        _ => format!("{:.2}G", number as f64 / 1e9),
    }
}

/// The time between two moments in the two units that matter, in at most six characters up to a hundred days.
pub(super) fn duration(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs_f64().max(0.0).round() as u64;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watch::Watch;

    fn data(labels: &[(&str, &str)]) -> OperationData {
        let key = WatchKey {
            project: "p".into(),
            operation: "3efc0f0f".into(),
        };
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Watch::default().data(&key, &labels.collect(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_row_is_named_by_labels_and_objects_else_by_its_id() {
        assert_eq!(name(&data(&[])), "3efc0f0f");
        let mut labelled = data(&[("customer", "acme"), ("object", "contact")]);
        labelled.objects = vec!["contact".into(), "lead".into()];
        assert_eq!(name(&labelled), "acme contact lead");
        labelled.objects = vec!["\u{1b}[2J".into()];
        assert_eq!(name(&labelled), "acme contact  [2J");
    }

    #[test]
    fn numbers_and_times_are_short() {
        let second = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(
            [7, 1_234, 999_999, 1_234_567, 5_000_000_000].map(count),
            ["7", "1,234", "999,999", "1.23M", "5.00G"]
        );
        assert_eq!(
            [59, 200, 7_500, 200_000].map(|s| duration(second(0), second(s))),
            ["59s", "3m20s", "2h05m", "2d07h"]
        );
        assert_eq!(duration(second(5), second(0)), "0s");
    }

    #[test]
    fn every_shape_has_a_style() {
        for phase in Phase::ALL {
            for measured in [true, false] {
                for colour in [Colour::On, Colour::Off] {
                    let _ = style(Shape { phase, measured }, colour);
                }
            }
        }
    }
}
