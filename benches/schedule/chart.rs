//! The chart of the delays, as an SVG for light and dark backgrounds.

use std::fmt::Write as _;

/// One schedule's line.
pub struct Line<'a> {
    /// The schedule.
    pub name: &'a str,
    /// Polls per backfill.
    pub polls: f64,
    /// Seconds from the end of a backfill to its detection, ascending.
    pub delays: Vec<f64>,
}

const COLOURS: [&str; 3] = ["#d97706", "#8b8b8b", "#3b82f6"];
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 260.0;
/// Seconds at the right edge.
const SECONDS: f64 = 60.0;

fn x(seconds: f64) -> f64 {
    LEFT + WIDTH * seconds / SECONDS
}

fn y(part: f64) -> f64 {
    TOP + HEIGHT * (1.0 - part)
}

/// Which part of the ends is known within how many seconds, one line a schedule.
pub fn draw(lines: &[Line<'_>]) -> String {
    let mut svg = String::from(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 360" font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title">
<title id="title">Part of all ends known within so many seconds, per schedule</title>
<style>text { fill: #333 } .grid { stroke: #8888; stroke-width: .5 } @media (prefers-color-scheme: dark) { text { fill: #ddd } }</style>
"##,
    );
    for tenth in [0, 25, 50, 75, 100] {
        let at = y(f64::from(tenth) / 100.0);
        let _ = writeln!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at}" y2="{at}"/><text x="{}" y="{}" text-anchor="end">{tenth} %</text>"#,
            LEFT + WIDTH,
            LEFT - 8.0,
            at + 4.0,
        );
    }
    for seconds in (0..=60).step_by(10) {
        let at = x(f64::from(seconds));
        let _ = writeln!(
            svg,
            r#"<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{}"/><text x="{at}" y="{}" text-anchor="middle">{seconds}</text>"#,
            TOP + HEIGHT,
            TOP + HEIGHT + 20.0,
        );
    }
    let _ = writeln!(
        svg,
        r#"<text x="{LEFT}" y="22" font-weight="bold">Ends known within so many seconds</text><text x="{}" y="{}" text-anchor="middle">seconds from the end to its detection</text>"#,
        LEFT + WIDTH / 2.0,
        TOP + HEIGHT + 42.0,
    );
    for (place, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let mut points = String::new();
        for half_second in 0..=120 {
            let seconds = f64::from(half_second) / 2.0;
            let known = line.delays.partition_point(|delay| *delay <= seconds);
            let _ = write!(
                points,
                "{:.1},{:.1} ",
                x(seconds),
                y(known as f64 / line.delays.len() as f64)
            );
        }
        let at = TOP + 60.0 + 56.0 * place as f64;
        let mean = line.delays.iter().sum::<f64>() / line.delays.len() as f64;
        let _ = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="2.5" points="{}"/>
<line x1="515" x2="535" y1="{}" y2="{}" stroke="{colour}" stroke-width="3"/><text x="542" y="{at}">{}</text><text x="542" y="{}">{:.0} polls, mean {mean:.1} s</text>"#,
            points.trim_end(),
            at - 4.0,
            at - 4.0,
            line.name,
            at + 17.0,
            line.polls,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
